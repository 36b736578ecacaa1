"""skl2onnx converts models without our estimators as if skmode.onnx did not exist."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import skl2onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from skmode import MoDEClassifier
from skmode.onnx._skl2onnx import compat

PARAMS = {"n_experts": 2, "hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}


def make_table():
    rng = np.random.default_rng(0)
    n = 80
    return pd.DataFrame(
        {
            "text": rng.choice(["a", "b", "c d", "é"], n),
            "number": rng.choice([0.1, 0.25, 3.0], n),
            "other": rng.normal(size=n),
            "flag": rng.random(n) < 0.5,
            "count": rng.integers(0, 4, n),
        }
    )


# A model and the columns that it reads. All of their classes have replacements.
STEPS = {
    "integers": (ColumnTransformer([("count", "passthrough", ["count"])]), ["count", "number"]),
    "scaler": (StandardScaler(), ["number", "other"]),
    "imputer": (SimpleImputer(strategy="constant"), ["count"]),
    "one_hot": (OneHotEncoder(handle_unknown="ignore"), ["text"]),
    "ordinal": (OrdinalEncoder(), ["text"]),
    "union": (FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]), ["number", "other"]),
}
CLASSIFIERS = {
    "pipeline": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "search": GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}, cv=2),
    "isotonic": CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2),
    "sigmoid": CalibratedClassifierCV(LogisticRegression(), cv=2),
    "voting": VotingClassifier(
        [("a", LogisticRegression()), ("b", make_pipeline(StandardScaler(), LogisticRegression()))],
        voting="soft",
        flatten_transform=False,
    ),
    "stacking": StackingClassifier(
        [("a", LogisticRegression()), ("b", make_pipeline(StandardScaler(), LogisticRegression()))],
        cv=2,
    ),
}
REGRESSORS = {
    "voting_regressor": VotingRegressor([("a", Ridge()), ("b", Ridge(alpha=2))]),
    "stacking_regressor": StackingRegressor([("a", Ridge())], cv=2),
}


def fit_all(table):
    numbers = table[["number", "other"]].to_numpy()
    models = {
        name: (step.fit(table[columns]), table[columns][:1])
        for name, (step, columns) in STEPS.items()
    }
    for name, model in CLASSIFIERS.items():
        models[name] = (model.fit(numbers, table["flag"].astype(int)), numbers[:1])
    for name, model in REGRESSORS.items():
        models[name] = (model.fit(numbers, table["other"]), numbers[:1])
    return models


SCRIPT = """
import pickle, sys, threading
import skl2onnx
from skl2onnx import convert_sklearn, to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common._registration import _converter_pool, _shape_calculator_pool
from skl2onnx._parse import sklearn_parsers_map

TABLES = (_converter_pool, _shape_calculator_pool, sklearn_parsers_map)
with open(sys.argv[1], "rb") as file:
    models = pickle.load(file)

def convert_all():
    return {
        name: skl2onnx.to_onnx(model, X, target_opset=18).SerializeToString()
        for name, (model, X) in models.items()
    }

results = {"before the import": convert_all()}
tables = [dict(table) for table in TABLES]
assert "skmode" not in sys.modules
import skmode.onnx
results["after the import"] = convert_all()

with open(sys.argv[2], "rb") as file:
    ours, X = pickle.load(file)
first = to_onnx(ours, X, target_opset=18)
results["after one of ours"] = convert_all()

try:
    to_onnx(ours, X, target_opset=18, black_op={"Softmax"})
except RuntimeError:
    results["after a failure"] = convert_all()

# While one of ours is converted: it names its first value only when the other thread is done.
def wait_for_others(name, existing):
    if "while one of ours runs" not in results:
        thread = threading.Thread(target=lambda: meanwhile.update(convert_all()))
        thread.start()
        thread.join()
        results["while one of ours runs"] = meanwhile
    return name

