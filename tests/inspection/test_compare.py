"""Comparisons: the corrected t-test, Wilcoxon's test, effect sizes, and that splits are paired."""

import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB

from skmode import MoDEClassifier
from skmode.inspection import compare, corrected_resampled_ttest
from skmode.inspection._compare import holm, summarize

DIFFERENCES = np.array([0.02, 0.05, -0.01, 0.04, 0.03, 0.0, 0.06, 0.01, 0.02, 0.03])


def test_corrected_t_test_by_nadeau_and_bengios_formula():
    # 10 splits of 90 training and 10 test rows.
    found = corrected_resampled_ttest(DIFFERENCES, 10 / 90)
    mean = DIFFERENCES.sum() / 10
    variance = ((DIFFERENCES - mean) ** 2).sum() / 9
    error = math.sqrt((1 / 10 + 10 / 90) * variance)
    assert found.mean == pytest.approx(mean)
    assert found.statistic == pytest.approx(mean / error)
    assert found.df == 9
    assert found.pvalue == pytest.approx(2 * stats.t.sf(mean / error, 9))
    reach = stats.t.ppf(0.975, 9) * error
    assert (found.low, found.high) == (pytest.approx(mean - reach), pytest.approx(mean + reach))


def test_without_overlap_it_is_the_paired_t_test():
    found = corrected_resampled_ttest(DIFFERENCES, 0.0, confidence=0.9)
    expected = stats.ttest_1samp(DIFFERENCES, 0)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.pvalue == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.9)
    assert_allclose((found.low, found.high), (interval.low, interval.high))


def test_the_interval_leaves_out_zero_where_the_test_rejects():
    for shift in np.linspace(-0.05, 0.05, 21):
        found = corrected_resampled_ttest(DIFFERENCES + shift, 0.25)
        assert (found.pvalue < 0.05) == (not found.low <= 0 <= found.high)


def test_differences_without_spread():
    same = corrected_resampled_ttest(np.zeros(5), 0.25)
    assert (same.statistic, same.pvalue) == (0, 1)
    always = corrected_resampled_ttest(np.full(5, -0.1), 0.25)
    assert (always.statistic, always.pvalue) == (-math.inf, 0)
    assert always.low == always.high == pytest.approx(-0.1)


def test_one_difference_is_too_few():
    with pytest.raises(ValueError, match="must be two or more, got 1: split the rows"):
        corrected_resampled_ttest([0.1], 0.25)


def test_holms_correction_by_hand():
    # In order 0.01 * 4, 0.015 * 3, 0.03 * 2, 0.5 * 1, each at least as large as the one before.
    assert_allclose(holm([0.5, 0.01, 0.03, 0.015]), [0.5, 0.04, 0.06, 0.045])
    assert_allclose(holm([0.02, 0.03]), [0.04, 0.04])
    assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])


def a_summary():
    base = np.linspace(0.6, 0.7, 10)
    scores = pd.DataFrame({"one": base + DIFFERENCES, "two": base, "three": base - 0.05})
    return scores, summarize(scores, 0.25, 0.95)


def test_pairs_hold_both_tests_and_effect_sizes():
    scores, found = a_summary()
    assert found.pairs[["first", "second"]].to_numpy().tolist() == [
        ["one", "two"],
        ["one", "three"],
        ["two", "three"],
    ]
    pair = found.pairs.iloc[0]
    difference = (scores["one"] - scores["two"]).to_numpy()
    expected = corrected_resampled_ttest(difference, 0.25)
    assert pair["difference"] == pytest.approx(DIFFERENCES.mean())
    assert (pair["t"], pair["t_pvalue"]) == (expected.statistic, expected.pvalue)
    assert (pair["low"], pair["high"]) == (expected.low, expected.high)
    wilcoxon = stats.wilcoxon(scores["one"], scores["two"])
    assert (pair["wilcoxon"], pair["wilcoxon_pvalue"]) == (wilcoxon.statistic, wilcoxon.pvalue)
    assert pair["cohens_d"] == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert (pair["wins"], pair["ties"], pair["losses"]) == (8, 1, 1)
    assert_allclose(found.pairs["t_pvalue_holm"], holm(found.pairs["t_pvalue"]))


