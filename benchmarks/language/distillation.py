"""How to distil: fixed and adaptive alpha, direction of the divergence, combined or by turns."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.language._bench import Bench, choose_steps, results, texts_of

DOMAINS = ("fr",)
ALPHAS: dict[str, dict[str, Any]] = {
    "CE alone": {"distillation": None},
    "forward, 0.5": {"distillation": "forward", "alpha": 0.5},
    "forward, 0.9": {"distillation": "forward", "alpha": 0.9},
    "reverse, 0.5": {"distillation": "reverse", "alpha": 0.5},
    "loss ratio": {"distillation": "forward", "alpha": "loss_ratio"},
    "teacher's entropy": {"distillation": "forward", "alpha": "teacher_entropy"},
    "the paper's": {"distillation": "forward", "alpha": "loss_difference"},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "combined": {"schedule": "combined"},
    "every step": {"schedule": "alternating", "alternate_every": 1},
    "every 4 steps": {"schedule": "alternating", "alternate_every": 4},
    "every 16 steps": {"schedule": "alternating", "alternate_every": 16},
    "KD, then CE": {"schedule": "kd_then_ce"},
    "CE, then KD": {"schedule": "ce_then_kd"},
}
SMALL_CORPUS = 300_000  # bytes


def alpha(options: argparse.Namespace) -> int:
    """Compare rules of alpha on two sizes of students and of the corpus."""
    students = ("tiny", options.student)
    return _compare(options, "alpha", ALPHAS, students, (SMALL_CORPUS, None))


def schedules(options: argparse.Namespace) -> int:
    """Compare schedules."""
    return _compare(options, "schedules", SCHEDULES, (options.student,), (None,))


def _compare(
    options: argparse.Namespace,
    name: str,
    ways: dict[str, dict[str, Any]],
    students: tuple[str, ...],
    corpora: tuple[int | None, ...],
) -> int:
    """Train each student in each way on the same batches, and compare with the first way."""
    texts = texts_of(options, DOMAINS)
    n = len(options.seeds) * len(corpora)
    with results(options, name) as lines:
        steps = 0
        for max_bytes in corpora:
            for seed in options.seeds:
                bench = Bench(options, DOMAINS, seed, texts, max_bytes)
                steps = steps or choose_steps(
                    bench, options, n * len(ways) * len(students), n * (2 + len(ways))
                )
                teacher = bench.make("teacher", options.teacher)
                bench.train(teacher, list(DOMAINS), 2 * steps, "teacher").eval()
                recipe = bench.lab.recipe
                for student in students:
                    for way, changes in ways.items():
                        bench.lab.recipe = replace(recipe, **changes)
                        model = bench.make(student, student)
                        more = {"teacher": teacher, "taught": DOMAINS}
                        bench.train(model, list(DOMAINS), steps, "student", **more)
                        line = {"student": student, "bytes": max_bytes or "all", "way": way}
                        score = round(bench.score(model, "fr"), 4)
                        lines.append({**line, "seed": seed, "steps": steps, "bits": score})
                        print(lines[-1], flush=True)
                    bench.lab.recipe = recipe
                score = round(bench.score(teacher, "fr"), 4)
                lines.append({"teacher": options.teacher, "seed": seed, "bits": score})
        lines += _paired([line for line in lines if "way" in line], next(iter(ways)))
    return 0


def _paired(lines: list[dict[str, Any]], first: str) -> list[dict[str, Any]]:
    """Return the mean difference to the first way over seeds, with its standard error."""
    keys = list(dict.fromkeys((line["student"], line["bytes"], line["way"]) for line in lines))
    found = {
        key: {
            line["seed"]: line["bits"]
            for line in lines
            if (line["student"], line["bytes"], line["way"]) == key
        }
        for key in keys
    }
    summary = []
    for (student, size, way), own in found.items():
        base = found[(student, size, first)]
        gaps = np.array([own[seed] - base[seed] for seed in own])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
        summary.append(
            {
                "student": student,
                "bytes": size,
                "way": way,
                f"minus {first}": round(float(gaps.mean()), 4),
                "standard error": round(float(error), 4),
            }
        )
    return summary
