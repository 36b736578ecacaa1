"""Intervals of paired differences have their nominal coverage."""

import numpy as np
import pytest

from skmode.inspection._report import intervals


def test_the_interval_of_shares_by_hand():
    """3 of 8 rows are won and 1 is lost; half a row is added to each of four cells."""
    first = np.array([1, 1, 1, 0, 1, 1, 0, 0], dtype=bool)
    second = np.array([0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    found = intervals.of_shares(first, second, np.ones(8))
    center, reach = 2 / 10, 1.959964 * np.sqrt((5 / 10 - 0.2**2) / 10)
    assert found == pytest.approx((2 / 8, center - reach, center + reach), abs=1e-6)
    doubled = intervals.of_shares(first, second, np.full(8, 2.0))
    assert doubled == pytest.approx(found)


def test_equal_predictions_keep_an_interval_of_some_width():
    same = np.ones(20, dtype=bool)
    estimate, low, high = intervals.of_shares(same, same, np.ones(20))
    assert estimate == 0
    assert low == -high < -0.05


@pytest.mark.parametrize("kind", ["shares", "errors", "means"])
def test_intervals_have_their_nominal_coverage(kind):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(600):
        draws = rng.random((120, 2))
        if kind == "shares":  # both right 0.6, one alone 0.15 and 0.1
            u = draws[:, 0]
            found = intervals.of_shares(u < 0.75, (u < 0.6) | (u > 0.9), np.ones(120))
            truth = 0.05
        elif kind == "errors":
            common, noise = rng.normal(size=(2, 120, 2))
            first, second = common + 0.8 * noise, common
            found = intervals.of_errors(first**2, second**2, np.ones(120))
            truth = np.sqrt(1.64) - 1
        else:
            found = intervals.of_means(draws[:, 0] - 0.3, rng.random(120) + 0.5)
            truth = 0.2
        held.append(found.low <= truth <= found.high)
    assert 0.925 <= np.mean(held) <= 0.975


def test_weights_equal_repeated_rows():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 50, 1))
    weight = rng.integers(1, 4, 50)
    once = intervals.of_errors(first, second, weight.astype(float))
    often = intervals.of_errors(
        first.repeat(weight, axis=0), second.repeat(weight, axis=0), np.ones(weight.sum())
    )
    assert once.estimate == pytest.approx(often.estimate)
    assert once.high - once.low > often.high - often.low  # repeated rows are not independent


def test_a_perfect_model_has_an_interval():
    nothing = np.zeros((9, 1))
    assert intervals.of_errors(nothing, nothing, np.ones(9)) == (0, 0, 0)
