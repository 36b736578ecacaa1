"""The contenders of the league: everyone's defaults, one thread, the scikit-learn interface."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils._param_validation import make_constraint

import skmode
from benchmarks.tabular._sets import Part, Task
from skmode import MoDEClassifier, MoDERegressor

OURS = "skmode"
REFERENCE = "mode"
TOP_EXPERT = "_top_expert"
# A peer of moderate speed: all splits up to so many training rows, the first split above.
MODERATE_ROWS = 10_000
# xgboost-cpu is XGBoost without several hundred MB for GPUs.
DISTRIBUTIONS = {"xgboost": ("xgboost-cpu", "xgboost"), "sklearn": ("scikit-learn",)}

Array = NDArray[Any]


@dataclass(frozen=True)
class Contender:
    """A model with its settings.

    Attributes
    ----------
    name : str
        What the results call it.
    label : str
        What tables and figures call it.
    make : callable
        Returns the estimator for a task, a split (its seed) and a training part.
    module : str
        The library it comes from: it must be importable, and results of another version of it are
        measured anew.
    predict_options : dict
        What prediction needs to stay with one thread.
    speed : {"fast", "moderate", "slow"}
        Moderate ones meet large sets on the first split only, slow ones all sets.
    top_expert : bool
        Whether the fitted model also takes part with each row's top expert alone, as another
        contender with `TOP_EXPERT` after its name.
    """

    name: str
    label: str
    make: Callable[[Task, int, Part], Any]
    module: str
    predict_options: dict[str, Any] = field(default_factory=dict)
    speed: str = "fast"
    top_expert: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What one fit gives results of."""
        return (self.name, self.name + TOP_EXPERT) if self.top_expert else (self.name,)

    @property
    def is_installed(self) -> bool:
        """Whether its library is."""
        return importlib.util.find_spec(self.module) is not None


@cache
def contenders() -> dict[str, Contender]:
    """Return all contenders by name, in the order of the tables."""
    everyone = [*_ours(), *_peers()]
    return {contender.name: contender for contender in everyone}


@cache
def labels() -> dict[str, str]:
    """Return what tables and figures call each model."""
    found = {}
    for contender in contenders().values():
        found[contender.name] = contender.label
        if contender.top_expert:
            found[contender.name + TOP_EXPERT] = f"{contender.label}, top expert"
    return found


def version(module: str) -> str:
    """Version of a library by the name that it is imported by."""
    if module == OURS:
        return skmode.__version__  # a checkout need not be installed
    for distribution in DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def _ours() -> list[Contender]:
    """The mixture, and what isolates its idea at the same budget."""
    automatic = any(
        make_constraint(allowed).is_satisfied_by("auto")
        for allowed in MoDEClassifier._parameter_constraints["alpha"]
    )
    found = [Contender(REFERENCE, "MoDE", partial(make_mode), OURS, top_expert=True)]
    if automatic and MoDEClassifier().alpha != "auto":
        make = partial(make_mode, alpha="auto")
        found.append(Contender("mode_auto", "MoDE, alpha auto", make, OURS, top_expert=True))
    make = partial(make_mode, alpha=0.0)
    return [
        *found,
        Contender("mode_alpha_0", "MoE, alpha 0", make, OURS, top_expert=True),
        Contender("mlp_ensemble", "ensemble of K networks", make_ensemble, OURS),
        Contender(
            "mlp_small", "one network, an expert's size", partial(make_mode, n_experts=1), OURS
        ),
        Contender("mlp_large", "one network, the mixture's size", make_large, OURS),
    ]


def _peers() -> list[Contender]:
    slow = {"speed": "slow"}
    return [
        Contender("catboost", "CatBoost", make_catboost, "catboost", {"thread_count": 1}),
        Contender("lightgbm", "LightGBM", make_lightgbm, "lightgbm"),
        Contender("xgboost", "XGBoost", make_xgboost, "xgboost"),
        Contender(
            "hist_gradient_boosting", "HistGradientBoosting", make_hist_gradient_boosting, "sklearn"
        ),
        Contender("random_forest", "RandomForest", make_random_forest, "sklearn"),
        Contender("mlp", "scikit-learn MLP", make_mlp, "sklearn"),
        Contender("linear", "linear model", make_linear, "sklearn"),
        Contender(
            "realmlp_td_s",
            "RealMLP-TD-S",
            partial(make_pytabkit, "RealMLP_TD_S"),
            "pytabkit",
            speed="moderate",
        ),
        Contender(
            "realmlp_td", "RealMLP-TD", partial(make_pytabkit, "RealMLP_TD"), "pytabkit", **slow
        ),
        Contender("tabm_d", "TabM-D", partial(make_pytabkit, "TabM_D"), "pytabkit", **slow),
    ]


