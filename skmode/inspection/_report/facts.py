"""Everything that a report says, as one object that its other parts read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skmode.inspection._attention import ExpertAttention
from skmode.inspection._evaluation.forward import Outputs
from skmode.inspection._evaluation.measures import Judgement
from skmode.inspection._evaluation.targets import Target
from skmode.inspection._history import GateHistory
from skmode.inspection._probing import ExpertProbing
from skmode.inspection._report.intervals import Interval

Array = NDArray[Any]

# Domains with fewer rows are not compared, and a finding warns of their figures.
MIN_ROWS = 30


class BeatenExpert(NamedTuple):
    """An expert, and another one that is better on its rows."""

    domain: int  # the expert whose rows they are
    other: int  # the better one
    loss: Interval  # how much better, in the metric of the report


class Teacher(NamedTuple):
    """A teacher's predictions of the rows, and how little sure the top expert of each row is."""

    predicted: Array  # positions of classes (n_samples,), or values (n_samples, n_outputs)
    doubt: Array  # one minus the largest probability, or the spread of the experts, (n_samples,)


class Columns(NamedTuple):
    """Columns of the rows; each array has one entry per column unless it says otherwise."""

    names: list[Any]
    numeric: Array  # bool
    distinct: Array  # number of different values of numeric columns, 0 for others
    missing: Array  # bool (n_samples, n_features)
    is_table: bool  # whether the columns have names of their own


@dataclass(frozen=True, eq=False)
class Facts:
    """What was measured: scores are accuracies, or root mean squared errors in units of y.

    A loss is positive where the first named is the worse one.
    """

    estimator: Any  # as it was passed
    mixture: Any  # the mixture inside it
    steps: list[str]  # names of the classes from the estimator down to the mixture
    X: Any  # the rows that attention and map were measured on
    part_weight: Array  # weights of these
    columns: Columns  # of all rows
    outputs: Outputs
    target: Target
    judgement: Judgement
    probing: ExpertProbing
    alone: Array  # score of each expert alone on all rows, (n_experts,)
    baseline: float  # score of the best constant prediction
    constant_loss: Interval  # of that prediction against the mixture
    top_loss: Interval  # of the top expert alone against the mixture
    single_loss: Interval  # of the best single expert for all rows against the top experts
    chance_recognition: float  # gate recognition accuracy of a gate that chooses at random
    gate_gain: Interval | None  # of the gate over choosing at random; None if no expert is right
    beaten: list[BeatenExpert]
    attention: ExpertAttention  # by permutation
    n_repeats: int  # how often each feature was shuffled for it
    history: GateHistory | None
    teacher: Teacher | None = None
    teacher_loss: Interval | None = None  # of the top expert alone against the teacher

    @property
    def classifies(self) -> bool:
        """Whether classes are predicted, not values."""
        return self.target.scale is None

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.target.weight)

    @property
    def n_experts(self) -> int:
        """Number of experts."""
        return int(self.outputs.gate.shape[1])

    @property
    def single(self) -> int:
        """The single expert that is best for all rows."""
        return int(self.alone.argmax() if self.classifies else self.alone.argmin())

    @property
    def decimals(self) -> int:
        """Decimals of errors: as many as give the baseline's four significant digits."""
        if not self.baseline > 0:
            return 3
        return int(np.clip(3 - np.floor(np.log10(self.baseline)), 0, 12))

    @property
    def weighted(self) -> bool:
        """Whether the weights of rows differ."""
        return bool(np.ptp(self.target.weight) > 0)

    @property
    def all_classes_known(self) -> bool:
        """Whether training saw every class of these rows; True for regression."""
        return not self.classifies or bool((self.target.values >= 0).all())

    @property
    def beats_constant(self) -> bool:
        """Whether the mixture is clearly better than a constant prediction."""
        return self.constant_loss.low > 0

    @property
    def metric(self) -> str:
        """Name of the scores."""
        return "accuracy" if self.classifies else "RMSE"

    @property
    def constant_prediction(self) -> str:
        """Name of the best constant prediction."""
        if not self.classifies:
            return "the mean"
        return f"the most frequent {'' if self.all_classes_known else 'known '}class"

    @property
    def top_right(self) -> Array:
        """Whether the top expert of each row is right alone, (n_samples,)."""
        rows = np.arange(self.n_samples)
        return np.asarray(self.judgement.experts[rows, self.outputs.route])
