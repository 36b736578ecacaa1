"""Refuse dates, times and durations, and say how to make numbers of them."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

# What pandas' infer_dtype calls the values of an object column, and what they are for a user.
INFERRED = {
    "date": "dates",
    "datetime": "dates",
    "datetime64": "dates",
    "period": "periods",
    "time": "times",
    "timedelta": "durations",
    "timedelta64": "durations",
}
KINDS = {nw.Date: "dates", nw.Datetime: "dates", nw.Time: "times", nw.Duration: "durations"}
# One line that makes numbers of them: days, or hours of a day.
PANDAS_LINES = {
    "dates": "(pd.to_datetime({X}, utc=True) - pd.Timestamp(0, tz='UTC')) / pd.Timedelta(days=1)",
    "periods": "({X}.dt.to_timestamp() - pd.Timestamp(0)) / pd.Timedelta(days=1)",
    "durations": "pd.to_timedelta({X}.astype(object)) / pd.Timedelta(days=1)",
    "times": "pd.to_timedelta({X}.astype(str)) / pd.Timedelta(hours=1)",
}
POLARS_LINES = {
    "dates": "pl.col({name}).dt.epoch('d')",
    "durations": "pl.col({name}).dt.total_seconds()",
    "times": "pl.col({name}).dt.hour()",
}


def refuse_dates(name: str, values: Any, *, category: bool = False, known: bool = False) -> None:
    """Raise if a column holds dates, times or durations; categories may be `known` already."""
    kind = kind_of(values)
    if kind is None:
        return
    dtype = column_dtype(values)
    if known:
        raise ValueError(
            f"Column {name!r} must hold the categories of training, got {kind} ({dtype}): "
            "make strings or numbers of them in the same way as for training."
        )
    more = ", or use skrub.DatetimeEncoder, which makes numbers of year, month, day and hour"
    strings = ", or make strings of them, which stay categories"
    raise ValueError(
        f"Columns must be numeric, bool, string or categorical, got {kind} ({dtype}) in "
        f"column {name!r}: make numbers of them, {_line(name, values, kind)}"
        f"{more if kind == 'dates' else ''}{strings if category else ''}."
    )


def refuse_date_arrays(X: Any) -> None:
    """Raise if an array holds dates, times or durations."""
    kind = getattr(getattr(X, "dtype", None), "kind", "")
    if kind in ("m", "M"):
        refuse_dates("x0", np.ravel(X)[:1])
    if kind == "O" and getattr(X, "ndim", 0) == 2:
        for i in range(X.shape[1]):
            refuse_dates(f"x{i}", X[:, i])


def kind_of(values: Any) -> str | None:
    """Return what a column holds, of those in `INFERRED`; None for anything else."""
    if isinstance(values, nw.Series):
        dtype = values.dtype
        native_dtype = getattr(values.to_native(), "dtype", None)
        if isinstance(native_dtype, pd.CategoricalDtype):  # not a dictionary of Arrow in pandas
            used = values.to_native().cat.remove_unused_categories().cat.categories
            return INFERRED.get(pd.api.types.infer_dtype(used)) if len(used) else None
        if dtype not in (nw.Object, nw.Unknown):
            kind = next((kind for of, kind in KINDS.items() if dtype == of), None)
            return None if kind and values.is_null().all() else kind  # nothing but missing values
        values = values.to_native() if values.implementation.is_pandas() else values.to_list()
    elif values.dtype.kind in "mM":
        return "dates" if values.dtype.kind == "M" else "durations"
    elif values.dtype != object:
        return None
    return INFERRED.get(pd.api.types.infer_dtype(values, skipna=True))


def column_dtype(values: Any) -> Any:
    """Return the dtype of a column as its own library calls it."""
    native = values.to_native() if isinstance(values, nw.Series) else values
    return native.dtype if hasattr(native, "dtype") else values.dtype  # Arrow has types


def _line(name: str, values: Any, kind: str) -> str:
    """Write the line, in the language of the table."""
    if not isinstance(values, nw.Series):
        column = f"pd.Series(X[:, {name[1:]}])"
        return f"for example {PANDAS_LINES[kind].format(X=column)}"
    implementation = values.implementation
    if implementation.is_polars() and kind in POLARS_LINES:
        return f"for example X = X.with_columns({POLARS_LINES[kind].format(name=repr(name))})"
    column = f"X[{name!r}]"
    line = f"{column} = {PANDAS_LINES[kind].format(X=column)}"
    return f"for example {line}" if implementation.is_pandas() else f"in pandas {line}"
