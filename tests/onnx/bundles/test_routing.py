"""A bundle that predicts by the top expert says how far that is from the estimator's mixture."""

import re
import warnings

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import RoutingDifferenceWarning, export


def numbers_in(record):
    (warning,) = record
    assert warning.filename == __file__
    text = str(warning.message)
    pattern = r"On ([\d,]+) rows of X, \w+ differ by (\S+) at most and ([\d.e-]+?) on average"
    return text, [float(x.replace(",", "")) for x in re.search(pattern, text).groups()]


def test_regressor(array, fit_regressor, tmp_path):
    estimator = fit_regressor(array)
    with pytest.warns(RoutingDifferenceWarning) as record:
        export(estimator, tmp_path, X=array)
    text, (n_rows, largest, mean) = numbers_in(record)
    served = skmode_deploy.load(tmp_path).predict(array)
    errors = np.abs(served - estimator.predict(array))
    assert n_rows == 1000
    assert errors.max() == pytest.approx(largest, rel=0.01)
    assert errors.mean() == pytest.approx(mean, rel=0.01)
    assert 'Pass routing="mixture" to export' in text
    assert 'or set inference="top_expert"' in text


def test_classifier_in_a_pipeline(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array)
    pipeline = make_pipeline(StandardScaler(), estimator)
    pipeline[0].fit(array)
    with pytest.warns(RoutingDifferenceWarning) as record:
        export(pipeline, tmp_path, X=array)
    text, (_, largest, _) = numbers_in(record)
    served = skmode_deploy.load(tmp_path)
    errors = np.abs(served.predict_proba(array) - pipeline.predict_proba(array))
    assert errors.max() == pytest.approx(largest, rel=0.01)
    share = np.mean(served.predict(array) != pipeline.predict(array))
    assert f"{share:.1%} of the labels differ" in text


def test_validation_scores(tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 3))
    estimator = MoDERegressor(n_experts=2, max_epochs=3, random_state=0, early_stopping=True).fit(
        X, X[:, 0]
    )
    scores = estimator.validation_scores_
    with pytest.warns(RoutingDifferenceWarning) as record:
        export(estimator, tmp_path)
    (warning,) = record
    assert f"mixture scored {scores['mixture']:.4g}" in str(warning.message)
    assert f"top expert {scores['top_expert']:.4g}" in str(warning.message)


@pytest.mark.parametrize("case", ["top expert", "mixture", "one expert", "equal"])
def test_no_difference_no_warning(case, array, fit_classifier, tmp_path):
    X = array[:50]
    params = {"n_experts": 1} if case == "one expert" else {}
    estimator = fit_classifier(X, **params)
    if case == "top expert":
        estimator.set_params(inference="top_expert")
    if case == "equal":

        class Equal(MoDEClassifier):
            def predict_proba(self, X):
                return MoDEClassifier.predict_proba(self.set_params(inference="top_expert"), X)

        estimator.__class__ = Equal
    with warnings.catch_warnings():
        warnings.simplefilter("error", RoutingDifferenceWarning)
        export(estimator, tmp_path, X=X, routing="mixture" if case == "mixture" else "top_expert")
