"""Validation rows: the user's own, those of the user's splitter, or some that are held out."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.model_selection import check_cv, train_test_split
from sklearn.utils import check_consistent_length

from skmode._common.sklearn import safe_indexing
from skmode._estimators.parameters import FULL_BATCH_ROWS
from skmode._training.finish.members import MemberRows
from skmode._training.finish.teachers import Members
from skmode._training.rows import Rows
from skmode._training.trainer import Data

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


class Given(NamedTuple):
    """What the user passed to `fit` about validation."""

    X: Any = None
    y: Any = None
    sample_weight: Any = None
    groups: Any = None

    def counted(self, rows: Any) -> Any:
        """Take those of the validation rows, or what belongs to them, that have a weight."""
        if np.ndim(self.sample_weight) == 0:  # none, or the same for all
            return rows
        rows = rows.tocsr() if scipy.sparse.issparse(rows) else rows  # others may not be indexed
        return safe_indexing(rows, np.flatnonzero(self.sample_weight))


def check_given(
    given: Given, early_stopping: bool | str, validation_fraction: Any, *, teaches: bool
) -> None:
    """Raise if the validation rows are incomplete, or named twice.

    A teacher that is an estimator is fitted on folds, which may need groups as well.
    """
    splits = not isinstance(validation_fraction, Real)
    if given.X is not None and given.y is None:
        raise ValueError(
            "X_val needs y_val, got X_val alone: pass the targets of its rows as y_val."
        )
    if given.X is None and (given.y is not None or given.sample_weight is not None):
        name = "sample_weight_val" if given.y is None else "y_val"
        raise ValueError(f"{name} needs X_val, got none: pass the validation rows as X_val.")
    if given.X is not None and early_stopping is False:
        raise ValueError(
            "X_val needs early stopping, which reads it, got early_stopping=False: pass "
            'early_stopping=True or "auto", or leave out X_val and y_val.'
        )
    if given.X is not None and splits:
        raise ValueError(
            "Validation rows must be named once, got X_val and validation_fraction="
            f"{validation_fraction!r}: leave out X_val, or set validation_fraction to a number, "
            "which is not used beside X_val."
        )
    named = splits or (teaches and (given.X is not None or early_stopping is False))
    if given.groups is not None and not named:
        raise ValueError(
            "groups are for a splitter, which keeps them together, got validation_fraction="
            f"{validation_fraction!r}: pass for example "
            "validation_fraction=GroupShuffleSplit(n_splits=1, test_size=0.1)."
        )


def find_split(given: Given, early_stopping: bool | str, cv: Any, X: Any, y: Any) -> Split | None:
    """Training and validation positions by the user's splitter; None if there is none to ask.

    Of several splits it is the last: in a TimeSeriesSplit the one with the most training rows.
    """
    if isinstance(cv, Real) or early_stopping is False:
        return None
    check_consistent_length(X, given.groups)
    try:
        splits = list(check_cv(cv).split(X, y, given.groups))
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"validation_fraction must split {len(y)} rows, got {cv!r}, which failed with: "
            f"{reason}. Correct it; if it needs groups, pass them to fit."
        ) from error
    pair: Any = splits[-1] if splits else ()
    if len(pair) != 2 or not all(map(np.iterable, pair)):
        raise ValueError(
            "validation_fraction must give pairs of training and validation positions, got "
            f"{cv!r}: pass a splitter, or a list with one pair."
        )
    train, valid = (positions_of(part, len(y)) for part in pair)
    n_both = np.isin(valid, train).sum()
    if not len(train) or not len(valid) or n_both:
        raise ValueError(
            "validation_fraction must give rows to train on and rows to validate on, none in "
            f"both, got {len(train)} and {len(valid)} with {n_both} in both: correct the split."
        )
    return train, valid


def hold_out(
    rows: Rows, early_stopping: bool | str, fraction: float, random_state: Any
) -> Split | None:
    """Draw validation rows, or none; a class with a single row stays in the training part."""
    wanted = len(rows) > FULL_BATCH_ROWS if early_stopping == "auto" else early_stopping
    if not wanted:
        return None
    index, stratify = _candidates(rows, fraction)
    if len(index) < 2:
        if early_stopping == "auto":
            return None
        raise ValueError(
            "early_stopping=True needs at least two rows of one class to hold one out, got "
            f"{len(rows)} row(s): pass more rows or early_stopping=False."
        )
    held_out = _draw(index, stratify, fraction, random_state)
    return np.setdiff1d(np.arange(len(rows)), held_out), np.sort(held_out)


def divide(rows: Rows, train: NDArray[np.intp], valid: NDArray[np.intp]) -> Data:
    """Divide rows by position, and check that both parts have a row to learn from."""
    parts = rows.select(torch.as_tensor(train)), rows.select(torch.as_tensor(valid))
    for name, part in zip(("training", "validation"), parts, strict=True):
        # In float32, as training reads them: a tiny float64 weight may become zero.
        weight = part.sample_weight
        if not len(part) or (weight is not None and weight.float().sum() == 0):
            raise ValueError(
                f"At least one of the {name} rows needs a positive weight, but sample_weight and "
                f"class_weight leave all {len(part)} at zero: give more rows a weight, or train "
                "on all rows with early_stopping=False."
            )
    return Data(rows, *parts)


def split_for_members(
    data: Data, n_networks: int, fraction: float, random_state: Any, *, own: bool
) -> Members:
    """Rows of each network of an ensemble: `own` holds out other rows for each."""
    rows = data.rows
    assert isinstance(rows, Rows)
    assert isinstance(data.train, Rows)

    def same(part: Rows) -> MemberRows:
        return MemberRows(part, torch.arange(len(part)).expand(n_networks, -1))

    everything = None if data.train is rows else same(rows)
    if not own:
        assert data.valid is not None
        return Members(same(data.train), same(data.valid), everything)
    index, stratify = _candidates(rows, fraction)
    held_out = [_draw(index, stratify, fraction, random_state) for _ in range(n_networks)]
    kept = [np.setdiff1d(np.arange(len(rows)), each) for each in held_out]
    train, valid = (MemberRows(rows, torch.as_tensor(np.stack(part))) for part in (kept, held_out))
    return Members(train, valid, everything)


def _draw(index: Any, stratify: Any, fraction: float, random_state: Any) -> Any:
    """Positions to hold out."""
    return train_test_split(
        index, test_size=fraction, random_state=random_state, stratify=stratify
    )[1]


def among(split: Split, kept: NDArray[np.intp]) -> Split:
    """Count the positions of a split among the rows that are kept, in their order."""
    train, valid = (np.searchsorted(kept, part[np.isin(part, kept)]) for part in split)
    return train, valid


def positions_of(
    part: Iterable[Any], n_rows: int, name: str = "validation_fraction"
) -> NDArray[np.intp]:
    """Positions of rows, which the user may give as a mask."""
    found = np.asarray(part)
    if found.dtype == bool and found.shape == (n_rows,):
        return np.flatnonzero(found)
    if found.size == 0:
        return np.zeros(0, dtype=np.intp)
    numbers = found.ndim == 1 and found.dtype.kind in "iu"
    if not numbers or found.min() < 0 or found.max() >= n_rows:
        got = f"{found.min()} to {found.max()}" if numbers else f"{found.dtype} {found.shape}"
        raise ValueError(
            f"The positions in {name} must lie between 0 and {n_rows - 1}, because X "
            f"has {n_rows} rows, got {got}: correct them. Where fit sees other rows each time, as "
            "in cross-validation, pass a splitter instead."
        )
    return found.astype(np.intp)


def _candidates(rows: Rows, fraction: float) -> tuple[Any, Any]:
    """Rows that may be held out, and their classes if the split can be stratified."""
    index = np.arange(len(rows))
    if rows.target.is_floating_point():
        return index, None
    target = rows.target.numpy()
    counts = np.bincount(target)
    index = np.flatnonzero(counts[target] > 1)
    n_valid = math.ceil(fraction * len(index))
    stratified = (counts > 1).sum() <= min(n_valid, len(index) - n_valid)
    return index, target[index] if len(index) and stratified else None
