"""Splitting rows into a training and a validation part."""

import math
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from skmode._estimators.parameters import FULL_BATCH_ROWS
from skmode._training.rows import Rows
from skmode._training.trainer import Data


def hold_out(rows: Rows, early_stopping: bool | str, fraction: float, random_state: Any) -> Data:
    """Hold out validation rows; a class with a single row stays in the training part."""
    wanted = len(rows) > FULL_BATCH_ROWS if early_stopping == "auto" else early_stopping
    if not wanted:
        return Data(rows, rows, None)
    index, stratify = _candidates(rows, fraction)
    if len(index) < 2:
        if early_stopping == "auto":
            return Data(rows, rows, None)
        raise ValueError(
            "early_stopping=True needs at least two rows of one class to hold one out, got "
            f"{len(rows)} row(s): pass more rows or early_stopping=False."
        )
    held_out = train_test_split(
        index, test_size=fraction, random_state=random_state, stratify=stratify
    )[1]
    kept = np.setdiff1d(np.arange(len(rows)), held_out)
    parts = rows.select(torch.as_tensor(kept)), rows.select(torch.as_tensor(np.sort(held_out)))
    for name, part in zip(("training", "validation"), parts, strict=True):
        # In float32, as training reads them: a tiny float64 weight may become zero.
        if part.sample_weight is not None and part.sample_weight.float().sum() == 0:
            raise ValueError(
                f"At least one of the {name} rows needs a positive weight, but sample_weight and "
                f"class_weight leave all {len(part)} at zero: give more rows a weight, or train "
                "on all rows with early_stopping=False."
            )
    return Data(rows, *parts)


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
