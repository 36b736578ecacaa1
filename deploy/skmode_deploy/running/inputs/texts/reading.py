"""Read texts as users pass them: one by one, or as the only column of a table."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skmode_deploy.bundle import Column
from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.running.inputs.columns import TEXT, Array, is_missing, refuse_masked


class TextReader:
    """Reads the texts of a model that has no other inputs."""

    def __init__(self, column: Column, max_rows: int | None = None) -> None:
        self._input = column.input
        self._refuses_missing = "missing" in (column.refuses or ())
        self._max_rows = max_rows

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert texts to strings of shape (n_texts, 1); missing ones are empty."""
        items = _list_items(X)
        if self._max_rows is not None and len(items) > self._max_rows:
            raise ValueError(
                f"X must have at most max_rows={self._max_rows} texts, got {len(items)}: pass them "
                "in parts, or load with a larger max_rows."
            )
        if not TEXT.issuperset(map(type, items)):
            items = [_to_string(item, i) for i, item in enumerate(items)]
        if self._refuses_missing and "" in items:
            raise ValueError(
                f"Texts must not be missing, but text {items.index('')} is None, NaN or empty: the "
                "model failed on such texts at the export; fill it in, or leave it out."
            )
        values = np.empty((len(items), 1), object)
        values[:, 0] = items
        return {self._input: values}

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Do nothing: texts become tokens, and graphs read no strings."""

    def check_known(self, feeds: Mapping[str, Array]) -> None:
        """Do nothing: all tokens are known."""


def _list_items(X: Any) -> list[Any]:
    if isinstance(X, str | bytes | bytearray | memoryview):
        raise ValueError(
            f"X must hold any number of texts, got a single {type(X).__name__}: pass a list, [X]."
        )
    column = _only_column(X)
    if isinstance(column, list | tuple):
        items = list(column)
    elif isinstance(column, np.ndarray):
        refuse_masked(column, "X")
        if column.ndim == 2 and column.shape[1] == 1:
            column = column[:, 0]
        if column.ndim != 1:
            raise ValueError(
                f"X must have one dimension or one column, got shape {column.shape}: pass one "
                "column, such as X[:, 0]."
            )
        items = column.tolist()
    else:
        items = _list_of_column(column)
    # A table may be empty, as the last part of a file is; a list without texts is a mistake.
    if not items and column is X:
        raise ValueError("X must hold at least one text, got none: pass a list of texts.")
    return items


def _list_of_column(column: Any) -> list[Any]:
    for method in ("to_list", "to_pylist"):  # of pandas, polars and Arrow
        if hasattr(column, method):
            items: list[Any] = getattr(column, method)()
            return items
    raise ValueError(
        f"X must be a list, an array or a column of texts, got {type(column).__name__}: convert it."
    )


def _only_column(X: Any) -> Any:
    """Return the only column of a table; what is no table stays as it is."""
    if isinstance(X, Mapping):
        columns = list(X.values())
    elif hasattr(X, "columns") and hasattr(X, "shape"):
        columns = [X[name] for name in getattr(X, "column_names", X.columns)]
    else:
        return X
    if len(columns) != 1:
        raise ValueError(
            f"X must be a list, an array or a column of texts, got a table of {len(columns)} "
            "columns: select the column of texts."
        )
    return columns[0]


def _to_string(item: Any, i: int) -> str:
    if isinstance(item, str):
        return str(item)  # numpy's strings, too
    if is_missing(item):
        return ""
    cure = "decode it, with .decode()" if isinstance(item, bytes) else "convert it, or leave it out"
    raise ValueError(
        f"Text {i} must be a string, None or NaN, got {short_repr(item)} of type "
        f"{type(item).__name__}: {cure}."
    )
