"""Made-up rows for a teacher to label (FAST-DAD, arXiv 2006.14284).

Each is a row of the table in which some columns come from one of its nearest neighbours. Whole
cells are taken, so categories and missing values stay what they are, and the teacher can read
the rows.
"""

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder

from skmode._encoding.columns import is_table
from skmode._encoding.tables import TableEncoder

N_NEIGHBORS = 10
# Share of the columns that come from the neighbour, on average.
RESAMPLED = 0.5
# Neighbours are looked for among so many rows: the time grows with the square of it.
SEARCHED_ROWS = 10_000
# Numbers further from the centre than this count as this far: one column must not decide alone.
LIMIT = 3.0
# Cells of a sparse matrix that are drawn at once.
BLOCK_CELLS = 2**24


def make_rows(
    X: Any,
    encoder: TableEncoder,
    inputs: tuple[Any, Any],
    n_rows: int,
    random_state: np.random.RandomState,
) -> tuple[Any, NDArray[np.intp]]:
    """Make rows up, in the container of X; returns also the row that each began with.

    `inputs` are numbers and codes of the rows, as `encoder` made them.
    """
    neighbors = find_neighbors(_space(encoder, *inputs), random_state)
    n_seen, k = neighbors.shape
    repeats = -(-n_rows // n_seen)
    base = np.concatenate([random_state.permutation(n_seen) for _ in range(repeats)])[:n_rows]
    other = neighbors[base, random_state.randint(k, size=n_rows)]
    if scipy.sparse.issparse(X):
        return _mix_sparse(scipy.sparse.csr_array(X), base, other, random_state), base
    taken = random_state.random_sample((n_rows, X.shape[1])) < RESAMPLED
    return take_cells(X, np.where(taken, other[:, None], base[:, None])), base


def find_neighbors(space: Any, random_state: np.random.RandomState) -> NDArray[np.intp]:
    """Nearest neighbours of each row, itself left out; among many rows, those of a random part."""
    n_rows = space.shape[0]
    k = max(1, min(N_NEIGHBORS, n_rows - 1))
    order = random_state.permutation(n_rows) if n_rows > SEARCHED_ROWS else np.arange(n_rows)
    found = np.zeros((n_rows, k), dtype=np.intp)
    if n_rows == 1:
        return found
    for part in np.array_split(order, -(-n_rows // SEARCHED_ROWS)):
        search = NearestNeighbors(n_neighbors=k).fit(space[part])
        found[part] = part[search.kneighbors(return_distance=False)]
    return found


def take_cells(X: Any, positions: NDArray[np.intp]) -> Any:
    """Build rows of single cells: cell (i, j) comes from row ``positions[i, j]`` of column j."""
    if isinstance(X, pd.DataFrame):
        columns = [X.iloc[:, j].array.take(rows) for j, rows in enumerate(positions.T)]
        return pd.DataFrame(dict(enumerate(columns))).set_axis(X.columns, axis=1)
    if is_table(X):
        frame: Any = nw.from_native(X, eager_only=True)
        table = {
            name: frame[name][rows.tolist()]
            for name, rows in zip(frame.columns, positions.T, strict=True)
        }
        return nw.from_dict(table, backend=frame.implementation).to_native()
    return np.take_along_axis(np.asarray(X), positions, axis=0)


def _mix_sparse(
    X: scipy.sparse.csr_array,
    base: NDArray[np.intp],
    other: NDArray[np.intp],
    random_state: np.random.RandomState,
) -> scipy.sparse.csr_array:
    """Take about half of the cells from other rows, some rows at once."""
    size = max(1, BLOCK_CELLS // X.shape[1])
    parts = []
    for start in range(0, len(base), size):
        rows = slice(start, start + size)
        own, others = X[base[rows]], X[other[rows]]
        taken = random_state.random_sample(own.shape) < RESAMPLED
        parts.append(own.multiply(~taken) + others.multiply(taken))
    return scipy.sparse.csr_array(scipy.sparse.vstack(parts))


def _space(encoder: TableEncoder, numbers: Any, codes: NDArray[np.int64]) -> Any:
    """Encoded rows whose distances compare columns: numbers standardised, codes one-hot."""
    scale = np.array([column.scale for column in encoder.numeric_columns])
    parts: list[Any] = []
    if scipy.sparse.issparse(numbers):
        parts.append(numbers @ scipy.sparse.diags_array(1 / scale) if len(scale) else numbers)
    elif len(scale):
        center = np.array([column.center for column in encoder.numeric_columns])
        scaled = ((numbers - center) / scale).clip(-LIMIT, LIMIT)
        missing = np.isnan(scaled)
        parts += [np.where(missing, 0, scaled), missing[:, missing.any(axis=0)]]
    if codes.shape[1]:
        # Two categories that differ are one standard deviation apart.
        parts.append(OneHotEncoder().fit_transform(codes) / np.sqrt(2))
    if not any(map(scipy.sparse.issparse, parts)):
        return np.column_stack(parts)
    return scipy.sparse.csr_array(scipy.sparse.hstack(parts))
