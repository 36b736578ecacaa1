"""Made-up rows for a teacher to label: mixtures of pairs of rows (mixup, arXiv 1710.09412).

Numbers in columns of floats are averaged. All other cells are taken whole from one row or the
other, so they stay what they are, and the teacher can read them. Columns of whole numbers may hold
codes, so they count as other cells, as do categories that are fractions.
"""

from collections.abc import Collection
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from skmode._encoding.columns import is_table
from skmode._training.rows import Rows, SparseNumbers


class Pairs:
    """The two rows of each mixture, the share of the first, and whose cells are taken whole.

    Parameters
    ----------
    shape : tuple of int
        Shape of the table.
    n_rows : int
        Number of mixtures.
    random_state : RandomState
        Draws pairs, shares and cells. Each row is the first one equally often.
    """

    def __init__(
        self, shape: tuple[int, int], n_rows: int, random_state: np.random.RandomState
    ) -> None:
        n_seen, self.n_columns = shape
        repeats = -(-n_rows // n_seen)
        self.base = np.concatenate([random_state.permutation(n_seen) for _ in range(repeats)])
        self.base = self.base[:n_rows]
        self.other = random_state.randint(n_seen, size=n_rows)
        self.share = 0.5 + 0.5 * random_state.random_sample(n_rows)
        self.random_state = random_state

    def positions(self) -> NDArray[np.intp]:
        """From which row each cell of a column is taken."""
        own = self.random_state.random_sample(len(self.base)) < self.share
        return np.where(own, self.base, self.other)

    def mix(self, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Average numbers; where one of both is missing, the first row's is taken."""
        own, other = values[self.base], values[self.other]
        mixed = self.share * own + (1 - self.share) * other
        found: NDArray[np.floating[Any]] = np.where(np.isfinite(mixed), mixed, own)
        return found.astype(values.dtype)


def make_rows(
    X: Any,
    n_rows: int,
    random_state: np.random.RandomState,
    categories: Collection[int] = (),
) -> tuple[Any, NDArray[np.intp]]:
    """Make rows up, in the container of X; returns also the row that each began with.

    `categories` are the positions of columns that are never averaged.
    """
    pairs = Pairs(X.shape, n_rows, random_state)
    whole = np.isin(np.arange(pairs.n_columns), list(categories))
    if isinstance(X, pd.DataFrame):
        columns = [_mix_pandas(X.iloc[:, j], pairs, whole[j]) for j in range(pairs.n_columns)]
        made: Any = pd.DataFrame(dict(enumerate(columns))).set_axis(X.columns, axis=1)
    elif is_table(X):
        frame: Any = nw.from_native(X, eager_only=True)
        parts = [
            _mix_series(frame[name], pairs, each).to_frame()
            for name, each in zip(frame.columns, whole, strict=True)
        ]
        # Out of a dict, the Enum of polars would be a Categorical.
        made = nw.concat(parts, how="horizontal").to_native()
    elif scipy.sparse.issparse(X):
        made = _mix_sparse(X, pairs, whole)
    else:
        array = np.asarray(X)
        columns = [_mix_array(array[:, j], pairs, whole[j]) for j in range(pairs.n_columns)]
        made = np.column_stack(columns).astype(array.dtype, copy=False)
    return made, pairs.base


def has_fractions(values: NDArray[np.floating[Any]]) -> bool:
    """Whether not all numbers of a column are whole."""
    finite = values[np.isfinite(values)]
    return bool((finite != np.floor(finite)).any())


def _mix_array(values: NDArray[Any], pairs: Pairs, whole: bool) -> NDArray[Any]:
    if not whole and np.issubdtype(values.dtype, np.floating) and has_fractions(values):
        return pairs.mix(values)
    return values[pairs.positions()]


def _mix_pandas(column: Any, pairs: Pairs, whole: bool) -> Any:
    if not whole and pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan)
        if has_fractions(values):
            mixed = pairs.mix(values)
            return pd.array(mixed, dtype=column.dtype)
    return column.array.take(pairs.positions())


def _mix_series(column: Any, pairs: Pairs, whole: bool) -> Any:
    if not whole and column.dtype.is_float():
        values = column.to_numpy().astype(np.float64)
        if has_fractions(values):
            mixed = nw.new_series(
                column.name, pairs.mix(values), column.dtype, backend=column.implementation
            )
            present = nw.when(~nw.col(column.name).is_nan()).then(nw.col(column.name))
            return mixed.to_frame().select(present)[column.name]
    return column[pairs.positions().tolist()]


def _mix_sparse(X: Any, pairs: Pairs, categories: NDArray[np.bool_]) -> Any:
    """Mix the cells that are stored in either row; in all others both are zero."""
    X = X.tocsr()
    whole = np.ones(pairs.n_columns, dtype=bool)
    if np.issubdtype(X.dtype, np.floating):
        whole[X.indices[np.isfinite(X.data) & (X.data != np.floor(X.data))]] = False
    whole |= categories
    own, other = X[pairs.base], X[pairs.other]
    share = abs(own.sign()) + abs(other.sign())
    row_share = np.repeat(pairs.share, np.diff(share.indptr))
    taken = pairs.random_state.random_sample(share.nnz) < row_share
    rest = share.copy()
    share.data = np.where(whole[share.indices], taken, row_share).astype(np.float64)
    rest.data = 1 - share.data
    mixed = own.multiply(share) + other.multiply(rest)
    return mixed.tocsr().astype(X.dtype)


def in_form_of(like: Rows, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make numbers sparse or dense, as those of other rows are."""
    numbers, *others = inputs
    sparse = isinstance(like.inputs[0], SparseNumbers)
    if sparse and not isinstance(numbers, SparseNumbers):
        numbers = SparseNumbers(scipy.sparse.csr_array(numbers.numpy()))
    elif isinstance(numbers, SparseNumbers) and not sparse:
        numbers = numbers.dense()
    return (numbers, *others)


def join(first: Rows, second: Rows) -> Rows:
    """Append rows; sparse numbers stay sparse."""
    if not isinstance(first.inputs[0], SparseNumbers):
        return first.join(second)
    matrices = [rows.inputs[0].matrix for rows in (first, second)]
    numbers = SparseNumbers(scipy.sparse.csr_array(scipy.sparse.vstack(matrices)))
    bare = [Rows(rows.inputs[1:], *rows[1:]) for rows in (first, second)]
    joined = bare[0].join(bare[1])
    return Rows((numbers, *joined.inputs), *joined[1:])
