"""Compare a converted graph with its model, on rows of the user's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from skmode_deploy.running.sessions import SessionFactory, run_session

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class OnnxComparison:
    """How far the predictions of an ONNX graph are from those of its model.

    Attributes
    ----------
    n_rows : int
        Number of rows that were compared.
    largest_difference : float
        Largest absolute difference of a probability, or of a value for regression. NaN if only one
        of the two is missing, 0 if the model predicts labels only.
    different_labels : float
        Share of the rows that get another label, of several any. 0 for regression.
    rows : ndarray of int64 of shape (n_different,)
        Positions of the rows that differ: by another label, or by more than the tolerance.
    """

    n_rows: int
    largest_difference: float
    different_labels: float
    rows: NDArray[np.int64]


def compare_with_onnx(
    model: Any,
    onnx_model: onnx.ModelProto | bytes | str | os.PathLike[str],
    X: Any,
    *,
    tolerance: float = 1e-4,
) -> OnnxComparison:
    """Compare an ONNX graph with the model that it was converted from.

    skl2onnx does not check what it converts. Call this after ``skl2onnx.to_onnx``, on rows that
    were not in training, with missing values, unknown categories and values at the edges of bins
    where these may come. `export` does so itself.

    Parameters
    ----------
    model : estimator
        The fitted model.
    onnx_model : onnx.ModelProto, bytes or path
        What ``skl2onnx.to_onnx`` returned, its bytes or its file.
    X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
        Rows as `model` takes them. Numbers are rounded to the types of the graph's inputs, missing
        strings become ``""``.
    tolerance : float, default=1e-4
        Rows that differ by more are listed. For regression, in standard deviations of the
        predictions.

    Returns
    -------
    OnnxComparison
        The largest difference, the share of other labels, and the rows that differ.

    Raises
    ------
    ValueError
        If `X` has no rows, or if model, graph and `X` do not have the same number of columns, or if
        onnxruntime cannot open the graph.
    InferenceError
        If onnxruntime fails on the rows.

    Notes
    -----
    A graph with float32 inputs cannot tell apart numbers that differ by less than a float32 does.
    Where such a number lies next to the edge of a bin or to a threshold, model and graph may see it
    on different sides. The converters of KBinsDiscretizer and Binarizer decide for the number with
    the fewest digits, so that 0.3 is where the model sees it. Pass float64 rows to
    ``skl2onnx.to_onnx`` for graphs that make no difference.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skl2onnx import to_onnx
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import compare_with_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0).fit(X, y)
    >>> comparison = compare_with_onnx(estimator, to_onnx(estimator, X[:1]), X)
    >>> comparison.largest_difference < 1e-4, comparison.different_labels, comparison.rows.tolist()
    (True, 0.0, [])
    """
    n_rows = X.shape[0] if getattr(X, "shape", ()) else len(X)
    if not n_rows:
        raise ValueError("X must have rows, got 0: pass rows like those to predict.")
    session = _open(onnx_model)
    feeds = _feeds(session.get_inputs(), X, getattr(model, "n_features_in_", None))
    names = [output.name for output in session.get_outputs()]
    answers = run_session(session, names, feeds)
    classes = getattr(model, "classes_", None)
    if classes is None:
        return _compare_values(np.asarray(model.predict(X), dtype=float), answers[0], tolerance)
    if isinstance(classes, list):
        return _compare_several(model, X, answers, tolerance)
    classes = np.asarray(classes)
    labels = np.asarray(answers[0])
    if labels.dtype.kind in "iu" and classes.dtype.kind not in "iufb":
        labels = classes[labels]  # positions, by option nocl
    other = np.asarray(labels != np.asarray(model.predict(X)))
    errors = np.zeros(n_rows)
    if len(answers) > 1 and hasattr(model, "predict_proba"):
        probabilities = _probabilities(answers[1:], len(classes))
        errors = np.abs(probabilities - model.predict_proba(X)).max(axis=1)
    return _summarize(errors, other, tolerance)


def _compare_several(model: Any, X: Any, answers: list[Any], tolerance: float) -> OnnxComparison:
    """Compare labels of several targets: probabilities are a list, or those of one class each."""
    other = (np.asarray(answers[0]) != np.asarray(model.predict(X))).any(axis=1)
    errors = np.zeros(len(other))
    if len(answers) > 1 and hasattr(model, "predict_proba"):
        expected, found = (
            np.column_stack(values) if isinstance(values, list) else np.asarray(values)
            for values in (model.predict_proba(X), answers[1])
        )
        errors = np.abs(found - expected).max(axis=1)
    return _summarize(errors, other, tolerance)


def _open(model: Any) -> Any:
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    if not isinstance(model, bytes):
        model = Path(model).read_bytes()
    return SessionFactory(("CPUExecutionProvider",), threads=1).open(model, "onnx_model")


def _feeds(inputs: list[Any], X: Any, n_features: int | None) -> dict[str, NDArray[Any]]:
    """Convert rows to the inputs of a graph: columns of these names, or all from left to right."""
    table = X if isinstance(X, pd.DataFrame) else pd.DataFrame(_to_plain(X))
    columns = list(map(str, table.columns))
    widths = [value.shape[-1] if isinstance(value.shape[-1], int) else 1 for value in inputs]
    if set(widths) == {1} and {value.name for value in inputs} <= set(columns):
        starts = [columns.index(value.name) for value in inputs]
    else:
        if len(inputs) == 1 and not isinstance(inputs[0].shape[-1], int):
            widths = [table.shape[1] if n_features is None else n_features]
        _check_widths(sum(widths), table.shape[1], n_features)
        starts = np.cumsum([0, *widths[:-1]]).tolist()
    return {
        value.name: _convert(table.iloc[:, start : start + width], value)
        for value, start, width in zip(inputs, starts, widths, strict=True)
    }


def _check_widths(of_graph: int, of_rows: int, of_model: int | None) -> None:
    if of_rows != of_graph:
        raise ValueError(
            f"X must have the {of_graph} columns that the graph reads, got {of_rows}: pass rows as "
            "they were in training; a single row is X.reshape(1, -1)."
        )
    if of_model not in (None, of_graph):
        raise ValueError(
            f"The graph must read the {of_model} columns that the model reads, got {of_graph}: "
            "pass the graph that this model was converted to."
        )


def _to_plain(X: Any) -> Any:
    if scipy.sparse.issparse(X):
        return X.toarray()  # graphs read dense rows only
    return X.to_pandas() if hasattr(X, "to_pandas") else np.asarray(X)


def _convert(table: pd.DataFrame, value: Any) -> NDArray[Any]:
    if value.type == "tensor(string)":
        cells = table.astype(object).where(table.notna(), "").to_numpy(dtype=object)
        return np.array([[str(cell) for cell in row] for row in cells], dtype=object)
    dtype = _DTYPES.get(value.type, np.float32)
    if np.issubdtype(dtype, np.floating):
        numbers: NDArray[Any] = table.to_numpy(dtype=dtype, na_value=np.nan)
        return numbers
    return np.asarray(table.to_numpy(), dtype=dtype)


def _probabilities(outputs: list[Any], n_classes: int) -> NDArray[np.float64]:
    """Read probabilities in any form of option zipmap: an array, dicts, or one output a class."""
    if isinstance(outputs[0], list):
        return np.array([list(row.values()) for row in outputs[0]], dtype=float)
    if len(outputs) >= n_classes > 1 and np.ndim(outputs[0]) == 1:
        return np.column_stack(outputs[:n_classes]).astype(float)
    return np.asarray(outputs[0], dtype=float)


def _compare_values(
    expected: NDArray[np.float64], found: NDArray[Any], tolerance: float
) -> OnnxComparison:
    expected = expected.reshape(len(expected), -1)
    errors = np.abs(found.reshape(expected.shape) - expected)
    scale = np.where(expected.std(axis=0) > 0, expected.std(axis=0), 1.0)
    far = (errors > tolerance * scale).any(axis=1) | np.isnan(errors).any(axis=1)
    return OnnxComparison(len(errors), float(errors.max()), 0.0, np.flatnonzero(far))


def _summarize(
    errors: NDArray[np.float64], other: NDArray[np.bool_], tolerance: float
) -> OnnxComparison:
    rows = np.flatnonzero(other | ~(errors <= tolerance))
    return OnnxComparison(len(errors), float(errors.max()), float(other.mean()), rows)
