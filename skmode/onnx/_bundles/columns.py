"""The raw columns of a table or an array: types, known categories, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skmode.onnx._graphs.columns import ARRAY_INPUT
from skmode_deploy import bundle


def read_columns(X: Any) -> tuple[tuple[bundle.Column, ...], bool]:
    """Describe the columns of a table or an array."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        names = [str(name) for name in frame.columns]
        if "" in names:
            raise ValueError(
                "The columns of a table for a Pipeline must have names, got '' for column "
                f"{names.index('')}: rename it before fit."
            )
        inputs = bundle.input_names(names)
        return tuple(map(_read_column, names, inputs, frame.iter_columns())), True
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            "X must be a table or an array of numbers of shape (n_samples, n_features), got "
            f"shape {array.shape} of type {array.dtype}: fit on a DataFrame and pass it."
        )
    return tuple(
        _number_column(f"x{i}", ARRAY_INPUT, array[:, i], "float32") for i in range(array.shape[1])
    ), False


def _read_column(name: str, input_name: str, values: Any) -> bundle.Column:
    converted = _to_array(name, values)
    if converted.dtype == object:
        known = tuple(sorted({value for value in converted if value}))
        has_missing = any(not value for value in converted)
        return bundle.Column(name, input_name, "category", "string", known, has_missing)
    dtype: Literal["float32", "float64"] = "float64"
    if values.dtype == nw.Float32:
        dtype = "float32"
    return _number_column(name, input_name, converted, dtype)


def _number_column(
    name: str, input_name: str, values: NDArray[Any], dtype: Literal["float32", "float64"]
) -> bundle.Column:
    numbers = values.astype(np.float64)
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (None, None)
    has_missing = len(known) < len(numbers)
    return bundle.Column(name, input_name, "number", dtype, None, has_missing, low, high)


def _to_array(name: str, values: Any) -> NDArray[Any]:
    """Convert numbers to float64 and strings to objects; missing ones become NaN and ``""``."""
    if values.dtype.is_numeric() or values.dtype == nw.Boolean:
        numbers: NDArray[Any] = values.cast(nw.Float64).to_numpy().astype(np.float64)
        return numbers
    objects = np.empty(len(values), dtype=object)
    objects[:] = values.to_list()
    objects[pd.isna(objects)] = None
    known = [value for value in objects if value is not None]
    if known and all(isinstance(value, str) for value in known):
        objects[[value is None for value in objects]] = ""
        return objects
    if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in known):
        return objects.astype(np.float64)
    raise TypeError(
        f"Columns must hold numbers or strings, got column {name!r} of type {values.dtype}: "
        "convert it before the pipeline, for example a date to a number of days."
    )


def like_training(
    manifest: bundle.Manifest, columns: Sequence[NDArray[Any]], X: Any, missing: Any = None
) -> Any:
    """Put columns, as a graph reads them, into a table or array like that of training.

    Missing strings are those of `X`, or `missing` where it has none.
    """
    if manifest.input == "array":
        return np.column_stack(columns)
    if not manifest.from_table:
        # As objects, because some columns may be strings.
        return np.column_stack([column.astype(object) for column in columns])
    table = nw.from_native(X, eager_only=True, pass_through=True)
    # Other libraries have no columns whose cells are arrays.
    only_pandas = bool(manifest.image_columns)
    if not isinstance(table, nw.DataFrame) or (
        only_pandas and not table.implementation.is_pandas()
    ):
        names = [column.name for column in manifest.columns]
        return pd.DataFrame(dict(zip(names, map(_with_none, columns), strict=True)))
    pairs = zip(table.iter_columns(), columns, strict=True)
    typed = [
        new if column.kind == "image" else _column_like(old, new, missing)
        for column, (old, new) in zip(manifest.columns, pairs, strict=True)
    ]
    if table.implementation.is_pandas():
        frame = pd.DataFrame(dict(enumerate(typed)))
        frame.columns = X.columns  # names need not be strings
        return frame
    # From lists: numpy's strings would become columns of objects.
    data = {name: values.tolist() for name, values in zip(table.columns, typed, strict=True)}
    return nw.from_dict(data, backend=table.implementation).to_native()


def _column_like(old: Any, new: NDArray[Any], default: Any) -> Any:
    """Convert a made-up column to the integers, bools or missing strings of the training column."""
    if new.dtype == object:
        values = old.to_native()
        if not old.implementation.is_pandas():
            default = None  # other tables have no NaN among strings
        missing = next((value for value in old.to_list() if _is_missing(value)), default)
        filled = np.array([missing if value == "" else value for value in new], dtype=object)
        if old.implementation.is_pandas():
            # As a Series: pandas would turn an array of objects into strings, and None into NaN.
            kind = values.dtype if old.dtype == nw.String else object
            return pd.Series(filled, dtype=kind)
        return filled
    if np.isnan(new).any():
        return new
    if old.dtype == nw.Boolean:
        return new >= 0.5
    if old.dtype.is_integer():
        return np.round(new).astype(np.int64)
    return new


def _with_none(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != object:
        return values
    cells = np.empty(len(values), dtype=object)
    cells[:] = [None if isinstance(value, str) and not value else value for value in values]
    return cells


def _is_missing(value: Any) -> bool:
    return bool(pd.isna(value))
