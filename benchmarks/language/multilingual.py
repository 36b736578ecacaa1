"""One teacher of all domains: what do experts gain that learn from it?"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np

from benchmarks.language._bench import (
    Bench,
    choose_steps,
    clock,
    model_parameters,
    results,
    texts_of,
)
from benchmarks.language._texts import FOUR, Texts
from skmode.language import ModularLanguageModel

WAYS: dict[str, dict[str, Any]] = {
    "no teacher": {"distillation": None},
    "alpha 0.5": {"alpha": 0.5},
    "alpha 0.9": {"alpha": 0.9},
    "first teacher, then targets": {"schedule": "kd_then_ce"},
}
# Steps of the teacher and of the warm start, for each step of an expert.
TEACHER, WARM = 10, 3


def multilingual(options: argparse.Namespace) -> int:
    """Compare experts that one teacher of all domains has taught with experts that learn alone.

    All take as many steps. "no teacher, longer" takes so many more that the processor time is that
    of the teacher's training and of learning from it with alpha 0.5.
    """
    texts = texts_of(options, FOUR)
    with results(options, "multilingual") as lines:
        steps = 0
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            # Two warm starts and four experts, of which the teacher reads one and four.
            steps = steps or choose_steps(bench, options, 80.0, 17.0)
            teacher = bench.make("teacher", options.teacher)
            start = clock(bench.lab.recipe.device)
            bench.train(teacher, list(FOUR), TEACHER * steps, "teacher").eval()
            seconds = {"teacher": clock(bench.lab.recipe.device) - start}
            lines.append({"seed": seed, "teacher": options.teacher, **bench.scores(teacher)})
            # Tokens and the router cost the same with any number of steps.
            rest = _fit(bench, options, texts, seed, 0, {"teacher": None})[1]
            for way, parameters in WAYS.items():
                own = {"teacher": teacher} | parameters
                seconds[way] = _one(bench, options, texts, seed, steps, way, own, lines)
            ratio = (seconds["teacher"] + seconds["alpha 0.5"] - rest) / (
                seconds["no teacher"] - rest
            )
            way, longer = "no teacher, longer", round(ratio * steps)
            _one(bench, options, texts, seed, longer, way, {"teacher": None}, lines)
        lines += _paired([line for line in lines if line.get("expert") == "own"])
    return 0


def _one(
    bench: Bench,
    options: argparse.Namespace,
    texts: Texts,
    seed: int,
    steps: int,
    way: str,
    parameters: dict[str, Any],
    lines: list[dict[str, Any]],
) -> float:
    """Fit a model, note the bits per byte of each expert on each domain; return the seconds."""
    model, seconds = _fit(bench, options, texts, seed, steps, parameters)
    line = {"seed": seed, "way": way, "steps": steps}
    own = {}
    for name, expert in model.experts_.items():
        scores = bench.scores(expert)
        own[name] = scores[name]
        lines.append({**line, "expert": name, **scores})
    mean = round(float(np.mean(list(own.values()))), 4)
    line |= {"expert": "own", **own, "mean": mean, "seconds": round(seconds)}
    lines.append({**line, "distilled": " ".join(model.distilled_)})
    print(lines[-1], flush=True)
    return seconds


def _fit(
    bench: Bench,
    options: argparse.Namespace,
    texts: Texts,
    seed: int,
    steps: int,
    parameters: dict[str, Any],
) -> tuple[ModularLanguageModel, float]:
    """Return a fitted model and the processor seconds of its fit."""
    common = model_parameters(options, seed)
    common |= {"warm_start_steps": WARM * steps, "steps": steps, "tokenizer": bench.tokenizer}
    model = ModularLanguageModel(**common | parameters)
    start = clock(bench.lab.recipe.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*texts.pairs(FOUR))
    return model, clock(bench.lab.recipe.device) - start


def _paired(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean difference to experts without a teacher, with its standard error."""
    means = {(line["way"], line["seed"]): line["mean"] for line in lines}
    seeds = sorted({seed for _, seed in means})
    summary = []
    for way in dict.fromkeys(way for way, _ in means):
        gaps = np.array([means[way, seed] - means["no teacher", seed] for seed in seeds])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
        gap = {"minus no teacher": round(float(gaps.mean()), 4)}
        summary.append({"way": way, **gap, "standard error": round(float(error), 4)})
    return summary
