"""Synthetic rows whose class can be recognised by any of several views."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from skmode._common.sklearn import Interval, validate_params

Array = NDArray[Any]

# The strength with which a row shows a view is drawn between these.
MIN_STRENGTH, MAX_STRENGTH = 1.0, 2.0


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "n_views": [Interval(Integral, 2, None, closed="left")],
        "view_size": [Interval(Integral, 1, None, closed="left")],
        "single_view_share": [Interval(Real, 0, 1, closed="both")],
        "distraction": [Interval(Real, 0, 1, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "return_details": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_multi_view(
    n_samples: int = 1000,
    n_classes: int = 8,
    n_views: int = 2,
    view_size: int = 4,
    single_view_share: float = 0.05,
    *,
    distraction: float = 0.4,
    noise: float = 0.2,
    random_state: Any = None,
    return_details: bool = False,
) -> Any:
    r"""Generate rows whose class can be recognised by any of several views.

    Each view of each class has its own block of columns, and in it a pattern, a random vector of
    length one. A row that shows a view has its pattern in that block, times a strength between 1
    and 2. Multi-view rows show all views of their class, so any one of them is enough to recognise
    it; single-view rows show only one. Each row also shows a view of another class, weaker, and
    noise in all columns. A network that has learned one view of a class gets all multi-view rows
    right. It then has little reason to learn the other views, and can only memorise the
    single-view rows that show these.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    n_classes : int, default=8
        Number of classes, two or more, equally frequent up to one row.
    n_views : int, default=2
        Number of views of each class, two or more.
    view_size : int, default=4
        Number of columns of each view.
    single_view_share : float, default=0.05
        Share of the rows that show a single view of their class, divided evenly among classes and
        views.
    distraction : float, default=0.4
        Strength of the view of another class, relative to the views of the row's own class, from
        0 to below 1. Below 0.5 it is always the weaker one.
    noise : float, default=0.2
        Standard deviation of the normal noise in every column.
    random_state : int, RandomState instance or None, default=None
        Seed of patterns, strengths, noise and the order of the rows.
    return_details : bool, default=False
        Whether to return the structure of rows and columns too.

    Returns
    -------
    X : ndarray of shape (n_samples, n_classes * n_views * view_size)
        Rows.
    y : ndarray of int64 of shape (n_samples,)
        Classes, from 0.
    details : :class:`~sklearn.utils.Bunch`
        Only if `return_details` is True. With ``features``, the columns of each view, ndarray of
        shape (n_classes, n_views, view_size); ``patterns``, of the same shape; ``strengths``, how
        strongly each row shows each view of each class, zero if it does not, ndarray of shape
        (n_samples, n_classes, n_views); ``shown``, which views of its own class a row shows,
        ndarray of bool of shape (n_samples, n_views); and ``single_view``, whether it shows only
        one, ndarray of bool of shape (n_samples,).

    See Also
    --------
    sklearn.datasets.make_classification : Classes of one view.

    Notes
    -----
    The distribution follows the multi-view data of the reference in its main points: views that
    are each enough, single-view rows, and traces of other classes. In the reference, inputs consist
    of patches, any of which may show a view, and the networks are convolutional. Here each view has
    its own columns, so that the columns that a network attends to can be compared with the truth.

    Generate training and test rows in one call and split them: another seed has other patterns.

    References
    ----------
    Allen-Zhu and Li, "Towards Understanding Ensemble, Knowledge Distillation and
    Self-Distillation in Deep Learning", ICLR 2023, arXiv 2012.09816.

    Examples
    --------
    >>> from skmode.datasets import make_multi_view
    >>> X, y, details = make_multi_view(200, single_view_share=0.1, random_state=0,
    ...                                 return_details=True)
    >>> X.shape, details.features.shape
    ((200, 64), (8, 2, 4))
    >>> int(details.single_view.sum())
    20

    The columns of the second view of class 3:

    >>> details.features[3, 1]
    array([28, 29, 30, 31])
    """
    random_state = check_random_state(random_state)
    patterns = random_state.standard_normal((n_classes, n_views, view_size))
    patterns /= np.linalg.norm(patterns, axis=2, keepdims=True)
    y, shown = _plan(n_samples, n_classes, n_views, single_view_share, random_state)
    strengths = _draw_strengths(y, shown, n_classes, distraction, random_state)
    X = (strengths[..., None] * patterns).reshape(n_samples, -1)
    X += noise * random_state.standard_normal(X.shape)
    if not return_details:
        return X, y
    details = Bunch(
        features=np.arange(patterns.size).reshape(patterns.shape),
        patterns=patterns,
        strengths=strengths,
        shown=shown,
        single_view=shown.sum(axis=1) == 1,
    )
    return X, y, details


def _plan(
    n_samples: int, n_classes: int, n_views: int, single_view_share: float, random_state: Any
) -> tuple[Array, Array]:
    """Draw the class of each row and the views that it shows, bool (n_samples, n_views)."""
    position = np.arange(n_samples)
    y = position % n_classes
    # Classes take turns, and so do the views within each class.
    only = position // n_classes % n_views
    is_single = position < round(single_view_share * n_samples)
    shown = ~is_single[:, None] | (only[:, None] == np.arange(n_views))
    order = random_state.permutation(n_samples)
    return y[order], shown[order]


def _draw_strengths(
    y: Array, shown: Array, n_classes: int, distraction: float, random_state: Any
) -> Array:
    """Draw how strongly each row shows each view of each class."""
    n_samples, n_views = shown.shape
    rows = np.arange(n_samples)
    strengths = np.zeros((n_samples, n_classes, n_views))
    strengths[rows, y] = shown * random_state.uniform(MIN_STRENGTH, MAX_STRENGTH, shown.shape)
    other = (y + random_state.randint(1, n_classes, size=n_samples)) % n_classes
    view = random_state.randint(n_views, size=n_samples)
    drawn = random_state.uniform(MIN_STRENGTH, MAX_STRENGTH, n_samples)
    strengths[rows, other, view] = distraction * drawn
    return strengths
