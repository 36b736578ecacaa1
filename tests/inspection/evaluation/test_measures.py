"""Measures of gate and experts against figures computed by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import root_mean_squared_error

from skmode.inspection._evaluation import measures

ONES = np.ones(4)


def test_gate_recognition_counts_only_solvable_rows():
    right = np.array([[1, 0], [0, 1], [0, 0], [1, 1]], dtype=bool)
    route = np.array([0, 0, 1, 1])
    assert measures.gate_recognition(right, route, ONES) == pytest.approx(2 / 3)
    weight = np.array([1.0, 3.0, 9.0, 0.0])
    assert measures.gate_recognition(right, route, weight) == pytest.approx(1 / 4)


def test_gate_recognition_is_nan_if_no_expert_is_right():
    found = measures.gate_recognition(np.zeros((4, 2), dtype=bool), np.zeros(4, dtype=int), ONES)
    assert np.isnan(found)


def test_consistency_of_classes():
    experts = np.array([[0, 0, 1], [1, 1, 1], [2, 0, 2], [1, 2, 0]])
    expected = [[1, 0.5, 0.5], [0.5, 1, 0.25], [0.5, 0.25, 1]]
    assert_allclose(measures.consistency_of_classes(experts, ONES), expected)
    weight = np.array([0.0, 0.0, 1.0, 1.0])
    weighted = [[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]]
    assert_allclose(measures.consistency_of_classes(experts, weight), weighted)


def test_consistency_of_values_is_one_minus_half_the_squared_distance_in_variances():
    experts = np.array([[[0.0], [2.0]], [[1.0], [1.0]], [[4.0], [0.0]], [[3.0], [3.0]]])
    # Squared distances 4, 0, 16, 0: mean 5; over twice the variance 25.
    found = measures.consistency_of_values(experts, np.array([5.0]), ONES)
    assert_allclose(found, [[1, 0.9], [0.9, 1]])


def test_consistency_of_independent_values_is_about_zero():
    rng = np.random.default_rng(0)
    experts = rng.normal(size=(20_000, 2, 1))
    found = measures.consistency_of_values(experts, np.ones(1), np.ones(20_000))
    assert abs(found[0, 1]) < 0.03


def test_mean_over_pairs():
    assert measures.mean_over_pairs(np.array([[1, 0.2, 0.4], [0.2, 1, 0.6], [0.4, 0.6, 1]])) == (
        pytest.approx(0.4)
    )
    assert measures.mean_over_pairs(np.ones((1, 1))) == 1.0


def test_usage_and_entropy():
    shares = measures.usage(np.array([0, 0, 2, 2]), 4, np.array([1.0, 1.0, 1.0, 5.0]))
    assert_allclose(shares, [0.25, 0, 0.75, 0])
    assert measures.entropy(shares) == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    assert measures.entropy(np.full(5, 0.2)) == pytest.approx(np.log(5))
    assert str(measures.entropy([1.0, 0.0])) == "0.0"


def test_root_mean_squared_error_equals_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted, weight = rng.normal(size=(7, 2)), rng.normal(size=(7, 2)), rng.random(7)
    found = measures.root_mean_squared_error((true - predicted) ** 2, weight)
    assert found == pytest.approx(root_mean_squared_error(true, predicted, sample_weight=weight))


def test_default_tolerance_is_the_error_of_the_mixture():
    target = np.array([[0.0], [0.0], [0.0], [0.0]])
    mixture = np.array([[1.0], [1.0], [1.0], [5.0]])  # root mean square: sqrt(7) = 2.65
    experts = np.array([[[0.0], [3.0]]] * 4)
    found = measures.judge_values(
        experts, mixture, target, scale=np.array([9.0]), weight=ONES, tolerance=None
    )
    assert found.tolerance == pytest.approx(np.sqrt(7))
    assert_array_equal(found.mixture, [True, True, True, False])
    assert_array_equal(found.experts, [[True, False]] * 4)


def test_several_outputs_are_judged_in_standard_deviations():
    target = np.zeros((1, 2))
    experts = np.array([[[10.0, 0.1], [0.1, 10.0]]])
    found = measures.judge_values(
        experts,
        np.zeros((1, 2)),
        target,
        scale=np.array([10.0, 0.1]),
        weight=np.ones(1),
        tolerance=1.0,
    )
    assert_array_equal(found.experts, [[True, False]])
