import pytest
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode._common.unwrap import fit_parameter_prefix, is_search, nested_estimators


def kinds(model, **options):
    return [type(part).__name__ for part in nested_estimators(model, **options)]


@pytest.fixture
def search():
    inner = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    return GridSearchCV(inner, {"model__C": [0.1, 1.0]}, cv=2)


def test_an_estimator_wraps_nothing():
    model = LogisticRegression()
    assert list(nested_estimators(model)) == [model]
    assert fit_parameter_prefix(model) == ""


def test_a_fitted_search_wraps_its_best_estimator(search):
    search.fit(*load_iris(return_X_y=True))
    *_, last = nested_estimators(make_pipeline(StandardScaler(), search))
    assert last is search.best_estimator_[-1]
    assert kinds(search) == ["GridSearchCV", "Pipeline", "LogisticRegression"]


def test_a_fitted_walk_ends_at_a_search_without_best_estimator(search):
    assert kinds(search) == ["GridSearchCV"]


def test_an_unfitted_walk_goes_through_a_search(search):
    assert kinds(search, fitted=False) == ["GridSearchCV", "Pipeline", "LogisticRegression"]


def test_frozen_estimators_are_opened_first(search):
    # A FrozenEstimator has all attributes of what it wraps, best_estimator_ too.
    search.fit(*load_iris(return_X_y=True))
    frozen = FrozenEstimator(search)
    assert kinds(frozen) == ["FrozenEstimator", *kinds(search)]


def test_fit_parameters_pass_through_a_search_and_get_the_names_of_steps(search):
    assert fit_parameter_prefix(Pipeline([("outer", search)])) == "outer__model__"


def test_searches_are_recognized_by_their_parameters(search):
    assert is_search(search)
    assert not is_search(LogisticRegression())
    assert not is_search(search.estimator)
