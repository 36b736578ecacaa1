"""Answers of a bundle against those of the model that it was made from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

import skmode_deploy
from skmode._sklearn import safe_indexing
from skmode.onnx._bundles.pipeline import name_steps, split_model

# Rows on which they are compared.
CHECKED_ROWS = 1000
# Largest difference of a probability, or of a value in standard deviations of the target.
TOLERANCE = 1e-4
# Where the two best experts are closer than this, rounding decides between them.
TIE = 1e-4


@dataclass(frozen=True)
class Differences:
    """How far a bundle is from its model on some rows.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    labels : float
        Share of the rows with another label. 0 for regression.
    clear_labels : float
        Share of the rows with another label although one class is clearly the most probable.
    mean : float
        Mean absolute difference of the probabilities; for regression the root mean squared
        difference of the values, in standard deviations of the target.
    largest : float
        Largest absolute difference of a probability, or of a value in these standard deviations.
    worst : int
        The row in which it lies.
    by_rounding : bool
        Whether the model itself answers otherwise for rows that are rounded to float32, as the
        bundle reads those of an array.
    """

    n_rows: int
    labels: float
    clear_labels: float
    mean: float
    largest: float
    worst: int
    by_rounding: bool = False


def measure_differences(bundle: Path, model: Any, X: Any, routing: str) -> Differences:
    """Compare a bundle with its model, on up to 1,000 rows."""
    rows = np.unique(np.linspace(0, len(X) - 1, min(len(X), CHECKED_ROWS)).astype(int))
    X = safe_indexing(X, rows)
    steps, last = split_model(model)
    features = Pipeline(steps).transform(X) if steps else X
    between = np.zeros(len(rows), dtype=bool)
    if routing == "top_expert" and last.n_experts > 1:
        between = margin(last.gate_proba(features)) < TIE
    answers = _answer(bundle, X, steps)
    reference = copy.copy(last).set_params(inference=routing)
    expected = expect(reference, features)
    if answers.probabilities is None:
        errors = np.abs(answers.value.reshape(expected.shape) - expected) / last.target_scale_
        other = clear = np.zeros(len(rows), dtype=bool)
    else:
        errors = np.abs(answers.probabilities - expected)
        other = np.asarray(answers.value != last.classes_[expected.argmax(axis=1)])
        clear = other & ~between & (margin(expected) > 2 * TOLERANCE)
    errors[between] = 0
    worst = int(np.argmax(errors.max(axis=1)))
    mean = errors.mean() if answers.probabilities is not None else np.sqrt(np.mean(errors**2))
    return Differences(
        n_rows=len(rows),
        labels=float(other.mean()),
        clear_labels=float(clear.mean()),
        mean=float(mean),
        largest=float(errors[worst].max()),
        worst=int(rows[worst]),
        by_rounding=not errors[worst].max() <= TOLERANCE
        and _depends_on_rounding(reference, steps, X, expected, ~between),
    )


def _answer(bundle: Path, X: Any, steps: list[tuple[str, Any]]) -> skmode_deploy.Prediction:
    try:
        return skmode_deploy.load(bundle).predict_full(X)
    except (TypeError, ValueError):  # of skmode_deploy
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")[:300]
        names = f" ({name_steps(Pipeline(steps))})" if steps else ""
        raise ValueError(
            "The bundle must answer on the rows of X, got an error of onnxruntime: "
            f"{reason}. Replace a step before the estimator{names}, or leave its work to the "
            "estimator."
        ) from error


def expect(estimator: Any, features: Any) -> NDArray[Any]:
    """Ask an estimator for what a bundle answers."""
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(features))
    return np.asarray(estimator.predict(features)).reshape(len(features), -1)


def _depends_on_rounding(
    estimator: Any,
    steps: list[tuple[str, Any]],
    X: Any,
    expected: NDArray[Any],
    rows: NDArray[np.bool_],
) -> bool:
    """Whether answers on an array change by more than the tolerance if it is rounded."""
    if not isinstance(X, np.ndarray) or X.dtype.kind != "f":
        return False
    rounded = X.astype(np.float32).astype(np.float64)
    answers = expect(estimator, Pipeline(steps).transform(rounded) if steps else rounded)
    differences = np.abs(answers - expected)[rows] / getattr(estimator, "target_scale_", 1)
    return not differences.max(initial=0) <= TOLERANCE


def margin(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say how far the largest probability of each row is above the second largest."""
    if probabilities.shape[1] == 1:
        return np.ones(len(probabilities))
    ordered = np.sort(probabilities, axis=1)
    margin: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return margin


def check_quantization(differences: Differences, tolerance: float) -> None:
    """Refuse 8-bit experts that answer differently."""
    if differences.labels <= tolerance and differences.mean <= tolerance:
        return
    raise ValueError(
        f"With 8-bit experts at most {tolerance:g} of the labels may change, and answers may "
        f"differ by {tolerance:g} in the mean, got {differences.labels:.3g} and "
        f"{differences.mean:.3g} on {differences.n_rows} rows of X: export with quantize=None, or "
        "raise tolerance."
    )


def check_answers(differences: Differences, model: Any) -> None:
    """Refuse a bundle whose graph computes something else than its model."""
    if differences.largest <= TOLERANCE and not differences.clear_labels:
        return
    steps, _ = split_model(model)
    if differences.by_rounding:
        what = (
            "its input is float32, too coarse for the numbers of this array; subtract a constant "
            "from them or scale them before fit, or fit on a DataFrame, whose numbers stay "
            "float64 in front of a Pipeline."
        )
    elif steps:
        what = (
            "a step before the estimator is converted otherwise than scikit-learn computes it "
            f"({name_steps(Pipeline(steps))}); replace it, or leave its work to the estimator."
        )
    else:
        what = "X has numbers that do not fit into float32; scale them before fit."
    raise ValueError(
        f"The bundle must answer as the model does within {TOLERANCE:g}, got a difference of "
        f"{differences.largest:.3g} in row {differences.worst} of X and other labels in "
        f"{differences.clear_labels:.1%} of the rows: {what}"
    )
