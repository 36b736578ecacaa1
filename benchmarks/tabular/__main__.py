"""The commands of the league.

``python -m benchmarks.tabular run`` measures what `results/tabular.jsonl` does not hold yet, and
goes on where it was interrupted. ``python -m benchmarks.tabular report`` draws tables and figures
from it. With ``--quick`` both take some small sets, one split and no slow model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tabular._models import contenders
from benchmarks.tabular._reporting.report import write
from benchmarks.tabular._run import plan, run
from benchmarks.tabular._sets import QUICK_SETS, SETS, SPLITS

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 1 if something is left to the next run."""
    options = parse(arguments)
    stem = "tabular_quick" if options.quick else "tabular"
    results = options.results or RESULTS / f"{stem}.jsonl"
    if options.command == "report":
        print(write(results, options.output, stem))
        return 0
    models = options.models or _default_models(options.quick)
    tables = [SETS[name] for name in options.sets or (QUICK_SETS if options.quick else SETS)]
    splits = (
        options.splits if options.splits is not None else SPLITS[:1] if options.quick else SPLITS
    )
    jobs = plan(tables, splits, models)
    return int(run(jobs, results, options.jobs, options.hours) > 0)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("run", help="measure what the file of results lacks")
    measuring.add_argument("--jobs", type=int, default=2, help="worker processes (default: 2)")
    measuring.add_argument("--sets", nargs="+", choices=SETS, metavar="SET")
    measuring.add_argument("--models", nargs="+", choices=contenders(), metavar="MODEL")
    measuring.add_argument("--splits", nargs="+", type=int, choices=SPLITS, metavar="SPLIT")
    measuring.add_argument("--hours", type=float, help="stop after so long")
    drawing = commands.add_parser("report", help="draw tables and figures from the results")
    drawing.add_argument("--output", type=Path, default=RESULTS, help="the folder to write to")
    for command in (measuring, drawing):
        command.add_argument("--results", type=Path, help="the file of results, JSON lines")
        command.add_argument("--quick", action="store_true", help="a look within ten minutes")
    return parser.parse_args(arguments)


def _default_models(quick: bool) -> list[str]:
    """All that are installed, in a quick run without the slow ones."""
    chosen = []
    for contender in contenders().values():
        if not contender.is_installed:
            print(
                f"{contender.label} is left out, for {contender.module} is not installed: "
                "`pip install .[league]` brings it in.",
                flush=True,
            )
        elif not (quick and contender.speed == "slow"):
            chosen.append(contender.name)
    return chosen


if __name__ == "__main__":
    raise SystemExit(main())
