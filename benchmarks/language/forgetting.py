"""Is a teacher ahead of its student; what does one model forget, and what do experts keep?"""

from __future__ import annotations

import argparse
import copy
import warnings
from typing import Any

from benchmarks.language._bench import Bench, choose_steps, model_parameters, results, texts_of
from benchmarks.language._texts import FOUR
from skmode.language import ModularLanguageModel

# Teacher's steps for each step of an expert.
TEACHER = 1.0


def teacher(options: argparse.Namespace) -> int:
    """Measure teacher and warm student, and what `fit` says where the teacher is behind."""
    texts = texts_of(options, FOUR)
    with results(options, "teacher") as lines:
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            steps = choose_steps(bench, options, 2.0 * len(options.seeds), 2.0 * len(options.seeds))
            for name, teacher_steps in (("trained as long", steps), ("hardly trained", steps // 8)):
                model = ModularLanguageModel(
                    **model_parameters(options, seed),
                    teacher_steps=teacher_steps,
                    warm_start_steps=steps,
                    steps=0,
                    distillation="forward",
                    tokenizer=bench.tokenizer,
                    keep_teacher=True,
                )
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    model.fit(*texts.pairs(FOUR))
                for kind, one in (("teacher", model.teacher_), ("student", model.base_)):
                    line: dict[str, Any] = {"seed": seed, "teacher": name, "model": kind}
                    lines.append({**line, "steps": steps, **bench.scores(one)})
                lines.append(
                    {
                        "seed": seed,
                        "teacher": name,
                        "distilled": " ".join(model.distilled_),
                        "warnings": len([each for each in caught if "ahead" in str(each.message)]),
                    }
                )
    return 0


def forgetting(options: argparse.Namespace) -> int:
    """Compare training in sequence, one balanced model, cold and warm experts at equal tokens.

    Each has 4 q steps in all. Warm experts share a quarter of them, and have 3 / 4 q of their own.
    """
    texts = texts_of(options, FOUR)
    missed = False
    with results(options, "forgetting") as lines:
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            q = choose_steps(bench, options, 16.0 * len(options.seeds))
            means = _one_seed(bench, options, seed, q, lines)
            ratio = means["warm experts"] / means["balanced"]
            lines.append({"seed": seed, "warm / balanced": round(ratio, 4), "bar": "<= 0.97"})
            missed |= ratio > 0.97
    return int(missed)


def _one_seed(
    bench: Bench, options: argparse.Namespace, seed: int, q: int, lines: list[dict[str, Any]]
) -> dict[str, float]:
    """Train all four ways; return the mean bits per byte of each."""
    means = {}

    def note(name: str, scores: dict[str, float]) -> None:
        means[name] = scores["mean"]
        lines.append({"seed": seed, "training": name, "steps": 4 * q, **scores})
        print(lines[-1], flush=True)

    domains = list(bench.domains)
    one = bench.make("student", options.student)
    for name in domains:
        bench.train(one, [name], q, f"sequence {name}")
        note(f"in sequence, after {name}", bench.scores(one))
    balanced = bench.make("student", options.student)
    note("balanced", bench.scores(bench.train(balanced, domains, 4 * q, "balanced")))
    warm = bench.train(bench.make("student", options.student), domains, q, "warm start")
    for kind, base, steps in (
        ("cold experts", bench.make("student", options.student), q),
        ("warm experts", warm, q - q // 4),
    ):
        own = {}
        for name in domains:
            expert = bench.train(copy.deepcopy(base), [name], steps, f"{kind} {name}")
            own[name] = round(bench.score(expert, name), 4)
        note(kind, {**own, "mean": round(sum(own.values()) / len(own), 4)})
    return means
