"""Convert rows of tables and arrays to the inputs of a graph, and check them.

Plain columns (numpy arrays and lists of numbers or strings) are converted together, which is fast.
If any column is not plain, all are converted one by one, which also gives the error messages.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.running.inputs.columns import (
    Array,
    arrow_to_numpy,
    check_utf8,
    convert_column,
    fail_infinite,
    make_check,
    plain_numbers,
    plain_strings,
    refuse_dates,
    refuse_masked,
    to_floats,
    unwrap,
)
from skmode_deploy.running.inputs.images import ImageCellReader

_DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "int64": np.int64,
    "string": np.object_,
    "uint8": np.uint8,
}
# For fewer rows, converting a whole DataFrame is faster than converting each column.
FEW_ROWS = 32


class TableReader:
    """Converts rows of columns to graph inputs."""

    def __init__(self, manifest: Manifest, max_rows: int | None = None) -> None:
        self._columns = manifest.columns
        self._from_table = manifest.from_table
        self._max_rows = max_rows
        self._names = [column.name for column in manifest.columns]
        self._known = dict.fromkeys(self._names)
        self._is_array = manifest.input == "array"
        self._width = len(manifest.columns)
        self._images = {
            i: ImageCellReader(column)
            for i, column in enumerate(manifest.columns)
            if column.kind == "image"
        }
        self._array_input = manifest.columns[0].input
        self._array_dtype = np.dtype(_DTYPES[manifest.columns[0].dtype])
        self._checks = [
            (column.input, i if self._is_array else 0, check)
            for i, column in enumerate(manifest.columns)
            if (check := make_check(column)) is not None
        ]
        self._blocks = [
            self._block(dtype)
            for dtype in dict.fromkeys(c.dtype for c in manifest.columns if c.kind != "image")
        ]

    def _block(self, dtype: str) -> tuple[Callable[..., Array | None], list[int], list[str]]:
        """Find positions and inputs of the columns of one type, which are converted together."""
        found = [
            (i, column)
            for i, column in enumerate(self._columns)
            if column.dtype == dtype and column.kind != "image"
        ]
        bools = dtype == "int64" or all(column.kind == "number" for _, column in found)
        numbers = partial(plain_numbers, dtype=dtype, bools=bools)
        plain = plain_strings if dtype == "string" else numbers
        return plain, [i for i, _ in found], [column.input for _, column in found]

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert rows to arrays of shape (n_rows, 1), or (n_rows, n_columns), by input."""
        if self._is_array:
            read = self._matrix if self._array_dtype.kind == "f" else self._matrix_by_column
            feeds = {self._array_input: read(X)}
        else:
            columns = self._select(X)
            feeds = self._convert_plain(columns) or self._convert(columns)
        for name, position, check in self._checks:
            check(feeds[name][:, position])
        return feeds

    def parts(self, X: Any) -> Iterator[tuple[None, dict[str, Array]]]:
        """Convert all rows."""
        yield None, self(X)

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the string that UTF-8 cannot encode; onnxruntime's error does not name it."""
        for i, column in enumerate(self._columns):
            if column.dtype == "string" and column.kind != "text":
                for text in feeds[column.input][:, i if self._is_array else 0]:
                    check_utf8(column, text)

    def check_known(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the first value that training did not have, whether it is refused or not."""
        for i, column in enumerate(self._columns):
            if column.kind in ("text", "image"):
                continue  # it is tokens by now, or pixels, all of which are known
            refuses = ["missing"] if not column.has_missing and column.dtype != "int64" else []
            refuses += ["unseen"] if column.categories is not None else []
            check = make_check(replace(column, refuses=tuple(refuses)))
            if check is not None:
                check(feeds[column.input][:, i if self._is_array else 0])

    def _matrix(self, X: Any) -> Array:
        if type(X) is not np.ndarray or X.dtype != self._array_dtype:
            self._check_height(X)
            X = _to_matrix(X, self._array_dtype)
        if X.ndim != 2 or X.shape[1] != self._width:
            _fail_width(X, self._width)
        if self._max_rows is not None:
            self._check_height(X)
        if np.count_nonzero(np.isinf(X)):
            fail_infinite("X", self._array_dtype)
        matrix: Array = X
        return matrix

    def _matrix_by_column(self, X: Any) -> Array:
        """Convert an array of integers or strings, each column by the rules of its type."""
        columns = self._split_matrix(X)
        feeds = [
            convert_column(column, values)
            for column, values in zip(self._columns, columns, strict=True)
        ]
        return np.concatenate(feeds, axis=1)

    def _check_height(self, rows: Any) -> None:
        if self._max_rows is None:
            return
        shape = getattr(rows, "shape", None)
        try:
            height = shape[0] if shape else len(rows)
        except TypeError:  # not rows at all: the conversion says so
            return
        if height > self._max_rows:
            raise ValueError(
                f"X must have at most max_rows={self._max_rows} rows, got {height}: pass it in "
                "parts, or load with a larger max_rows."
            )

    def _select(self, X: Any) -> list[Any]:
        """Return the columns in the order of training."""
        if type(X) is dict and X.keys() == self._known.keys():
            columns = [unwrap(X[name]) for name in self._names]
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
        if type(X).__module__.partition(".")[0] == "pandas" and hasattr(X, "dtypes"):
            columns = _pandas_columns(X, keys)
            if columns is not None:
                return [columns[key] for key in wanted]
        return [unwrap(X[key]) for key in wanted]

    def _check_names(self, names: Mapping[str, Any]) -> None:
        missing = [name for name in self._names if name not in names]
        if missing:
            raise ValueError(
                f"X must have the columns of training, got none called {list_names(missing)}: add "
                "them, with missing values if nothing is known."
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
        refuse_masked(X, "X")
        matrix = np.asarray(X, dtype=object)
        if matrix.ndim != 2 or matrix.shape[1] != self._width:
            _fail_width(matrix, self._width)
        columns: list[Any] = matrix.T.tolist()
        return columns

    def _convert_plain(self, columns: list[Any]) -> dict[str, Array] | None:
        """Convert plain columns of equal length; None if any is not plain."""
        try:
            n_rows = len(columns[0])
            feeds: dict[str, Array] = {}
            for plain, positions, inputs in self._blocks:
                block = plain([columns[i] for i in positions], n_rows)
                if block is None:
                    return None
                feeds.update(zip(inputs, block, strict=True))
        except (TypeError, ValueError, OverflowError):
            return None
        if self._images and any(len(columns[i]) != n_rows for i in self._images):
            return None
        return feeds | self._read_images(columns)

    def _read_images(self, columns: list[Any]) -> dict[str, Array]:
        return {
            self._columns[i].input: reader.read(columns[i]) for i, reader in self._images.items()
        }

    def _convert(self, columns: list[Any]) -> dict[str, Array]:
        feeds = {
            column.input: convert_column(column, values)
            for column, values in zip(self._columns, columns, strict=True)
            if column.kind != "image"
        }
        images = self._read_images(columns)
        feeds = {column.input: (feeds | images)[column.input] for column in self._columns}
        heights = [len(array) for array in feeds.values()]
        if len(set(heights)) > 1:
            by_column = dict(zip(self._names, heights, strict=True))
            raise ValueError(
                f"All columns must have the same number of rows, got {by_column}: "
                "pass columns of one table."
            )
        return feeds


def _refuse_unready(X: Any) -> None:
    """Raise for sparse matrices and for lazy polars frames."""
    if hasattr(type(X), "toarray"):  # on the type, because hasattr on a DataFrame is slow
        raise ValueError(f"X must be dense, got a sparse {type(X).__name__}: pass X.toarray().")
    if type(X).__name__ == "LazyFrame":
        raise ValueError(
            f"X must hold its rows, got {type(X).__name__}, which is not computed yet: pass "
            "X.collect()."
        )


def _column_keys(X: Any) -> list[Any] | None:
    """Return the keys of a table's columns. None if X is not a table."""
    if isinstance(X, Mapping):
        return list(X)
    # Arrow tables have column_names.
    keys = X.column_names if hasattr(type(X), "column_names") else getattr(X, "columns", None)
    if keys is None:
        return None
    return keys.tolist() if hasattr(keys, "tolist") else list(keys)


def _pandas_columns(X: Any, keys: list[Any]) -> dict[Any, Any] | None:
    """Convert a DataFrame as a whole; None if its columns are better converted one by one."""
    dtypes = set(X.dtypes)
    if len(dtypes) == 1 and isinstance(dtype := dtypes.pop(), np.dtype) and dtype.kind in "fiub":
        return dict(zip(keys, X.to_numpy().T, strict=True))
    if len(X) <= FEW_ROWS:
        return dict(zip(keys, X.to_numpy(dtype=object).T.tolist(), strict=True))
    return None


def _distinct(keys: list[Any]) -> dict[str, Any]:
    """Map the names of columns to their keys, which need not be strings."""
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
    """Convert an array, a table or a list to one array of floats."""
    plain = type(X) is np.ndarray and X.dtype.kind in "fiub"
    if type(X) is not np.ndarray and type(X) is not list:
        _refuse_unready(X)
        refuse_masked(X, "X")
        _refuse_mapping(X)
    try:
        array = X if plain else _to_plain_matrix(X, dtype)
        with np.errstate(over="ignore"):  # too large numbers become infinite, an error later
            return np.asarray(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(
            f"X must hold numbers only, but reading it failed: {as_sentence(error)} "
            "Convert or drop other columns; a missing value is NaN."
        ) from None


def _refuse_mapping(X: Any) -> None:
    if isinstance(X, Mapping):
        raise ValueError(
            f"X must be an array or a table, because the model finds columns by position, got "
            f"{type(X).__name__}: pass np.column_stack of the columns in the order of training."
        )


def _to_plain_matrix(X: Any, dtype: np.dtype[Any]) -> Array:
    """Convert to an array that numpy can cast to floats."""
    if type(X) is not list:
        if hasattr(X, "to_pylist") and hasattr(X, "columns"):  # an Arrow table
            X = np.array([arrow_to_numpy(values) for values in X.columns], dtype=object).T
        for kind in X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]:
            refuse_dates(kind)
        if type(X).__module__.partition(".")[0] == "pandas":
            _refuse_text_of_pandas(X)
            with np.errstate(over="ignore"):
                matrix: Array = X.to_numpy(dtype=dtype, na_value=np.nan)
            return matrix
    # First without a dtype: with one, numpy would parse text as numbers.
    array = np.asarray(X)
    if array.dtype.kind in "fiub":
        return array
    refuse_dates(array.dtype)
    cells = np.asarray(X, dtype=object)
    return to_floats(cells.ravel().tolist()).reshape(cells.shape)


def _refuse_text_of_pandas(X: Any) -> None:
    """Raise for text in columns of objects, which pandas would read as numbers."""
    frame = X if X.ndim == 2 else X.to_frame()
    for i, dtype in enumerate(frame.dtypes):
        if getattr(dtype, "kind", "O") == "O":
            to_floats(frame.iloc[:, i].to_numpy(dtype=object).tolist())


def _fail_width(matrix: Array, width: int) -> None:
    raise ValueError(
        f"X must have shape (n_samples, {width}), got {matrix.shape}: pass the columns of "
        "training; a single row is X.reshape(1, -1)."
    )
