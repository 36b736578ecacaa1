"""From rows as people have them to the inputs of a graph, with a message for what does not fit.

Plain columns, that is numpy arrays and lists of plain numbers or strings, are converted together
at once. Whatever is not plain is converted column by column, with care, and that is also where
the messages come from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import Column, Manifest
from skmode_deploy.bundle.messages import as_sentence, list_names

Array: TypeAlias = NDArray[Any]

TEXT = {str}
PLAIN_INTEGERS = {int, bool}
_DTYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64, "string": np.object_}
PLAIN_NUMBERS = {float, int, bool, type(None)}
# Up to here one look at all cells of a DataFrame costs less than a look at each of its columns.
FEW_ROWS = 32


class InputReader:
    """Convert rows to the inputs of a bundle's graphs."""

    def __init__(self, manifest: Manifest, max_rows: int | None = None) -> None:
        self._columns = manifest.columns
        self._from_table = manifest.from_table
        self._max_rows = max_rows
        self._names = [column.name for column in manifest.columns]
        self._known = dict.fromkeys(self._names)
        self._is_array = manifest.input == "array"
        self._width = len(manifest.columns)
        self._array_input = manifest.columns[0].input
        self._array_dtype = np.dtype(_DTYPES[manifest.columns[0].dtype])
        self._blocks = [
            self._block(dtype) for dtype in dict.fromkeys(c.dtype for c in manifest.columns)
        ]

    def _block(self, dtype: str) -> tuple[str, list[int], list[str]]:
        """Positions and inputs of the columns that are converted together."""
        found = [(i, c.input) for i, c in enumerate(self._columns) if c.dtype == dtype]
        return dtype, [i for i, _ in found], [name for _, name in found]

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert rows."""
        if self._is_array:
            read = self._matrix if self._array_dtype.kind == "f" else self._matrix_by_column
            return {self._array_input: read(X)}
        columns = self._select(X)
        feeds = self._convert_plain(columns)
        return self._convert(columns) if feeds is None else feeds

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Say which string has no UTF-8: onnxruntime only says that one has none."""
        for i, column in enumerate(self._columns):
            if column.dtype == "string":
                for text in feeds[column.input][:, i if self._is_array else 0]:
                    _check_encodes(column, text)

    def _matrix(self, X: Any) -> Array:
        if type(X) is not np.ndarray or X.dtype != self._array_dtype:
            self._check_height(X)
            X = _to_matrix(X, self._array_dtype)
        if X.ndim != 2 or X.shape[1] != self._width:
            _fail_width(X, self._width)
        if self._max_rows is not None:
            self._check_height(X)
        if np.count_nonzero(np.isinf(X)):
            _fail_infinite("X", self._array_dtype)
        matrix: Array = X
        return matrix

    def _matrix_by_column(self, X: Any) -> Array:
        """Integers and strings have rules of their own."""
        columns = self._split_matrix(X)
        feeds = [
            _CONVERSIONS[column.dtype](column, values)
            for column, values in zip(self._columns, columns, strict=True)
        ]
        return np.concatenate(feeds, axis=1)

    def _check_height(self, rows: Any) -> None:
        if self._max_rows is None:
            return
        shape = getattr(rows, "shape", None)
        try:
            height = shape[0] if shape else len(rows)
        except TypeError:  # no rows at all, which the conversion explains
            return
        if height > self._max_rows:
            raise ValueError(
                f"X must have at most max_rows={self._max_rows} rows, got {height}: pass it in "
                "parts, or load with a larger max_rows."
            )

    def _select(self, X: Any) -> list[Any]:
        """Columns in the order of training."""
        if type(X) is dict and X.keys() == self._known.keys():
            columns = [_unwrap(X[name]) for name in self._names]
        else:
            columns = self._select_by_name(X)
        if self._max_rows is not None and columns:
            self._check_height(columns[0])
        return columns

    def _select_by_name(self, X: Any) -> list[Any]:
        _refuse_unready(X)
        keys = _column_keys(X)
        if keys is None:
            return self._select_by_position(X)
        if keys != self._names:
            names = _distinct(keys)
            self._check_names(names)
            wanted = [names[name] for name in self._names]
        else:
            wanted = keys
        if type(X).__module__.partition(".")[0] == "pandas" and len(X) <= FEW_ROWS:
            columns = dict(zip(keys, X.to_numpy(dtype=object).T.tolist(), strict=True))
            return [columns[key] for key in wanted]
        return [_unwrap(X[key]) for key in wanted]

    def _check_names(self, names: Mapping[str, Any]) -> None:
        missing = [name for name in self._names if name not in names]
        if missing:
            raise ValueError(
                f"X must have the columns of training, got none called {list_names(missing)}: add "
                "them, with missing values where nothing is known."
            )
        if len(names) > self._width:
            extra = [name for name in names if name not in self._known]
            raise ValueError(
                f"X must have the columns of training only, got {list_names(extra)} as well: "
                f"select {list_names(self._names)}."
            )

    def _select_by_position(self, X: Any) -> list[Any]:
        if self._from_table:
            raise ValueError(
                f"X must be a table with the columns {list_names(self._names)}, got "
                f"{type(X).__name__} without column names: pass a DataFrame, or a dict of "
                "columns."
            )
        return self._split_matrix(X)

    def _split_matrix(self, X: Any) -> list[Any]:
        self._check_height(X)
        _refuse_unready(X)
        _refuse_masked(X, "X")
        matrix = np.asarray(X, dtype=object)
        if matrix.ndim != 2 or matrix.shape[1] != self._width:
            _fail_width(matrix, self._width)
        columns: list[Any] = matrix.T.tolist()
        return columns

    def _convert_plain(self, columns: list[Any]) -> dict[str, Array] | None:
        """Convert plain columns of equal length; None where not all are that."""
        try:
            n_rows = len(columns[0])
            feeds: dict[str, Array] = {}
            for dtype, positions, inputs in self._blocks:
                values = [columns[i] for i in positions]
                plain = _plain_strings if dtype == "string" else _plain_numbers
                block = plain(values, n_rows, dtype)
                if block is None:
                    return None
                feeds.update(zip(inputs, block, strict=True))
        except (TypeError, ValueError, OverflowError):
            return None
        return feeds

    def _convert(self, columns: list[Any]) -> dict[str, Array]:
        feeds = {
            column.input: _CONVERSIONS[column.dtype](column, values)
            for column, values in zip(self._columns, columns, strict=True)
        }
        heights = [len(array) for array in feeds.values()]
        if len(set(heights)) > 1:
            by_column = dict(zip(self._names, heights, strict=True))
            raise ValueError(
                f"All columns must have the same number of rows, got {by_column}: "
                "pass columns of one table."
            )
        return feeds


