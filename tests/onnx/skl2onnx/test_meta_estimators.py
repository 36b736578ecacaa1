"""Every model of scikit-learn that can be around an estimator is converted right, or refused."""

import functools
import inspect
import re

import numpy as np
import pandas as pd
import pytest
import skl2onnx
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression, RANSACRegressor, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import all_estimators

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import export

# Every meta-estimator that scikit-learn has; test_models.py has those that are used most.
pytestmark = pytest.mark.slow

PARAMS = {
    "n_experts": 2,
    "hidden_layer_sizes": (6,),
    "max_epochs": 4,
    "batch_size": 1000,
    "learning_rate": 0.05,
    "random_state": 0,
    "inference": "top_expert",
}
CLASSIFY = MoDEClassifier(**PARAMS)
REGRESS = MoDERegressor(**PARAMS)
GRID = {"n_experts": [2]}


def importances(estimator):
    return np.arange(estimator.n_features_in_, 0, -1)


def select(selector):
    """A classifier of ours behind a selector by another one."""
    return make_pipeline(selector, CLASSIFY)


SELECT = {"importance_getter": importances}
HALVING = {"cv": 2, "min_resources": 40, "random_state": 0}
# A model for each class; the targets that it is fitted on; whether it becomes a bundle.
CONVERTED = {
    AdaBoostClassifier: (AdaBoostClassifier(CLASSIFY, n_estimators=2), "labels", False),
    AdaBoostRegressor: (AdaBoostRegressor(REGRESS, n_estimators=2), "values", False),
    BaggingClassifier: (BaggingClassifier(CLASSIFY, 2, max_features=2), "labels", False),
    BaggingRegressor: (BaggingRegressor(REGRESS, 2, max_features=2), "values", False),
    CalibratedClassifierCV: (CalibratedClassifierCV(CLASSIFY, cv=2), "labels", False),
    ClassifierChain: (ClassifierChain(CLASSIFY), "two labels", False),
    ColumnTransformer: (
        make_pipeline(ColumnTransformer([("a", StandardScaler(), [0, 2])]), CLASSIFY),
        "labels",
        True,
    ),
    FeatureUnion: (
        make_pipeline(FeatureUnion([("a", SelectFromModel(CLASSIFY, **SELECT))]), CLASSIFY),
        "labels",
        True,
    ),
    FixedThresholdClassifier: (FixedThresholdClassifier(CLASSIFY, threshold=0.45), "binary", True),
    FrozenEstimator: (CLASSIFY, "labels", True),
    GridSearchCV: (GridSearchCV(CLASSIFY, GRID, cv=2), "labels", True),
    HalvingGridSearchCV: (HalvingGridSearchCV(CLASSIFY, GRID, **HALVING), "labels", True),
    HalvingRandomSearchCV: (
        HalvingRandomSearchCV(CLASSIFY, GRID, n_candidates=1, **HALVING),
        "labels",
        True,
    ),
    MultiOutputClassifier: (MultiOutputClassifier(CLASSIFY), "two labels", False),
    MultiOutputRegressor: (MultiOutputRegressor(REGRESS), "two values", False),
    OneVsOneClassifier: (OneVsOneClassifier(CLASSIFY), "labels", False),
    OneVsRestClassifier: (OneVsRestClassifier(CLASSIFY), "labels", False),
    RANSACRegressor: (
        RANSACRegressor(REGRESS, min_samples=60, max_trials=2, residual_threshold=9.0),
        "values",
        True,
    ),
    RFE: (select(RFE(CLASSIFY, n_features_to_select=2, **SELECT)), "labels", True),
    RFECV: (select(RFECV(CLASSIFY, cv=2, step=3, **SELECT)), "labels", True),
    RandomizedSearchCV: (RandomizedSearchCV(CLASSIFY, GRID, n_iter=1, cv=2), "labels", True),
    RegressorChain: (RegressorChain(REGRESS, order=[1, 0]), "two values", False),
    SelectFromModel: (
        select(SelectFromModel(CLASSIFY, **SELECT, max_features=1, threshold=-np.inf)),
        "labels",
        True,
    ),
    SelfTrainingClassifier: (SelfTrainingClassifier(CLASSIFY), "binary", True),
    SequentialFeatureSelector: (
        select(SequentialFeatureSelector(CLASSIFY, n_features_to_select=1, cv=2)),
        "labels",
        True,
    ),
    StackingClassifier: (
        StackingClassifier([("a", CLASSIFY), ("b", LogisticRegression())], cv=2, passthrough=True),
        "labels",
        False,
    ),
    StackingRegressor: (StackingRegressor([("a", REGRESS), ("b", Ridge())], cv=2), "values", False),
    TransformedTargetRegressor: (
        TransformedTargetRegressor(
            REGRESS, func=np.cbrt, inverse_func=np.tanh, check_inverse=False
        ),
        "values",
        True,
    ),
    TunedThresholdClassifierCV: (
        TunedThresholdClassifierCV(CLASSIFY, scoring="recall", cv=2),
        "binary",
        True,
    ),
    VotingClassifier: (
        VotingClassifier([("a", CLASSIFY), ("b", LogisticRegression())], voting="soft"),
        "labels",
        False,
    ),
    VotingRegressor: (VotingRegressor([("a", REGRESS), ("b", Ridge())]), "values", False),
}
CONVERTED["Pipeline"] = (make_pipeline(StandardScaler(), CLASSIFY), "labels", True)
every_model = pytest.mark.parametrize(
    "kind", CONVERTED, ids=lambda kind: getattr(kind, "__name__", kind)
)
# What is refused, with a part of the message.
REFUSED = {
    "IterativeImputer": (
        lambda: make_pipeline(IterativeImputer(REGRESS, max_iter=1), LogisticRegression()),
        "got IterativeImputer around a MoDE estimator",
    ),
    "OutputCodeClassifier": (
        lambda: OutputCodeClassifier(CLASSIFY, random_state=0),
        "got OutputCodeClassifier around a MoDE estimator",
    ),
    "RFE": (
        lambda: RFE(CLASSIFY, n_features_to_select=2, **SELECT),
        "got RFE as the model that predicts: convert .*make_pipeline",
    ),
    "RFECV": (
        lambda: RFECV(CLASSIFY, cv=2, step=3, **SELECT),
        "got RFECV as the model that predicts",
    ),
    "StackingClassifier, labels": (
        lambda: StackingClassifier([("a", CLASSIFY)], cv=2, stack_method="predict"),
        "got StackingClassifier with stack_method='predict': fit it with",
    ),
    "StackingClassifier, transform": (
        lambda: make_pipeline(StackingClassifier([("a", CLASSIFY)], cv=2), LogisticRegression()),
        "got StackingClassifier before the last step of a Pipeline",
    ),
    "StackingClassifier of others, transform": (
        lambda: make_pipeline(StackingClassifier([("a", LogisticRegression())], cv=2), CLASSIFY),
        "got StackingClassifier before the last step of a Pipeline",
    ),
    "OneVsRestClassifier": (
        lambda: OneVsRestClassifier(REGRESS),
        "got OneVsRestClassifier of regressors",
    ),
}


