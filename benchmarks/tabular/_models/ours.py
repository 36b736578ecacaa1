"""The mixture, and what isolates its idea at the same budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import make_constraint

from benchmarks.tabular._sets import Part, Task
from skmode import MoDEClassifier, MoDERegressor

# An ensemble teaches the experts in the refit, or nobody does.
TAUGHT_OPTIONS: dict[str, Any] = {"teacher": "ensemble"}
PLAIN_OPTIONS: dict[str, Any] = {"teacher": None}

Array = NDArray[Any]


def chooses_alpha() -> bool:
    """Whether alpha can be chosen by the estimator, and is not by default."""
    automatic = any(
        make_constraint(allowed).is_satisfied_by("auto")
        for allowed in MoDEClassifier._parameter_constraints["alpha"]
    )
    return automatic and MoDEClassifier().alpha != "auto"


def make_mode(task: Task, split: int, train: Part, **options: Any) -> Any:
    """The estimator with its defaults."""
    estimator = MoDERegressor if task == "regression" else MoDEClassifier
    return estimator(**{"random_state": split, "device": "cpu", **options})


class Ensemble(BaseEstimator):
    """The same estimator with several seeds, answers averaged: deep ensembles as they are.

    Parameters
    ----------
    estimator : estimator
        What is fitted, without a seed.
    random_states : sequence of int
        One seed per member.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted members.
    """

    def __init__(self, estimator: Any, random_states: Sequence[int]) -> None:
        self.estimator = estimator
        self.random_states = random_states

    def fit(self, X: pd.DataFrame, y: Array) -> Ensemble:
        """Fit the members one after the other."""
        self.estimators_ = [
            clone(self.estimator).set_params(random_state=seed).fit(X, y)
            for seed in self.random_states
        ]
        return self

    def predict(self, X: pd.DataFrame) -> Array:
        """Mean of the members' values."""
        return np.mean([member.predict(X) for member in self.estimators_], axis=0)

    def predict_proba(self, X: pd.DataFrame) -> Array:
        """Mean of the members' probabilities."""
        return np.mean([member.predict_proba(X) for member in self.estimators_], axis=0)


def make_ensemble(task: Task, split: int, train: Part) -> Ensemble:
    """As many single networks as the mixture has experts."""
    single = make_mode(task, split, train, n_experts=1, **PLAIN_OPTIONS)
    n_experts = make_mode(task, split, train).n_experts
    return Ensemble(single, [1000 * member + split for member in range(n_experts)])


def make_large(task: Task, split: int, train: Part) -> Any:
    """One network with as many parameters as all experts have."""
    mixture = make_mode(task, split, train)
    # What the experts read depends on the columns: ask a net, not trained to speak of.
    net = (
        clone(mixture).set_params(max_epochs=1, **PLAIN_OPTIONS).fit(train.X, train.y).net_.module_
    )
    sizes = [int(size) for size in np.atleast_1d(mixture.hidden_layer_sizes)]
    sizes = match_size(net.trunk.out_features, sizes, mixture.n_experts)
    options = {"hidden_layer_sizes": tuple(sizes), **PLAIN_OPTIONS}
    return make_mode(task, split, train, n_experts=1, **options)


def match_size(in_features: int, sizes: Sequence[int], n_experts: int) -> list[int]:
    """Scale the widths of one network until it has the parameters of several.

    Parameters
    ----------
    in_features : int
        Width of the input.
    sizes : sequence of int
        Widths of the layers of each of the several.
    n_experts : int
        How many they are.

    Returns
    -------
    widths : list of int
        As many layers, each wider by the same factor, as near to the parameters as whole widths
        come.
    """
    wanted = n_experts * count_parameters(in_features, sizes)
    # Every layer's parameters grow with the first layer's width, up to its square.
    candidates = [
        [round(size * first / sizes[0]) for size in sizes]
        for first in range(sizes[0], n_experts * sizes[0] + 1)
    ]
    return min(candidates, key=lambda widths: abs(count_parameters(in_features, widths) - wanted))


def count_parameters(in_features: int, sizes: Sequence[int]) -> int:
    """Weights and biases of a multilayer perceptron without an output layer."""
    widths = [in_features, *sizes]
    return sum((a + 1) * b for a, b in zip(widths, sizes, strict=False))
