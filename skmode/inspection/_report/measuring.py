"""Measure everything that a report says."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, check_random_state

from skmode._common.predictions import check_distance, names_of, read_soft_targets
from skmode._common.sklearn import safe_indexing
from skmode._common.unwrap import nested_estimators, to_dense
from skmode.inspection._attention import ExpertAttention, expert_attention
from skmode.inspection._evaluation import forward, measures, mixtures, targets
from skmode.inspection._history import gate_history
from skmode.inspection._probing import probe
from skmode.inspection._report import intervals
from skmode.inspection._report.facts import MIN_ROWS, BeatenExpert, Columns, Facts, Teacher
from skmode.inspection._report.intervals import Interval

Array = NDArray[Any]


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
    soft_targets: Any = None,
    verbose: int = 0,
) -> Facts:
    """Measure everything; the parameters are those of :func:`skmode.inspection.report`."""
    mixtures.in_memory(X)
    check_consistent_length(X, y)
    mixture, rows = mixtures.unwrap(estimator, X)
    outputs = forward.evaluate(mixture, rows, log_proba=soft_targets is not None)
    target = targets.check_target(mixture, y, sample_weight)
    judgement = measures.judge(outputs, target, tolerance)
    teacher = None
    if soft_targets is not None:
        teacher = read_teacher(soft_targets, mixture, outputs, target, names_of(y))
    scorer = _Scorer(outputs, target, judgement, teacher)
    alone = scorer.scores()
    single = int(alone.argmax() if target.scale is None else alone.argmin())
    part, part_weight, attention = _attend(
        estimator,
        X,
        y,
        target,
        n_repeats=n_repeats,
        max_samples=max_samples,
        seed=random_state,
        verbose=verbose,
    )
    is_table = mixtures.reads_columns(mixture)
    chance, gate_gain = _against_chance(judgement.experts, outputs.route, target.weight)
    return Facts(
        estimator=estimator,
        mixture=mixture,
        steps=_steps(estimator),
        X=to_dense(part) if is_table else part,
        part_weight=part_weight,
        columns=(
            describe_columns(to_dense(X)) if is_table else _parts_of_rows(attention, len(rows))
        ),
        outputs=outputs,
        target=target,
        judgement=judgement,
        probing=probe(outputs, target, tolerance=tolerance),
        alone=alone,
        baseline=scorer.score("constant"),
        constant_loss=scorer.loss("constant", "mixture"),
        top_loss=scorer.loss("top", "mixture"),
        single_loss=scorer.loss(single, "top"),
        chance_recognition=chance,
        gate_gain=gate_gain,
        beaten=scorer.beaten(),
        teacher=teacher,
        teacher_loss=None if teacher is None else scorer.loss("top", "teacher"),
        attention=attention,
        n_repeats=n_repeats,
        history=gate_history(mixture) if getattr(mixture, "history_", None) else None,
    )


class _Scorer:
    """Scores on the same rows: of experts 0, 1, ..., "top", "mixture", "constant" and "teacher".

    `of` has where they are right (n_samples,), or their squared errors (n_samples, n_outputs).
    """

    def __init__(
        self,
        outputs: forward.Outputs,
        target: targets.Target,
        judgement: measures.Judgement,
        teacher: Teacher | None = None,
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
        self.of["constant"] = _constant_results(target)
        self.n_experts = experts.shape[1]
        if teacher is not None and self.classifies:
            self.of["teacher"] = teacher.predicted == target.values
        elif teacher is not None:
            self.of["teacher"] = (teacher.predicted - target.values) ** 2

    def score(self, who: Any) -> float:
        """Score one of them on all rows."""
        if self.classifies:
            return float(np.average(self.of[who], weights=self.weight))
        return float(measures.root_mean_squared_error(self.of[who], self.weight))

    def scores(self) -> Array:
        """Score each expert alone on all rows, (n_experts,)."""
        return np.array([self.score(k) for k in range(self.n_experts)])

    def loss(
        self, first: Any, second: Any, rows: Any = slice(None), confidence: float | None = None
    ) -> Interval:
        """Return how much worse `first` is than `second`."""
        one, other, weight = self.of[first][rows], self.of[second][rows], self.weight[rows]
        level = intervals.CONFIDENCE if confidence is None else confidence
        if self.classifies:
            return intervals.of_shares(other, one, weight, level)
        return intervals.of_errors(one, other, weight, level)

    def beaten(self) -> list[BeatenExpert]:
        """Find, for each expert that is beaten on its rows, the one that beats it most clearly.

        All pairs are tried, so the intervals are wider (Bonferroni).
        """
        n_experts = self.n_experts
        pairs = max(1, n_experts * (n_experts - 1))
        level = 1 - (1 - intervals.CONFIDENCE) / pairs
        found = []
        for domain in range(n_experts):
            rows = (self.route == domain) & (self.weight > 0)
            if rows.sum() < MIN_ROWS:
                continue
            losses = {
                other: self.loss(domain, other, rows, level)
                for other in range(n_experts)
                if other != domain
            }
            clear = [(other, loss) for other, loss in losses.items() if loss.low > 0]
            if clear:
                other, loss = max(clear, key=lambda pair: pair[1].low)
                found.append(BeatenExpert(domain, other, loss))
        return found


def read_teacher(
    soft_targets: Any,
    mixture: Any,
    outputs: forward.Outputs,
    target: targets.Target,
    names: list[Any] | None,
) -> Teacher:
    """Check a teacher's predictions, and measure how sure the top expert of each row is.

    `names` are those of y's columns; without them those of the fit count.
    """
    rows = np.arange(len(outputs.route))
    if outputs.expert_log_proba is not None:
        values = read_soft_targets(soft_targets, len(rows), classes=mixture.classes_)
        top = outputs.expert_log_proba[rows, outputs.route]
        return Teacher(values.argmax(axis=1), 1 - np.exp(top.max(axis=1)))
    names = names or mixture._target_names
    n_outputs = target.values.shape[1]
    values = read_soft_targets(soft_targets, len(rows), n_outputs=n_outputs, names=names)
    assert target.scale is not None
    check_distance(values, target.values.mean(axis=0), target.scale, "soft_targets")
    apart = (outputs.experts - outputs.top_expert[:, None]) / target.scale
    doubt = np.sqrt((outputs.gate * (apart**2).mean(axis=2)).sum(axis=1))
    return Teacher(values, doubt)


def _against_chance(right: Array, route: Array, weight: Array) -> tuple[float, Interval | None]:
    """Return the gate recognition of a gate that chooses at random, and this gate's gain over it.

    `right` tells which expert is right alone, (n_samples, n_experts).
    """
    solvable = right.any(axis=1) & (weight > 0)
    if not solvable.any():
        return float("nan"), None
    chance = right[solvable].mean(axis=1)
    chosen = right[solvable, route[solvable]]
    weight = weight[solvable]
    return float(np.average(chance, weights=weight)), intervals.of_means(chosen - chance, weight)


def _constant_results(target: targets.Target) -> Array:
    """Return where the best constant prediction is right, or its squared errors."""
    if target.scale is None:
        # Nobody could have predicted a class that training did not see.
        known = target.values >= 0
        sums = np.bincount(target.values[known], weights=target.weight[known], minlength=1)
        return np.asarray(target.values == sums.argmax())
    mean = np.average(target.values, axis=0, weights=target.weight)
    return np.asarray((target.values - mean) ** 2)


def _attend(
    estimator: Any,
    X: Any,
    y: Any,
    target: targets.Target,
    *,
    n_repeats: int,
    max_samples: int | None,
    seed: Any,
    verbose: int,
) -> tuple[Any, Array, ExpertAttention]:
    random_state = check_random_state(seed)
    weight = target.weight
    if scipy.sparse.issparse(X):
        X = X.tocsr()  # which has rows by position
    if max_samples is not None and len(weight) > max_samples:
        # Rows without weight do not count: with only such rows nothing could be measured.
        counted = np.flatnonzero(weight > 0)
        chosen = np.sort(random_state.permutation(counted)[:max_samples])
        X, y, weight = safe_indexing(X, chosen), safe_indexing(y, chosen), weight[chosen]
    attention = expert_attention(
        estimator,
        X,
        y,
        sample_weight=weight,
        n_repeats=n_repeats,
        random_state=random_state,
        verbose=verbose,
    )
    return X, weight, attention


def _steps(estimator: Any) -> list[str]:
    """Return the names of the classes from an estimator down to its mixture."""
    names = []
    for part in nested_estimators(estimator):
        names.append(type(part).__name__)
        if isinstance(part, Pipeline):
            names += [type(step).__name__ for _, step in part.steps[:-1]]
    return names


def describe_columns(X: Any) -> Columns:
    """Find which columns hold numbers, and where values are missing."""
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


def _parts_of_rows(attention: ExpertAttention, n_rows: int) -> Columns:
    """Describe the regions of images, or the tokens of texts, which are no numbers."""
    names = attention.importances.index.tolist()
    none = np.zeros(len(names), dtype=bool)
    return Columns(names, none, none.astype(int), np.zeros((n_rows, len(names)), bool), True)


def _missing(column: Any) -> Array:
    """Find null and NaN, which the estimators both read as missing."""
    missing = np.array(column.is_null().to_numpy(), dtype=bool)
    if column.dtype.is_float():
        nan = column.is_nan().fill_null(False)
        missing |= np.array(nan.to_numpy(), dtype=bool)
    return missing
