"""Tables of any size, made up, and the estimators that are fitted to them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu._record import Setting
from skmode import MoDEClassifier
from skmode._training.rows import Rows

N_COLUMNS = 20

Table = tuple[NDArray[np.float32], NDArray[np.int64]]


@functools.lru_cache(maxsize=2)
def make_table(n_rows: int) -> Table:
    """Two classes that depend on products of columns, with noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, N_COLUMNS), dtype=np.float32)
    score = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + 0.5 * X[:, 3] * (X[:, 4] > 0)
    y = (score + rng.standard_normal(n_rows) > 0).astype(np.int64)
    return X, y


def make_classifier(setting: Setting, n_experts: int, width: int, **options: Any) -> MoDEClassifier:
    """A classifier that trains for a fixed number of epochs, on the device of the setting."""
    fixed: dict[str, Any] = {
        "n_experts": n_experts,
        "hidden_layer_sizes": (width,),
        "alpha": 1.0,
        "early_stopping": False,
        "random_state": 0,
        "device": setting.device,
    }
    return MoDEClassifier(**{**fixed, **options})


def rows_of(classifier: MoDEClassifier, X: Any, y: Any) -> Rows:
    """A table as the network of a fitted classifier reads it, on the CPU."""
    inputs = classifier._encode_inputs(classifier._check_input(X, reset=False))
    return Rows(inputs, torch.as_tensor(y), None)


def epoch_seconds(classifier: MoDEClassifier, last: int = 2) -> float:
    """The shortest of the last epochs: the first one starts kernels and reserves memory."""
    return float(min(epoch["dur"] for epoch in classifier.history_[-last:]))