def test_rank_biserial_correlation_by_hand():
    scores = pd.DataFrame({"one": [0.3, 0.1, 0.5, 0.5], "two": [0.0, 0.3, 0.4, 0.5]})
    # Differences 0.3, -0.2, 0.1, 0: ranks 3, 2, 1 and none.
    pair = summarize(scores, 0.25, 0.95).pairs.iloc[0]
    assert pair["rank_biserial"] == pytest.approx((3 + 1 - 2) / 6)
    assert (pair["wins"], pair["ties"], pair["losses"]) == (2, 1, 1)


def test_equal_scores_are_no_evidence():
    scores = pd.DataFrame({"one": [0.5, 0.6, 0.7], "two": [0.5, 0.6, 0.7]})
    pair = summarize(scores, 0.25, 0.95).pairs.iloc[0]
    assert (pair["t_pvalue"], pair["wilcoxon_pvalue"], pair["t_pvalue_holm"]) == (1, 1, 1)
    assert (pair["cohens_d"], pair["rank_biserial"], pair["ties"]) == (0, 0, 3)


def test_intervals_of_the_means():
    scores, found = a_summary()
    of_two = corrected_resampled_ttest(scores["two"], 0.25)
    assert_allclose(
        found.summary.loc["two"],
        [scores["two"].mean(), scores["two"].std(), of_two.low, of_two.high],
    )
    assert "one - two: 0.025 [" in repr(found)


def test_splits_are_those_of_scikit_learn(wine):
    X, y = wine
    models = {"linear": LinearDiscriminantAnalysis(), "bayes": GaussianNB()}
    found = compare(models, X, y, cv=4, repeats=2, scoring="neg_log_loss", random_state=3)
    cv = RepeatedStratifiedKFold(n_splits=4, n_repeats=2, random_state=3)
    for name, model in models.items():
        expected = cross_val_score(model, X, y, cv=cv, scoring="neg_log_loss")
        assert_allclose(found.scores[name], expected)
    assert found.scores.index.names == ["repeat", "fold"]
    assert found.test_ratio == pytest.approx(1 / 3, abs=0.01)


def test_regression_and_names_of_classes(diabetes):
    X, y = diabetes
    found = compare([Ridge(), DummyRegressor()], X, y, cv=3, repeats=1, random_state=0)
    cv = RepeatedKFold(n_splits=3, n_repeats=1, random_state=0)
    assert_allclose(found.scores["Ridge"], cross_val_score(Ridge(), X, y, cv=cv))
    assert found.pairs.iloc[0]["difference"] > 0.3


def test_splits_of_the_users_own(wine):
    X, y = wine
    cv = ShuffleSplit(4, test_size=0.2, random_state=0)
    found = compare([GaussianNB(), DummyClassifier()], X, y, cv=cv)
    assert_allclose(found.scores["GaussianNB"], cross_val_score(GaussianNB(), X, y, cv=cv))
    assert found.test_ratio == pytest.approx(36 / 142)
    assert found.pairs.iloc[0]["t_pvalue"] < 0.05


def test_mixtures_with_and_without_distillation(wine):
    mixture = MoDEClassifier(n_experts=2, max_epochs=4, random_state=0)
    plain = MoDEClassifier(n_experts=2, max_epochs=4, random_state=0, alpha=0)
    found = compare({"MoDE": mixture, "MoE": plain}, *wine, cv=2, repeats=1)
    assert found.summary.index.tolist() == ["MoDE", "MoE"]
    assert not hasattr(mixture, "net_")


@pytest.mark.parametrize(
    ("estimators", "options", "message"),
    [
        ({"one": GaussianNB()}, {}, "estimators must be two or more, got 1"),
        ([GaussianNB(), GaussianNB()], {}, "need names to tell them apart, got .*: pass a dict"),
        ([GaussianNB(), DummyClassifier()], {"cv": 1}, "at least 2 and repeats at least 1, got 1"),
        (
            [GaussianNB(), DummyClassifier()],
            {"cv": ShuffleSplit(1)},
            "cv must make two splits or more, got 1",
        ),
    ],
)
def test_what_is_wrong_is_said(wine, estimators, options, message):
    with pytest.raises(ValueError, match=message):
        compare(estimators, *wine, **options)
