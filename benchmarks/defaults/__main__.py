"""Question every default by inner validation, one change at a time.

Only training parts of the league's first split are read, so that no test part of that split
chooses a default: of up to 4,000 of their rows, a quarter judges, in three different splits. Run
with

    python -m benchmarks.defaults [NAME ...] [--tasks TASK ...] [--sets SET ...] [--rows N]
        [--repeats REPEAT ...] [--against NAME] [--report]

which appends one line per set, split and candidate to results/defaults.jsonl (or defaults_N.jsonl
for other numbers of rows), and prints the tables that ablations.md shows. What was measured with
other code is measured anew; each line is compared with that of the defaults which the same code
gave, or with those of the candidate after `--against`, with standard errors.
"""

import argparse
import itertools
import json
import warnings

import torch

from benchmarks.defaults._candidates import CANDIDATES
from benchmarks.defaults._lines import LEFT_OUT, PRESENT, REPEATS, ROWS, place, read, results_of
from benchmarks.defaults._measure import measure
from benchmarks.defaults._report import TASKS, print_differences, summarize
from benchmarks.tabular._fingerprint import fingerprint
from benchmarks.tabular._sets import SETS


def main(options: argparse.Namespace) -> None:
    """Measure the named candidates (all by default) that have no current result."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path = results_of(options.rows)
    path.parent.mkdir(exist_ok=True)
    done = {place(line) for line in read(path) if line["version"] == PRESENT}
    tables = [table for table in SETS.values() if table.task in options.tasks]
    wanted = options.sets or [name for name in SETS if name not in LEFT_OUT]
    for candidate in [] if options.report else options.names or CANDIDATES:
        for table, repeat in itertools.product(tables, options.repeats):
            if table.name not in wanted or (candidate, table.name, repeat) in done:
                continue
            record = {"candidate": candidate, "set": table.name, "repeat": repeat}
            record |= measure(table, repeat, CANDIDATES[candidate], options.rows)
            with path.open("a") as file:
                file.write(json.dumps(record | {"version": fingerprint().stored()}) + "\n")
    if options.against:
        print_differences(path, options.against, options.repeats)
    else:
        summarize(path)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Question the defaults by inner validation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="candidates (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--sets", nargs="+", choices=SETS, metavar="SET")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"at most (default: {ROWS:,})")
    parser.add_argument("--repeats", nargs="+", type=int, choices=REPEATS, default=REPEATS)
    parser.add_argument("--against", choices=CANDIDATES, metavar="NAME")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
