"""The categories that the fitted encoders of a Pipeline know, for each raw column."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder


def known_categories(steps: Pipeline, estimator: Any) -> dict[str, set[str]]:
    """Collect the categories of training from the encoders that read raw columns of a table, and
    from the estimator for columns that are passed to it.
    """
    known: dict[str, set[str]] = {}
    for encoder, names in _encoders(steps.steps[0][1]):
        for name, categories in zip(names, encoder.categories_, strict=True):
            known.setdefault(name, set()).update(_strings(categories))
    if len(steps.steps) == 1:
        for name, position in _passed(steps.steps[0][1]):
            categories = estimator.encoder_.columns_[position].categories
            if categories is not None:
                known.setdefault(name, set()).update(_strings(categories))
    return known


def _strings(categories: Any) -> set[str]:
    return {value for value in categories if isinstance(value, str) and value}


def _passed(first: Any) -> Iterator[tuple[str, int]]:
    """Find the columns that a ColumnTransformer passes on, with their positions in its output."""
    if not isinstance(first, ColumnTransformer):
        return
    names = [str(name) for name in getattr(first, "feature_names_in_", ())]
    for part_name, part, columns in first.transformers_:
        identity = isinstance(part, FunctionTransformer) and part.func is None
        if part == "passthrough" or identity:
            places = range(first.output_indices_[part_name].start, sys.maxsize)
            yield from zip(_names(columns, names), places, strict=False)


def _encoders(first: Any) -> Iterator[tuple[Any, list[str]]]:
    names = [str(name) for name in getattr(first, "feature_names_in_", ())]
    parts = [(first, names)]
    if isinstance(first, ColumnTransformer):
        parts = [(part, _names(columns, names)) for _, part, columns in first.transformers_]
    for part, columns in parts:
        encoder = _last_behind_imputers(part)
        known = isinstance(encoder, OneHotEncoder | OrdinalEncoder)
        if known and len(encoder.categories_) == len(columns):
            yield encoder, columns


def _names(columns: Any, names: list[str]) -> list[str]:
    """Names of a ColumnTransformer's columns; none if a callable or slice selects them."""
    if isinstance(columns, str):
        return [columns]
    if any(isinstance(one, bool | np.bool_) for one in np.atleast_1d(columns)):  # a mask
        return [name for name, chosen in zip(names, columns, strict=True) if chosen]
    try:
        return [one if isinstance(one, str) else names[one] for one in columns]
    except (IndexError, TypeError):
        return []


def _last_behind_imputers(part: Any) -> Any:
    """Get the last step, or None unless the steps before it keep the columns and categories."""
    if not isinstance(part, Pipeline):
        return part
    for _, step in part.steps[:-1]:
        plain = isinstance(step, SimpleImputer) and not step.add_indicator
        if not plain or step.strategy == "constant":
            return None
    return part.steps[-1][1]
