"""A teacher's predictions as the mixture reads them: checked, and in the order of its classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

# How far from one the probabilities of a row may sum: float32 rounds.
TOLERANCE = 1e-3


def no_probabilities(who: str) -> TypeError:
    """Build the error for a classifier's teacher that predicts labels or decision values alone."""
    return TypeError(
        f"The teacher of a classifier must have predict_proba, but {who} has none: wrap it in "
        "sklearn.calibration.CalibratedClassifierCV, which makes probabilities of decision values; "
        'a VotingClassifier needs voting="soft".'
    )


def read_probabilities(model: Any, X: Any, classes: NDArray[Any], who: str) -> NDArray[np.float64]:
    """Predict probabilities in the order of `classes`; a class unknown to the model gets zero."""
    if not hasattr(model, "predict_proba"):
        raise no_probabilities(who)
    known = getattr(model, "classes_", classes)
    return align(model.predict_proba(X), known, X.shape[0], classes, who)


def align(
    found: Any, known: Any, n_rows: int, classes: NDArray[Any], who: str
) -> NDArray[np.float64]:
    """Put columns of probabilities in the order of `classes`; a table names its columns itself."""
    columns = getattr(found, "columns", None)
    if columns is not None and list(columns) != list(range(len(columns))):
        known = columns
    known = np.asarray(known)
    values = check_predictions(found, (n_rows, len(known)), who)
    places = _places(known, classes, who)
    aligned = np.zeros((len(values), len(classes)))
    aligned[:, places] = values
    return check_probabilities(aligned, who)


def read_values(model: Any, X: Any, n_outputs: int, who: str) -> NDArray[np.float64]:
    """Predict values, one column per target."""
    found = np.asarray(model.predict(X))
    if found.ndim == 1 and n_outputs == 1:
        found = found[:, None]
    return check_predictions(found, (X.shape[0], n_outputs), who)


def check_predictions(values: Any, shape: tuple[int, int], who: str) -> NDArray[np.float64]:
    """Check that predictions are finite numbers of this shape."""
    values = np.asarray(values)
    if values.shape != shape:
        raise ValueError(
            f"The predictions of {who} must have shape {shape}, got {values.shape}: return one row "
            "for each row, and one column for each class or target."
        )
    checked: NDArray[np.float64] = check_array(
        values, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=0
    )
    wrong = ~np.isfinite(checked).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"The predictions of {who} must be finite, got {checked[row].tolist()[:5]} in row "
            f"{row}, and such values in {wrong.sum()} of {len(checked)} rows: correct the teacher, "
            "for example with an imputer before it or a smaller learning rate."
        )
    return checked


def check_probabilities(values: NDArray[np.float64], who: str) -> NDArray[np.float64]:
    """Check that each row holds probabilities, and make their sum exactly one."""
    sums = values.sum(axis=1)
    wrong = (values.min(axis=1, initial=0) < -TOLERANCE) | (np.abs(sums - 1) > TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"The predictions of {who} must be probabilities that sum to one, got "
            f"{values[row].tolist()[:5]} in row {row}: pass probabilities, neither logits nor "
            "labels."
        )
    values = values.clip(min=0)
    normalized: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return normalized


def _places(known: NDArray[Any], classes: NDArray[Any], who: str) -> list[int]:
    """Position of each of the model's classes among ours, which may be of another type."""
    place = {label: i for i, label in enumerate(classes.tolist())}
    labels = known.tolist()
    if not all(label in place for label in labels):  # such as "1" for 1
        place = {str(label): i for i, label in enumerate(classes.tolist())}
        labels = [str(label) for label in labels]
    unknown = [label for label in labels if label not in place]
    places = [place[label] for label in labels if label in place]
    if unknown or len(set(places)) < len(places):
        raise ValueError(
            f"The classes of {who} must be those of y, {classes.tolist()[:10]}, each once, got "
            f"{known.tolist()[:10]}: fit it with the same labels."
        )
    return places