def test_all_models_are_known():
    """A new model of scikit-learn around another one must be added above, or be refused."""
    takes = r"(base_|final_)?(estimators?|regressor|classifier|transformers|transformer_list|steps)"
    found = {
        name
        for name, kind in all_estimators()
        if any(re.fullmatch(takes, parameter) for parameter in inspect.signature(kind).parameters)
    }
    known = {getattr(kind, "__name__", kind) for kind in CONVERTED}
    assert found <= known | {name.split(",")[0] for name in REFUSED}
    assert known <= found


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 4)) * [1, 10, 100, 1]


def targets(kind, X):
    values = X[:, 0] + X[:, 3]
    return {
        "binary": (values > 0).astype(int),
        "labels": np.array(["few", "many", "some"])[np.digitize(values, [-0.5, 0.5])],
        "two labels": np.column_stack([values > 0, X[:, 1] > 0]).astype(int),
        "values": values + 3,
        "two values": np.column_stack([values, X[:, 1]]),
    }[kind]


@pytest.fixture(scope="module")
def fitted(rows):
    """Fit the model of a class, on an array or a table, once."""

    @functools.cache
    def fit(kind, table=False):
        model, target, _ = CONVERTED[kind]
        model = clone(model)
        if "random_state" in model.get_params():
            model.set_params(random_state=0)
        model.fit(to_table(rows) if table else rows, targets(target, rows))
        return FrozenEstimator(model) if kind is FrozenEstimator else model

    return fit


