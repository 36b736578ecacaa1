"""The innermost estimator of Pipelines and searches, and the dense rows of sparse input.

Imports nothing of skmode, so that every part of the package can use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import scipy.sparse
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline


def nested_estimators(model: Any, *, fitted: bool = True) -> Iterator[Any]:
    """Yield a model, then what it wraps, down to the innermost estimator.

    A Pipeline wraps its last step, a search its best estimator, or with ``fitted=False`` the
    estimator whose parameters it tries. A fitted walk ends at a search without a best estimator.
    """
    while True:
        yield model
        if isinstance(model, FrozenEstimator):  # first: it has all attributes of what it wraps
            model = model.estimator
        elif isinstance(model, Pipeline):
            model = model.steps[-1][1]
        elif fitted and hasattr(model, "best_estimator_") and getattr(model, "refit", True):
            model = model.best_estimator_
        elif not fitted and is_search(model):
            model = model.estimator
        else:
            return


def is_search(model: Any) -> bool:
    """Whether a model tries parameters of another one, as GridSearchCV does."""
    # Not isinstance: searches of other packages share no public class with scikit-learn's.
    return all(hasattr(model, name) for name in ("estimator", "refit", "error_score"))


def fit_parameter_prefix(model: Any) -> str:
    """Return the prefix of a `fit` parameter of the innermost estimator, such as "model__"."""
    parts = nested_estimators(model, fitted=False)
    return "".join(f"{part.steps[-1][0]}__" for part in parts if isinstance(part, Pipeline))


def to_dense(X: Any) -> Any:
    """Make sparse rows dense, for what reads them value by value; other rows stay as they are."""
    if scipy.sparse.issparse(X):
        return X.toarray()
    if not isinstance(X, pd.DataFrame):
        return X
    types = {name: each.subtype for name, each in X.dtypes.items() if _is_sparse(each)}
    return X.astype(types) if types else X


def _is_sparse(dtype: Any) -> bool:
    return isinstance(dtype, pd.SparseDtype)
