"""Texts: MoDE beside one network, an ensemble, linear models on TF-IDF and a plain bag of words.

    python -m benchmarks.text [run] [--sets SET ...] [--seeds SEED ...] [--models MODEL ...]
    python -m benchmarks.text serving
    python -m benchmarks.text birds
    python -m benchmarks.text alpha [--seeds SEED ...]
    python -m benchmarks.text domains
    python -m benchmarks.text report

`run` appends a line per set, seed and contender to results/text.jsonl, and goes on where it was
stopped. `serving` exports a model, compares its labels and times it. `birds` cross-validates a
table with a column of texts, and without it. `alpha` compares weights of the distillation by the
number of texts, the width of the experts and the mixing, on parts of R8; `domains` writes
results/alpha.md, which puts its results beside those of tables, images and translation. `report`
writes results/text.md; it returns 1 if a bar is missed.
"""

import argparse
import itertools
import warnings

import torch

from benchmarks.text._measure import RESULTS, SETS, append, load, measure, read
from benchmarks.text._models import DETERMINISTIC, MODELS
from benchmarks.text._report import report


def run(options: argparse.Namespace) -> None:
    """Measure what has no line yet."""
    path = RESULTS / "text.jsonl"
    done = {(line["set"], line["seed"], line["model"]) for line in read(path)}
    for seed, name, model in itertools.product(options.seeds, options.sets, options.models):
        if (name, seed, model) in done or (model in DETERMINISTIC and seed):
            continue
        found = measure(MODELS[model], load(name), seed)
        append(path, {"set": name, "seed": seed, "model": model} | found)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare models of texts.")
    actions = ("run", "serving", "birds", "alpha", "domains", "report")
    parser.add_argument("action", nargs="?", choices=actions, default="run")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.action == "serving":
        from benchmarks.text._serving import measure_serving

        measure_serving()
    elif options.action == "birds":
        from benchmarks.text._birds import measure_birds

        measure_birds()
    elif options.action == "alpha":
        from benchmarks.text._alpha import measure_alpha

        measure_alpha(options.seeds)
    elif options.action == "domains":
        from benchmarks.text._domains import write_alpha

        write_alpha()
        return 0
    elif options.action == "run":
        run(options)
    return report()


if __name__ == "__main__":
    raise SystemExit(main())
