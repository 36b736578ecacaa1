"""Rows beside X must be as X is; in tables that a teacher reads, each column holds the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import torch

from skmode._encoding.columns import is_table
from skmode._encoding.tables import Column
from skmode._encoding.tables.warning import warn_user


@contextmanager
def named(names: str, like: str = "X is") -> Iterator[None]:
    """Name the rows in errors that would speak of X."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{names} must be as {like}: {error}") from error


def check_kinds(X: Any, others: Any, name: str) -> None:
    """Raise if a column of other rows holds strings for numbers, for example."""
    if not is_table(X) or not is_table(others):
        return
    frames: list[Any] = [nw.from_native(each, eager_only=True) for each in (X, others)]
    for column in frames[0].columns:
        if column not in frames[1].columns:
            continue  # refused elsewhere
        before, now = (_kind(frame[column]) for frame in frames)
        if before != now and None not in (before, now):
            raise ValueError(
                f"The teacher reads {name} as it is, so each column must hold what it holds in X, "
                f"got {now} in column {column!r}, which holds {before} in X: convert the column."
            )


def warn_of_other_scales(numbers: Any, encoder: Any, name: str) -> None:
    """Warn if most columns mostly hold numbers beyond those of X, as where no scaler saw them."""
    columns: list[Column] = getattr(encoder, "numeric_columns", [])
    if not isinstance(numbers, torch.Tensor) or not columns:  # sparse, or no table
        return
    low = [-np.inf if each.minimum is None else each.minimum for each in columns]
    high = [np.inf if each.maximum is None else each.maximum for each in columns]
    beyond = (numbers < numbers.new_tensor(low)) | (numbers > numbers.new_tensor(high))
    strange = np.flatnonzero(beyond.double().mean(dim=0).numpy() > 0.5)
    if 2 * len(strange) > len(columns):
        warn_user(
            f"{name} should hold rows such as those of X, but most of its numbers lie beyond those "
            f"of X in {len(strange)} of {len(columns)} columns, such as "
            f"{columns[strange[0]].name!r}: scale them as X is. A Pipeline does so by "
            f'transform_input=["{name}"].'
        )


def _kind(values: Any) -> str | None:
    """What the values are; None if all are missing."""
    if values.dtype.is_numeric():
        return "numbers"
    first = values.drop_nulls().head(1).to_list()
    if not first:
        return None
    kinds = {str: "strings", bool: "bools", Number: "numbers"}
    return next((kinds[of] for of in kinds if isinstance(first[0], of)), type(first[0]).__name__)
