"""Statistics of the league: by hand, against scipy, and against published values."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.tabular._statistics import (
    bootstrap,
    cliques,
    common_mean,
    corrected_t_test,
    critical_difference,
    friedman,
    holm,
    improvability,
    p_of_losses,
    rank,
    relative_difference,
    wins_ties_losses,
)

ERRORS = pd.DataFrame(
    {"a": [0.1, 0.2, 0.0, math.inf], "b": [0.2, 0.2, 0.1, 1.0], "c": [0.4, 0.1, 0.2, 2.0]},
    index=["one", "two", "three", "four"],
)


def test_ranks_share_ties_and_put_failures_last():
    assert rank(ERRORS).to_numpy().tolist() == [[1, 2, 3], [2.5, 2.5, 1], [1, 2, 3], [3, 1, 2]]


def test_improvability():
    by_hand = [[0, 0.5, 0.75], [0.5, 0.5, 0], [0, 1, 1], [1, 0, 0.5]]
    assert improvability(ERRORS).to_numpy().tolist() == by_hand


def test_common_mean_uses_the_common_splits():
    index = pd.MultiIndex.from_product([["large", "small"], [0, 1]])
    errors = pd.DataFrame({"a": [1.0, 3, 5, 7], "b": [2, math.nan, 4, math.inf]}, index=index)
    means = common_mean(errors, ["a", "b"])
    assert means.loc["large"].tolist() == [1, 2]
    assert means.loc["small"].tolist() == [6, math.inf]
    assert common_mean(errors, ["a"])["a"].tolist() == [2, 6]


def test_a_set_without_common_splits_is_left_out():
    index = pd.MultiIndex.from_tuples([("only", 0), ("only", 1)])
    errors = pd.DataFrame({"a": [1.0, math.nan], "b": [math.nan, 1.0]}, index=index)
    assert common_mean(errors, ["a", "b"]).empty


@pytest.mark.parametrize(
    ("ours", "theirs", "counts"),
    [
        ([1, 1, 1], [2, 1, 0.5], (1, 1, 1)),
        ([1.0, 1.0], [1.0009, 1.002], (1, 1, 0)),
        ([math.inf, 1, math.inf], [1, math.inf, math.inf], (1, 1, 1)),
        ([0.0], [0.0], (0, 1, 0)),
    ],
)
def test_wins_ties_losses(ours, theirs, counts):
    assert wins_ties_losses(ours, theirs) == counts


def test_bootstrap_is_the_percentile_interval_over_sets():
    values = np.random.default_rng(1).normal(3, 1, 40)
    interval = bootstrap(values)
    assert interval.value == pytest.approx(values.mean())
    # Many values: near to the interval of the normal distribution.
    margin = 1.96 * values.std() / math.sqrt(40)
    assert interval.low == pytest.approx(values.mean() - margin, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + margin, abs=0.05)
    assert bootstrap(values) == interval


def test_bootstrap_of_a_single_set_has_no_interval():
    interval = bootstrap([2.0])
    assert interval.value == 2
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_corrected_t_test_by_hand():
    differences = [1.0, 2.0, 1.5, 1.0, 1.0]
    # Mean 1.3, variance 0.2; (1/5 + 1/3) * 0.2 = 0.10667.
    t = 1.3 / math.sqrt(0.2 * (1 / 5 + 1 / 3))
    assert corrected_t_test(differences, 0.25) == pytest.approx(2 * stats.t.sf(t, 4))


def test_corrected_t_test_without_correction_is_students():
    differences = np.random.default_rng(0).normal(0.3, 1, 10)
    p = stats.ttest_1samp(differences, 0).pvalue
    assert corrected_t_test(differences, 0.0) == pytest.approx(p)
    assert corrected_t_test(differences, 0.25) > p


@pytest.mark.parametrize(("differences", "p"), [([1.0], 1), ([0.0, 0.0], 1), ([1.0, 1.0], 0)])
def test_corrected_t_test_at_its_limits(differences, p):
    assert corrected_t_test(differences, 0.25) == p


def test_p_of_losses():
    index = pd.MultiIndex.from_product([["lost", "won", "failed", "both"], [0, 1, 2]])
    ours = [2.0, 2.1, 2.2, 1.0, 1.1, 1.0, math.inf, 1, 1, math.inf, 1, 1]
    theirs = [1.0, 1.0, 1.1, 2.0, 2.0, 2.0, 1, 1, 1, math.inf, 1, 1]
    found = p_of_losses(pd.DataFrame({"a": ours, "b": theirs}, index=index), 0.25)
    by_hand = corrected_t_test(np.subtract(ours[:3], theirs[:3]), 0.25)
    assert found == {"lost": by_hand, "won": 1, "failed": 0, "both": 1}
    assert p_of_losses(pd.DataFrame({"a": [1.0], "b": [2.0]}, index=index[:1]), 0.25) == {}


def test_holm():
    assert holm({"a": 0.02, "b": 0.01, "c": 0.04}) == ["b", "a", "c"]
    assert holm({"a": 0.03, "b": 0.01, "c": 0.04}) == ["b"]
    assert holm({}) == []


def test_relative_difference_by_hand():
    found = relative_difference([1.1, 0.9, math.inf, 0.0], [1.0, 1.0, 1.0, 1.0])
    logs = np.log([1.1, 0.9])
    assert found.percent == pytest.approx(100 * math.expm1(logs.mean()))
    assert found.error == pytest.approx(100 * logs.std(ddof=1) / math.sqrt(2))
    assert found.n_sets == 2
    assert relative_difference([math.inf], [1.0]).n_sets == 0


def test_friedman_is_scipys():
    errors = pd.DataFrame(np.random.default_rng(0).random((12, 4)), columns=list("abcd"))
    assert friedman(errors) == stats.friedmanchisquare(*errors.to_numpy().T).pvalue
    assert friedman(errors[["a", "b"]]) == 1


@pytest.mark.parametrize(("n_models", "quantile"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_demsars_quantiles(n_models, quantile):
    expected = quantile * math.sqrt(n_models * (n_models + 1) / (6 * 14))
    assert critical_difference(n_models, 14) == pytest.approx(expected, abs=0.002)


def test_cliques_are_maximal():
    assert cliques([1.0, 1.5, 2.2, 4.0], 1.0) == [(0, 1), (1, 2)]
    assert cliques([1.0, 1.2, 1.4, 1.6], 1.0) == [(0, 3)]
    assert cliques([1.0, 3.0], 1.0) == []
