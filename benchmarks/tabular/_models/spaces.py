"""What the searches draw from, and how each library stops adding trees.

The spaces of the boosted trees are TabArena's (autogluon/tabarena, `hpo.py` of lightgbm and xgboost
in `tabarena/models`; autogluon/tabrepo, `tabrepo/models/catboost/generate.py`), by the names that
the libraries' estimators have. As there, a model with AutoGluon's learning rate goes first.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import loguniform, randint, uniform

from benchmarks.tabular._models import ours, peers
from benchmarks.tabular._sets import Part

# Trees at most, and how many more may bring nothing. TabArena allows 10,000 and waits for 300 and
# more, for which five minutes are too short. The loss decides, as there, whatever the metric.
MAX_TREES, PATIENCE = 2_000, 100


@dataclass(frozen=True)
class LogInteger:
    """A distribution of whole numbers from `low` to `high` whose logarithms are even."""

    low: int
    high: int

    def rvs(self, size: Any = None, random_state: Any = None) -> Any:
        """Draw."""
        random = np.random.default_rng() if random_state is None else random_state
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return np.rint(np.exp(random.uniform(low, high, size))).astype(int)


def between(low: float, high: float) -> Any:
    """Return the even distribution from `low` to `high`."""
    return uniform(low, high - low)


def _fit_lightgbm(model: Any, train: Part, validation: Part) -> int:
    stop = importlib.import_module("lightgbm").early_stopping(PATIENCE, verbose=False)
    eval_X, eval_y = validation
    model.fit(train.X, train.y, eval_X=eval_X, eval_y=eval_y, callbacks=[stop])
    return model.best_iteration_


def _fit_xgboost(model: Any, train: Part, validation: Part) -> int:
    model.set_params(early_stopping_rounds=PATIENCE)
    model.fit(train.X, train.y, eval_set=[tuple(validation)], verbose=False)
    return model.best_iteration + 1


def _fit_catboost(model: Any, train: Part, validation: Part) -> int:
    columns, trees = model[:-1], model[-1]
    train_X, validation_X = columns.fit_transform(train.X), columns.transform(validation.X)
    trees.fit(
        train_X, train.y, eval_set=(validation_X, validation.y), early_stopping_rounds=PATIENCE
    )
    return trees.tree_count_


@dataclass(frozen=True)
class Family:
    """A model and what its search draws from.

    Attributes
    ----------
    make : callable
        Returns the estimator for a task, a split, a training part and parameters.
    space : dict
        Lists and distributions, as scikit-learn's `ParameterSampler` takes them.
    first : dict
        The parameters that are tried first.
    trees : str
        Which parameter is the number of trees; empty if the model stops by itself.
    fit_trees : callable
        Fits until the loss on the validation part stays, and returns the number of trees.
    """

    make: Callable[..., Any]
    space: dict[str, Any]
    first: dict[str, Any] = field(default_factory=dict)
    trees: str = ""
    fit_trees: Callable[[Any, Part, Part], int] | None = None


MODE = Family(
    ours.make_mode,
    {
        "hidden_layer_sizes": [(64,), (128,), (64, 64), (128, 128), (256, 128)],
        "learning_rate": loguniform(1e-3, 2e-2),
        "dropout": [0.0, 0.1, 0.2, 0.3],
        "alpha": [0.0, 0.3, 1.0, 3.0, 10.0],
        "n_experts": [2, 4, 8],
        "weight_decay": loguniform(1e-3, 0.3),
        "numeric_embedding": ["periodic_bias", "periodic", "piecewise_linear", None],
        "batch_size": ["auto", 32, 64, 128, 256],
        "teacher": [None, "mixture", "ensemble"],
    },
)
CATBOOST = Family(
    peers.make_catboost,
    {
        "learning_rate": loguniform(5e-3, 0.1),
        "bootstrap_type": ["Bernoulli"],
        "subsample": between(0.7, 1.0),
        "grow_policy": ["SymmetricTree", "Depthwise"],
        "depth": randint(4, 9),
        "colsample_bylevel": between(0.85, 1.0),
        "l2_leaf_reg": loguniform(1e-4, 5.0),
        "leaf_estimation_iterations": LogInteger(1, 20),
        "one_hot_max_size": LogInteger(8, 100),
        "model_size_reg": loguniform(0.1, 1.5),
        "max_ctr_complexity": randint(2, 6),
        "boosting_type": ["Plain"],
        "max_bin": [254],
    },
    {"learning_rate": 0.05},
    "iterations",
    _fit_catboost,
)
LIGHTGBM = Family(
    peers.make_lightgbm,
    {
        "learning_rate": loguniform(5e-3, 0.1),
        "colsample_bytree": between(0.4, 1.0),
        "subsample": between(0.7, 1.0),
        "subsample_freq": [1],
        "num_leaves": LogInteger(2, 200),
        "min_child_samples": LogInteger(1, 64),
        "extra_trees": [False, True],
        "min_data_per_group": LogInteger(2, 100),
        "cat_l2": loguniform(5e-3, 2.0),
        "cat_smooth": loguniform(1e-3, 100.0),
        "max_cat_to_onehot": LogInteger(8, 100),
        "reg_alpha": between(1e-4, 1.0),
        "reg_lambda": between(1e-4, 2.0),
    },
    {"learning_rate": 0.05},
    "n_estimators",
    _fit_lightgbm,
)
XGBOOST = Family(
    peers.make_xgboost,
    {
        "learning_rate": loguniform(5e-3, 0.1),
        "max_depth": LogInteger(4, 10),
        "min_child_weight": loguniform(1e-3, 5.0),
        "subsample": between(0.6, 1.0),
        "colsample_bylevel": between(0.6, 1.0),
        "colsample_bynode": between(0.6, 1.0),
        "reg_alpha": between(1e-4, 5.0),
        "reg_lambda": between(1e-4, 5.0),
        "grow_policy": ["depthwise", "lossguide"],
        "max_cat_to_onehot": LogInteger(8, 100),
        "max_leaves": LogInteger(8, 1024),
    },
    {"learning_rate": 0.1},
    "n_estimators",
    _fit_xgboost,
)
# By the names of the contenders whose parameters are searched.
FAMILIES = {"mode": MODE, "catboost": CATBOOST, "lightgbm": LIGHTGBM, "xgboost": XGBOOST}
