"""Rows beside X must be as X is; in tables that a teacher reads, each column holds the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import narwhals.stable.v2 as nw

from skmode._encoding.columns import is_table


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


def _kind(values: Any) -> str | None:
    """What the values are; None if all are missing."""
    if values.dtype.is_numeric():
        return "numbers"
    first = values.drop_nulls().head(1).to_list()
    if not first:
        return None
    kinds = {str: "strings", bool: "bools", Number: "numbers"}
    return next((kinds[of] for of in kinds if isinstance(first[0], of)), type(first[0]).__name__)
