"""A bundle that predicts by the top expert says how far that is from the estimator's mixture."""

import re
import warnings

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
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


def difference_in(manifest):
    found = manifest.routing_difference
    return found.rows, found.mean, found.max


@pytest.mark.parametrize("with_rows", [False, True])
@pytest.mark.parametrize("kind", ["binary", "classes", "value", "values"])
def test_on_the_validation_rows(kind, with_rows, tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 3))
    y = {"binary": X[:, 0] > 0, "classes": np.digitize(X[:, 0], [-1, 1]), "value": 9 * X[:, 1]}
    target = y.get(kind, X[:, :2] * [1, 1000])
    Estimator = MoDEClassifier if kind in ("binary", "classes") else MoDERegressor
    estimator = Estimator(n_experts=3, max_epochs=4, random_state=0).fit(X, target)
    with pytest.warns(RoutingDifferenceWarning) as record:
        export(estimator, tmp_path, X=X if with_rows else None)
    (warning,) = record
    text = str(warning.message)
    mean, largest = (np.ravel(estimator.routing_difference_[name]) for name in ("mean", "max"))
    shown = [", ".join(f"{number:.3g}" for number in numbers) for numbers in (largest, mean)]
    what = "probabilities" if Estimator is MoDEClassifier else "predictions"
    fact = f"{what} differ by {shown[0]} at most and {shown[1]} on average"
    assert f"On the validation rows of fit, {fact}" in text
    assert ("On 200 rows of X" in text) == with_rows
    assert ("one number for each target" in text) == (kind == "values")
    manifest = skmode_deploy.load(tmp_path).manifest
    assert difference_in(manifest) == ("validation", tuple(mean), tuple(largest))
    assert f"measured after all training, {fact}" in (tmp_path / "README.md").read_text()
    # A pickle of an older release has no such attribute.
    del estimator.routing_difference_
    with pytest.warns(RoutingDifferenceWarning, match="the mixture scored"):
        export(estimator, tmp_path, X=X if with_rows else None)
    found = skmode_deploy.load(tmp_path).manifest.routing_difference
    assert (found.rows if found else None) == ("export" if with_rows else None)


def test_transformed_target_has_another_unit(tmp_path):
    """So it is measured on X, after the inverse."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    model = TransformedTargetRegressor(
        MoDERegressor(n_experts=2, max_epochs=3, random_state=0), func=np.log, inverse_func=np.exp
    ).fit(X, np.exp(5 + X[:, 0]))
    with pytest.warns(RoutingDifferenceWarning) as record:
        export(model, tmp_path, X=X)
    _, (n_rows, largest, mean) = numbers_in(record)
    errors = np.abs(skmode_deploy.load(tmp_path).predict(X) - model.predict(X))
    assert (n_rows, largest) == (200, pytest.approx(errors.max(), rel=0.01))
    assert mean == pytest.approx(errors.mean(), rel=0.01)
    found = difference_in(skmode_deploy.load(tmp_path).manifest)
    assert found == ("export", pytest.approx([mean], rel=0.01), pytest.approx([largest], rel=0.01))


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
    assert "routing_difference" not in (tmp_path / "manifest.json").read_text()
