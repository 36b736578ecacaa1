"""Targets and soft targets: classes or values, a teacher's probabilities or values."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skmode._common.predictions import check_distance, read_soft_targets
from skmode._encoding.labels import (
    check_labels,
    positions_of_labels,
    weights_of_classes,
)
from skmode._encoding.tables.arrays import refuse_masked
from skmode._encoding.tables.warning import warn_user
from skmode._estimators.rows.lessons import LearnsFromTeachers
from skmode._estimators.rows.predictions import read_probabilities, read_values
from skmode._training.rows import Rows


class ClassTargets(LearnsFromTeachers):
    """Labels become positions, probabilities their logarithms; class weights apply to both."""

    class_weight: Any
    classes_: NDArray[Any]

    def _check_target(self, y: Any, name: str) -> NDArray[Any]:
        refuse_masked(y, name, "leave out these rows")
        if isinstance(y, list | tuple):  # of which numpy makes strings, NaN too
            check_labels(y, name)
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        check_labels(labels, name)
        check_classification_targets(labels)
        return labels

    def _target_weight(
        self, y: NDArray[Any], trained: NDArray[Any], trained_weight: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return weights_of_classes(self.class_weight, y, trained, trained_weight)

    def _fit_target(self, y: NDArray[Any], sample_weight: NDArray[np.float64]) -> None:
        announced = getattr(self, "_announced_classes", None)
        self.classes_ = np.unique(y) if announced is None else announced

    def _encode_target(self, y: NDArray[Any], name: str) -> NDArray[Any]:
        return positions_of_labels(self.classes_, y, name)

    @property
    def _classifies(self) -> bool:
        return True

    @property
    def _cure_of_teacher(self) -> str:
        cure = "calibrate it, with min_samples_leaf=5 in a forest or CalibratedClassifierCV"
        return f"{cure}; or pass a number such as 0.5 as teacher_weight"

    def _predict_soft(self, model: Any, X: Any, who: str) -> NDArray[np.float64]:
        return read_probabilities(model, X, self.classes_, who)

    def _read_soft_targets(self, given: Any, n_rows: int, name: str) -> NDArray[np.float64]:
        return read_soft_targets(given, n_rows, classes=self.classes_, name=name)

    def _class_factors(
        self, trained: NDArray[Any], trained_weight: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        if self.class_weight is None:
            return None
        factors: NDArray[np.float64] = self._target_weight(self.classes_, trained, trained_weight)
        return factors

    def _encode_soft(
        self, soft: NDArray[np.float64], factors: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        row_weight = np.ones(len(soft))
        if factors is not None:  # as if each row came once with each class
            soft = soft * factors
            row_weight = soft.sum(axis=1)
            soft = soft / np.where(row_weight > 0, row_weight, 1)[:, None]
        # The smallest number of float32, whose logarithm is finite.
        return np.log(soft.clip(np.finfo(np.float32).tiny)), row_weight


# How libraries begin the names of types of dates and times.
TIMES = ("date", "time", "duration", "period")


def read_targets(y: Any, name: str, estimator: Any) -> NDArray[np.float64]:
    """Make float64 of a regressor's targets; scikit-learn's errors name neither row nor cure."""
    refuse_masked(y, name, "leave out these rows")
    times = next((str(each) for each in _types_of(y) if str(each).lower().startswith(TIMES)), None)
    if times is not None:  # numpy would count their days or nanoseconds
        raise ValueError(
            f"The targets of a regressor must be numbers, got {name} of {times}: make numbers of "
            "dates and times, such as days since a fixed date."
        )
    try:
        target: NDArray[np.float64] = check_array(
            y, ensure_2d=False, dtype=np.float64, input_name=name, estimator=estimator
        )
    except (TypeError, ValueError) as error:
        reason = str(error)
        if reason.startswith(("could not convert string to float", "float() argument must be")):
            raise ValueError(
                f"The targets of a regressor must be numbers, but reading {name} failed "
                f"({reason}): convert it, or fit a classifier, whose labels may be strings."
            ) from None
        if np.ndim(y) and reason.startswith(f"Input {name} contains NaN"):
            values = check_array(y, ensure_2d=False, dtype=np.float64, ensure_all_finite=False)
            row = np.isnan(values.reshape(len(values), -1)).any(axis=1).argmax()
            raise ValueError(
                f"Input {name} contains NaN. Every row needs a target, got none in row {row}: "
                "drop such rows, or give them a target."
            ) from None
        raise
    return target


def mean_and_deviation(
    values: NDArray[np.float64], sample_weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and standard deviation of each column, `(n_rows, n_columns)`."""
    mean = np.average(values, axis=0, weights=sample_weight)
    return mean, np.average((values - mean) ** 2, axis=0, weights=sample_weight) ** 0.5