# Ours.


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
    single = make_mode(task, split, train, n_experts=1)
    n_experts = make_mode(task, split, train).n_experts
    return Ensemble(single, [1000 * member + split for member in range(n_experts)])


def make_large(task: Task, split: int, train: Part) -> Any:
    """One network with as many parameters as all experts have."""
    mixture = make_mode(task, split, train)
    # What the experts read depends on the columns: ask a net, not trained to speak of.
    net = clone(mixture).set_params(max_epochs=1).fit(train.X, train.y).net_.module_
    sizes = [int(size) for size in np.atleast_1d(mixture.hidden_layer_sizes)]
    sizes = match_size(net.trunk.out_features, sizes, mixture.n_experts)
    return make_mode(task, split, train, n_experts=1, hidden_layer_sizes=tuple(sizes))


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


# Peers. Numbers are missing in some columns and categories in others.


def _is_number() -> Any:
    return make_column_selector(dtype_include="number")


def _is_category() -> Any:
    return make_column_selector(dtype_include="category")


def _impute() -> SimpleImputer:
    return SimpleImputer(strategy="median", add_indicator=True)


def _scaled_columns() -> ColumnTransformer:
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (make_pipeline(_impute(), StandardScaler()), _is_number()), (encode, _is_category())
    )


def make_linear(task: Task, split: int, train: Part) -> Any:
    """Ridge, or LogisticRegression with iterations enough to converge."""
    model = Ridge() if task == "regression" else LogisticRegression(max_iter=1000)
    return make_pipeline(_scaled_columns(), model)


def make_mlp(task: Task, split: int, train: Part) -> Any:
    """scikit-learn's network, which needs numbers of one scale, the target's included."""
    if task != "regression":
        return make_pipeline(_scaled_columns(), MLPClassifier(random_state=split))
    scaled_target = TransformedTargetRegressor(
        MLPRegressor(random_state=split), transformer=StandardScaler()
    )
    return make_pipeline(_scaled_columns(), scaled_target)


def make_random_forest(task: Task, split: int, train: Part) -> Any:
    """Categories as whole numbers: those unknown -1, missing ones -2."""
    encode = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    columns = make_column_transformer((_impute(), _is_number()), (encode, _is_category()))
    forest = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return make_pipeline(columns, forest(n_jobs=1, random_state=split))


def make_hist_gradient_boosting(task: Task, split: int, train: Part) -> Any:
    """It reads categories and missing values."""
    trees = (
        HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    )
    return trees(categorical_features="from_dtype", random_state=split)


def make_lightgbm(task: Task, split: int, train: Part) -> Any:
    """It reads categories and missing values."""
    lightgbm = importlib.import_module("lightgbm")
    trees = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return trees(n_jobs=1, random_state=split, verbose=-1)


def make_xgboost(task: Task, split: int, train: Part) -> Any:
    """It reads categories and missing values."""
    xgboost = importlib.import_module("xgboost")
    trees = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return trees(enable_categorical=True, tree_method="hist", n_jobs=1, random_state=split)


def make_catboost(task: Task, split: int, train: Part) -> Any:
    """It reads categories as strings, none missing."""
    catboost = importlib.import_module("catboost")
    trees = catboost.CatBoostRegressor if task == "regression" else catboost.CatBoostClassifier
    model = trees(
        cat_features=list(train.X.select_dtypes("category")),
        thread_count=1,
        random_seed=split,
        verbose=0,
        allow_writing_files=False,
    )
    return make_pipeline(FunctionTransformer(name_missing_categories), model)


def name_missing_categories(X: pd.DataFrame) -> pd.DataFrame:
    """Make "missing" a category of its own."""
    text = {
        name: X[name].astype(object).where(X[name].notna(), "missing")
        for name in X.select_dtypes("category")
    }
    return X.assign(**text)


def make_pytabkit(name: str, task: Task, split: int, train: Part) -> Any:
    """A network of pytabkit, which reads categories, missing ones too, but no missing numbers."""
    importlib.import_module("pytorch_lightning")  # sets the level of its logger, so this goes first
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    kind = "Regressor" if task == "regression" else "Classifier"
    network = getattr(importlib.import_module("pytabkit"), f"{name}_{kind}")
    model = network(device="cpu", n_threads=1, random_state=split)
    if not train.X.select_dtypes("number").isna().any(axis=None):
        return model
    columns = make_column_transformer(
        (_impute(), _is_number()), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    return make_pipeline(columns, model)
