"""The commands of the league.

``python -m benchmarks.tabular run`` measures what `results/tabular.jsonl` does not hold yet, and
goes on where it was interrupted. ``python -m benchmarks.tabular latency`` measures how fast models
predict one row as ONNX, on the first split of a few small sets, into `results/tabular_onnx.jsonl`.
``python -m benchmarks.tabular report`` draws tables and figures from both; their names begin as
that of the results does. With ``--quick``, run and report take some small sets, one split, and no
tuned or slow model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.tabular._models import Contender, contenders
from benchmarks.tabular._models.exporting import EXPORTS
from benchmarks.tabular._reporting.report import latency_file, write
from benchmarks.tabular._run import plan, plan_latency, run
from benchmarks.tabular._sets import LATENCY_SETS, QUICK_SETS, SETS, SPLITS, TabularSet

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 1 if something is left to the next run."""
    options = parse(arguments)
    if options.command == "latency":
        path = options.results or latency_file(RESULTS / "tabular.jsonl")
        tables = [SETS[name] for name in options.sets or LATENCY_SETS]
        jobs = plan_latency(tables, options.models or _installed(_is_exported))
        return int(run(jobs, path, hours=options.hours) > 0)
    name = "tabular_quick.jsonl" if options.quick else "tabular.jsonl"
    results = options.results or RESULTS / name
    if options.command == "report":
        print(write(results, options.output, options.splits or SPLITS))
        return 0
    models = options.models or _installed(_is_quick if options.quick else lambda contender: True)
    splits = SPLITS[:1] if options.quick else SPLITS
    jobs = plan(_tables(options), options.splits or splits, models)
    return int(run(jobs, results, options.jobs, options.hours) > 0)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("run", help="measure what the file of results lacks")
    measuring.add_argument("--jobs", type=int, default=2, help="worker processes (default: 2)")
    measuring.add_argument("--smallest", type=int, metavar="N", help="the N smallest sets alone")
    timing = commands.add_parser("latency", help="measure the time of one row as ONNX")
    drawing = commands.add_parser("report", help="draw tables and figures from the results")
    drawing.add_argument("--output", type=Path, default=RESULTS, help="the folder to write to")
    for command in (measuring, timing):
        command.add_argument("--sets", nargs="+", choices=SETS, metavar="SET")
        command.add_argument("--models", nargs="+", choices=contenders(), metavar="MODEL")
        command.add_argument("--hours", type=float, help="stop after so long")
    for command in (measuring, drawing):
        command.add_argument("--splits", nargs="+", type=int, choices=SPLITS, metavar="SPLIT")
    for command in (measuring, timing, drawing):
        command.add_argument("--results", type=Path, help="the file of results, JSON lines")
    for command in (measuring, drawing):
        command.add_argument("--quick", action="store_true", help="a look within ten minutes")
    return parser.parse_args(arguments)


def _tables(options: argparse.Namespace) -> list[TabularSet]:
    """The sets of a run."""
    tables = [SETS[name] for name in options.sets or (QUICK_SETS if options.quick else SETS)]
    return sorted(tables, key=lambda table: table.rows)[: options.smallest]


def _is_quick(contender: Contender) -> bool:
    return contender.speed in ("fast", "moderate")


def _is_exported(contender: Contender) -> bool:
    return contender.module in EXPORTS and contender.speed != "tuned"


def _installed(is_wanted: Callable[[Contender], bool]) -> list[str]:
    """All models that are wanted and installed."""
    chosen = []
    for contender in filter(is_wanted, contenders().values()):
        if contender.is_installed:
            chosen.append(contender.name)
        else:
            print(
                f"{contender.label} is left out, for {contender.module} is not installed: "
                "`pip install .[league]` brings it in.",
                flush=True,
            )
    return chosen


if __name__ == "__main__":
    raise SystemExit(main())
