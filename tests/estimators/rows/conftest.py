"""Teachers and tables for the tests of teaching."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.tree import DecisionTreeClassifier


class CountingTeacher(ClassifierMixin, BaseEstimator):
    """Counts its fits, and keeps the rows and weights of each."""

    fits: ClassVar[list] = []

    def __init__(self, depth=3):
        self.depth = depth

    def fit(self, X, y, sample_weight=None):
        self.fits.append((X, y, sample_weight))
        self.model_ = DecisionTreeClassifier(max_depth=self.depth, random_state=0)
        self.model_.fit(np.asarray(X, dtype=float), y, sample_weight)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(np.asarray(X, dtype=float))

    def predict_proba(self, X):
        return self.model_.predict_proba(np.asarray(X, dtype=float))


@pytest.fixture
def counting():
    """Return a teacher that has not counted anything yet."""
    CountingTeacher.fits.clear()
    return clone(CountingTeacher())


@pytest.fixture
def frame():
    """Return a table with numbers, categories and missing values."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(160, 3)), columns=list("abc"))
    table["kind"] = pd.Categorical(rng.choice(["x", "y", "z"], 160))
    table["word"] = rng.choice(["one", "two"], 160)
    table.loc[::7, "a"] = np.nan
    table.loc[::11, "kind"] = None
    return table