def _types_of(y: Any) -> list[Any]:
    """Types of a Series or array, or of the columns of a table, of any library."""
    columns = getattr(y, "dtypes", None)
    of_arrow = getattr(getattr(y, "schema", None), "types", None)
    own = [getattr(y, "dtype", None), getattr(y, "type", None)]
    return own + [each for found in (columns, of_arrow) if np.iterable(found) for each in found]


# How far the share of the targets below a teacher's predictions may be from the level of the loss,
# beside two standard errors.
LEVEL_TOLERANCE = 0.05


def _pass_quantile(level: float) -> str:
    return (
        "pass one of this quantile, such as HistGradientBoostingRegressor(loss='quantile', "
        f"quantile={level:g})"
    )


class ValueTargets(LearnsFromTeachers):
    """A teacher's values are scaled as the targets are."""

    loss: str
    quantile: float
    n_outputs_: int
    target_mean_: NDArray[np.float64]
    target_scale_: NDArray[np.float64]
    _target_names: list[Any] | None = None  # of the columns of y

    @property
    def _classifies(self) -> bool:
        return False

    @property
    def _cure_of_teacher(self) -> str:
        if self.loss == "quantile":  # one that predicts the mean is no better with a fixed weight
            return _pass_quantile(self.quantile)
        return "improve it; or pass a number such as 0.5 as teacher_weight"

    def _predict_soft(self, model: Any, X: Any, who: str) -> NDArray[np.float64]:
        values = read_values(model, X, self.n_outputs_, who, self._target_names)
        return check_distance(values, self.target_mean_, self.target_scale_, who)

    def _read_soft_targets(self, given: Any, n_rows: int, name: str) -> NDArray[np.float64]:
        names = self._target_names
        values = read_soft_targets(given, n_rows, n_outputs=self.n_outputs_, names=names, name=name)
        return check_distance(values, self.target_mean_, self.target_scale_, name)

    def _warn_of_level(self, rows: Rows) -> None:
        level = {"quantile": self.quantile, "absolute_error": 0.5}.get(self.loss)
        assert rows.soft_target is not None
        assert rows.soft_weight is not None
        taught = rows.soft_weight > 0
        if level is None or not taught.any():
            return
        above = (rows.soft_target - rows.target)[taught]
        low, high = (each.double().mean().item() for each in (above > 0, above >= 0))
        allowed = LEVEL_TOLERANCE + 2 * math.sqrt(level * (1 - level) / int(taught.sum()))
        if low - allowed <= level <= high + allowed:
            return
        warn_user(
            f"With loss={self.loss!r} a teacher must predict the quantile {level:g}, but "
            f"{', '.join(self.teacher_names_)} has {low:.0%} of the targets below its predictions: "
            f'{_pass_quantile(level)}, or set teacher_weight="auto", which compares the losses.'
        )

    def _encode_soft(
        self, soft: NDArray[np.float64], factors: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return (soft - self.target_mean_) / self.target_scale_, np.ones(len(soft))
