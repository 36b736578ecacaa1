"""Whole models: number of domains, setups, experts of 8 bits, a large run on a GPU."""

from __future__ import annotations

import argparse
import pickle
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.language._bench import (
    TEST_BYTES,
    Bench,
    choose_steps,
    model_parameters,
    results,
    texts_of,
)
from benchmarks.language._texts import ALL, FOUR, Texts
from skmode.language import ModularLanguageModel, export
from skmode_deploy import language
from skmode_deploy.bundle import domain_file


def domains(options: argparse.Namespace) -> int:
    """Compare 2, 4, 5 and 8 domains at equal tokens for each.

    The warm start takes half as many steps for each domain as an expert does of its own.
    """
    texts = texts_of(options, ALL)
    with results(options, "domains") as lines:
        steps = 0
        for n in (2, 4, 5, 8):
            names = ALL[:n]
            for seed in options.seeds:
                bench = Bench(options, names, seed, texts)
                steps = steps or choose_steps(bench, options, 28.5 * len(options.seeds))
                warm = {"warm_start_steps": n * steps // 2}
                model = fit(options, texts, names, seed, steps, teacher=None, **warm)
                found = measure(model, texts, names) | _of_first(model, texts)
                lines.append({"domains": n, "seed": seed, "steps": steps, **found})
                print(lines[-1], flush=True)
    return 0


def _of_first(model: ModularLanguageModel, texts: Texts) -> dict[str, float]:
    """Return the bits per byte of the two domains that are always there, routed."""
    found = {}
    for name in ALL[:2]:
        passages = texts.passages(name, 40, 100)
        n_bytes = [len(text.encode()) for text in passages]
        score = np.average(model.bits_per_byte(passages), weights=n_bytes)
        found[f"bits on 100 words of {name}"] = round(float(score), 4)
    return found


def setups(options: argparse.Namespace) -> int:
    """Compare PLE, JEET and MoE-CE at equal steps of each expert."""
    texts = texts_of(options, FOUR)
    with results(options, "setups") as lines:
        steps = 0
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            # MoE-CE has two models in each step.
            steps = steps or choose_steps(bench, options, 19.0 * len(options.seeds))
            for setup in ("ple", "jeet", "moe_ce"):
                model = fit(options, texts, FOUR, seed, steps, teacher=None, setup=setup)
                found = measure(model, texts, FOUR)
                lines.append({"setup": setup, "seed": seed, "steps": steps, **found})
                print(lines[-1], flush=True)
    return 0


def quantized(options: argparse.Namespace) -> int:
    """Compare bundles of 32 and of 8 bits, of the same trained experts."""
    texts = texts_of(options, FOUR)
    passages = {name: texts.passages(name, 40, 100) for name in FOUR}
    with results(options, "quantized") as lines:
        steps = 0
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            steps = steps or choose_steps(bench, options, 7.0 * len(options.seeds))
            warm = {"warm_start_steps": 3 * steps}
            model = fit(options, texts, FOUR, seed, steps, teacher=None, **warm)
            for bits in (32, 8):
                found = _served(model, passages, bits)
                lines.append({"seed": seed, "steps": steps, "bits of a weight": bits, **found})
                print(lines[-1], flush=True)
    return 0


def _served(
    model: ModularLanguageModel, passages: dict[str, list[str]], bits: int
) -> dict[str, float]:
    """Export the model; return what its bundle needs for the passages, by the expert of each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bundle")
        export(model, path, quantize="dynamic" if bits == 8 else None)
        served = language.load(path)
        served.score([passages["en"][0]], domain="en")  # opens the router and one expert
        size = np.mean([(path / domain_file(name)).stat().st_size for name in FOUR])
        found, n_tokens, seconds = {}, 0, 0.0
        for name, own in passages.items():
            served.score(own[:1], domain=name)
            start = time.process_time()
            scores = served.score(own, domain=name)
            seconds += time.process_time() - start
            n_tokens += sum(len(model.tokenizer_.encode(text).ids) for text in own)
            n_bytes = [len(text.encode()) for text in own]
            found[name] = round(float(np.average(scores, weights=n_bytes)), 4)
    return {
        **found,
        "mean": round(float(np.mean(list(found.values()))), 4),
        "MB of an expert": round(float(size) / 1e6, 2),
        "tokens a processor second": round(n_tokens / seconds),
    }


def large(options: argparse.Namespace) -> int:
    """Train a teacher and students that are distilled, as long as the minutes allow."""
    texts = texts_of(options, FOUR)
    with results(options, "large") as lines:
        for seed in options.seeds:
            bench = Bench(options, FOUR, seed, texts)
            # A warm start with the teacher and one without, and four experts. Of the teacher: its
            # own steps, and a forward pass (a third) for each step of those that it teaches.
            steps = choose_steps(bench, options, 6.0, 2.0 + 5.0 / 3)
            model = fit(
                options, texts, FOUR, seed, steps, teacher_steps=2 * steps, keep_teacher=True
            )
            found = measure(model, texts, FOUR)
            lines.append({"student": options.student, "seed": seed, "steps": steps, **found})
            lines.append(
                {"teacher": options.teacher, "distilled": " ".join(model.distilled_)}
                | {name: round(score, 4) for name, score in model.teacher_bits_per_byte_.items()}
            )
    return 0


def fit(
    options: argparse.Namespace,
    texts: Texts,
    names: tuple[str, ...],
    seed: int,
    steps: int,
    **parameters: Any,
) -> ModularLanguageModel:
    """Fit a model whose warm start takes as many steps as an expert."""
    common = model_parameters(options, seed) | {"warm_start_steps": steps, "steps": steps}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ModularLanguageModel(**common | parameters).fit(*texts.pairs(names))


def measure(model: ModularLanguageModel, texts: Texts, names: tuple[str, ...]) -> dict[str, float]:
    """Return routing, bits per byte routed and by the own expert, size, memory, tokens a second."""
    found: dict[str, float] = {}
    for kind, tests in (
        ("lines", {name: texts.lines(name, 100) for name in names}),
        ("100 words", {name: texts.passages(name, 40, 100) for name in names}),
    ):
        flat = [text for own in tests.values() for text in own]
        truth = np.repeat(names, [len(own) for own in tests.values()])
        n_bytes = np.array([len(text.encode()) for text in flat])
        proba = model.predict_proba(flat)
        found[f"error on {kind}"] = round(
            float(np.mean(np.array(model.domains_)[proba.argmax(1)] != truth)), 4
        )
        routed = np.average(model.bits_per_byte(flat), weights=n_bytes)
        own = np.average(model.bits_per_byte(flat, truth.tolist()), weights=n_bytes)
        found[f"bits on {kind}"] = round(float(routed), 4)
        found[f"minus own expert's on {kind}"] = round(float(routed - own), 4)
    text = texts.sample(names[0], TEST_BYTES)
    start = time.process_time()
    model.bits_per_byte([text])
    tokens = len(model.tokenizer_.encode(text).ids)
    found["tokens a processor second"] = round(tokens / (time.process_time() - start))
    found["MB"] = round(len(pickle.dumps(model.experts_)) / 1e6, 1)
    found["peak memory, MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return found