def _plain_numbers(columns: Sequence[Any], n_rows: int, dtype: str) -> Array | None:
    """Fill a block of shape (n_columns, n_rows, 1), if nothing about the columns is special."""
    block = np.empty((len(columns), n_rows, 1), dtype)
    kinds, types = ("ib", PLAIN_INTEGERS) if dtype == "int64" else ("fiub", PLAIN_NUMBERS)
    with np.errstate(over="ignore"):
        for target, values in zip(block[:, :, 0], columns, strict=True):
            if type(values) is np.ndarray:
                plain = values.dtype.kind in kinds and values.ndim == 1
            else:
                plain = type(values) is list and types.issuperset(map(type, values))
            if not plain or len(values) != n_rows:  # numpy would repeat a single value
                return None
            target[:] = values
    if dtype != "int64" and np.count_nonzero(np.isinf(block)):
        return None
    return block


def _plain_strings(columns: Sequence[Any], n_rows: int, dtype: str) -> Array | None:
    block = np.empty((len(columns), n_rows, 1), object)
    for target, values in zip(block[:, :, 0], columns, strict=True):
        if type(values) is np.ndarray and values.ndim == 1:
            values = values.tolist()
        if type(values) is not list or len(values) != n_rows:
            return None
        if not TEXT.issuperset(map(type, values)):
            values = ["" if value is None or value != value else value for value in values]
            if not TEXT.issuperset(map(type, values)):
                return None
        target[:] = values
    return block


