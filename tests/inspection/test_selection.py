"""Selection of features by scikit-learn's selectors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.feature_selection import (
    RFE,
    RFECV,
    SelectFromModel,
    SequentialFeatureSelector,
)
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch import NeuralNet

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import FeatureImportance, feature_importances

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 15, "random_state": 0}
MEASURED = QUICK | {"callbacks": [FeatureImportance(random_state=0)], "early_stopping": True}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
# Where both share what is tested.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)

# Of six columns two decide.
DECIDING = [1, 4]
random = np.random.default_rng(0)
X = random.normal(size=(240, 6))
y = (X[:, 1] + X[:, 4] > 0).astype(int)


@BOTH
def test_the_deciding_columns_are_found(Estimator):
    importances = feature_importances(Estimator(**MEASURED).fit(X, y))
    assert importances.dtype == np.float64
    assert importances.shape == (6,)
    assert (importances >= 0).all()
    assert sorted(np.argsort(importances)[-2:]) == DECIDING


@CLASSIFIER_FIRST
@pytest.mark.slow
def test_recursive_elimination_keeps_the_deciding_columns(Estimator):
    selector = RFE(
        Estimator(**MEASURED), n_features_to_select=2, importance_getter=feature_importances
    )
    assert selector.fit(X, y).get_support(indices=True).tolist() == DECIDING
    assert sorted(np.argsort(selector.ranking_)[:2]) == DECIDING
    assert selector.score(X, y) > 0.5


@pytest.mark.slow
def test_elimination_by_cross_validation():
    few = X[:, [0, 1, 4]]
    selector = RFECV(MoDEClassifier(**MEASURED), cv=2, importance_getter=feature_importances)
    selector.fit(few, y)
    assert set(selector.get_support(indices=True)) >= {1, 2}
    assert selector.ranking_[0] == selector.ranking_.max()


def test_selection_from_a_model():
    selector = SelectFromModel(MoDEClassifier(**MEASURED), importance_getter=feature_importances)
    assert selector.fit(X, y).get_support(indices=True).tolist() == DECIDING
    fitted = MoDEClassifier(**QUICK).fit(X, y)
    selector = SelectFromModel(
        fitted,
        prefit=True,
        importance_getter=lambda model: (
            permutation_importance(model, X, y, random_state=0).importances_mean
        ),
    )
    assert selector.fit(X, y).get_support(indices=True).tolist() == DECIDING


@pytest.mark.slow
def test_selection_from_a_table_with_categories():
    frame = pd.DataFrame({"noise": X[:, 0], "kind": np.where(X[:, 1] > 0, "a", "b")})
    frame.insert(1, "number", X[:, 4])
    classifier = MoDEClassifier(**MEASURED).fit(frame, y)
    noise, number, kind = feature_importances(classifier)
    assert max(noise, 0.01) < min(number, kind)
    selector = SelectFromModel(
        MoDEClassifier(**MEASURED), threshold="0.3*mean", importance_getter=feature_importances
    ).set_output(transform="pandas")
    assert selector.fit_transform(frame, y).columns.tolist() == ["number", "kind"]


@pytest.mark.slow
def test_sequential_selection_needs_no_importances():
    selector = SequentialFeatureSelector(
        MoDEClassifier(**QUICK | {"max_epochs": 8}, batch_size=32), n_features_to_select=2, cv=2
    )
    chosen = selector.fit(X[:, [0, 1, 4]], y).get_support(indices=True)
    assert chosen.tolist() == [1, 2]


@CLASSIFIER_FIRST
@pytest.mark.parametrize("inference", ["mixture", "top_expert"])
def test_importances_are_rises_of_the_validation_loss(Estimator, inference):
    options = {"refit_fraction": 0, "inference": inference}
    estimator = Estimator(**MEASURED | options)
    if Estimator is MoDEClassifier:
        estimator.calibration = None
    own = slice(180, None)
    estimator.fit(X[:180], y[:180], X_val=X[own], y_val=y[own])

    def loss(rows):
        if Estimator is MoDEClassifier:
            return -estimator.predict_log_proba(rows)[np.arange(60), y[own]].mean()
        return (((y[own] - estimator.predict(rows)) / estimator.target_scale_) ** 2).mean()

    draws = np.random.RandomState(0)
    expected = []
    for column in range(6):
        losses = []
        for _ in range(5):
            rows = X[own].copy()
            rows[:, column] = rows[draws.permutation(60), column]
            losses.append(loss(rows))
        expected.append(np.mean(losses) - loss(X[own]))
    half = 1 if Estimator is MoDEClassifier else 0.5
    assert_allclose(
        feature_importances(estimator), half * np.clip(expected, 0, None), rtol=1e-3, atol=1e-5
    )


@pytest.mark.slow
def test_measuring_changes_no_prediction():
    plain = MoDEClassifier(**QUICK).fit(X, y)
    measured = MoDEClassifier(**MEASURED).fit(X, y)
    assert_array_equal(measured.predict_proba(X), plain.predict_proba(X))
    again = pickle.loads(pickle.dumps(measured))
    assert_array_equal(feature_importances(again), feature_importances(measured))
    other = MoDEClassifier(**MEASURED).fit(X, y)
    assert_array_equal(feature_importances(other), feature_importances(measured))


@pytest.mark.slow
def test_of_several_alphas_the_chosen_one_is_measured():
    auto = MoDEClassifier(**MEASURED, alpha="auto").fit(X, y)
    chosen = MoDEClassifier(**MEASURED, alpha=auto.alpha_).fit(X, y)
    assert_allclose(feature_importances(auto), feature_importances(chosen))


@pytest.mark.slow
def test_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**MEASURED))
    selector = RFE(pipeline, n_features_to_select=2, step=2, importance_getter=feature_importances)
    assert selector.fit(X, y).get_support(indices=True).tolist() == DECIDING
    quick = MoDEClassifier(**MEASURED | {"max_epochs": 1})
    search = GridSearchCV(make_pipeline(StandardScaler(), quick), {}, cv=2).fit(X, y)
    assert feature_importances(search).shape == (6,)
    moving = make_column_transformer((StandardScaler(), [1, 0]), remainder="passthrough")
    for step in (moving, FunctionTransformer(np.sin), OneHotEncoder(sparse_output=False)):
        pipeline = make_pipeline(step, quick).fit(X.round(), y)
        with pytest.raises(ValueError, match="before the mixture must keep the columns and their"):
            feature_importances(pipeline)


def test_without_a_measurement_the_way_out_is_said():
    message = r"must be measured in fit, .* pass callbacks=\[FeatureImportance\(\)\], and early_st"
    few = MoDEClassifier(**MEASURED | {"early_stopping": "auto"}).fit(
        X[:60], y[:60]
    )  # holds out no rows
    for estimator in (few, MoDEClassifier(**QUICK).fit(X, y), few.partial_fit(X, y)):
        with pytest.raises(ValueError, match=message):
            feature_importances(estimator)
    few.set_params(early_stopping=True).fit(X[:60], y[:60])
    assert feature_importances(few).shape == (6,)
    with pytest.raises(ValueError, match="n_repeats must be a whole number of at least 1, got 0"):
        MoDEClassifier(**QUICK, callbacks=[FeatureImportance(0)]).fit(X, y)
    net = NeuralNet(torch.nn.Linear(2, 1), torch.nn.MSELoss, callbacks=[FeatureImportance()])
    with pytest.raises(RuntimeError, match="needs the validation rows of the estimators of skmode"):
        net.fit(np.ones((8, 2), dtype="f4"), np.ones((8, 1), dtype="f4"))


@pytest.mark.slow
def test_on_real_rows_noise_is_dropped():
    wine, label = load_wine(return_X_y=True)
    noise = np.random.default_rng(0).normal(size=(len(wine), 5))
    selector = RFE(
        MoDEClassifier(**MEASURED),
        n_features_to_select=8,
        step=2,
        importance_getter=feature_importances,
    ).fit(np.hstack([wine, noise]), label)
    assert selector.get_support()[13:].sum() <= 2
    assert selector.get_support()[:13].sum() >= 6


@pytest.mark.slow
def test_sparse_rows_are_measured_as_dense_ones():
    rows = X * (np.random.default_rng(1).random(X.shape) < 0.5)
    frame = pd.DataFrame(scipy.sparse.csr_array(rows).toarray()).rename(columns="c{}".format)
    frame["kind"] = np.where(rows[:, 0] > 0, "a", "b")
    sparse = frame.astype({"c1": pd.SparseDtype(float, 0), "c2": pd.SparseDtype(float, 0)})
    for dense, other in ((rows, scipy.sparse.csr_array(rows)), (frame, sparse)):
        expected, found = (
            feature_importances(MoDEClassifier(**MEASURED).fit(each, y)) for each in (dense, other)
        )
        assert expected.max() > 0
        assert_array_equal(found, expected)
