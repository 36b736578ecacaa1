"""Permutation: how much worse an expert gets when a feature is shuffled."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from skmode.inspection._attention.result import ExpertAttention, make_attention
from skmode.inspection._evaluation import forward, measures, mixtures, targets

Array = NDArray[Any]


def attend_by_permutation(
    estimator: Any, X: Any, target: targets.Target, n_repeats: int, random_state: Any
) -> ExpertAttention:
    """Shuffle each feature `n_repeats` times, once within domains and once among all rows."""
    random_state = check_random_state(random_state)
    mixture, rows = mixtures.unwrap(estimator, X)
    outputs = forward.evaluate(mixture, rows)
    domain, n_experts = outputs.route, outputs.gate.shape[1]
    base = _scores_on_domains(outputs, domain, target)
    sign = 1 if target.scale is None else -1
    table = _ShuffledTable(X)
    drops = np.full((len(table.names), n_experts + 1, n_repeats), np.nan)

    def read(table: Any) -> Any:
        return mixtures.unwrap(estimator, table)[1]

    for feature in range(len(table.names)):
        for repeat in range(n_repeats):
            inside = _permute_within(domain, random_state)
            shuffled = forward.evaluate(mixture, read(table.shuffled(feature, inside)))
            drops[feature, :n_experts, repeat] = sign * (
                base - _scores_on_domains(shuffled, domain, target)
            )
            everywhere = random_state.permutation(len(domain))
            gate = mixture.gate_proba(read(table.shuffled(feature, everywhere)))
            moved = np.asarray(gate).argmax(axis=1) != domain
            drops[feature, n_experts, repeat] = np.average(moved, weights=target.weight)
    return make_attention(
        drops.mean(axis=2),
        drops.std(axis=2),
        table.names,
        np.bincount(domain, minlength=n_experts),
        "permutation",
        "drop in accuracy" if target.scale is None else "rise in RMSE, in units of the target",
    )


def _permute_within(domain: Array, random_state: Any) -> Array:
    """Return a permutation of the rows that leaves each in its domain."""
    index = np.arange(len(domain))
    for one in np.unique(domain):
        members = np.flatnonzero(domain == one)
        index[members] = random_state.permutation(members)
    return index


def _scores_on_domains(outputs: forward.Outputs, domain: Array, target: targets.Target) -> Array:
    """Return accuracy or root mean squared error of each expert alone on its domain."""
    found = np.full(outputs.gate.shape[1], np.nan)
    for expert in range(len(found)):
        members = domain == expert
        weight = target.weight[members]
        if not weight.sum() > 0:
            continue
        predicted, true = outputs.experts[members, expert], target.values[members]
        if target.scale is None:
            found[expert] = np.average(predicted == true, weights=weight)
        else:
            found[expert] = measures.root_mean_squared_error((predicted - true) ** 2, weight)
    return found


class _ShuffledTable:
    """A table, given out with one column shuffled."""

    def __init__(self, X: Any) -> None:
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        self.frame = frame if isinstance(frame, nw.DataFrame) else None
        if self.frame is None:
            self.array = np.asarray(X)
            self.names = [f"x{i}" for i in range(self.array.shape[1])]
        else:
            self.names = list(self.frame.columns)

    def shuffled(self, feature: int, order: Array) -> Any:
        """Return a copy of the table with one column in another order, its type kept."""
        if self.frame is None:
            array = self.array.copy()
            array[:, feature] = array[order, feature]
            return array
        native = self.frame.to_native()
        if isinstance(native, pd.DataFrame):  # aligning by the index would undo the shuffling
            native = native.copy()
            column = native.iloc[:, feature].take(order)
            native.isetitem(feature, column.set_axis(native.index))
            return native
        column = self.frame[self.names[feature]]
        return self.frame.with_columns(column[order.tolist()]).to_native()
