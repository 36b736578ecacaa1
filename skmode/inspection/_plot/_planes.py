"""Two dimensions of a table: two of its columns, or two principal components."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

Array = NDArray[Any]


class Plane:
    """Two dimensions of a table: places of its rows, and rows for places."""

    points: Array
    labels: tuple[str, str]

    def rows(self, places: Array) -> Any:
        raise NotImplementedError


class _TwoColumns(Plane):
    """Two columns; the others have their median or most frequent value."""

    def __init__(self, X: Any, first: int, second: int) -> None:
        self.frame = _frame(X)
        self.is_table = self.frame is not None
        names = list(self.frame.columns) if self.is_table else None
        self.X = X if self.is_table else np.asarray(X)
        self.pair = (first, second)
        self.labels = tuple(f"x{i}" if names is None else names[i] for i in self.pair)  # type: ignore[assignment]
        try:
            self.points = np.column_stack([self._column(i) for i in self.pair]).astype(float)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"features must be two number columns, got {list(self.labels)} ({error}): choose "
                "others."
            ) from None
        if not np.isfinite(self.points).all():
            raise ValueError(
                f"The columns to draw must have no missing values, got some in "
                f"{list(self.labels)}: choose other features, or rows without."
            )

    def _column(self, i: int) -> Any:
        if not self.is_table:
            return self.X[:, i]
        return self.frame[:, i].to_numpy()

    def rows(self, places: Array) -> Any:
        """A table of the kind that was given."""
        if not self.is_table:
            middle = pd.DataFrame(self.X)
            filled = np.tile([_typical(middle[i]) for i in middle], (len(places), 1))
            filled = filled.astype(self.X.dtype) if self.X.dtype == object else filled
            filled[:, list(self.pair)] = places
            return filled
        native = self.frame.to_native()
        typical = native if isinstance(native, pd.DataFrame) else self.frame.to_pandas()
        columns = {}
        for i, name in enumerate(typical.columns):
            column = typical.iloc[:, i]
            if i in self.pair:
                columns[name] = pd.Series(places[:, self.pair.index(i)])
            else:
                columns[name] = pd.Series([_typical(column)] * len(places), dtype=column.dtype)
        table = pd.DataFrame(columns)
        if isinstance(native, pd.DataFrame):
            return table
        schema = {
            name: kind
            for i, (name, kind) in enumerate(self.frame.schema.items())
            if i not in self.pair
        }
        made = nw.from_dict(
            {name: table[name].tolist() for name in table}, backend=self.frame.implementation
        )
        return made.with_columns(
            nw.col(name).cast(kind) for name, kind in schema.items()
        ).to_native()


class _Components(Plane):
    """The plane of the first two principal components."""

    def __init__(self, X: Any) -> None:
        frame = _frame(X)
        self.columns = None if frame is None else list(frame.columns)
        self.native = X
        try:
            numbers = np.asarray(X if frame is None else frame.to_numpy(), dtype=float)
            numbers = check_array(numbers)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Principal components need numbers without missing values in all columns, and X "
                f"has others ({error}): name two number columns in features."
            ) from None
        self.map = make_pipeline(StandardScaler(), PCA(2, random_state=0))
        self.points = self.map.fit_transform(numbers)
        first, second = self.map[-1].explained_variance_ratio_
        self.labels = (
            f"first principal component ({100 * first:.0f} % of the variance)",
            f"second principal component ({100 * second:.0f} % of the variance)",
        )

    def rows(self, places: Array) -> Any:
        """A table of the kind that was given."""
        numbers = self.map.inverse_transform(places)
        if self.columns is None:
            return numbers
        if isinstance(self.native, pd.DataFrame):
            return pd.DataFrame(numbers, columns=self.columns)
        frame = _frame(self.native)
        assert frame is not None
        return nw.from_dict(
            {name: numbers[:, i] for i, name in enumerate(self.columns)},
            backend=frame.implementation,
        ).to_native()


def find_plane(X: Any, features: Any) -> Plane:
    frame = _frame(X)
    names = list(frame.columns) if frame is not None else None
    n_columns = len(names) if names is not None else np.asarray(X).shape[1]
    if features is None:
        if n_columns == 2:
            return _TwoColumns(X, 0, 1)
        if n_columns < 2:
            raise ValueError(f"X must have two columns or more, got {n_columns}: there is no map.")
        return _Components(X)
    features = list(features)
    positions = [
        names.index(feature) if names is not None and feature in names else feature
        for feature in features
    ]
    valid = [
        isinstance(position, int | np.integer) and 0 <= position < n_columns
        for position in positions
    ]
    if len(set(positions)) != 2 or not all(valid):
        raise ValueError(
            f"features must be two of the columns, by position or name, got {features!r}: choose "
            f"from {names if names is not None else f'0 to {n_columns - 1}'}."
        )
    return _TwoColumns(X, int(positions[0]), int(positions[1]))


def _frame(X: Any) -> Any:
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame) else None


def _typical(column: pd.Series) -> Any:
    """Median of numbers, most frequent value of what else there is."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        middle = column.median()
        whole = pd.api.types.is_integer_dtype(column)
        return round(middle) if whole and not pd.isna(middle) else middle
    common = column.mode()
    return common.iloc[0] if len(common) else None
