"""Targets are read as the estimators read them."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris

from skmode import MoDERegressor
from skmode.inspection._evaluation import targets

QUICK = {"n_experts": 3, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
X, y = load_iris(return_X_y=True)


def test_all_zero_weights_raise(six_rows):
    mixture, _, labels = six_rows
    with pytest.raises(ValueError, match="positive sample_weight, got only zeros: pass a weight"):
        targets.check_target(mixture, labels, np.zeros(6))


def test_an_unseen_class_gets_position_minus_one(six_rows):
    mixture, _, _ = six_rows
    found = targets.check_target(mixture, ["a", "zebra", "0", "c"], None)
    assert_array_equal(found.values, [0, -1, -1, 2])


def test_values_are_scaled_as_in_training_or_by_the_rows(told_regressor):
    estimator = MoDERegressor(**QUICK).fit(X[:, 1:], X[:, 0])
    found = targets.check_target(estimator, X[:5, 0], None)
    assert_allclose(found.scale, X[:, 0].std())
    told = told_regressor(np.ones((5, 1)), X[:5, :1], X[:5, 0])
    weight = np.array([0, 0, 1, 0, 1])
    assert_allclose(targets.check_target(told, X[:5, 0], weight).scale, X[[2, 4], 0].std())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, 2],
            r"y must have labels of the same type as the classes \['a', 'b', 'c'\], got \[",
        ),
        (["a", 1, "b"], r"labels of the same type .*, got \['a', 1, 'b'\]: convert them"),
        (["a", None, "b"], "y must have a label for each row, got 1 missing: leave out"),
        (["a", np.nan, pd.NA], "y must have a label for each row, got 2 missing"),
        (
            list("defgh"),
            r"one of the classes \['a', 'b', 'c'\], got \['d', 'e', 'f', 'g', ...\]",
        ),
    ],
)
def test_invalid_labels_raise(labels, message):
    with pytest.raises(ValueError, match=message):
        targets.make_target(np.array(labels, dtype=object), None, classes=np.array(list("abc")))


def test_numeric_labels_of_any_type_but_no_missing_ones():
    classes = np.array([0, 1, 2])
    found = targets.make_target([0.0, 2.0, 7.0], None, classes=classes)
    assert_array_equal(found.values, [0, 2, -1])
    with pytest.raises(ValueError, match="y must have a label for each row, got 1 missing"):
        targets.make_target([0.0, np.nan], None, classes=classes)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(list("acb"), dtype="string"),
        pd.Series(pd.Categorical(list("acb"))),
        np.array(list("acb"), dtype=object),
        list("acb"),
    ],
)
def test_string_labels_of_any_type(labels):
    found = targets.make_target(labels, None, classes=np.array(list("abc")))
    assert_array_equal(found.values, [0, 2, 1])
