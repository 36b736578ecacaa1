"""A teacher's predictions: the order of classes, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skmode._estimators.rows.predictions import read_probabilities, read_values

X = np.zeros((2, 3))


class Model:
    def __init__(self, probabilities, classes=None):
        self.probabilities = probabilities
        if classes is not None:
            self.classes_ = np.asarray(classes)

    def predict_proba(self, X):
        return self.probabilities

    predict = predict_proba


def read(probabilities, classes, ours=(0, 1, 2)):
    model = Model(np.asarray(probabilities), classes)
    return read_probabilities(model, X, np.asarray(ours), "fold 1 of 5 of the teacher Model")


def test_unsorted_and_missing_classes():
    found = read([[0.7, 0.3], [0.2, 0.8]], [2, 0])
    assert_allclose(found, [[0.3, 0, 0.7], [0.8, 0, 0.2]])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["b", "a"], np.array(["a", "b"], dtype=object)),
        ([1.0, 0.0], [0, 1]),
        (["1", "0"], [0, 1]),
        ([1, 0], ["0", "1"]),
        ([True, False], [False, True]),
    ],
)
def test_classes_of_another_type(theirs, ours):
    found = read([[0.7, 0.3], [0.2, 0.8]], theirs, ours)
    assert_allclose(found, [[0.3, 0.7], [0.8, 0.2]])


def test_table_with_classes_as_columns():
    table = pd.DataFrame([[0.7, 0.3], [0.2, 0.8]], columns=["b", "a"])
    found = read_probabilities(Model(table), X, np.array(["a", "b"]), "the teacher Model")
    assert_allclose(found, [[0.3, 0.7], [0.8, 0.2]])


def test_float32_sums_to_one():
    found = read(np.array([[0.1, 0.2, 0.7]] * 2, dtype=np.float32) * np.float32(1.0001), [0, 1, 2])
    assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("probabilities", "classes", "message"),
    [
        ([[np.nan, 0.5], [0.5, 0.5]], [0, 1], "fold 1 of 5 of the teacher Model must be finite"),
        ([[np.inf, 0.5], [0.5, 0.5]], [0, 1], "in row 0"),
        ([[0.5, 0.5]], [0, 1], r"must have shape \(2, 2\), got \(1, 2\)"),
        ([0.5, 0.5], [0, 1], r"must have shape \(2, 2\), got \(2,\)"),
        ([[2.0, -1.0], [0.5, 0.5]], [0, 1], "probabilities that sum to one"),
        ([[0.2, 0.2], [0.5, 0.5]], [0, 1], "probabilities that sum to one"),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 7], "must be those of y"),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 0], "each once"),
    ],
)
def test_refused_probabilities(probabilities, classes, message):
    with pytest.raises(ValueError, match=message):
        read(probabilities, classes)


def test_values_of_one_and_several_targets():
    assert read_values(Model([1.0, 2.0]), X, 1, "t").shape == (2, 1)
    assert read_values(Model([[1.0], [2.0]]), X, 1, "t").shape == (2, 1)
    assert read_values(Model(np.ones((2, 3), dtype=np.float32)), X, 3, "t").dtype == np.float64
    with pytest.raises(ValueError, match=r"shape \(2, 2\), got \(2,\)"):
        read_values(Model([1.0, 2.0]), X, 2, "t")
    with pytest.raises(ValueError, match="must be finite"):
        read_values(Model([1.0, np.nan]), X, 1, "t")
