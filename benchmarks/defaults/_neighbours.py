"""Rows made up by resampling columns among neighbours, the other way of making rows up."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 10


def make_rows_of_neighbours(
    X: pd.DataFrame,
    n_rows: int,
    random_state: np.random.RandomState,
    categories: Collection[int] = (),
) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Take each cell from the row with which a made-up row begins, or from one of its neighbours.

    So columns vary as they do near this row. The published way (FAST-DAD, arXiv 2006.14284) learns
    how each column depends on the others; neighbours show it without a model. Each column has its
    own draw, whatever it holds.
    """
    numbers = StandardScaler().fit_transform(
        SimpleImputer(keep_empty_features=True).fit_transform(pd.get_dummies(X, dtype=np.float64))
    )
    n_near = min(NEIGHBOURS + 1, len(X))
    near = NearestNeighbors(n_neighbors=n_near).fit(numbers).kneighbors(return_distance=False)
    near = np.column_stack([np.arange(len(X)), near[:, : n_near - 1]])
    base = random_state.randint(len(X), size=n_rows)
    made = {
        name: X[name].array.take(near[base, random_state.randint(n_near, size=n_rows)])
        for name in X.columns
    }
    return pd.DataFrame(made), base
