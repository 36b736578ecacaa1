"""Answers from a bundle, by numpy and onnxruntime alone."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from skmode_deploy import bundle
from skmode_deploy.bundle import Column, Manifest

MODEL = "model.onnx"


class Prediction(NamedTuple):
    """All that a model says about some rows.

    Attributes
    ----------
    value : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Class labels, or predicted values.
    probabilities : ndarray of float32 of shape (n_samples, n_classes), or None
        Probabilities of the classes. None for regression.
    expert : ndarray of int64 of shape (n_samples,)
        Top expert of each row.
    """

    value: NDArray[Any]
    probabilities: NDArray[np.float32] | None
    expert: NDArray[np.int64]


def load(directory: str | os.PathLike[str]) -> "Predictor":
    """Open a bundle that `skmode.onnx.export` wrote.

    Parameters
    ----------
    directory : path
        Folder of the bundle.

    Returns
    -------
    Predictor
        Ready to predict.

    Raises
    ------
    BundleError
        If the bundle is incomplete, damaged or of an unknown format.
    """
    return Predictor(directory)


class Predictor:
    """Predict with an exported model; each row is computed by its top expert.

    Parameters
    ----------
    directory : path
        Folder of a bundle.

    Attributes
    ----------
    manifest : Manifest
        What the bundle says about the model.

    Notes
    -----
    Rows come as the model saw them in training. A table may be a pandas, polars or pyarrow table
    or a mapping from column names to one-dimensional sequences; columns go by name, in any
    order. In a category column, None, NaN and the empty string are missing, and a category that
    training did not see is allowed: it has the code that stands for all such. In a number column
    None and NaN are missing and infinite values are refused.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.manifest: Manifest = bundle.read(directory)
        model = bundle.read_file(directory, self.manifest, MODEL)
        # Of these bytes and no others: what was hashed is what runs.
        self._session = onnxruntime.InferenceSession(
            model, _session_options(), providers=["CPUExecutionProvider"]
        )
        classes = self.manifest.classes
        self._classes: NDArray[Any] | None = None
        if classes is not None:
            self._classes = np.array(classes.values, dtype=np.dtype(classes.dtype))
        self._positions = {column.name: i for i, column in enumerate(self.manifest.columns)}

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict class labels or values.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Labels of the type they had in training, or float32 values.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        output = "variable" if self._classes is None else "label"
        return self._value(self._run([output], X)[0])

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        ndarray of float32 of shape (n_samples, n_classes)
            Probabilities, in the order of the manifest's classes.

        Raises
        ------
        AttributeError
            If the model is a regressor.
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        if self._classes is None:
            raise AttributeError(
                "Only a classifier has predict_proba, and this bundle holds a regressor: "
                "use predict."
            )
        probabilities: NDArray[np.float32] = self._run(["probabilities"], X)[0]
        return probabilities

    def route(self, X: Any) -> NDArray[np.int64]:
        """Say which expert the gate sends each row to.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        ndarray of int64 of shape (n_samples,)
            Top expert of each row.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        expert: NDArray[np.int64] = self._run(["expert"], X)[0]
        return expert

    def predict_full(self, X: Any) -> Prediction:
        """Predict, and say everything about each row, in one run.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), table, or mapping of columns
            Rows.

        Returns
        -------
        Prediction
            Labels or values, probabilities, and top experts.

        Raises
        ------
        ValueError
            If the rows are not as the model needs them; the message names the column.
        """
        if self._classes is None:
            value, expert = self._run(["variable", "expert"], X)
            return Prediction(self._value(value), None, expert)
        label, probabilities, expert = self._run(["label", "probabilities", "expert"], X)
        return Prediction(self._value(label), probabilities, expert)

    def _run(self, outputs: list[str], X: Any) -> list[NDArray[Any]]:
        results: list[NDArray[Any]] = self._session.run(outputs, self._inputs(X))
        return results

    def _value(self, output: NDArray[Any]) -> NDArray[Any]:
        """Labels with their type of training; one regression output as one dimension."""
        if self._classes is None:
            return output[:, 0] if self.manifest.n_outputs == 1 else output
        assert self.manifest.classes is not None
        if self.manifest.classes.label == "index":
            labels: NDArray[Any] = self._classes[output]
            return labels
        return output.astype(self._classes.dtype, copy=False)

    def _inputs(self, X: Any) -> dict[str, NDArray[Any]]:
        if self.manifest.input == "array":
            return {self.manifest.columns[0].input: _to_matrix(X, len(self.manifest.columns))}
        columns = self._columns(X)
        inputs = {
            column.input: _CONVERSIONS[column.dtype](column, values)
            for column, values in zip(self.manifest.columns, columns, strict=True)
        }
        heights = {len(values) for values in inputs.values()}
        if len(heights) > 1:
            by_column = {name: len(values) for name, values in inputs.items()}
            raise ValueError(
                f"All columns must have the same number of rows, got {by_column}: "
                "pass columns of one table."
            )
        return inputs

    def _columns(self, X: Any) -> list[Any]:
        """Columns in the order of training."""
        expected = list(self._positions)
        names = _column_names(X)
        if names is None:
            if self.manifest.from_table:
                raise ValueError(
                    f"X must be a table with the columns {_some(expected)}, got "
                    f"{type(X).__name__} without column names: pass a DataFrame, or a dict of "
                    "columns."
                )
            matrix = np.asarray(X, dtype=object)
            _check_width(matrix, len(expected))
            return list(matrix.T)
        missing = [name for name in expected if name not in names]
        if missing:
            raise ValueError(
                f"X must have the columns of training, got none called {_some(missing)}: add them, "
                "with missing values where nothing is known."
            )
        if len(names) > len(expected):
            extra = [name for name in names if name not in self._positions]
            raise ValueError(
                f"X must have the columns of training only, got {_some(extra)} as well: "
                f"select {_some(expected)}."
            )
        return [X[names[name]] for name in expected]


def _session_options() -> onnxruntime.SessionOptions:
    """One thread: these models answer sooner than threads wake up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def _column_names(X: Any) -> dict[str, Any] | None:
    """Column names as strings, with the keys to get the columns by."""
    keys = X.keys() if isinstance(X, Mapping) else getattr(X, "column_names", None)
    if keys is None:
        keys = getattr(X, "columns", None)
    return None if keys is None else {str(key): key for key in keys}


