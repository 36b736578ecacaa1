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
            n = len(options.seeds)
            steps = choose_steps(bench, options, 4.0 * n, 2.0 * n)
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

    Each has 4 q steps in all. Warm experts share three quarters of them, at a learning rate that
    stays high, and have q / 4 of their own, in which it falls. The balanced model is trained with
    a rate that falls all the time, and with one that falls as late as that of the warm experts;
    they are compared with the better one.
    """
    texts = texts_of(options, FOUR)
    missed = False
    with results(options, "forgetting") as lines:
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            q = choose_steps(bench, options, 17.0 * len(options.seeds))
            means = _one_seed(bench, options, seed, q, lines)
            balanced = min(means["balanced"], means["balanced, rate falls late"])
            ratio = means["warm experts"] / balanced
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
    warm = bench.make("student", options.student)
    bench.train(warm, domains, 3 * q, "warm start", decays=False)
    late = bench.train(copy.deepcopy(warm), domains, q, "balanced to the end")
    note("balanced, rate falls late", bench.scores(late))
    for kind, base, steps in (
        ("warm experts", warm, q // 4),
        ("cold experts", bench.make("student", options.student), q),
    ):
        own = {}
        for name in domains:
            expert = bench.train(copy.deepcopy(base), [name], steps, f"{kind} {name}")
            own[name] = round(bench.score(expert, name), 4)
        note(kind, {**own, "mean": round(sum(own.values()) / len(own), 4)})
    balanced = bench.make("student", options.student)
    note("balanced", bench.scores(bench.train(balanced, domains, 4 * q, "balanced")))
    one = bench.make("student", options.student)
    for name in domains:
        bench.train(one, [name], q, f"sequence {name}")
        note(f"in sequence, after {name}", bench.scores(one))
    return means
