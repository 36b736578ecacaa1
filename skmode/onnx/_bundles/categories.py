"""The categories that the fitted encoders of a Pipeline know, for each raw column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from skmode_deploy import bundle


def with_known_categories(
    steps: Pipeline, estimator: Any, columns: tuple[bundle.Column, ...]
) -> tuple[bundle.Column, ...]:
    """Add the categories of the encoders that read raw columns, because X may lack some, and of the
    estimator for strings that are passed to it.

    A column of numbers becomes one of categories if an encoder refuses all other numbers.
    """
    known: dict[int, set[Any]] = {}
    names = [column.name for column in columns]
    for encoder, positions in _encoders(steps, names, list(range(len(names)))):
        for i, categories in zip(positions, encoder.categories_, strict=True):
            text = columns[i].dtype == "string"
            if text or encoder.handle_unknown == "error":
                present = categories[~pd.isna(categories)].tolist()
                found = {x for x in present if isinstance(x, str) == text and x != ""}
                known.setdefault(i, set()).update(found)
    for i, place in _passed(steps, names):
        categories = estimator.encoder_.columns_[place].categories
        if columns[i].dtype == "string" and categories is not None:
            known.setdefault(i, set()).update(x for x in categories if isinstance(x, str) and x)
    return tuple(_with_known(column, known.get(i)) for i, column in enumerate(columns))


def _passed(steps: Pipeline, names: list[str]) -> Iterator[tuple[int, int]]:
    """Find the columns that a single ColumnTransformer passes on, and where in its output."""
    first = steps.steps[0][1]
    if len(steps.steps) > 1 or not isinstance(first, ColumnTransformer):
        return
    for name, part, columns in first.transformers_:
        identity = isinstance(part, FunctionTransformer) and part.func is None
        if part == "passthrough" or identity:
            places = first.output_indices_[name]
            positions = _positions(columns, names)
            yield from zip(positions, range(places.start, places.stop), strict=False)


def _with_known(column: bundle.Column, known: set[Any] | None) -> bundle.Column:
    if known is None:
        return column
    if column.dtype == "string":
        return replace(column, categories=tuple(sorted({*(column.categories or ()), *known})))
    numbers = np.unique(np.array(sorted(known), dtype=np.float64).astype(column.dtype))
    return replace(
        column, kind="category", categories=tuple(numbers.tolist()), minimum=None, maximum=None
    )


def _encoders(part: Any, names: list[str], positions: list[int]) -> Iterator[tuple[Any, list[int]]]:
    """Yield the encoders in a step that read raw columns, with the positions of the columns."""
    if isinstance(part, Pipeline):
        for _, step in part.steps:
            yield from _encoders(step, names, positions)
            if not _keeps_columns(step):
                return
    elif isinstance(part, FeatureUnion):
        for _, step in part.transformer_list:
            yield from _encoders(step, names, positions)
    elif isinstance(part, ColumnTransformer):
        inner = [names[i] for i in positions]
        for _, step, columns in part.transformers_:
            chosen = [positions[i] for i in _positions(columns, inner)]
            yield from _encoders(step, names, chosen)
    elif isinstance(part, OneHotEncoder | OrdinalEncoder) and len(part.categories_) == len(
        positions
    ):
        yield part, positions


def _positions(columns: Any, names: list[str]) -> list[int]:
    """Positions of a ColumnTransformer's columns; none if a slice of names selects them."""
    if isinstance(columns, slice):
        whole = all(isinstance(x, int | None) for x in (columns.start, columns.stop))
        return list(range(len(names)))[columns] if whole else []
    chosen = np.atleast_1d(np.asarray(columns, dtype=object)).tolist()
    if any(isinstance(one, bool | np.bool_) for one in chosen):  # a mask
        return np.flatnonzero(np.asarray(chosen, dtype=bool)).tolist()
    try:
        return [
            names.index(one) if isinstance(one, str) else range(len(names))[one] for one in chosen
        ]
    except (IndexError, TypeError, ValueError):
        return []


def _keeps_columns(step: Any) -> bool:
    """Whether a step passes columns and their categories on, so that encoders may follow."""
    if step is None or step == "passthrough":
        return True
    return isinstance(step, SimpleImputer) and not step.add_indicator
