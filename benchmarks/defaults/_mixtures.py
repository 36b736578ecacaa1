"""Rows made up as mixtures of any two rows, as they were before they came from neighbours."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def make_mixtures(
    X: pd.DataFrame,
    _encoded: Any,
    n_rows: int,
    random_state: np.random.RandomState,
    categories: Collection[int] = (),
) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Average numbers with fractions; take other cells from one row or the other.

    See mixup, arXiv 1710.09412. Where one of two numbers is missing, the first row's is taken.
    """
    repeats = -(-n_rows // len(X))
    base = np.concatenate([random_state.permutation(len(X)) for _ in range(repeats)])[:n_rows]
    other = random_state.randint(len(X), size=n_rows)
    share = 0.5 + 0.5 * random_state.random_sample(n_rows)
    made = {}
    for j, name in enumerate(X.columns):
        column = X[name]
        if pd.api.types.is_float_dtype(column.dtype) and j not in categories:
            values = column.to_numpy(np.float64)
            finite = values[np.isfinite(values)]
            if (finite != np.floor(finite)).any():
                mixed = share * values[base] + (1 - share) * values[other]
                made[name] = np.where(np.isfinite(mixed), mixed, values[base]).astype(column.dtype)
                continue
        own = random_state.random_sample(n_rows) < share
        made[name] = column.array.take(np.where(own, base, other))
    return pd.DataFrame(made), base
