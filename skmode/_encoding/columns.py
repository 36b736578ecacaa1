"""The columns of a table, an array or a sparse matrix: one by one, or plain numbers together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from skmode._common.batches import refuse_dataset

# Kinds of numpy's dtypes that hold numbers.
NUMBER_KINDS = "fiub"
# Rows whose strings are read together.
FEW_ROWS = 64


def is_table(X: Any) -> bool:
    """Whether X has named columns (pandas, polars, pyarrow, or anything narwhals reads)."""
    if isinstance(X, pd.DataFrame) and X.columns.is_unique:
        return True
    refuse_dataset(X, "X", "fit, predict and score read datasets, with target= naming a column")
    if hasattr(X, "collect") and hasattr(X, "collect_schema"):
        raise TypeError(
            f"X must hold its rows in memory, got {type(X).__name__}: pass X.collect()."
        )
    try:
        return isinstance(nw.from_native(X, eager_only=True, pass_through=True), nw.DataFrame)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(
            f"Column names must be unique ({error}): rename the columns, or pass an array."
        ) from None


def open_columns(X: Any) -> Columns:
    """Open whatever holds the columns."""
    if is_table(X):
        return PandasColumns(X) if isinstance(X, pd.DataFrame) else TableColumns(X)
    return SparseColumns(X) if scipy.sparse.issparse(X) else Columns(X)


class Columns:
    """Columns of an array, called ``"x0"``, ``"x1"`` and so on."""

    def __init__(self, X: Any) -> None:
        self.X = X
        self.names = self._names()

    def _names(self) -> list[str]:
        return [f"x{i}" for i in range(self.X.shape[1])]

    def column(self, i: int) -> Any:
        """Return one column: an array of one dimension, or a narwhals series of a table."""
        return self.X[:, i]

    def columns(self, positions: Sequence[int]) -> Iterable[Any]:
        """Return some columns one after the other."""
        return (self.column(i) for i in positions)

    def is_plain(self) -> list[bool]:
        """Tell for each column whether :meth:`numbers` reads it: numbers and nothing else."""
        return [self.X.dtype.kind in NUMBER_KINDS] * len(self.names)

    def is_sparse(self) -> list[bool]:
        """Tell for each column whether it holds only the values that are not zero."""
        return [False] * len(self.names)

    def numbers(self, positions: Sequence[int]) -> NDArray[np.floating[Any]]:
        """Return plain columns side by side, as floats; missing values are NaN."""
        chosen: NDArray[Any] = self.X
        if len(positions) < len(self.names):
            chosen = chosen[:, list(positions)]
        return chosen if chosen.dtype.kind == "f" else chosen.astype(np.float64)

    def values_of(self, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return positions and values of a sparse column."""
        raise NotImplementedError


class TableColumns(Columns):
    """Columns of a table that narwhals reads."""

    def __init__(self, X: Any) -> None:
        self._frame: Any = nw.from_native(X, eager_only=True)
        super().__init__(X)

    def _names(self) -> list[str]:
        return list(map(str, self._frame.columns))

    def column(self, i: int) -> Any:
        return self._frame[:, i]

    def is_plain(self) -> list[bool]:
        dtypes = self._frame.schema.values()
        return [dtype.is_float() or dtype.is_integer() for dtype in dtypes]

    def numbers(self, positions: Sequence[int]) -> NDArray[np.floating[Any]]:
        names = [self._frame.columns[i] for i in positions]
        return np.asarray(self._frame.select(names).to_numpy(), dtype=np.float64)


class PandasColumns(Columns):
    """Columns of a DataFrame; narwhals would take longer with many of them."""

    def _names(self) -> list[str]:
        return list(map(str, self.X.columns))

    def column(self, i: int) -> Any:
        values = self.X.iloc[:, i]
        if isinstance(values.dtype, pd.SparseDtype):
            values = values.sparse.to_dense()
        return nw.from_native(values, series_only=True)

    def columns(self, positions: Sequence[int]) -> Iterable[Any]:
        """Return columns of strings together if rows are few, which is several times faster."""
        few = 0 < len(self.X) <= FEW_ROWS
        if not few or not all(_holds_text(self.X.dtypes.iloc[i]) for i in positions):
            return super().columns(positions)
        block = self.X.iloc[:, list(positions)].to_numpy(dtype=object)
        return list(block.T)

    def is_plain(self) -> list[bool]:
        return [
            getattr(dtype, "kind", "O") in NUMBER_KINDS and not isinstance(dtype, pd.SparseDtype)
            for dtype in self.X.dtypes
        ]

    def is_sparse(self) -> list[bool]:
        return [
            isinstance(dtype, pd.SparseDtype) and dtype.kind in NUMBER_KINDS
            for dtype in self.X.dtypes
        ]

    def numbers(self, positions: Sequence[int]) -> NDArray[np.floating[Any]]:
        chosen = self.X if len(positions) == len(self.names) else self.X.iloc[:, list(positions)]
        dtypes = set(chosen.dtypes)
        if dtypes == {np.dtype(np.float32)} or dtypes == {np.dtype(np.float64)}:
            return np.asarray(chosen)  # often without a copy
        matrix: NDArray[np.float64] = chosen.to_numpy(dtype=np.float64, na_value=np.nan)
        return matrix

    def values_of(self, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        array: Any = self.X.iloc[:, i].array
        if array.fill_value == 0:
            return array.sp_index.indices, array.sp_values
        dense = np.asarray(array.to_dense(), dtype=np.float64)
        return np.flatnonzero(dense), dense[dense != 0]


def _holds_text(dtype: Any) -> bool:
    if isinstance(dtype, pd.CategoricalDtype):
        return bool(dtype.categories.inferred_type == "string")
    plain = isinstance(dtype, np.dtype) and dtype.kind == "O"
    return plain or isinstance(dtype, pd.StringDtype)


class SparseColumns(Columns):
    """Columns of a sparse matrix of scipy."""

    def __init__(self, X: Any) -> None:
        super().__init__(X)
        self._by_column: Any = None

    def column(self, i: int) -> Any:
        positions, values = self.values_of(i)
        dense = np.zeros(self.X.shape[0], dtype=values.dtype)
        dense[positions] = values
        return dense

    def is_plain(self) -> list[bool]:
        return [False] * len(self.names)

    def is_sparse(self) -> list[bool]:
        return [True] * len(self.names)

    def values_of(self, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._by_column is None:
            self._by_column = self.X.tocsc(copy=True)
            self._by_column.sum_duplicates()
        part = slice(*self._by_column.indptr[i : i + 2])
        return self._by_column.indices[part], self._by_column.data[part]
