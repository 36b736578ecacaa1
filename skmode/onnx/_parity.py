"""Answers of a bundle against those of the estimator that it was made from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

import skmode_deploy


@dataclass(frozen=True)
class Differences:
    """How far a bundle is from its estimator on some rows.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    labels : float
        Share of the rows with another label. 0 for regression.
    mean : float
        Mean absolute difference of the probabilities; for regression the root mean squared
        difference of the values, in standard deviations of the target.
    largest : float
        Largest absolute difference of a probability, or of a value in these standard deviations.
    """

    n_rows: int
    labels: float
    mean: float
    largest: float


def measure_differences(bundle: Path, estimator: Any, X: Any, routing: str) -> Differences:
    """Compare a bundle with its estimator.

    Parameters
    ----------
    bundle : Path
        Folder of the bundle.
    estimator : MoDEClassifier, MoDERegressor or Pipeline that ends with one
        What it was made from.
    X : array-like or table of shape (n_samples, n_features)
        Rows.
    routing : {"top_expert", "mixture"}
        What the bundle computes.

    Returns
    -------
    Differences
        How far they are from each other.
    """
    answers = skmode_deploy.load(bundle).predict_full(X)
    reference = _with_inference(estimator, routing)
    n_rows = len(answers.value)
    if answers.probabilities is None:
        scale = (reference[-1] if isinstance(reference, Pipeline) else reference).target_scale_
        expected = np.asarray(reference.predict(X)).reshape(n_rows, -1)
        errors = np.abs(answers.value.reshape(n_rows, -1) - expected) / scale
        return Differences(n_rows, 0.0, float(np.sqrt(np.mean(errors**2))), float(errors.max()))
    probabilities = reference.predict_proba(X)
    errors = np.abs(answers.probabilities - probabilities)
    expected = reference.classes_[probabilities.argmax(axis=1)]
    other = np.asarray(answers.value != expected)
    return Differences(n_rows, float(other.mean()), float(errors.mean()), float(errors.max()))


def check_quantization(differences: Differences, tolerance: float) -> None:
    """Refuse 8-bit experts that answer differently.

    Parameters
    ----------
    differences : Differences
        From :func:`measure_differences`.
    tolerance : float
        Largest share of other labels and largest mean difference.

    Raises
    ------
    ValueError
        If one of them is larger.
    """
    if max(differences.labels, differences.mean) <= tolerance:
        return
    raise ValueError(
        f"With 8-bit experts at most {tolerance:g} of the labels may change, and answers may "
        f"differ by {tolerance:g} in the mean, got {differences.labels:.3g} and "
        f"{differences.mean:.3g} on {differences.n_rows} rows of X: export with quantize=None, or "
        "raise tolerance."
    )


def _with_inference(estimator: Any, routing: str) -> Any:
    """A shallow copy that predicts as the bundle does."""
    if isinstance(estimator, Pipeline):
        steps = list(estimator.steps)
        name, last = steps[-1]
        reference = copy.copy(estimator)
        reference.steps = [*steps[:-1], (name, _with_inference(last, routing))]
        return reference
    return copy.copy(estimator).set_params(inference=routing)
