"""The data, and one measurement: processor seconds, accuracy and log loss."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss

from skmode.datasets import fetch_texts

RESULTS = Path(__file__).parents[1] / "results"
SETS = ("reuters-r8", "reuters-r52", "20newsgroups")


class Split(NamedTuple):
    """Texts to train on and to test with; classes are positions."""

    X: list[str]
    y: NDArray[np.int64]
    test: list[str]
    y_test: NDArray[np.int64]


def load(name: str) -> Split:
    """Read a set, which has a test part of its own."""
    X, labels = fetch_texts(name, return_X_y=True)
    test, test_labels = fetch_texts(name, subset="test", return_X_y=True)
    classes, y = np.unique(labels, return_inverse=True)
    return Split(X, y, test, np.searchsorted(classes, test_labels))


def measure(fit: Callable[..., Any], split: Split, seed: int) -> dict[str, Any]:
    """Fit and score one contender."""
    begun = time.process_time()
    predict, about = fit(split.X, split.y, seed)
    seconds = time.process_time() - begun
    scores = {name: _score(split, found) for name, found in predict(split.test).items()}
    return {"seconds": round(seconds, 1), "scores": scores, **about}


def _score(split: Split, found: NDArray[Any]) -> dict[str, float]:
    """Score probabilities, or classes."""
    if found.ndim == 1:
        return {"accuracy": accuracy_score(split.y_test, found)}
    return {
        "accuracy": accuracy_score(split.y_test, found.argmax(axis=1)),
        "log_loss": log_loss(split.y_test, found, labels=np.arange(found.shape[1])),
    }


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines that were written before."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def append(path: Path, line: dict[str, Any]) -> None:
    """Write a line, so that a run that was stopped goes on where it ended."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)
