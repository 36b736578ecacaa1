"""What the first pass learns of targets and weights, and how the second one encodes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode._common.batches import to_numpy
from skmode._encoding.labels import positions_of_labels
from skmode._encoding.tables import without_outliers
from skmode._encoding.tables.batches import RESERVOIR_ROWS, Reservoir, factorize, read_numbers
from skmode._estimators.rows.targets import mean_and_deviation


class Moments:
    """Weighted mean and sum of squares of columns, added up block by block.

    The formulas are those of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
    for Computing Sample Variances", 1979.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        """Add rows, `(n_rows, n_columns)`."""
        total = float(weight.sum())
        if not total:
            return
        mean = np.average(values, axis=0, weights=weight)
        squares = weight @ (values - mean) ** 2
        both = self.weight + total
        distance = mean - self.mean
        self.squares = self.squares + squares + distance**2 * (self.weight * total / both)
        self.mean = self.mean + distance * (total / both)
        self.weight = both


class Classes:
    """Counts the classes of a classifier.

    Attributes
    ----------
    n_rows : ndarray of int64
        Rows with a weight, of each class; after :meth:`finish`.
    """

    def __init__(self, estimator: Any, names: list[str]) -> None:
        if len(names) > 1:
            raise ValueError(
                f"A classifier has one target, got {names}: name one column as target."
            )
        self.estimator = estimator
        self.name = names[0]
        self._counts: dict[Any, NDArray[np.float64]] = {}
        self._dtypes: set[np.dtype[Any]] = set()

    def read(self, columns: list[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Check labels, and return the distinct ones and the position of each row's."""
        distinct, positions = factorize(columns[0])
        labels = to_numpy(distinct)
        if (positions == len(distinct)).any() or _has_nan(labels):
            raise ValueError(
                f"Every row needs a label, got none in column {self.name!r}: drop such rows, or "
                "give them a label."
            )
        # Twice each: scikit-learn takes labels that come once for values, and warns.
        return self.estimator._check_target(np.repeat(labels, 2), "y")[::2], positions

    def learn(self, read: Any, weight: NDArray[np.float64]) -> None:
        """Count the labels of a block."""
        labels, positions = read
        counts = np.bincount(positions[weight > 0], minlength=len(labels))
        totals = np.bincount(positions, weight, minlength=len(labels))
        for label, *found in zip(labels.tolist(), counts, totals, strict=True):
            before = self._counts.get(label)
            self._counts[label] = np.array(found) + (0 if before is None else before)
        self._dtypes.add(labels.dtype)

    def finish(self, *, first: bool) -> None:
        """Learn the classes, or check that they are those of the first fit."""
        estimator = self.estimator
        kinds = {isinstance(label, str) for label in self._counts}
        if len(kinds) > 1:
            raise ValueError(
                f"Labels must be uniformly strings or numbers, got {list(self._counts)[:10]} in "
                f"column {self.name!r}: convert them."
            )
        # Files may have numbers of several widths.
        labels = np.array(list(self._counts), dtype=np.result_type(*self._dtypes))
        found = np.array(list(self._counts.values()))
        if first:
            estimator._fit_target(labels, found[:, 1])
        positions = positions_of_labels(estimator.classes_, labels, "y")
        by_class = np.zeros((len(estimator.classes_), 2))
        by_class[positions] = found
        self.n_rows, self.weight = by_class[:, 0].astype(np.int64), by_class[:, 1]

    def factors(self) -> NDArray[np.float64]:
        """The weight of each class."""
        labels, weight = self.trained
        weighted = self.estimator._weigh(labels, labels, weight, (labels, weight))[2]
        factors = np.ones(len(self.weight))
        factors[self.weight > 0] = weighted / weight
        return factors

    @property
    def trained(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The classes with a weight, and their weights."""
        known = self.weight > 0
        return self.estimator.classes_[known], self.weight[known]

    def encode(self, columns: list[Any]) -> NDArray[np.int64]:
        """Positions of the rows' classes."""
        labels, positions = self.read(columns)
        return positions_of_labels(self.estimator.classes_, labels, "y")[positions]

    def strata(self, encoded: NDArray[np.int64]) -> NDArray[np.int64]:
        """Groups that validation rows are drawn from alike: the classes."""
        return encoded


class Values:
    """Means and deviations of a regressor's targets."""

    def __init__(self, estimator: Any, names: list[str], *, single: bool) -> None:
        self.estimator, self.names, self.single = estimator, names, single
        self._moments = Moments()
        self._n_rows = 0
        # A loss that shall not care for outliers needs the quartiles, which moments cannot tell.
        drawn = names if estimator.loss != "squared_error" else []
        self._drawn = [Reservoir(name, RESERVOIR_ROWS) for name in drawn]
        self._rng = np.random.default_rng(0)

    def read(self, columns: list[Any]) -> NDArray[np.float64]:
        """Check values, `(n_rows, n_targets)`."""
        pairs = zip(self.names, columns, strict=True)
        values = np.column_stack([read_numbers(*pair) for pair in pairs])
        for name, column in zip(self.names, values.T, strict=True):
            if np.isnan(column).any():
                raise ValueError(
                    f"Every row needs a target, got NaN or none in column {name!r}: drop such "
                    "rows, or give them a value."
                )
        self.estimator._check_largest(values)
        return values

    def learn(self, read: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        """Add the values of a block."""
        kept = weight > 0
        if kept.any():
            self._moments.add(read[kept], weight[kept])
            self._n_rows += int(kept.sum())
            keys = self._rng.random(int(kept.sum()))
            for values, reservoir in zip(read[kept].T, self._drawn, strict=False):
                reservoir.learn(values, keys, weight[kept])

    def finish(self, *, first: bool) -> None:
        """Learn the scale of the targets, or check their number."""
        if first:
            self.estimator._scale_target(1 if self.single else 2, *self._scale())
        self.n_rows = np.array([self._n_rows])
        self.weight = np.array([self._moments.weight])

    def _scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of each target."""
        moments = self._moments
        if not self._drawn:
            return moments.mean, np.sqrt(moments.squares / moments.weight)
        columns, weights = zip(*(each.drawn() for each in self._drawn), strict=True)
        return mean_and_deviation(
            without_outliers(np.column_stack(columns), weights[0]), weights[0]
        )

    def factors(self) -> NDArray[np.float64]:
        """One: targets have no weights."""
        return np.ones(1)

    @property
    def trained(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Nothing that weights would depend on."""
        return np.empty(0), np.empty(0)

    def encode(self, columns: list[Any]) -> NDArray[np.float64]:
        """Scale the values."""
        encoded: NDArray[np.float64] = self.estimator._encode_target(self.read(columns), "y")
        return encoded

    def strata(self, encoded: NDArray[np.float64]) -> NDArray[np.int64]:
        """One group for all."""
        return np.zeros(len(encoded), dtype=np.int64)


def read_weight(name: str, values: Any) -> NDArray[np.float64]:
    """Check weights."""
    weight = read_numbers(name, values)
    if not (weight >= 0).all():
        raise ValueError(
            f"Weights must be numbers, zero or more, got {weight[~(weight >= 0)][0]:g} in column "
            f"{name!r}: correct the weights."
        )
    return weight


def _has_nan(labels: NDArray[Any]) -> bool:
    return labels.dtype.kind == "f" and bool(np.isnan(labels).any())
