"""Folds of the rows that teachers are fitted on."""

import warnings
from contextlib import nullcontext
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from skmode._common.quiet import hide_warnings
from skmode._estimators.rows.splitting import Split, among, positions_of
from skmode._estimators.rows.teaching import Known


def make_folds(cv: Any, known: Known, trained: NDArray[np.intp], *, classify: bool) -> list[Split]:
    """Folds of the rows at positions `trained`, as positions among all known ones.

    Positions that the user gave as folds refer to the rows of `fit`.
    """
    if len(trained) < 2:
        raise ValueError(
            "A teacher needs rows to be fitted on and others to predict, got 1 sample to train on: "
            "pass more rows, or ready predictions as soft_targets."
        )
    part = known.select(trained)
    if isinstance(cv, Integral):
        _check_number(int(cv), part, classify)

    def read(positions: Any) -> NDArray[np.intp]:
        return positions_of(positions, known.n_given, "teacher_cv")

    try:
        if not isinstance(cv, Integral) and not hasattr(cv, "split"):
            folds = [among((read(a), read(b)), known.kept) for a, b in cv]
            folds = [(np.intersect1d(a, trained), np.intersect1d(b, trained)) for a, b in folds]
        else:
            splitter = _shuffled(cv, classify, part.groups) if isinstance(cv, Integral) else cv
            small = hide_warnings("The least populated class")  # which is checked before
            with small if isinstance(cv, Integral) else nullcontext():
                found = list(splitter.split(part.X, part.y, part.groups))
            folds = [(trained[a], trained[b]) for a, b in found]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"teacher_cv must divide {len(trained)} rows into folds, got {cv!r}, which failed "
            f"with: {str(error).rstrip('.')}. Ask for fewer folds, or pass more rows; if it needs "
            "groups, pass them to fit."
        ) from error
    folds = [(a, b) for a, b in folds if len(a) and len(b)]
    if not folds or any(np.isin(b, a).any() for a, b in folds):
        raise ValueError(
            "teacher_cv must give folds with rows to fit on and other rows to predict, got "
            f"{cv!r}: pass a number of folds such as 5, or another splitter."
        )
    if classify and not any(np.isin(known.y[b], known.y[a]).any() for a, b in folds):
        raise ValueError(
            "teacher_cv must give folds whose rows to predict are of classes that are among the "
            f"rows to fit on, got none by {cv!r}, as of sorted rows: pass a number of folds such "
            "as 5, which are shuffled, or another splitter."
        )
    return folds


def of_unseen_classes(y: NDArray[Any], folds: list[Split]) -> NDArray[np.bool_]:
    """Tell which rows are predicted by a model that was fitted on no row of their class.

    It says that they are surely of another class, which is wrong: it cannot teach them.
    """
    unseen = np.zeros(len(y), dtype=bool)
    for fitted, test in folds:
        unseen[test] |= ~np.isin(y[test], y[fitted])
    return unseen


def _check_number(n_folds: int, part: Known, classify: bool) -> None:
    """Raise if there are too many folds; warn if a class is missing in some."""
    limits = {"rows to train on": len(part.y)}
    if classify:
        counts = np.unique(part.y, return_counts=True)[1]
        limits["rows of the most frequent class"] = int(counts.max())
    if part.groups is not None:
        limits["groups"] = len(set(np.asarray(part.groups).tolist()))
    what = min(limits, key=limits.__getitem__)
    if n_folds > limits[what]:
        cure = f"teacher_cv={limits[what]} or less" if limits[what] > 1 else f"more {what}"
        raise ValueError(
            f"teacher_cv must not exceed the number of {what}, {limits[what]}, got {n_folds}: "
            f"pass {cure}, or ready predictions as soft_targets."
        )
    if classify and counts.min() < n_folds:
        rarest = int(counts.min())
        cure = f"teacher_cv={rarest}" if rarest > 1 else "more of its rows"
        warnings.warn(
            f"Each class should have a row in each of the {n_folds} folds of teacher_cv, got "
            f"{rarest} of the rarest class to train on: pass {cure}, or leave it if that class "
            "matters little.",
            stacklevel=2,
        )


def _shuffled(n_folds: Any, classify: bool, groups: Any) -> Any:
    """Folds of shuffled rows, because tables are often sorted; always the same, for `memory`."""
    if classify:
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        return kind(n_folds, shuffle=True, random_state=0)
    if groups is not None:
        return GroupKFold(n_folds)
    return KFold(n_folds, shuffle=True, random_state=0)
