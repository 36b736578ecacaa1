"""Compare the predictions of a bundle with those of its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

import skmode_deploy
from skmode._common.sklearn import safe_indexing
from skmode.onnx._bundles.parts import Parts, margin, read_parts
from skmode.onnx._bundles.pipeline import name_steps
from skmode_deploy.errors import InferenceError
from skmode_deploy.running.sessions import first_line

# Rows to compare, at most.
MAX_CHECKED = 1000
# Largest difference of a probability, or of a value in standard deviations of the target.
TOLERANCE = 1e-4
# If the two best experts are closer than this, rounding decides between them.
TIE = 1e-4
# Parameters that put modules of the user into the network.
OWN_MODULES = ("trunk_module", "expert_module")


@dataclass(frozen=True)
class Differences:
    """How far the predictions of a bundle are from those of its model."""

    n_rows: int
    # Share of the rows whose label differs; 0 for regression.
    labels: float
    # The same, without rows close to a tie between experts or classes.
    clear_labels: float
    # Mean absolute difference of the probabilities; for regression the root mean squared difference
    # of the values, in standard deviations of the target.
    mean: float
    # Largest absolute difference of a probability, or of a value in these standard deviations, and
    # the row where it occurs.
    largest: float
    worst: int
    # Whether the difference comes from rounding an array to float32, as the bundle reads it.
    by_rounding: bool = False


def measure_differences(
    predictor: skmode_deploy.Predictor, model: Any, X: Any, routing: str
) -> Differences:
    """Compare a bundle with its model, on up to 1,000 rows."""
    rows = choose_rows(X)
    X = safe_indexing(X, rows)
    parts = read_parts(model)
    last, features = parts.estimator, parts.transform(X)
    tied = np.zeros(len(rows), dtype=bool)
    if routing == "top_expert" and last.n_experts > 1:
        tied = margin(last.gate_proba(features)) < TIE
    answers = _predict(predictor, X, parts.steps)
    reference = parts.with_routing(routing)
    expected = parts.predict(reference, features)
    if answers.probabilities is None:
        errors = np.abs(answers.value.reshape(expected.shape) - expected)
        errors /= parts.deviation(reference, features)
        other = clear = np.zeros(len(rows), dtype=bool)
    else:
        errors = np.abs(answers.probabilities - expected)
        other = np.asarray(answers.value != last.classes_[parts.choose(expected)])
        clear = other & ~tied & (parts.margin(expected) > 2 * TOLERANCE)
    errors[tied] = 0
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
        and _depends_on_rounding(parts, reference, X, expected, ~tied),
    )


def choose_rows(X: Any) -> NDArray[np.int64]:
    """Choose the rows to compare, evenly spread."""
    return np.unique(np.linspace(0, len(X) - 1, min(len(X), MAX_CHECKED)).astype(np.int64))


def _predict(
    predictor: skmode_deploy.Predictor, X: Any, steps: list[tuple[str, Any]]
) -> skmode_deploy.Prediction:
    try:
        return predictor.predict_full(X)
    except InferenceError as error:
        names = f" ({name_steps(Pipeline(steps))})" if steps else ""
        raise ValueError(
            "The bundle must predict the rows of X, but onnxruntime failed: "
            f"{first_line(error.__cause__ or error)}. Replace a step before the estimator{names}, "
            "or leave its work to the estimator."
        ) from error


def _depends_on_rounding(
    parts: Parts,
    estimator: Any,
    X: Any,
    expected: NDArray[Any],
    rows: NDArray[np.bool_],
) -> bool:
    """Whether predictions change by more than the tolerance if an array is rounded to float32."""
    if not isinstance(X, np.ndarray) or X.dtype.kind != "f":
        return False
    rounded = X.astype(np.float32).astype(np.float64)
    features = parts.transform(rounded)
    differences = np.abs(parts.predict(estimator, features) - expected)
    if not hasattr(estimator, "predict_proba"):
        differences /= parts.deviation(estimator, features)
    differences = differences[rows]
    return not differences.max(initial=0) <= TOLERANCE


def check_quantization(differences: Differences, tolerance: float) -> None:
    """Raise if the predictions with 8-bit experts differ too much."""
    if differences.labels <= tolerance and differences.mean <= tolerance:
        return
    raise ValueError(
        f"With 8-bit experts at most {tolerance:g} of the labels may change, and predictions may "
        f"differ by at most {tolerance:g} on average, got {differences.labels:.3g} and "
        f"{differences.mean:.3g} on {differences.n_rows} rows of X: export with quantize=None, or "
        "raise tolerance."
    )


def check_predictions(differences: Differences, model: Any) -> None:
    """Raise if the bundle does not predict what its model predicts."""
    if differences.largest <= TOLERANCE and not differences.clear_labels:
        return
    if differences.by_rounding:
        what = (
            "its input is float32, too coarse for the numbers of this array; subtract a constant "
            "from them or scale them before fit, or fit a Pipeline on a DataFrame, whose numbers "
            "stay float64."
        )
    else:
        what = name_causes(read_parts(model)) or (
            "X has numbers that do not fit into float32; scale them before fit."
        )
    raise ValueError(
        f"The bundle must predict what the model predicts within {TOLERANCE:g}, got a difference "
        f"of {differences.largest:.3g} in row {differences.worst} of X and other labels in "
        f"{differences.clear_labels:.1%} of the rows: {what}"
    )


def name_causes(parts: Parts) -> str:
    """Name what is not skmode's own and may make a bundle predict something else, and cures."""
    causes = []
    if parts.steps:
        causes.append(
            "skl2onnx converts a step before the estimator wrongly "
            f"({name_steps(Pipeline(parts.steps))}); replace it, or leave its work to the "
            "estimator."
        )
    own = [name for name in OWN_MODULES if getattr(parts.estimator, name, None) is not None]
    if own:
        causes.append(
            f"a module of your own ({', '.join(own)}) must treat each row alone, and use only what "
            "torch.onnx can trace; rewrite its forward."
        )
    return " Or ".join(causes)
