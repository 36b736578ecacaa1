"""Find the values that a bundle must refuse, by trying what the rows of X do not show.

The steps of a Pipeline, or their graph, may fail on missing values, unknown categories and numbers
beyond those of training, or predict something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import skmode_deploy
from skmode._common.quiet import hide_warnings
from skmode._common.sklearn import safe_indexing
from skmode.onnx._bundles.checks.parity import TOLERANCE, measure_differences
from skmode.onnx._bundles.columns import like_training
from skmode.onnx._bundles.parts import read_parts
from skmode_deploy import bundle
from skmode_deploy.running.random_rows import unseen_category
from skmode_deploy.samples import graph_inputs

# Rows to try, at least and at most; up to 128 columns have four rows each.
MIN_ROWS, MAX_ROWS = 32, 512
# Far from the rows of training, rounding to float32 shows more.
TOLERANCE_BEYOND = 1e-2
# How far beyond the numbers of training to try, in their ranges.
DISTANCES = (0.5, 2.0)
# Halvings of the distance to the first number that must be refused.
N_HALVINGS = 12


def find_refusals(
    predictor: skmode_deploy.Predictor, model: Any, X: Any
) -> tuple[bundle.Column, ...]:
    """Return the columns of a bundle with the values that they refuse."""
    columns = predictor.manifest.columns
    if not read_parts(
        model
    ).steps:  # the graph of the estimator itself takes what the estimator takes
        return tuple(replace(column, refuses=()) for column in columns)
    trial = _Trial(predictor, model, X)
    if not trial.agrees({}):
        return tuple(map(_refuse_unshown, columns))
    absent = {i: _missing(column) for i, column in enumerate(columns) if column.dtype != "int64"}
    # Encoders treat None and NaN as different categories, which a graph cannot.
    missing = {*trial.find_refused(absent), *trial.find_refused(absent, missing=np.nan)}
    unseen = trial.find_refused(
        {
            i: category
            for i, column in enumerate(columns)
            if column.kind == "category" and (category := unseen_category(column)) is not None
        }
    )
    lowest = trial.find_limits(-1)
    highest = trial.find_limits(1)
    return tuple(
        replace(
            column,
            refuses=("missing",) * (i in missing) + ("unseen",) * (i in unseen),
            lowest=lowest.get(i),
            highest=highest.get(i),
        )
        for i, column in enumerate(columns)
    )


def _missing(column: bundle.Column) -> Any:
    return "" if column.dtype == "string" else np.nan


def _refuse_unshown(column: bundle.Column) -> bundle.Column:
    """Refuse what X does not show, because it cannot be tried."""
    refuses = ("missing",) * (not column.has_missing)
    refuses += ("unseen",) * (column.categories is not None)
    return replace(column, refuses=refuses)


@dataclass
class _Trial:
    """Compares a bundle with its model on rows of X in which some values are replaced."""

    predictor: skmode_deploy.Predictor
    model: Any
    X: Any

    def __post_init__(self) -> None:
        manifest = self.predictor.manifest
        n_rows = int(np.clip(4 * len(manifest.columns), MIN_ROWS, MAX_ROWS))
        rows = np.linspace(0, len(self.X) - 1, n_rows).astype(int)
        feeds = graph_inputs(manifest, safe_indexing(self.X, rows))
        is_array = manifest.input == "array"
        self._cells: list[NDArray[Any]] = [
            feeds[column.input][:, i if is_array else 0]
            for i, column in enumerate(manifest.columns)
        ]

    def agrees(
        self, values: Mapping[int, Any], tolerance: float = TOLERANCE, missing: Any = None
    ) -> bool:
        """Whether model and graph agree on rows in which columns have other values, in turn."""
        cells = list(self._cells)
        step = min(max(len(values), 1), len(cells[0]))
        for k, (i, value) in enumerate(values.items()):
            cells[i] = cells[i].copy()
            cells[i][k % step :: step] = value
        manifest = self.predictor.manifest
        try:
            with hide_warnings():
                rows = like_training(manifest, cells, self.X, missing)
                found = measure_differences(self.predictor, self.model, rows, manifest.routing)
        except Exception:  # a step may raise anything
            return False
        return found.largest <= tolerance and not found.clear_labels

    def find_refused(
        self, values: Mapping[int, Any], tolerance: float = TOLERANCE, missing: Any = None
    ) -> list[int]:
        """Find the columns on whose values model and graph do not agree, by halving."""
        if not values or self.agrees(values, tolerance, missing):
            return []
        columns = list(values)
        if len(columns) == 1:
            return columns
        half = len(columns) // 2
        parts = ({i: values[i] for i in part} for part in (columns[:half], columns[half:]))
        return [i for part in parts for i in self.find_refused(part, tolerance, missing)]

    def find_limits(self, side: int) -> dict[int, float]:
        """Find the last number below (-1) or above (1) those of training that is predicted well."""
        limits: dict[int, float] = {}
        edges = {
            i: (column.minimum if side < 0 else column.maximum, column.maximum - column.minimum)
            for i, column in enumerate(self.predictor.manifest.columns)
            if column.minimum is not None and column.maximum is not None
        }
        for distance in (None, *DISTANCES):
            values = {}
            for i, (edge, span) in edges.items():
                # Zero first, because logarithms and reciprocals end there.
                value = 0.0 if distance is None else edge + side * distance * (span or abs(edge))
                if i not in limits and side * value > side * edge and np.isfinite(value):
                    values[i] = value
            for i in self.find_refused(values, TOLERANCE_BEYOND):
                limits[i] = self._halve(i, edges[i][0], values[i])
        return limits

    def _halve(self, i: int, good: float, bad: float) -> float:
        for _ in range(N_HALVINGS):
            middle = good / 2 + bad / 2
            if self.agrees({i: middle}, TOLERANCE_BEYOND):
                good = middle
            else:
                bad = middle
        return float(good)
