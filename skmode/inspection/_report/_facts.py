"""All that a report tells, measured once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state

from skmode.inspection import _measures, _outputs
from skmode.inspection._attention import ExpertAttention, expert_attention
from skmode.inspection._history import GateHistory, gate_history
from skmode.inspection._probing import ExpertProbing, probe
from skmode.inspection._report import _intervals
from skmode.inspection._report._intervals import Interval

Array = NDArray[Any]

# Domains with fewer rows are not compared with one another.
FEW_ROWS = 30


class Better(NamedTuple):
    """An expert that is better than another one on the rows of the latter.

    Attributes
    ----------
    domain : int
        The expert whose rows they are.
    other : int
        The one that is better there.
    loss : Interval
        By how much, in the metric of the report.
    """

    domain: int
    other: int
    loss: Interval


class Columns(NamedTuple):
    """What is known of the columns of the rows.

    Attributes
    ----------
    names : list of object
        Their names.
    numeric : ndarray of bool of shape (n_features,)
        Which hold numbers.
    distinct : ndarray of int of shape (n_features,)
        How many different numbers each holds.
    missing : ndarray of bool of shape (n_samples, n_features)
        Where a value is missing.
    is_table : bool
        Whether the columns have names of their own.
    """

    names: list[Any]
    numeric: Array
    distinct: Array
    missing: Array
    is_table: bool


@dataclass(frozen=True, eq=False)
class Facts:
    """What was measured. Losses are positive where the first named is the worse one.

    Attributes
    ----------
    estimator, mixture : object
        What was given, and the mixture in it.
    steps : list of str
        Classes of the estimator and what it holds, down to the mixture.
    X : object
        The rows that attention and map were measured on.
    part_weight : ndarray
        Weights of these.
    columns : Columns
        Of all rows.
    outputs, target, judgement : tuple
        What the mixture makes of all rows, what is true, and who is right.
    probing : ExpertProbing
        Of all rows.
    alone : ndarray of shape (n_experts,)
        Score of each expert alone on all rows.
    baseline : float
        Score of one constant answer, the most frequent class that training saw or the mean, on all
        rows.
    constant_loss : Interval
        What that answer loses against the mixture.
    top_loss : Interval
        What the top expert alone loses against the mixture.
    single_loss : Interval
        What the best single expert for all rows loses against the top experts.
    lots : float
        Gate recognition accuracy of a gate that draws lots.
    gate_gain : Interval or None
        By how much the gate is better than that; None where no expert is right on any row.
    better : list of Better
        Experts that are beaten on their own rows.
    attention : ExpertAttention
        By permutation.
    n_repeats : int
        Shufflings of each feature that it rests on.
    history : GateHistory or None
        Of the training, where it is known.
    """

    estimator: Any
    mixture: Any
    steps: list[str]
    X: Any
    part_weight: Array
    columns: Columns
    outputs: _outputs.Outputs
    target: _outputs.Target
    judgement: _measures.Judgement
    probing: ExpertProbing
    alone: Array
    baseline: float
    constant_loss: Interval
    top_loss: Interval
    single_loss: Interval
    lots: float
    gate_gain: Interval | None
    better: list[Better]
    attention: ExpertAttention
    n_repeats: int
    history: GateHistory | None

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
        """The expert that is best on all rows alone."""
        return int(self.alone.argmax() if self.classifies else self.alone.argmin())

    @property
    def decimals(self) -> int:
        """Decimals of errors: four significant digits of that of the mean."""
        if not self.baseline > 0:
            return 3
        return int(np.clip(3 - np.floor(np.log10(self.baseline)), 0, 12))

    @property
    def weighted(self) -> bool:
        """Whether rows count differently."""
        return bool(np.ptp(self.target.weight) > 0)

    @property
    def all_classes_known(self) -> bool:
        """Whether training saw every class of these rows; true of values."""
        return not self.classifies or bool((self.target.values >= 0).all())

    @property
    def beats_constant(self) -> bool:
        """Whether the mixture is clearly better than the same answer for every row."""
        return self.constant_loss.low > 0

    @property
    def top_right(self) -> Array:
        """Whether the top expert of each row is right alone."""
        rows = np.arange(self.n_samples)
        return np.asarray(self.judgement.experts[rows, self.outputs.route])


def measure(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any,
    tolerance: float | None,
    n_repeats: int,
    max_samples: int | None,
    random_state: Any,
) -> Facts:
    """Measure all of it, see :func:`skmode.inspection.report` for the parameters."""
    _outputs.check_rows(X, y)
    mixture, rows = _outputs.unwrap(estimator, X)
    outputs = _outputs.look(mixture, rows)
    target = _outputs.check_target(mixture, y, sample_weight)
    judgement = _outputs.judge(outputs, target, tolerance)
    gains = _Answers(outputs, target, judgement)
    alone = gains.scores()
    single = int(alone.argmax() if target.scale is None else alone.argmin())
    part, part_weight, attention = _attend(
        estimator, X, y, target, n_repeats=n_repeats, max_samples=max_samples, seed=random_state
    )
    lots, gate_gain = _against_lots(judgement.experts, outputs.route, target.weight)
    return Facts(
        estimator=estimator,
        mixture=mixture,
        steps=_steps(estimator),
        X=part,
        part_weight=part_weight,
        columns=describe(X),
        outputs=outputs,
        target=target,
        judgement=judgement,
        probing=probe(outputs, target, tolerance=tolerance),
        alone=alone,
        baseline=gains.score("constant"),
        constant_loss=gains.loss("constant", "mixture"),
        top_loss=gains.loss("top", "mixture"),
        single_loss=gains.loss(single, "top"),
        lots=lots,
        gate_gain=gate_gain,
        better=gains.better(),
        attention=attention,
        n_repeats=n_repeats,
        history=gate_history(mixture) if getattr(mixture, "history_", None) else None,
    )


class _Answers:
    """Right answers, or squared errors: of each expert, the top expert, the mixture, no model."""

    def __init__(
        self, outputs: _outputs.Outputs, target: _outputs.Target, judgement: _measures.Judgement
    ) -> None:
        self.route, self.weight = outputs.route, target.weight
        self.classifies = target.scale is None
        if self.classifies:
            experts, mixture = judgement.experts, judgement.mixture
        else:
            experts = (outputs.experts - target.values[:, None]) ** 2
            mixture = (outputs.mixture - target.values) ** 2
        self.of: dict[Any, Array] = {k: experts[:, k] for k in range(experts.shape[1])}
        self.of["mixture"] = mixture
        self.of["top"] = experts[np.arange(len(self.route)), self.route]
        self.of["constant"] = _same_for_every_row(target)
        self.n_experts = experts.shape[1]

    def score(self, who: Any) -> float:
        """Of one of them on all rows."""
        if self.classifies:
            return float(np.average(self.of[who], weights=self.weight))
        return float(_measures.root_mean_squared_error(self.of[who], self.weight))

    def scores(self) -> Array:
        """Of each expert alone on all rows."""
        return np.array([self.score(k) for k in range(self.n_experts)])

    def loss(
        self, first: Any, second: Any, rows: Any = slice(None), confidence: float | None = None
    ) -> Interval:
        """What `first` loses against `second`; positive where it is worse."""
        one, other, weight = self.of[first][rows], self.of[second][rows], self.weight[rows]
        level = _intervals.CONFIDENCE if confidence is None else confidence
        if self.classifies:
            return _intervals.of_shares(other, one, weight, level)
        return _intervals.of_errors(one, other, weight, level)

    def better(self) -> list[Better]:
        """For each domain the expert that beats its owner most clearly, if one does.

        All pairs are tried, so each interval is as much wider (Bonferroni).
        """
        n_experts = self.n_experts
        pairs = max(1, n_experts * (n_experts - 1))
        level = 1 - (1 - _intervals.CONFIDENCE) / pairs
        found = []
        for domain in range(n_experts):
            rows = (self.route == domain) & (self.weight > 0)
            if rows.sum() < FEW_ROWS:
                continue
            losses = {
                other: self.loss(domain, other, rows, level)
                for other in range(n_experts)
                if other != domain
            }
            beaten = [(other, loss) for other, loss in losses.items() if loss.low > 0]
            if beaten:
                other, loss = max(beaten, key=lambda pair: pair[1].low)
                found.append(Better(domain, other, loss))
        return found


def _against_lots(right: Array, route: Array, weight: Array) -> tuple[float, Interval | None]:
    """Gate recognition of a gate that draws lots, and by how much the gate is better."""
    solvable = right.any(axis=1) & (weight > 0)
    if not solvable.any():
        return float("nan"), None
    chance = right[solvable].mean(axis=1)
    chosen = right[solvable, route[solvable]]
    weight = weight[solvable]
    return float(np.average(chance, weights=weight)), _intervals.of_means(chosen - chance, weight)


def _same_for_every_row(target: _outputs.Target) -> Array:
    """Where the one answer that is best for all rows is right, or its squared errors."""
    if target.scale is None:
        # A class that training did not see is no answer that anybody could have given.
        known = target.values >= 0
        sums = np.bincount(target.values[known], weights=target.weight[known], minlength=1)
        return np.asarray(target.values == sums.argmax())
    mean = np.average(target.values, axis=0, weights=target.weight)
    return np.asarray((target.values - mean) ** 2)


def _attend(
    estimator: Any,
    X: Any,
    y: Any,
    target: _outputs.Target,
    *,
    n_repeats: int,
    max_samples: int | None,
    seed: Any,
) -> tuple[Any, Array, ExpertAttention]:
    random_state = check_random_state(seed)
    weight = target.weight
    if max_samples is not None and len(weight) > max_samples:
        # Rows without weight tell nothing, and a part of them alone could not be measured.
        counted = np.flatnonzero(weight > 0)
        chosen = np.sort(random_state.permutation(counted)[:max_samples])
        X, y, weight = _safe_indexing(X, chosen), _safe_indexing(y, chosen), weight[chosen]
    attention = expert_attention(
        estimator, X, y, sample_weight=weight, n_repeats=n_repeats, random_state=random_state
    )
    return X, weight, attention


def _steps(estimator: Any) -> list[str]:
    """Classes down to the mixture."""
    found = [type(estimator).__name__]
    if hasattr(estimator, "best_estimator_"):
        return found + _steps(estimator.best_estimator_)
    if isinstance(estimator, Pipeline):
        inner = [type(step).__name__ for _, step in estimator.steps[:-1]]
        return found + inner + _steps(estimator.steps[-1][1])
    return found


def describe(X: Any) -> Columns:
    """Which columns hold numbers, and where values are missing."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    is_table = isinstance(frame, nw.DataFrame)
    if not is_table:
        table = pd.DataFrame(np.asarray(X)).infer_objects()
        names = [f"x{i}" for i in range(table.shape[1])]
        frame = nw.from_native(table.set_axis(names, axis=1), eager_only=True)
    names = list(frame.columns)
    columns = [frame[:, i] for i in range(len(names))]
    return Columns(
        names,
        np.array([column.dtype.is_numeric() for column in columns]),
        np.array(
            [
                column.drop_nulls().n_unique() if column.dtype.is_numeric() else 0
                for column in columns
            ]
        ),
        np.column_stack([_missing(column) for column in columns]),
        is_table,
    )


def _missing(column: Any) -> Array:
    """Missing are null and NaN, as the estimators read them."""
    missing = np.array(column.is_null().to_numpy(), dtype=bool)
    if column.dtype.is_float():
        nan = column.is_nan().fill_null(False)
        missing |= np.array(nan.to_numpy(), dtype=bool)
    return missing
