"""The mixture is found in any wrapper, or an error says that there is none."""

import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier
from skmode.inspection._evaluation import mixtures

QUICK = {"n_experts": 3, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
X, y = load_iris(return_X_y=True)


def test_the_mixture_is_found_in_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**QUICK))
    search = GridSearchCV(pipeline, {"modeclassifier__alpha": [1.0]}, cv=2).fit(X, y)
    mixture, rows = mixtures.unwrap(search, X)
    assert mixture is search.best_estimator_[-1]
    assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    alone = make_pipeline(MoDEClassifier(**QUICK)).fit(X, y)
    assert mixtures.unwrap(alone, X)[1] is X


def test_the_mixture_is_found_in_a_frozen_estimator():
    mixture = MoDEClassifier(**QUICK).fit(X, y)
    pipeline = make_pipeline(StandardScaler().fit(X), FrozenEstimator(mixture))
    found, rows = mixtures.unwrap(pipeline, X)
    assert found is mixture
    assert_allclose(rows.mean(axis=0), 0, atol=1e-12)


def test_other_estimators_raise():
    with pytest.raises(
        TypeError, match="LogisticRegression without gate_proba, expert_predict: pass the mixture"
    ):
        mixtures.unwrap(LogisticRegression(), X)


def test_unfitted_mixture_raises():
    with pytest.raises(NotFittedError):
        mixtures.unwrap(MoDEClassifier(), X)


def test_search_without_best_estimator_raises():
    search = GridSearchCV(MoDEClassifier(**QUICK), {"alpha": [0.0]}, cv=2, refit=False)
    for given in (search, make_pipeline(StandardScaler().fit(X), search)):
        with pytest.raises(NotFittedError, match="must be fitted, got GridSearchCV that is not"):
            mixtures.unwrap(given, None)
    with pytest.raises(NotFittedError, match="refit=False: fit it with refit=True, or pass"):
        mixtures.unwrap(search.fit(X, y), X)