meanwhile = {}
second = to_onnx(ours, X, target_opset=18, naming=wait_for_others)
assert second.graph.node == first.graph.node

# Many at once.
def repeat(action, outcomes):
    for _ in range(3):
        outcomes.append(action())

of_ours, of_others = [], []
threads = [
    threading.Thread(target=repeat, args=(lambda: to_onnx(ours, X, target_opset=18), of_ours)),
    threading.Thread(target=repeat, args=(lambda: to_onnx(ours, X, target_opset=18), of_ours)),
    threading.Thread(target=repeat, args=(convert_all, of_others)),
    threading.Thread(target=repeat, args=(convert_all, of_others)),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(of_ours) == len(of_others) == 6
assert all(model.graph == first.graph for model in of_ours)
for i, outcome in enumerate(of_others):
    results[f"beside ours, {i}"] = outcome

# Functions that were imported before skmode.onnx.
types = [("X", DoubleTensorType([None, X.shape[1]]))]
early = convert_sklearn(ours, "early", types, target_opset=18)
late = skl2onnx.convert_sklearn(ours, "early", types, target_opset=18)
assert early.graph == late.graph
assert "Cast" in {node.op_type for node in early.graph.node}

# Nothing that was in a table has changed; only classes that skl2onnx does not know are added.
for table, old in zip(TABLES, tables, strict=True):
    assert all(table[key] is value for key, value in old.items())
    names = {getattr(key, "__name__", key) for key in set(table) - set(old)}
    assert all("MoDE" in name or "FrozenEstimator" in name for name in names), names

with open(sys.argv[1], "wb") as file:
    pickle.dump(results, file)
"""


@pytest.fixture(scope="module")
def ours():
    """One of our estimators behind steps, in an ensemble: most replacements are needed."""
    table = make_table()
    X = table[["number", "other"]].to_numpy()
    model = make_pipeline(SimpleImputer(), StandardScaler(), MoDEClassifier(**PARAMS))
    model = VotingClassifier([("a", model), ("b", LogisticRegression())], voting="soft")
    return model.fit(X, table["flag"].astype(int)), X


@pytest.mark.slow
def test_models_without_skmode_convert_to_the_same_bytes(ours, tmp_path):
    models, mine = tmp_path / "models", tmp_path / "ours"
    models.write_bytes(pickle.dumps(fit_all(make_table())))
    mine.write_bytes(pickle.dumps((ours[0], ours[1][:1])))
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(models), str(mine)],
        check=True,
        # skl2onnx writes the opsets of a model in the order of a set.
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    results = pickle.loads(models.read_bytes())
    before = results.pop("before the import")
    assert set(before) == {*STEPS, *CLASSIFIERS, *REGRESSORS}
    assert len(results) == 10
    for moment, converted in results.items():
        for name, content in converted.items():
            assert content == before[name], f"{name} {moment}"


def tables():
    return [dict(table) for table in (compat.converters, compat.shape_calculators, compat.parsers)]


def test_tables_are_restored_after_success_and_failure(ours):
    model, X = ours
    before = tables()
    skl2onnx.to_onnx(model, X[:1], target_opset=18)
    assert tables() == before
    with pytest.raises(RuntimeError, match="'Softmax' is black listed"):
        skl2onnx.to_onnx(model, X[:1], target_opset=18, black_op={"Softmax"})
    assert tables() == before


def test_converters_registered_by_users_are_kept(ours, monkeypatch):
    def convert(scope, operator, container):
        raise ArithmeticError("the user's own")

    known = compat.converters["SklearnScaler"]
    mine = type(known)(convert, known.get_allowed_options())
    monkeypatch.setitem(compat.converters, "SklearnScaler", mine)
    with pytest.raises(ArithmeticError, match="the user's own"):
        skl2onnx.to_onnx(ours[0], ours[1][:1], target_opset=18)
    assert compat.converters["SklearnScaler"] is mine
