"""What skmode's speed is compared with: one network, and boosted trees in several libraries.

Each library computes with one thread and its own defaults. One that is not installed is left out
with a line that says so.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks._timing import Contender, open_session, session_runner

# The width that skmode's default experts had when the bars were set.
HIDDEN = (128,)
MLP_EPOCHS = 30

Codes = NDArray[np.intp]
Array = NDArray[Any]


def optional(package: str) -> ModuleType | None:
    """Import a library that the comparison can do without."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        print(f"{package} is left out: {error}. `pip install .[bench]` brings it in.", flush=True)
        return None


def array_peers(train: Array, codes: Codes, test: Array) -> Iterator[Contender]:
    """Fit every library on float64 numbers."""
    yield from _networks(train, codes, test)
    trees = HistGradientBoostingClassifier(random_state=0).fit(train, codes)
    yield Contender("HistGradientBoostingClassifier", trees.predict_proba, test)
    if lightgbm := optional("lightgbm"):
        yield from _lightgbm(lightgbm, train, codes, test)
    if xgboost := optional("xgboost"):
        # It computes with float32.
        yield from _xgboost(xgboost, train.astype(np.float32), codes, test.astype(np.float32))
    if catboost := optional("catboost"):
        yield from _catboost(catboost, train.astype(np.float32), codes, test.astype(np.float32))


def table_peers(train: pd.DataFrame, codes: Codes, test: pd.DataFrame) -> Iterator[Contender]:
    """Fit every library on a table with categories and missing values."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    network = make_pipeline(columns, _network()).fit(train, codes)
    yield Contender("encoders + MLPClassifier", network.predict_proba, test)
    trees = HistGradientBoostingClassifier(random_state=0).fit(train, codes)
    yield Contender("HistGradientBoostingClassifier", trees.predict_proba, test)
    if lightgbm := optional("lightgbm"):
        classifier = _lightgbm_classifier(lightgbm).fit(train, codes)
        yield Contender("LGBMClassifier", classifier.predict_proba, test)
    if xgboost := optional("xgboost"):
        classifier = _xgboost_classifier(xgboost, enable_categorical=True).fit(train, codes)
        yield Contender("XGBClassifier", classifier.predict_proba, test)
    if catboost := optional("catboost"):
        text = list(train.columns[train.dtypes == "category"])
        classifier = _catboost_classifier(catboost, cat_features=text).fit(train, codes)
        yield Contender("CatBoostClassifier", _one_thread(classifier), test)


def _network() -> MLPClassifier:
    return MLPClassifier(HIDDEN, max_iter=MLP_EPOCHS, random_state=0)


def _networks(train: Array, codes: Codes, test: Array) -> Iterator[Contender]:
    """Yield the bare network on scaled numbers of both float types, and with its scaler."""
    scaler = StandardScaler().fit(train)
    scaled, scaled_test = scaler.transform(train), scaler.transform(test)
    for dtype in (np.float64, np.float32):
        network = _network().fit(scaled.astype(dtype), codes)
        name = f"MLPClassifier, {np.dtype(dtype)}, scaled rows"
        yield Contender(name, network.predict_proba, scaled_test.astype(dtype))
    pipeline = make_pipeline(StandardScaler(), _network()).fit(train, codes)
    yield Contender("StandardScaler + MLPClassifier", pipeline.predict_proba, test)


def _lightgbm_classifier(lightgbm: ModuleType) -> Any:
    return lightgbm.LGBMClassifier(n_jobs=1, random_state=0, verbose=-1)


def _lightgbm(lightgbm: ModuleType, train: Array, codes: Codes, test: Array) -> Iterator[Contender]:
    classifier = _lightgbm_classifier(lightgbm).fit(train, codes)
    booster = classifier.booster_
    yield Contender("LGBMClassifier", classifier.predict_proba, test)
    yield Contender("LightGBM Booster", lambda X: booster.predict(X, num_threads=1), test)
    if onnxmltools := optional("onnxmltools"):
        yield _lightgbm_onnx(onnxmltools, classifier, test)


def _lightgbm_onnx(onnxmltools: ModuleType, classifier: Any, test: Array) -> Contender:
    types = importlib.import_module("onnxmltools.convert.common.data_types")
    model = onnxmltools.convert_lightgbm(
        classifier,
        initial_types=[("X", types.FloatTensorType([None, test.shape[1]]))],
        zipmap=False,
        target_opset=15,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lightgbm.onnx"
        path.write_bytes(model.SerializeToString())
        session = open_session(path)
    return Contender("LightGBM in ONNX", session_runner(session), test.astype(np.float32))


def _xgboost_classifier(xgboost: ModuleType, **options: Any) -> Any:
    return xgboost.XGBClassifier(n_jobs=1, random_state=0, **options)


def _xgboost(xgboost: ModuleType, train: Array, codes: Codes, test: Array) -> Iterator[Contender]:
    classifier = _xgboost_classifier(xgboost).fit(train, codes)
    yield Contender("XGBClassifier", classifier.predict_proba, test)
    yield Contender("XGBoost inplace_predict", classifier.get_booster().inplace_predict, test)


def _catboost_classifier(catboost: ModuleType, **options: Any) -> Any:
    return catboost.CatBoostClassifier(
        thread_count=1, random_seed=0, verbose=False, allow_writing_files=False, **options
    )


def _catboost(catboost: ModuleType, train: Array, codes: Codes, test: Array) -> Iterator[Contender]:
    classifier = _catboost_classifier(catboost).fit(train, codes)
    yield Contender("CatBoostClassifier", _one_thread(classifier), test)


def _one_thread(classifier: Any) -> Any:
    """CatBoost predicts with all threads whatever it was fitted with."""
    return lambda X: classifier.predict_proba(X, thread_count=1)
