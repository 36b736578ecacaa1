"""Teachers are copied without what they learned, whatever their class does with its parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils import get_tags

from skmode import MoDEClassifier
from skmode._estimators.rows.left_out import without_models
from skmode._estimators.rows.teaching import check_teachers, copy_unfitted

X = np.random.RandomState(0).randn(60, 3)
y = (X[:, 0] > 0).astype(int)


class Stubborn(TransformerMixin, ClassifierMixin, BaseEstimator):
    """Cannot be cloned, because it does not keep its parameter itself."""

    def __init__(self, names=()):
        self.names = list(names)

    def fit(self, X, y, sample_weight=None):
        self.learned_ = True
        return self

    def transform(self, X):
        return X

    def get_feature_names_out(self, names=None):
        return names


class Doubling(BaseEstimator):
    def __init__(self, rate=1.0):
        self.rate = 2 * rate


class Positional(BaseEstimator):
    def __init__(self, *names):
        self.names = names


class Holder(BaseEstimator):
    def __init__(self, members=None):
        self.members = members


class Member(NamedTuple):
    name: str
    estimator: Any


class Duck:
    """No estimator of scikit-learn's, so it has no tags."""

    def get_params(self, deep=True):
        return {}

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[np.zeros(len(X), dtype=int)]

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize(
    ("wrap", "find"),
    [
        (lambda each: Holder({"a": each}), lambda copy: copy.members["a"]),
        (lambda each: Holder({"a": [("b", each, ["c"])]}), lambda copy: copy.members["a"][0][1]),
        (
            lambda each: VotingClassifier([Member("a", each), ("b", Stubborn())]),
            lambda copy: copy.estimators[0].estimator,
        ),
    ],
)
def test_members_of_dicts_and_named_tuples(wrap, find):
    fitted = Stubborn(["a"]).fit(X, y)
    copied = find(copy_unfitted(wrap(fitted)))
    assert copied.get_params() == {"names": ["a"]}
    assert not hasattr(copied, "learned_")


def test_a_frozen_member_of_a_named_tuple_is_left_out():
    frozen = FrozenEstimator(Stubborn().fit(X, y))
    without = without_models(VotingClassifier([Member("a", frozen)]))
    assert without.estimators[0].estimator.name == "Stubborn"


def test_what_a_constructor_would_change_again():
    teacher = Doubling(1.0)
    with pytest.raises(RuntimeError, match="Cannot clone"):
        clone(teacher)
    assert copy_unfitted(teacher).rate == 2
    assert copy_unfitted(Positional("a", "b")).names == ("a", "b")


def test_requests_and_output_are_kept():
    teacher = Stubborn(["a"]).set_output(transform="pandas")
    with sklearn.config_context(enable_metadata_routing=True):
        teacher.set_fit_request(sample_weight=True)
        copied = copy_unfitted(teacher)
        assert copied.get_metadata_routing().fit.requests == {"sample_weight": True}
    assert copied._sklearn_output_config == {"transform": "pandas"}


class Tagless(LogisticRegression):
    """Its tags fail, such as those that look for what is not there."""

    def __sklearn_tags__(self):
        raise RuntimeError("no tags")


def test_tags_that_fail_are_as_none():
    taught = MoDEClassifier(2, teacher=Tagless())
    assert get_tags(taught).input_tags.sparse
    assert taught._repr_html_()
    assert check_teachers(Tagless(), classify=True)


def test_a_member_that_its_vote_cannot_clone():
    class Plain(LogisticRegression):
        def __init__(self, names=()):
            super().__init__()
            self.names = list(names)

    options = {"n_experts": 2, "hidden_layer_sizes": 4, "max_epochs": 1, "teacher_weight": 0.5}
    vote = VotingClassifier([("a", Plain(["a"]))], voting="soft")
    with pytest.raises(RuntimeError, match="Cannot clone") as caught:
        MoDEClassifier(**options, teacher=vote).fit(X, y)
    assert any("cat_features as a tuple" in note for note in caught.value.__notes__)


class Unpicklable(LogisticRegression):
    """Tells if it is hashed, which pickles it."""

    def __getstate__(self):
        raise AssertionError("pickled")


def test_a_frozen_model_is_hashed_for_a_warm_start_alone():
    options = {"n_experts": 2, "hidden_layer_sizes": 4, "max_epochs": 1, "random_state": 0}
    frozen = FrozenEstimator(Unpicklable().fit(X, y))
    assert MoDEClassifier(**options, teacher=frozen).fit(X, y)._weighed_teacher is None
    taught = MoDEClassifier(**options, teacher=[frozen], warm_start=True).fit(X, y)
    assert taught._weighed_teacher == "Unpicklable"  # its hash fails: the name takes its place


def test_a_fitted_teacher_without_tags():
    options = {"n_experts": 2, "hidden_layer_sizes": 4, "max_epochs": 1, "teacher_weight": 0.5}
    taught = MoDEClassifier(**options, teacher=FrozenEstimator(Duck().fit(X, y)), random_state=0)
    assert get_tags(taught).input_tags.sparse
    assert taught._repr_html_()
    assert taught.fit(X, y).teacher_names_ == ["Duck"]