def _refuse_unready(X: Any) -> None:
    """What holds rows in a form that is not read: a query of polars, a sparse matrix."""
    if hasattr(type(X), "toarray"):  # of its type, for a DataFrame takes its time to say no
        raise ValueError(f"X must be dense, got a sparse {type(X).__name__}: pass X.toarray().")
    if type(X).__name__ == "LazyFrame":
        raise ValueError(
            f"X must hold its rows, got a {type(X).__name__} that is not computed yet: pass "
            "X.collect()."
        )


def _column_keys(X: Any) -> list[Any] | None:
    """What gets the columns of a table. None where it has no columns."""
    if isinstance(X, Mapping):
        return list(X)
    # Of an Arrow table.
    keys = X.column_names if hasattr(type(X), "column_names") else getattr(X, "columns", None)
    if keys is None:
        return None
    return keys.tolist() if hasattr(keys, "tolist") else list(keys)


def _distinct(keys: list[Any]) -> dict[str, Any]:
    names = {str(key): key for key in keys}
    if len(names) < len(keys):
        texts = [str(key) for key in keys]
        repeated = [name for name in names if texts.count(name) > 1]
        raise ValueError(
            f"Columns must have distinct names, got {list_names(repeated)} more than once: rename "
            "or drop columns."
        )
    return names


def _to_matrix(X: Any, dtype: np.dtype[Any]) -> Array:
    plain = type(X) is np.ndarray and X.dtype.kind in "fiub"
    if type(X) is not np.ndarray and type(X) is not list:
        _refuse_unready(X)
        _refuse_masked(X, "X")
        _refuse_mapping(X)
    try:
        array = X if plain else _to_plain_matrix(X, dtype)
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused later
            return np.asarray(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(
            f"X must hold numbers only, and reading it gave: {as_sentence(error)} "
            "Convert or drop what is no number; a missing value is NaN."
        ) from None


def _refuse_mapping(X: Any) -> None:
    if isinstance(X, Mapping):
        raise ValueError(
            f"X must be an array or a table, for the model knows its columns by position, got "
            f"{type(X).__name__}: pass np.column_stack of the columns in the order of training."
        )


def _to_plain_matrix(X: Any, dtype: np.dtype[Any]) -> Array:
    """Numbers of some type, which numpy converts."""
    if type(X) is not list:
        if hasattr(X, "to_pylist") and hasattr(X, "columns"):  # an Arrow table
            X = np.array([_arrow_to_numpy(values) for values in X.columns], dtype=object).T
        for kind in X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]:
            _refuse_dates(kind)
        if type(X).__module__.partition(".")[0] == "pandas":
            _refuse_text_of_pandas(X)
            with np.errstate(over="ignore"):
                matrix: Array = X.to_numpy(dtype=dtype, na_value=np.nan)
            return matrix
    # First as it is, for told to make numbers numpy would read text.
    array = np.asarray(X)
    if array.dtype.kind in "fiub":
        return array
    _refuse_dates(array.dtype)
    cells = np.asarray(X, dtype=object)
    return _floats(cells.ravel().tolist()).reshape(cells.shape)


def _refuse_text_of_pandas(X: Any) -> None:
    frame = X if X.ndim == 2 else X.to_frame()
    for i, dtype in enumerate(frame.dtypes):
        if getattr(dtype, "kind", "O") == "O":
            _floats(frame.iloc[:, i].to_numpy(dtype=object).tolist())


def _fail_width(matrix: Array, width: int) -> None:
    raise ValueError(
        f"X must have shape (n_samples, {width}), got {matrix.shape}: pass the columns of "
        "training; a single row is X.reshape(1, -1)."
    )


def _fail_infinite(what: str, dtype: np.dtype[Any]) -> None:
    raise ValueError(
        f"Numbers must be finite or missing (NaN) as {dtype}, and {what} contains infinity "
        f"or a value too large for dtype('{dtype}'): replace it by NaN or by a large number."
    )


def _refuse_dates(dtype: Any) -> None:
    """Dates and complex numbers, which numpy would turn into floats."""
    of_polars = hasattr(dtype, "is_temporal") and dtype.is_temporal()
    if of_polars or getattr(dtype, "kind", "") in ("m", "M", "c"):
        raise TypeError(f"it has type {dtype}")


def _floats(values: list[Any]) -> NDArray[np.float64]:
    """Numbers of any kind, None and pandas.NA: no text, however much it looks like a number."""
    if PLAIN_NUMBERS.issuperset(map(type, values)):
        return np.array(values, dtype=np.float64)
    return np.array([_to_float(value) for value in values], dtype=np.float64)


