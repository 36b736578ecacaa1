"""Made-up rows for a teacher to label: columns resampled among neighbours, or mixtures of pairs.

Each cell of a table's made-up row is taken whole from the row that it begins with or from one of
its neighbours, so it stays what it is, and the teacher can read it. FAST-DAD (arXiv 2006.14284)
learns how each column depends on the others; neighbours show it without a model. Rows of a sparse
matrix have no near neighbours, and are mixed (mixup, arXiv 1710.09412).
"""

from collections.abc import Collection
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from skmode._encoding.columns import is_table
from skmode._encoding.tables import without_outliers
from skmode._training.rows import Rows, SparseNumbers

# Chosen in benchmarks/ablations.md.
N_NEIGHBOURS = 10
# Neighbours are sought among so many rows drawn by chance: the time grows with the rows alone.
BLOCK_ROWS = 4096
# Rarer categories of a column count as one where neighbours are sought, and of all columns together
# there are no more than so many: time and memory grow with them.
MOST_CATEGORIES, MOST_DUMMIES = 64, 2048


def make_rows(
    X: Any,
    encoded: tuple[Any, Tensor],
    n_rows: int,
    random_state: np.random.RandomState,
    categories: Collection[int] = (),
) -> tuple[Any, NDArray[np.intp]]:
    """Make rows up, in the container of X; returns also the row that each begins with.

    `encoded` are numbers and codes of the same rows, and tell which are near. `categories` are the
    positions of columns that are never averaged.
    """
    repeats = -(-n_rows // X.shape[0])
    base = np.concatenate([random_state.permutation(X.shape[0]) for _ in range(repeats)])[:n_rows]
    if scipy.sparse.issparse(X):
        return _mix_sparse(X.tocsr(), base, random_state, categories), base
    near = find_neighbours(*encoded, random_state)
    return _resample(X, near[base], random_state), base


def find_neighbours(
    numbers: Any, codes: Tensor, random_state: np.random.RandomState
) -> NDArray[np.intp]:
    """Positions of each row and of those nearest to it, `(n_rows, n_near)`."""
    n_rows = len(codes)
    n_blocks = -(-n_rows // BLOCK_ROWS)
    n_near = min(N_NEIGHBOURS, n_rows // n_blocks - 1)
    near = np.repeat(np.arange(n_rows)[:, None], 1 + n_near, axis=1)
    for block in np.array_split(random_state.permutation(n_rows), n_blocks) if n_near else []:
        points = _as_points(numbers[block], codes[block].numpy())
        search = NearestNeighbors(n_neighbors=n_near).fit(points)
        near[block, 1:] = block[search.kneighbors(return_distance=False)]
    return near


def _as_points(numbers: Any, codes: NDArray[np.int64]) -> Any:
    """Scale numbers and dummies of categories to a variance of one each; missing is the mean."""
    is_sparse = isinstance(numbers, SparseNumbers)
    parts = []
    if numbers.shape[1]:
        read = numbers.matrix if is_sparse else numbers.numpy()
        read = read.astype(np.float64)
        read = read if is_sparse else without_outliers(read, np.ones(len(read)))
        parts.append(SimpleImputer(keep_empty_features=True).fit_transform(read))
    if codes.shape[1]:
        most = int(np.clip(MOST_DUMMIES // codes.shape[1], 2, MOST_CATEGORIES))
        encoder = OneHotEncoder(max_categories=most, sparse_output=is_sparse)
        parts.append(encoder.fit_transform(codes))
    points = scipy.sparse.hstack(parts, format="csr") if is_sparse else np.hstack(parts)
    return StandardScaler(with_mean=not is_sparse).fit_transform(points)


def _resample(X: Any, near: NDArray[np.intp], random_state: np.random.RandomState) -> Any:
    """Take each cell from one of the rows that are near, `(n_rows, n_near)`, by its own draw."""

    def positions() -> NDArray[np.intp]:
        drawn = random_state.randint(near.shape[1], size=len(near))
        found: NDArray[np.intp] = near[np.arange(len(near)), drawn]
        return found

    if isinstance(X, pd.DataFrame):
        columns = [X.iloc[:, j].array.take(positions()) for j in range(X.shape[1])]
        return pd.DataFrame(dict(enumerate(columns))).set_axis(X.columns, axis=1)
    if is_table(X):
        frame: Any = nw.from_native(X, eager_only=True)
        parts = [frame[name][positions().tolist()].to_frame() for name in frame.columns]
        # Out of a dict, the Enum of polars would be a Categorical.
        return nw.concat(parts, how="horizontal").to_native()
    array = np.asarray(X)
    return np.column_stack([array[positions(), j] for j in range(array.shape[1])])


def _mix_sparse(
    X: Any,
    base: NDArray[np.intp],
    random_state: np.random.RandomState,
    categories: Collection[int],
) -> Any:
    """Mix the cells that are stored in either of two rows; in all others both are zero.

    Numbers in columns with fractions are averaged, other cells are taken whole from one row: they
    may be codes.
    """
    whole = np.ones(X.shape[1], dtype=bool)
    if np.issubdtype(X.dtype, np.floating):
        whole[X.indices[np.isfinite(X.data) & (X.data != np.floor(X.data))]] = False
    whole[list(categories)] = True
    own, other = X[base], X[random_state.randint(X.shape[0], size=len(base))]
    share = abs(own.sign()) + abs(other.sign())
    shares = 0.5 + 0.5 * random_state.random_sample(len(base))
    row_share = np.repeat(shares, np.diff(share.indptr))
    taken = random_state.random_sample(share.nnz) < row_share
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
