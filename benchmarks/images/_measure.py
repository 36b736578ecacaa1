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
from sklearn.model_selection import train_test_split

from skmode.datasets import fetch_fashion_mnist, fetch_mnist_5k

RESULTS = Path(__file__).parents[1] / "results"
N_TRAIN_MNIST = 4_000


class Split(NamedTuple):
    """Images to train on and to test with."""

    X: NDArray[np.uint8]
    y: NDArray[np.int64]
    test: NDArray[np.uint8]
    y_test: NDArray[np.int64]


def load(name: str, seed: int) -> Split:
    """Split MNIST by the seed; Fashion-MNIST has a test part of its own."""
    if name == "fashion":
        return Split(
            *fetch_fashion_mnist(return_X_y=True),
            *fetch_fashion_mnist(subset="test", return_X_y=True),
        )
    images, target = fetch_mnist_5k(return_X_y=True)
    X, test, y, y_test = train_test_split(
        images, target, train_size=N_TRAIN_MNIST, stratify=target, random_state=seed
    )
    return Split(X, y, test, y_test)


def inner(n_rows: int) -> Split:
    """Split the training part of Fashion-MNIST, for choices that no test image may see."""
    X, y = fetch_fashion_mnist(return_X_y=True)
    X, test, y, y_test = train_test_split(
        X, y, train_size=n_rows, test_size=5_000, stratify=y, random_state=0
    )
    return Split(X, y, test, y_test)


def measure(fit: Callable[..., Any], split: Split, seed: int) -> dict[str, Any]:
    """Fit and score one contender."""
    begun = time.process_time()
    found, about = fit(split.X, split.y, split.test, seed)
    seconds = time.process_time() - begun
    scores = {
        name: {
            "accuracy": accuracy_score(split.y_test, probabilities.argmax(axis=1)),
            "log_loss": log_loss(split.y_test, probabilities),
        }
        for name, probabilities in found.items()
    }
    return {"seconds": round(seconds, 1), "scores": scores, **about}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines that were written before."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def append(path: Path, line: dict[str, Any]) -> None:
    """Write a line, so that a run that was stopped goes on where it ended."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)
