"""All measurements on a GPU, in one command that keeps to its minutes.

    python -m benchmarks.gpu [--minutes 8] [--device cuda] [--only PART ...] [--output FILE]
    python -m benchmarks.gpu --device cpu --quick

It needs torch, numpy, pandas and scikit-learn, and the wheels that `python -m benchmarks.gpu.wheels
FOLDER` collects on a machine with a network. Without a GPU, `--quick` runs every part on tiny data:
that shows that they run, and its times mean nothing.

Each part has its share of the minutes, and what one leaves is there for the next. Results are
written to results/gpu_CARD.json after every line, so a cut loses nothing. A part that fails, or
lacks a package, is recorded, and the next one goes on. Returns 1 if a part failed.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

from benchmarks.gpu import answers, others, peak, timing
from benchmarks.gpu._record import Part, Record, Setting, run

RESULTS = Path(__file__).parents[1] / "results"
# In the order of what would be missed most; the shares are relative to each other.
PARTS = (
    Part("answers", answers.answers, 3),
    Part("elsewhere", answers.elsewhere, 3),
    Part("waits", peak.waits, 1),
    Part("peak", peak.peak, 3),
    Part("small", timing.small, 2),
    Part("fit", timing.fits, 8),
    Part("modalities", others.modalities, 3),
    Part("several", others.several, 2),
    Part("quality", answers.quality, 4),
    Part("serving", others.serving, 1),
    Part("compiled", timing.compiled, 5),
)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, and run the parts."""
    parser = argparse.ArgumentParser(description="Measure skmode on a GPU.")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny data")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    setting = Setting(options.device, options.quick)
    if not setting.on_gpu:
        torch.set_num_threads(1)
    name = "".join(each if each.isalnum() else "_" for each in setting.card.lower())
    record = Record(options.output or RESULTS / f"gpu_{name}.json", setting)
    chosen = [part for part in PARTS if not options.only or part.name in options.only]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trainings that are cut short on purpose
        run(chosen, setting, record, 60 * options.minutes)
    return int(record.failed)


if __name__ == "__main__":
    raise SystemExit(main())
