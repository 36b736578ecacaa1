"""The best alpha of texts, by the number of texts, the width of the experts and the mixing."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from benchmarks.text._measure import RESULTS, append, load, read
from skmode import MoDETextClassifier

PATH = RESULTS / "text_alpha.jsonl"
SET = "reuters-r8"
ALPHAS = (0.0, 0.1, 1.0, 10.0)
# Number of texts, width of the experts, mixing: in the first three the number differs, in each of
# the others one thing.
SETTINGS = (
    (300, 256, "expected"),
    (1000, 256, "expected"),
    (3000, 256, "expected"),
    (1000, 32, "expected"),
    (1000, 256, "representation"),
    (1000, 256, "likelihood"),
)
KEYS = ("n_texts", "width", "mixing", "alpha", "seed")


def measure_alpha(seeds: Iterable[int]) -> None:
    """Fit with each alpha in each setting, and append a line for each that has none yet."""
    done = {tuple(line[key] for key in KEYS) for line in read(PATH)}
    split = load(SET)
    for seed, setting, alpha in itertools.product(seeds, SETTINGS, ALPHAS):
        key = (*setting, alpha, seed)
        if key in done:
            continue
        n_texts, width, mixing = setting
        rows, _ = train_test_split(
            np.arange(len(split.y)), train_size=n_texts, stratify=split.y, random_state=seed
        )
        # The networks alone: a linear model that all experts share would hide what alpha does.
        options: Any = {"hidden_layer_sizes": (width,), "mixing": mixing, "alpha": alpha}
        options["linear_share"] = 0.0
        begun = time.process_time()
        model = MoDETextClassifier(random_state=seed, **options)
        model.fit([split.X[i] for i in rows], split.y[rows])
        seconds = round(time.process_time() - begun, 1)
        append(
            PATH, dict(zip(KEYS, key, strict=True)) | {"seconds": seconds} | _score(model, split)
        )


def _score(model: Any, split: Any) -> dict[str, Any]:
    found = {}
    for inference in ("mixture", "top_expert"):
        proba = model.set_params(inference=inference).predict_proba(split.test)
        found[inference] = {
            "accuracy": accuracy_score(split.y_test, model.classes_[proba.argmax(axis=1)]),
            "log_loss": log_loss(split.y_test, proba, labels=model.classes_),
        }
    return found


def alpha_tables() -> list[str]:
    """Write what was measured as a table: log loss by setting and alpha, the lowest in bold."""
    found: dict[tuple[Any, ...], dict[float, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for line in read(PATH):
        found[line["n_texts"], line["width"], line["mixing"]][line["alpha"]].append(line)
    if not found:
        return []
    text = [
        f"## Texts of {SET}",
        "",
        "Log loss on the test texts of the mixture / of the top expert, by `alpha`; the lowest of",
        "each is bold. Means over seeds, of which each draws other training texts.",
        "",
        f"| texts | width | mixing | seeds | {' | '.join(f'{alpha:g}' for alpha in ALPHAS)} |",
        "| --- | --- | --- | --- |" + " --- |" * len(ALPHAS),
    ]
    for (n_texts, width, mixing), by_alpha in found.items():
        shared = set.intersection(*({line["seed"] for line in by_alpha[a]} for a in ALPHAS))
        if not shared:
            continue
        kept = {a: [line for line in by_alpha[a] if line["seed"] in shared] for a in ALPHAS}
        means = np.array([[_mean(kept[a], how) for a in ALPHAS] for how in _HOWS])
        cells = [
            " / ".join(_bold(means[how, i], means[how]) for how in range(len(_HOWS)))
            for i in range(len(ALPHAS))
        ]
        text.append(f"| {n_texts} | {width} | {mixing} | {len(shared)} | {' | '.join(cells)} |")
    return [*text, ""]


_HOWS = ("mixture", "top_expert")


def _mean(lines: list[dict[str, Any]], how: str) -> float:
    return float(np.mean([line[how]["log_loss"] for line in lines]))


def _bold(value: float, among: Any) -> str:
    return f"**{value:.3f}**" if value == np.min(among) else f"{value:.3f}"