def _to_matrix(X: Any, width: int) -> NDArray[np.float32]:
    if hasattr(X, "to_pylist") and hasattr(X, "columns"):  # an Arrow table
        X = np.array([_arrow_to_numpy(values) for values in X.columns], dtype=object).T
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused below
            matrix = np.asarray(X, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"X must hold numbers only, and reading it gave: {error}. "
            "Convert or drop what is no number; a missing value is NaN."
        ) from None
    _check_width(matrix, width)
    _check_finite(matrix, "X")
    return matrix


def _check_width(matrix: NDArray[Any], width: int) -> None:
    if matrix.ndim != 2 or matrix.shape[1] != width:
        raise ValueError(
            f"X must have shape (n_samples, {width}), got {matrix.shape}: pass the columns of "
            "training; a single row is X.reshape(1, -1)."
        )


def _check_finite(values: NDArray[np.float32], what: str) -> None:
    if np.isinf(values).any():
        raise ValueError(
            f"Numbers must be finite or missing (NaN) as float32, and {what} contains infinity "
            "or a value too large for dtype('float32'): replace it by NaN or by a large number."
        )


def _arrow_to_numpy(values: Any) -> NDArray[Any]:
    if hasattr(values.type, "index_type"):
        # A dictionary's own to_numpy turns nulls into some other category.
        values = values.cast(values.type.value_type)
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


def _to_column(values: Any, column: Column) -> NDArray[Any]:
    if hasattr(values, "to_pylist"):
        values = _arrow_to_numpy(values)
    elif hasattr(values, "to_numpy"):
        values = values.to_numpy()
    # As objects, for numpy would turn a NaN beside strings into a string.
    array = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise ValueError(
            f"A column must have one dimension, and column {column.name!r} has shape "
            f"{array.shape}: pass a sequence of values."
        )
    return array


def _is_missing(value: Any) -> bool:
    """None, NaN and what tables have in their place, such as pandas.NA and NaT, or ""."""
    if value is None or (isinstance(value, str) and not value):
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA compares to neither true nor false
        return True


def _to_numbers(column: Column, values: Any, dtype: Any) -> NDArray[Any]:
    array = _to_column(values, column)
    try:
        if array.dtype.kind in "mM":
            raise TypeError(f"it has type {array.dtype}")
        if array.dtype.kind not in "fiub":
            array = np.array([np.nan if _is_missing(value) else value for value in array])
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=dtype).reshape(-1, 1)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column {column.name!r} must hold numbers, and reading it gave: {error}. "
            "Convert or drop what is no number; a missing value is None or NaN."
        ) from None


def _to_float32(column: Column, values: Any) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = _to_numbers(column, values, np.float32)
    _check_finite(numbers, f"column {column.name!r}")
    return numbers


def _to_float64(column: Column, values: Any) -> NDArray[np.float64]:
    return _to_numbers(column, values, np.float64)


def _to_strings(column: Column, values: Any) -> NDArray[Any]:
    objects = np.asarray(_to_column(values, column), dtype=object)
    strings = ["" if _is_missing(value) else value for value in objects]
    for value in strings:
        if not isinstance(value, str):
            raise ValueError(
                f"Column {column.name!r} must hold strings, got {value!r} of type "
                f"{type(value).__name__}: convert the column to strings."
            )
    return np.array(strings, dtype=object).reshape(-1, 1)


_CONVERSIONS: dict[str, Callable[[Column, Any], NDArray[Any]]] = {
    "float32": _to_float32,
    "float64": _to_float64,
    "string": _to_strings,
}
