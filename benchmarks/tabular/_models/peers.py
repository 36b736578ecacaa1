"""The peers: their libraries' defaults, one thread; numbers and categories may be missing."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import pandas as pd
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

from benchmarks.tabular._sets import Part, Task


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


def make_lightgbm(task: Task, split: int, train: Part, **options: Any) -> Any:
    """It reads categories and missing values."""
    lightgbm = importlib.import_module("lightgbm")
    trees = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return trees(n_jobs=1, random_state=split, verbose=-1, **options)


def make_xgboost(task: Task, split: int, train: Part, **options: Any) -> Any:
    """It reads categories and missing values."""
    xgboost = importlib.import_module("xgboost")
    trees = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return trees(
        enable_categorical=True, tree_method="hist", n_jobs=1, random_state=split, **options
    )


def make_catboost(task: Task, split: int, train: Part, **options: Any) -> Any:
    """It reads categories as strings, none missing."""
    catboost = importlib.import_module("catboost")
    trees = catboost.CatBoostRegressor if task == "regression" else catboost.CatBoostClassifier
    model = trees(
        cat_features=tuple(train.X.select_dtypes("category")),  # a list cannot be cloned
        thread_count=1,
        random_seed=split,
        verbose=0,
        allow_writing_files=False,
        **options,
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
