"""Predictions of another model: checked, and in the order of the classes."""

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

# How far from one the probabilities of a row may sum: float32 rounds.
TOLERANCE = 1e-3
# So many standard deviations from the mean of y a predicted value may lie. Squares of larger
# ones, and their sums, leave float32.
FARTHEST = 1e9
# Why there may be more columns than classes.
MISSING_CLASS = (
    "; in a part of the rows, as in a search, a rare class may be missing: let StratifiedKFold "
    "divide them, or drop the class"
)


def read_soft_targets(
    soft_targets: Any,
    n_rows: int,
    *,
    classes: NDArray[Any] | None = None,
    n_outputs: int = 1,
    names: list[Any] | None = None,
    name: str = "soft_targets",
) -> NDArray[np.float64]:
    """Check ready predictions: probabilities of classes, or values; `(n_rows, n_outputs)`.

    `names` are those of y's columns, if it has some.
    """
    if classes is not None:
        return align(soft_targets, classes, n_rows, classes, name)
    return check_values(soft_targets, n_rows, n_outputs, name, names)


def names_of(table: Any) -> list[Any] | None:
    """Names of a table's columns; None if it has only numbers of columns, or is an array."""
    columns = getattr(table, "columns", None)
    if columns is None or list(columns) == list(range(len(columns))):
        return None
    return list(columns)


def align(
    found: Any, known: Any, n_rows: int, classes: NDArray[Any], what: str
) -> NDArray[np.float64]:
    """Put columns of probabilities in the order of `classes`; a table names its columns itself."""
    columns = names_of(found)
    known = np.asarray(known).tolist() if columns is None else np.asarray(columns).tolist()
    cure = "; of probabilities p of the second class make np.c_[1 - p, p]"
    cure = cure if len(known) == 2 else ""
    values = check_predictions(found, (n_rows, len(known)), what, cure, MISSING_CLASS)
    source = f"classes of {what}" if columns is None else f"columns of {what}"
    places = _places(known, classes.tolist(), source)
    aligned = np.zeros((len(values), len(classes)))
    aligned[:, places] = values
    return check_probabilities(aligned, what)


def check_values(
    found: Any, n_rows: int, n_outputs: int, what: str, names: list[Any] | None = None
) -> NDArray[np.float64]:
    """Check predicted values, one column per target; a single target may have none.

    Of several, a table names its columns itself, if y does so too: `names`.
    """
    values = _as_array(found, what)
    if values.ndim == 1 and n_outputs == 1:
        values = values[:, None]
    checked = check_predictions(values, (n_rows, n_outputs), what)
    columns = names_of(found)
    if n_outputs == 1 or columns is None or names is None:
        return checked
    aligned = np.empty_like(checked)
    aligned[:, _places(columns, names, f"columns of {what}")] = checked
    return aligned


def check_predictions(
    found: Any, shape: tuple[int, int], what: str, binary: str = "", more: str = ""
) -> NDArray[np.float64]:
    """Check that predictions are finite numbers of this shape.

    `binary` is a cure of one column, `more` one of too many.
    """
    values = _as_array(found, what)
    if values.shape != shape:
        cure = binary if values.shape == shape[:1] else ""
        if values.ndim == 2 and values.shape[1] > shape[1]:
            cure = more
        raise ValueError(
            f"{_sentence(what)} must have shape {shape}, got {values.shape}: give one row for "
            f"each row of X, and one column for each class or target{cure}."
        )
    values = _as_numbers(values, what)
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{_sentence(what)} must be finite, got {values[row].tolist()[:5]} in row {row}, and "
            f"such values in {wrong.sum()} of {len(values)} rows: correct the teacher, for example "
            "with an imputer before it or a smaller learning rate."
        )
    return values


def check_probabilities(values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Check that each row holds probabilities, and make their sum exactly one."""
    with np.errstate(over="ignore"):
        sums = values.sum(axis=1)
    wrong = (values.min(axis=1, initial=0) < -TOLERANCE) | (np.abs(sums - 1) > TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{_sentence(what)} must be probabilities that sum to one, got "
            f"{values[row].tolist()[:5]} in row {row}: pass probabilities, neither logits nor "
            "labels."
        )
    values = values.clip(min=0)
    normalized: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return normalized


def check_distance(
    values: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64], what: str
) -> NDArray[np.float64]:
    """Check that values are near enough to the targets to learn from."""
    with np.errstate(over="ignore"):
        far = np.abs(values / scale - mean / scale).max(axis=1, initial=0)
    if far.max(initial=0) > FARTHEST:
        row = int(far.argmax())
        raise ValueError(
            f"{_sentence(what)} must lie within {FARTHEST:g} standard deviations of the mean of y, "
            f"got {values[row].tolist()[:5]} in row {row}: pass predictions in the units of y."
        )
    return values


def _as_array(found: Any, what: str) -> NDArray[Any]:
    if scipy.sparse.issparse(found):
        raise TypeError(
            f"{_sentence(what)} must be a dense array or table, got {type(found).__name__}: "
            "convert them with toarray()."
        )
    try:
        return np.asarray(found)
    except ValueError as error:  # rows of different lengths
        raise ValueError(
            f"{_sentence(what)} must be an array of numbers, got rows that numpy cannot stack "
            f"({str(error).rstrip('.')}): give all rows the same length."
        ) from error


def _as_numbers(values: NDArray[Any], what: str) -> NDArray[np.float64]:
    """Convert to float64; dates and complex numbers are no predictions."""
    try:
        if values.dtype.kind in "mMcV":
            raise ValueError
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        got = values.ravel()[:3].tolist()
        raise ValueError(
            f"{_sentence(what)} must be real numbers, got {values.dtype} such as {got}: convert "
            "them to float."
        ) from error


def _places(known: list[Any], ours: list[Any], what: str) -> list[int]:
    """Position of each of the model's classes or columns among ours, maybe of another type."""
    place = {label: i for i, label in enumerate(ours)}
    labels = known
    if not all(label in place for label in labels):  # such as "1" for 1
        place = {str(label): i for i, label in enumerate(ours)}
        labels = [str(label) for label in labels]
    unknown = [label for label in labels if label not in place]
    places = [place[label] for label in labels if label in place]
    if unknown or len(set(places)) < len(places):
        raise ValueError(
            f"The {what} must be those of y, {ours[:10]}, each once, got {known[:10]}: use the "
            "same names in both."
        )
    return places


def _sentence(what: str) -> str:
    """Begin a sentence with a name; the names of parameters stay as they are."""
    return what if what.startswith("soft_targets") else f"The predictions of {what}"
