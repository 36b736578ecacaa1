"""Images: MoDE beside one network, an ensemble and boosted trees; alpha; the speed of routing.

    python -m benchmarks.images [run] [--sets SET ...] [--seeds SEED ...] [--models MODEL ...]
    python -m benchmarks.images alpha
    python -m benchmarks.images refit [--seeds SEED ...]
    python -m benchmarks.images routing
    python -m benchmarks.images report

`run` appends a line per set, seed and contender to results/images.jsonl, and goes on where it was
stopped. `alpha` does so for alphas, numbers of images, mixings and sizes of the network, on a part
of Fashion-MNIST's training images; others of these judge. `refit` does so for epochs of the refit
with a teacher. `routing` times the exported graphs. `report` writes results/images.md; it returns 1
if a bar is missed.
"""

import argparse
import itertools
import warnings

import torch

from benchmarks.images._alpha import sweep, sweep_refit
from benchmarks.images._measure import RESULTS, append, load, measure, read
from benchmarks.images._models import MODELS
from benchmarks.images._report import report
from benchmarks.images._routing import time_routing

SETS = ("mnist", "fashion")


def run(options: argparse.Namespace) -> None:
    """Measure what has no line yet."""
    path = RESULTS / "images.jsonl"
    done = {(line["set"], line["seed"], line["model"]) for line in read(path)}
    for name, seed, model in itertools.product(options.sets, options.seeds, options.models):
        if (name, seed, model) in done:
            continue
        found = measure(MODELS[model], load(name, seed), seed)
        append(path, {"set": name, "seed": seed, "model": model} | found)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare models of images.")
    actions = ("run", "alpha", "refit", "routing", "report")
    parser.add_argument("action", nargs="?", choices=actions, default="run")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.action == "alpha":
        sweep()
    elif options.action == "refit":
        sweep_refit(options.seeds)
    elif options.action == "routing":
        time_routing()
    elif options.action == "run":
        run(options)
    return report()


if __name__ == "__main__":
    raise SystemExit(main())