def to_table(rows):
    return pd.DataFrame(rows, columns=list("abcd")).astype({"a": np.float32})


def options(model):
    return {id(model): {"zipmap": False}} if is_classifier(model) else None


def assert_equal(answers, model, X, atol=1e-5):
    expected = model.predict(X)
    if not is_classifier(model):
        atol *= np.abs(expected).max()
        assert_allclose(answers[0].reshape(expected.shape), expected, rtol=0, atol=atol)
        return
    assert_array_equal(answers[0], expected)
    assert len(np.unique(expected)) > 1
    if hasattr(model, "predict_proba"):
        assert_allclose(answers[1], model.predict_proba(X), rtol=0, atol=atol)


@every_model
def test_converted(kind, rows, fitted, run):
    model = fitted(kind)
    for X in (rows, rows.astype(np.float32), rows.round().astype(np.int64)):
        X = np.concatenate([X, 2 * X])
        converted = skl2onnx.to_onnx(model, X[:1], options=options(model), target_opset=18)
        assert_equal(run(converted, X), model, X)


@every_model
def test_converted_from_a_table(kind, rows, fitted, run):
    model, X = fitted(kind, table=True), to_table(rows)
    converted = skl2onnx.to_onnx(model, X[:1], options=options(model), target_opset=18)
    assert_equal(run(converted, X), model, X)


@every_model
def test_exported(kind, rows, fitted, tmp_path):
    model = fitted(kind)
    if not CONVERTED[kind][2]:
        name = kind.__name__
        with pytest.raises(TypeError, match=f"holds one MoDEClassifier .* got {name}, which may"):
            export(model, tmp_path, X=rows)
        return
    export(model, tmp_path, X=rows)
    for strategy in ("graph", "split"):
        served = skmode_deploy.load(tmp_path, strategy=strategy)
        answers = [served.predict(rows)]
        if is_classifier(model):
            answers.append(served.predict_proba(rows))
        assert_equal(answers, model, rows)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, rows, tmp_path):
    make, message = REFUSED[case]
    kind = "binary" if case == "OneVsRestClassifier" else "labels"
    model = make().fit(rows, targets(kind, rows))
    with pytest.raises(NotImplementedError, match=message):
        skl2onnx.to_onnx(model, rows[:1], target_opset=18)
    with pytest.raises((NotImplementedError, TypeError), match=case.split()[0].strip(",")):
        export(model, tmp_path / "bundle", X=rows)
    assert not (tmp_path / "bundle").exists()


class OtherSearch(RandomizedSearchCV):
    """A search of another package, such as scikit-optimize's."""


def test_other_searches(rows, run, tmp_path):
    model = OtherSearch(CLASSIFY, GRID, n_iter=1, cv=2).fit(rows, targets("labels", rows))
    for _ in range(2):
        converted = skl2onnx.to_onnx(model, rows[:1], options=options(model), target_opset=18)
        assert_equal(run(converted, rows), model, rows)
    export(model, tmp_path, X=rows)


class Around(SelfTrainingClassifier):
    """A model of another package."""


def test_own_converter_of_a_user_is_used(rows):
    def convert(scope, operator, container):
        raise ArithmeticError("the user's own")

    model = Around(CLASSIFY).fit(rows, targets("binary", rows))
    with pytest.raises(NotImplementedError, match="got Around around a MoDE estimator"):
        skl2onnx.to_onnx(model, rows[:1], target_opset=18)
    skl2onnx.update_registered_converter(Around, "TestAround", lambda operator: None, convert)
    with pytest.raises(ArithmeticError, match="the user's own"):
        skl2onnx.to_onnx(model, rows[:1], target_opset=18)
