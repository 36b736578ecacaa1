"""What our estimators' code does, as a few numbers: results of code that does the same stay valid.

A fingerprint holds the predictions of small seeded fits. Moving or renaming a function leaves them
as they are; a changed default, step or constant of the training moves them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from skmode import MoDEClassifier, MoDERegressor

# Processors round differently, and training multiplies that: other vector instructions moved these
# predictions by less than 1e-4. What changes the training moves some of them further than this.
TOLERANCE = 1e-3
DIGITS = 5
# Rows that are predicted, after those that are fitted.
PREDICTED = 2

Array = NDArray[Any]


@dataclass(frozen=True)
class Fit:
    """A seeded fit on rows that numpy makes up.

    Attributes
    ----------
    task : {"binary", "multiclass", "regression"}
        What is predicted.
    rows : int
        How many are fitted. The size decides batches, precision, dropout and early stopping.
    seed : int
        Of the rows. With these seeds no choice of an epoch or an alpha is so close that another
        processor could choose differently.
    options : dict
        Parameters that differ from the defaults.
    """

    task: str
    rows: int
    seed: int
    options: dict[str, Any]


FITS = {
    "one batch of all rows": Fit("binary", 100, 4, {}),
    "stopped early": Fit("multiclass", 300, 1, {}),
    # Values are fitted for some epochs alone: later ones multiply the last bits too far.
    "values": Fit("regression", 300, 0, {"max_epochs": 8}),
    "alpha chosen": Fit("binary", 200, 7, {"alpha": "auto", "max_epochs": 20}),
    "larger batches, plain mixture": Fit("binary", 1100, 5, {"alpha": 0.0, "max_epochs": 6}),
    "taught": Fit("multiclass", 300, 3, {"teacher": "ensemble", "max_epochs": 8}),
    "one network": Fit("multiclass", 300, 2, {"n_experts": 1, "max_epochs": 10}),
}


TREES = {"max_iter": 20, "categorical_features": "from_dtype", "random_state": 0}
TAUGHT = {"max_epochs": 8, "teacher_cv": 3}
# Fits that an estimator teaches, for classes and for values. They are no part of a fingerprint,
# which stands in lines of models without such a teacher, too.
LESSONS = {
    "multiclass": Fit(
        "multiclass", 300, 3, TAUGHT | {"teacher": HistGradientBoostingClassifier(**TREES)}
    ),
    "regression": Fit(
        "regression", 300, 0, TAUGHT | {"teacher": HistGradientBoostingRegressor(**TREES)}
    ),
}


@dataclass(frozen=True)
class Fingerprint:
    """Default parameters, compared as they are, and predictions, compared with a tolerance.

    Attributes
    ----------
    parameters : str
        A digest of the names and default values of the estimators' parameters, without those that
        are None: a new one that changes nothing unless it is set leaves results valid.
    predictions : tuple of float
        Of all fits, by the mixture and by the top expert.
    """

    parameters: str
    predictions: tuple[float, ...]

    @classmethod
    def of(cls, stored: Any) -> Fingerprint | None:
        """Return the fingerprint that a line of results holds; lines of old have a text instead."""
        if not isinstance(stored, dict):
            return None
        return cls(stored["parameters"], tuple(stored["predictions"]))

    def stored(self) -> dict[str, Any]:
        """Return it as a line of results holds it."""
        return {"parameters": self.parameters, "predictions": list(self.predictions)}

    def agrees(self, other: Fingerprint | None) -> bool:
        """Whether two are of code that does the same, on whatever processors."""
        return (
            other is not None
            and self.parameters == other.parameters
            and len(self.predictions) == len(other.predictions)
            and np.allclose(self.predictions, other.predictions, rtol=0, atol=TOLERANCE)
        )


@cache
def fingerprint() -> Fingerprint:
    """Return the fingerprint of the code as it was imported; the first call takes seconds."""
    predictions = [value for fit in FITS.values() for value in predict(fit)]
    return Fingerprint(parameters(), tuple(predictions))


@cache
def lesson(task: str) -> tuple[float, ...]:
    """Return predictions of what an estimator taught; they move where its teaching changes."""
    return tuple(predict(LESSONS["regression" if task == "regression" else "multiclass"]))


def parameters() -> str:
    """Return a digest of the names and default values of the estimators' parameters, but None."""
    found = [
        sorted((name, value) for name, value in each.get_params().items() if value is not None)
        for each in (MoDEClassifier(), MoDERegressor())
    ]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def predict(fit: Fit) -> list[float]:
    """Return predictions of the mixture and of the top expert after a fit."""
    X, y = make_rows(fit.task, fit.rows + PREDICTED, fit.seed)
    regression = fit.task == "regression"
    model = MoDERegressor() if regression else MoDEClassifier()
    model.set_params(random_state=0, device="cpu", **fit.options)
    predictions: list[float] = []
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[: fit.rows], y[: fit.rows])
        for inference in ("mixture", "top_expert"):
            model.set_params(inference=inference)
            asked = X[fit.rows :]
            found = model.predict(asked) if regression else model.predict_proba(asked)[:, 0]
            predictions += [round(float(value), DIGITS) for value in found]
    return predictions


def make_rows(task: str, n_rows: int, seed: int) -> tuple[pd.DataFrame, Array]:
    """Make up numbers of several scales, missing values, categories, and a noisy target."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(n_rows, 4))
    numbers[:, 3] = np.exp(numbers[:, 3])
    codes = random.integers(0, 5, size=n_rows)
    level = random.integers(0, 3, size=n_rows)
    target = numbers[:, 0] * numbers[:, 1] + np.where(codes % 2, numbers[:, 2], -numbers[:, 2])
    target += (level == 1) + random.normal(scale=0.5, size=n_rows)
    X = pd.DataFrame(numbers, columns=["a", "b", "c", "d"])
    X.loc[random.random(n_rows) < 0.1, "b"] = np.nan
    codes[random.random(n_rows) < 0.05] = -1  # a missing category
    X["e"] = pd.Categorical.from_codes(codes, list("uvwxy"))
    X["f"] = pd.Categorical.from_codes(level, list("klm"))
    limits: dict[str, Sequence[float]] = {"binary": [0.3], "multiclass": [-0.7, 0.7]}
    return X, np.digitize(target, limits[task]) if task in limits else target


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
