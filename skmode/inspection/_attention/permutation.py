"""Permutation: how much worse an expert gets when a feature is shuffled."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from skmode._common.notebooks.progress import progress_bar
from skmode.inspection._attention.first_layers import FirstLayers, starts_linearly
from skmode.inspection._attention.gradients import column_of_feature, kinds_of
from skmode.inspection._attention.regions import Regions, ShuffledImages
from skmode.inspection._attention.result import ExpertAttention, make_attention
from skmode.inspection._attention.tokens import ShuffledTokens
from skmode.inspection._evaluation import forward, measures, mixtures, targets

Array = NDArray[Any]

# Up to this many columns, whole rows are predicted: it takes little time, and a prediction is that
# of the estimator to the last bit.
FEW_COLUMNS = 32


def attend_by_permutation(
    estimator: Any,
    X: Any,
    target: targets.Target,
    n_repeats: int,
    random_state: Any,
    verbose: int,
) -> ExpertAttention:
    """Shuffle each feature `n_repeats` times, once within domains and once among all rows."""
    random_state = check_random_state(random_state)
    mixture, rows = mixtures.unwrap(estimator, X)
    if mixtures.reads_images(mixture):
        estimator, X = mixture, mixture.encoder_.read(rows)
        rows = X
    outputs = forward.evaluate(mixture, rows)
    domain, n_experts = outputs.route, outputs.gate.shape[1]
    base = _scores_on_domains(outputs.top_expert, domain, target, n_experts)
    sign = 1 if target.scale is None else -1
    names, network = _open_network(estimator, mixture, X, rows, domain)
    drops = np.full((len(names), n_experts + 1, n_repeats), np.nan)
    for feature in progress_bar(range(len(names)), "expert_attention", disable=not verbose):
        network.select(feature)
        for repeat in range(n_repeats):
            inside = _permute_within(domain, random_state)
            scores = _scores_on_domains(network.own_predictions(inside), domain, target, n_experts)
            drops[feature, :n_experts, repeat] = sign * (base - scores)
            everywhere = random_state.permutation(len(domain))
            moved = network.routes(everywhere) != domain
            drops[feature, n_experts, repeat] = np.average(moved, weights=target.weight)
    return make_attention(
        drops.mean(axis=2),
        drops.std(axis=2),
        names,
        np.bincount(domain, minlength=n_experts),
        "permutation",
        "drop in accuracy" if target.scale is None else "rise in RMSE, in units of the target",
        kinds=kinds_of(mixture, len(names)) if rows is X else None,
    )


def _open_network(
    estimator: Any, mixture: Any, X: Any, rows: Any, domain: Array
) -> tuple[list[str], Any]:
    """Name the features, and choose how to predict rows with one of them shuffled.

    Rows are predicted as a whole; with many columns by the column, texts by the token.
    """
    if mixtures.reads_texts(mixture):
        tokens = ShuffledTokens(mixture, rows, domain)
        return tokens.names, tokens
    of_images = mixtures.reads_images(mixture)
    table: Any = ShuffledImages(X, Regions(mixture.encoder_)) if of_images else ShuffledTable(X)
    module = mixtures.find_network(mixture)
    if rows is table.X and len(table.names) > FEW_COLUMNS and module and starts_linearly(module):
        of_feature = column_of_feature(mixture, module)
        return table.names, FirstLayers(mixture, module, rows, domain, of_feature)
    return table.names, _WholeRows(estimator, mixture, table, domain)


class _WholeRows:
    """Predictions for rows with one column shuffled, by the estimator as it is."""

    def __init__(self, estimator: Any, mixture: Any, table: Any, domain: Array) -> None:
        self._estimator, self._mixture = estimator, mixture
        self._table, self._domain = table, domain

    def _read(self, table: Any) -> Any:
        return mixtures.unwrap(self._estimator, table)[1]

    def select(self, column: int) -> None:
        """Choose the column to shuffle."""
        self._column = column

    def own_predictions(self, order: Array) -> Array:
        """Return the prediction of each row's own expert: positions of classes, or values."""
        shuffled = self._read(self._table.shuffled(self._column, order))
        outputs = forward.evaluate(self._mixture, shuffled)
        return np.asarray(outputs.experts[np.arange(len(order)), self._domain])

    def routes(self, order: Array) -> Array:
        """Return the expert that the gate chooses for each row."""
        gate = self._mixture.gate_proba(self._read(self._table.shuffled(self._column, order)))
        return np.asarray(np.argmax(gate, axis=1))


def _permute_within(domain: Array, random_state: Any) -> Array:
    """Return a permutation of the rows that leaves each in its domain."""
    index = np.arange(len(domain))
    for one in np.unique(domain):
        members = np.flatnonzero(domain == one)
        index[members] = random_state.permutation(members)
    return index


def _scores_on_domains(
    predictions: Array, domain: Array, target: targets.Target, n_experts: int
) -> Array:
    """Return accuracy or root mean squared error of each expert alone on its domain."""
    found = np.full(n_experts, np.nan)
    for expert in range(n_experts):
        members = domain == expert
        weight = target.weight[members]
        if not weight.sum() > 0:
            continue
        predicted, true = predictions[members], target.values[members]
        if target.scale is None:
            found[expert] = np.average(predicted == true, weights=weight)
        else:
            found[expert] = measures.root_mean_squared_error((predicted - true) ** 2, weight)
    return found


class ShuffledTable:
    """A table, given out with one column shuffled."""

    def __init__(self, X: Any) -> None:
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        self.X = X
        self.frame = frame if isinstance(frame, nw.DataFrame) else None
        if self.frame is None:
            self.array = X.tocsc() if scipy.sparse.issparse(X) else np.asarray(X)
            self.names = [f"x{i}" for i in range(self.array.shape[1])]
        else:
            self.names = list(self.frame.columns)

    def shuffled(self, feature: int, order: Array) -> Any:
        """Return a copy of the table with one column in another order, its type kept."""
        if self.frame is None:
            array = self.array.copy()
            if scipy.sparse.issparse(array):
                _shuffle_sparse(array, feature, order)
            else:
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


def _shuffle_sparse(matrix: Any, feature: int, order: Array) -> None:
    """Reorder one column of a sparse matrix in the form of columns, in place."""
    part = slice(*matrix.indptr[feature : feature + 2])
    place = np.empty(len(order), dtype=matrix.indices.dtype)
    place[order] = np.arange(len(order))  # each value goes to the row that takes it
    matrix.indices[part] = place[matrix.indices[part]]
    matrix.has_sorted_indices = False
