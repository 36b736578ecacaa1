"""The router: by length, out of distribution, unknown languages, a domain that is added."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from benchmarks.language._bench import clock, results, texts_of
from benchmarks.language._texts import FOUR, Texts
from skmode.language import DomainRouter

WRITTEN = ("en", "fr", "de")
LINES = "lines of 5 words and more"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def router(options: argparse.Namespace) -> int:
    """Measure both methods. A seed decides which pages are held out; the test is the same."""
    texts = texts_of(options, (*FOUR, "es", "it"))
    missed = False
    with results(options, "router", uses=("seeds", "data")) as lines:
        for seed in options.seeds:
            for method in ("naive_bayes", "logistic"):
                found: list[dict[str, Any]] = []
                missed |= _misses(method, seed, texts, found)
                lines += [{"seed": seed, **line} for line in found]
    return int(missed)


def _misses(method: str, seed: int, texts: Texts, lines: list[dict[str, Any]]) -> bool:
    """Measure one router; return whether it misses a bar."""
    import torch

    start = clock(torch.device("cpu"))
    model = DomainRouter(method, random_state=seed).fit(*texts.pairs(FOUR))
    seconds = round(clock(torch.device("cpu")) - start, 1)
    lines.append({"method": method, "processor seconds of fit": seconds})
    missed = _by_length(model, texts, lines) < 0.985
    missed |= _strange(model, texts, lines) < 0.8
    _unknown(model, texts, lines)
    if method == "naive_bayes":
        missed |= _added(model, texts, lines) > 0.015
    return missed


def _by_length(model: DomainRouter, texts: Texts, lines: list[dict[str, Any]]) -> float:
    """Note precision, recall, F1 and the wrong lines; return the share of lines that are right."""
    errors: list[dict[str, Any]] = []
    tests = {
        LINES: {name: texts.lines(name, 500) for name in FOUR},
        "the same without their indentation": {
            name: [line.strip() for line in texts.lines(name, 500)] for name in FOUR
        },
        "5 words": {name: texts.passages(name, 500, 5) for name in FOUR},
        "100 words": {name: texts.passages(name, 300, 100) for name in FOUR},
    }
    shares = []
    for kind, test in tests.items():
        truth = np.repeat(FOUR, [len(own) for own in test.values()])
        flat = [text for own in test.values() for text in own]
        best = np.array(model.domains_)[model.predict_proba(flat).argmax(1)]
        abstained = model.confidence(flat) < model.threshold_
        precision, recall, f1, _ = precision_recall_fscore_support(truth, best, average="macro")
        shares.append(float(np.mean(best == truth)))
        if kind == LINES and model.method == "naive_bayes":
            wrong = np.flatnonzero(best != truth)
            errors = [{"of": truth[i], "taken for": best[i], "line": flat[i][:120]} for i in wrong]
        lines.append(
            {
                "method": model.method,
                "length": kind,
                "accuracy": round(shares[-1], 4),
                "precision": round(float(precision), 4),
                "recall": round(float(recall), 4),
                "F1": round(float(f1), 4),
                "abstained": round(float(abstained.mean()), 4),
                **{
                    f"recall of {name}": round(float(np.mean(best[truth == name] == name)), 4)
                    for name in FOUR
                },
            }
        )
    lines += errors
    return shares[0]


def _strange(model: DomainRouter, texts: Texts, lines: list[dict[str, Any]]) -> float:
    """Note changed lines; return the share of comments in code that are right or abstained."""
    rng = np.random.RandomState(0)
    changes = {
        "typos in a tenth of the letters": lambda text: _with_typos(text, rng),
        "upper case": str.upper,
        "without accents": lambda text: text.encode("ascii", "ignore").decode(),
        "whole line of a comment": lambda text: f"    # {text}",
    }
    for kind, change in changes.items():
        names = {
            name: model.predict([change(text) for text in texts.lines(name, 300)])
            for name in WRITTEN
        }
        _note(model, kind, names, lines)
    names = {
        name: np.array(
            [
                segment.domain
                for text in texts.lines(name, 300)
                for segment in model.route_segments(f"    x = f(y)  # {text}\n    return x")[1:2]
            ]
        )
        for name in WRITTEN
    }
    return _note(model, "comment behind code, routed by segments", names, lines)


def _note(
    model: DomainRouter, kind: str, names: dict[str, Any], lines: list[dict[str, Any]]
) -> float:
    """Note the shares that are right and that are abstained; return their sum."""
    right = np.mean([np.mean(own == name) for name, own in names.items()])
    none = np.mean([np.mean([each is None for each in own]) for own in names.values()])
    lines.append(
        {
            "method": model.method,
            "changed": kind,
            "right": round(float(right), 4),
            "abstained": round(float(none), 4),
        }
    )
    return float(right + none)


def _unknown(model: DomainRouter, texts: Texts, lines: list[dict[str, Any]]) -> None:
    """Note the curve of abstention: known texts that are lost, unknown ones that are found."""
    for kind, draw in (
        ("lines", lambda name: texts.lines(name, 300)),
        ("100 words", lambda name: texts.passages(name, 200, 100)),
    ):
        known = np.concatenate([model.confidence(draw(name)) for name in FOUR])
        strange = np.concatenate([model.confidence(draw(name)) for name in ("es", "it")])
        for share in (0.005, 0.01, 0.02, 0.05, 0.1):
            threshold = np.quantile(known, share)
            lines.append(
                {
                    "method": model.method,
                    "of": kind,
                    "known texts abstained": share,
                    "Spanish and Italian abstained": round(float(np.mean(strange < threshold)), 4),
                }
            )


def _added(model: DomainRouter, texts: Texts, lines: list[dict[str, Any]]) -> float:
    """Add Spanish; return by how much the old domains' routing got worse on lines."""
    tests = {name: texts.lines(name, 500) for name in (*FOUR, "es")}

    def accuracy(names: tuple[str, ...]) -> dict[str, float]:
        domains = np.array(model.domains_)
        return {
            name: round(
                float(np.mean(domains[model.predict_proba(tests[name]).argmax(1)] == name)), 4
            )
            for name in names
        }

    before = accuracy(FOUR)
    model.add_domain("es", texts.train["es"])
    after = accuracy((*FOUR, "es"))
    lines.append({"Spanish": "not known", **before, "es": None})
    lines.append({"Spanish": "added without the old texts", **after})
    return max(before[name] - after[name] for name in FOUR)


def _with_typos(text: str, rng: np.random.RandomState) -> str:
    """Replace a tenth of the letters."""
    return "".join(
        rng.choice(list(LETTERS)) if each.isalpha() and rng.uniform() < 0.1 else each
        for each in text
    )
