"""Two dimensions of a table: two of its columns, or two principal components."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

from skmode.inspection._plot import style
from skmode.inspection._plot.labels import labels

Array = NDArray[Any]


class Projection:
    """Two dimensions of a table: places of its rows, and rows for places."""

    points: Array  # places of the rows, (n_samples, 2)
    labels: tuple[str, str]
    has_others: bool  # whether rows have further columns, which a place says nothing about

    def rows(self, places: Array, row: int) -> Any:
        """Return rows at places (n, 2) that equal a row of the table in all other columns."""
        raise NotImplementedError


class _TwoColumns(Projection):
    """Two columns of a table, which may have others."""

    def __init__(self, X: Any, first: int, second: int) -> None:
        self.frame = _frame(X)
        self.is_table = self.frame is not None
        names = list(self.frame.columns) if self.is_table else None
        self.X = X if self.is_table else np.asarray(X)
        self.pair = (first, second)
        self.has_others = (self.X.shape[1] if names is None else len(names)) > 2
        titles = [f"x{i}" if names is None else names[i] for i in self.pair]
        self.labels = tuple(labels(titles, style.MAX_NAME_LENGTH))  # type: ignore[assignment]
        try:
            self.points = np.column_stack([self._column(i) for i in self.pair]).astype(float)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"features must be two number columns, got {titles} ({error}): choose others."
            ) from None
        if not np.isfinite(self.points).all():
            raise ValueError(
                f"The columns to draw must have no missing values, got some in {titles}: choose "
                "other features, or leave out these rows."
            )

    def _column(self, i: int) -> Any:
        if not self.is_table:
            return self.X[:, i]
        return self.frame[:, i].to_numpy()

    def rows(self, places: Array, row: int) -> Any:
        """Repeat a row, in the type of the table, with other values in the two columns."""
        index = np.full(len(places), row)
        if not self.is_table:
            table = self.X[index]
            table = table if table.dtype == object else table.astype(float)
            table[:, list(self.pair)] = places
            return table
        native = self.frame.to_native()
        if isinstance(native, pd.DataFrame):
            table = native.iloc[index].reset_index(drop=True)
            for position, values in zip(self.pair, places.T, strict=True):
                table.isetitem(position, values)
            return table
        made = [
            nw.new_series(self.frame.columns[i], values, backend=self.frame.implementation)
            for i, values in zip(self.pair, places.T, strict=True)
        ]
        return self.frame[index.tolist()].with_columns(*made).to_native()


class _Components(Projection):
    """The plane of the first two principal components, which gives all columns a value."""

    has_others = False

    def __init__(self, X: Any) -> None:
        frame = _frame(X)
        self.columns = None if frame is None else list(frame.columns)
        self.native = X
        try:
            numbers = np.asarray(X if frame is None else frame.to_numpy(), dtype=float)
            numbers = check_array(numbers)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Principal components need numbers without missing values in all columns, got "
                f"other values ({error}): name two number columns in features."
            ) from None
        if len(numbers) < 2:
            raise ValueError(
                "X must have at least two rows for principal components, got one: pass more, or "
                "name two number columns in features."
            )
        self.map = make_pipeline(StandardScaler(), PCA(2, random_state=0))
        self.points = self.map.fit_transform(numbers)
        first, second = self.map[-1].explained_variance_ratio_
        # A no-break space keeps number and unit on one line.
        self.labels = (
            f"first principal component ({100 * first:.0f}\u00a0% of the variance)",
            f"second principal component ({100 * second:.0f}\u00a0% of the variance)",
        )

    def rows(self, places: Array, row: int) -> Any:
        """Return rows in the plane itself, in the type of the table."""
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


def find_projection(X: Any, features: Any) -> Projection:
    """Choose two named columns, the only two columns, or two principal components."""
    frame = _frame(X)
    names = list(frame.columns) if frame is not None else None
    n_columns = len(names) if names is not None else np.asarray(X).shape[1]
    if features is None:
        if n_columns == 2:
            return _TwoColumns(X, 0, 1)
        if n_columns < 2:
            raise ValueError(f"A map needs at least two columns, got {n_columns}: add a column.")
        return _Components(X)
    wanted = f"choose from {names if names is not None else f'0 to {n_columns - 1}'}."
    if isinstance(features, str) or not isinstance(features, Iterable):
        raise ValueError(
            f"features must be two of the columns, by position or name, got {features!r}: {wanted}"
        )
    features = list(features)
    positions = [
        names.index(feature) if names is not None and feature in names else feature
        for feature in features
    ]
    valid = [
        isinstance(position, int | np.integer) and 0 <= position < n_columns
        for position in positions
    ]
    if not (len(positions) == 2 and all(valid) and positions[0] != positions[1]):
        raise ValueError(
            f"features must be two of the columns, by position or name, got {features!r}: {wanted}"
        )
    return _TwoColumns(X, int(positions[0]), int(positions[1]))


def _frame(X: Any) -> Any:
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame) else None
