"""Mixtures with prescribed predictions, so that every figure can be computed by hand."""

import sys
import warnings

import matplotlib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import load_diabetes, load_wine

from skmode import MoDEClassifier, MoDERegressor, RoutingCollapseWarning


class Told:
    """Row i of X says with its first number which row of the answers is meant."""

    def __init__(self, gate, experts, mixture):
        self.gate = gate
        self.experts = experts
        self.mixture = mixture
        self.fitted_ = True

    def fit(self, X, y):
        return self

    def _rows(self, X):
        return np.asarray(X)[:, 0].astype(int)

    def gate_proba(self, X):
        return np.asarray(self.gate, dtype=float)[self._rows(X)]

    def expert_predict(self, X):
        return np.asarray(self.experts)[self._rows(X)]

    def predict(self, X):
        return np.asarray(self.mixture)[self._rows(X)]


class ToldClassifier(ClassifierMixin, Told, BaseEstimator):
    def __init__(self, gate, experts, mixture, classes):
        super().__init__(gate, experts, mixture)
        self.classes = classes
        self.classes_ = np.asarray(classes)


class ToldRegressor(RegressorMixin, Told, BaseEstimator):
    pass


@pytest.fixture(scope="session")
def told_classifier():
    return ToldClassifier


@pytest.fixture(scope="session")
def told_regressor():
    return ToldRegressor


@pytest.fixture
def six_rows():
    """Six rows, three experts; what comes of them is worked out in the tests.

    row   true  experts  route  mixture
    0     a     a a b    0      a
    1     a     b a b    0      b        misrouted
    2     b     a a a    1      a        expert
    3     b     b b b    1      a        mixing
    4     c     c a a    1      c
    5     c     c c c    2      c
    """
    experts = ["aab", "bab", "aaa", "bbb", "caa", "ccc"]
    gate = np.full((6, 3), 0.1)
    gate[np.arange(6), [0, 0, 1, 1, 1, 2]] = 0.8
    X = np.arange(6.0)[:, None]
    y = np.array(list("aabbcc"))
    mixture = ToldClassifier(
        gate, np.array([list(row) for row in experts]), np.array(list("abaacc")), list("abc")
    )
    return mixture, X, y


@pytest.fixture(scope="session")
def wine():
    return load_wine(return_X_y=True, as_frame=True)


@pytest.fixture(scope="session")
def diabetes():
    return load_diabetes(return_X_y=True)


QUICK = {"hidden_layer_sizes": (12, 8), "max_epochs": 12, "random_state": 0, "balance": 0.1}


@pytest.fixture(scope="session")
def wine_mixture(wine):
    """Trained on every other row, so that it errs on some."""
    X, y = wine
    options = QUICK | {"max_epochs": 4, "early_stopping": False}
    return MoDEClassifier(n_experts=3, mixing="representation", alpha=0.1, **options).fit(
        X[::2], y[::2]
    )


@pytest.fixture(scope="session")
def diabetes_mixture(diabetes):
    X, y = diabetes
    return MoDERegressor(n_experts=3, alpha=0.1, **QUICK).fit(X[::2], y[::2])


@pytest.fixture
def without(monkeypatch):
    """Make a package look as if it were not installed."""

    def hide(package):
        for name in [package, *sys.modules]:
            if name.split(".")[0] == package:
                monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture(autouse=True)
def drawn_in_memory():
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RoutingCollapseWarning)
        yield
    plt.close("all")