def _to_float(value: Any) -> float:
    if value is None or type(value).__name__ == "NAType":
        return np.nan
    _refuse_dates(getattr(value, "dtype", None))
    if not hasattr(value, "__float__") or hasattr(value, "__len__"):
        raise TypeError(f"{value!r} is of type {type(value).__name__}")
    return float(value)


def _refuse_masked(values: Any, what: str) -> None:
    """Numpy would read what lies under the mask."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"{what} must not be a masked array, for its mask would get lost, got one: pass "
            "values.filled(np.nan)."
        )


def _arrow_to_numpy(values: Any) -> Array:
    if hasattr(values.type, "index_type"):
        # A dictionary's own to_numpy turns nulls into some other category.
        values = values.cast(values.type.value_type)
    array: Array = values.to_numpy(zero_copy_only=False)
    return array


def _unwrap(values: Any) -> Any:
    """Arrays of Arrow, and series, as numpy arrays; anything else as it is."""
    if type(values) is np.ndarray or type(values) is list:
        return values
    if hasattr(values, "to_pylist"):
        return _arrow_to_numpy(values)
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def _to_column(values: Any, column: Column) -> Array:
    _refuse_masked(values, f"Column {column.name!r}")
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
    except TypeError:  # pandas.NA compares to neither true nor false
        return True
    except ValueError:  # an array: a cell of lists
        return False


def _to_numbers(column: Column, values: Any) -> Array:
    array = _to_column(values, column)
    try:
        _refuse_dates(array.dtype)
        if array.dtype.kind not in "fiub":
            array = _floats(array.tolist())
        with np.errstate(over="ignore"):
            numbers = np.asarray(array, dtype=column.dtype).reshape(-1, 1)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Column {column.name!r} must hold numbers, and reading it gave: {as_sentence(error)} "
            "Convert the column; a missing value is None or NaN."
        ) from None
    # A category is compared only, and an infinite one is one that training did not see.
    if (column.kind == "number" or column.dtype == "float32") and np.isinf(numbers).any():
        _fail_infinite(f"column {column.name!r}", numbers.dtype)
    return numbers


def _to_integers(column: Column, values: Any) -> Array:
    array = _to_column(values, column)
    if array.dtype.kind in "ib" or (array.dtype.kind == "u" and array.dtype.itemsize < 8):
        return array.astype(np.int64, copy=False).reshape(-1, 1)
    # Not tolist, by which dates become integers.
    cells = list(array) if array.dtype.kind in "mM" else array.tolist()
    integers = [_to_integer(value) for value in cells]
    for value, integer in zip(cells, integers, strict=True):
        if integer is None:
            raise ValueError(
                f"Column {column.name!r} must hold integers of 64 bits, without missing values, "
                f"got {value!r} of type {type(value).__name__}: convert the column, and fill what "
                "is missing."
            )
    return np.array(integers, dtype=np.int64).reshape(-1, 1)


def _to_integer(value: Any) -> int | None:
    """Also of a whole float. None where it is no integer."""
    if not hasattr(value, "__int__") or hasattr(value, "__len__"):
        return None
    try:
        _refuse_dates(getattr(value, "dtype", None))
        integer = int(value)
        if integer != value:
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    return integer if -(2**63) <= integer < 2**63 else None


def _to_strings(column: Column, values: Any) -> Array:
    objects = np.asarray(_to_column(values, column), dtype=object)
    strings = ["" if _is_missing(value) else value for value in objects]
    for value in strings:
        if not isinstance(value, str):
            raise ValueError(
                f"Column {column.name!r} must hold strings, got {value!r} of type "
                f"{type(value).__name__}: convert the column to strings."
            )
    return np.array(strings, dtype=object).reshape(-1, 1)


def _check_encodes(column: Column, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"Column {column.name!r} must hold strings that UTF-8 can write, got {text!r}, which "
            "has half a surrogate pair: decode the data anew."
        ) from None


_CONVERSIONS: dict[str, Callable[[Column, Any], Array]] = {
    "float32": _to_numbers,
    "float64": _to_numbers,
    "int64": _to_integers,
    "string": _to_strings,
}
