"""Comparisons: the corrected t-test, Wilcoxon's test, effect sizes, and that splits are paired."""

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier
from skmode.inspection import compare, corrected_resampled_ttest
from skmode.inspection._compare.summary import holm, summarize

PAIR = [GaussianNB(), DummyClassifier()]
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


def test_interval_excludes_zero_if_the_test_rejects():
    for shift in np.linspace(-0.05, 0.05, 21):
        found = corrected_resampled_ttest(DIFFERENCES + shift, 0.25)
        assert (found.pvalue < 0.05) == (not found.low <= 0 <= found.high)


def test_differences_without_spread():
    same = corrected_resampled_ttest(np.zeros(5), 0.25)
    assert (same.statistic, same.pvalue) == (0, 1)
    always = corrected_resampled_ttest(np.full(5, -0.1), 0.25)
    assert (always.statistic, always.pvalue) == (-math.inf, 0)
    assert always.low == always.high == pytest.approx(-0.1)


def test_a_single_difference_raises():
    with pytest.raises(ValueError, match="at least two differences, got 1: score both"):
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


@pytest.mark.slow
def test_pairs_have_both_tests_and_effect_sizes():
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
    assert_allclose((pair["t"], pair["t_pvalue"]), (expected.statistic, expected.pvalue))
    assert_allclose((pair["low"], pair["high"]), (expected.low, expected.high))
    wilcoxon = stats.wilcoxon(np.round(100 * DIFFERENCES).astype(int))
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


@pytest.mark.parametrize(
    "n_rows", [49, *(pytest.param(n, marks=pytest.mark.slow) for n in (30, 1000))]
)
def test_accuracies_are_ranked_like_their_counts(n_rows):
    """Counts of right predictions have exact ties; shares only up to rounding."""
    rng = np.random.default_rng(n_rows)
    for _ in range(5):
        second = rng.integers(n_rows // 2, n_rows - 5, 8)
        counts = rng.integers(-3, 4, 8)
        first = second + counts
        scores = pd.DataFrame({"first": first / n_rows, "second": second / n_rows})
        pair = summarize(scores, 0.25, 0.95).pairs.iloc[0]
        expected = stats.wilcoxon(counts)
        assert pair["wilcoxon"] == expected.statistic
        assert pair["wilcoxon_pvalue"] == pytest.approx(expected.pvalue)
        ranks = stats.rankdata(np.abs(counts[counts != 0]))
        assert pair["rank_biserial"] == (ranks @ np.sign(counts[counts != 0])) / ranks.sum()
        of_counts = [(counts > 0).sum(), (counts == 0).sum(), (counts < 0).sum()]
        assert pair[["wins", "ties", "losses"]].tolist() == of_counts


def test_ties_survive_rounding_errors():
    second = np.array([23, 22, 25, 27, 20, 21, 26, 22, 24, 28])
    counts = np.array([-2, 0, 1, 2, -2, -2, 2, -2, -2, 2])
    first = second + counts
    scores = pd.DataFrame({"first": first / 30, "second": second / 30})
    pair = summarize(scores, 0.25, 0.95).pairs.iloc[0]
    # Eight twos share the ranks 2 to 9, so 5.5 each; of the first: the one, and three of them.
    assert pair["wilcoxon"] == 1 + 3 * 5.5
    assert pair["rank_biserial"] == (1 + 3 * 5.5 - 5 * 5.5) / 45
    assert pair["wilcoxon_pvalue"] == pytest.approx(stats.wilcoxon(counts).pvalue)


def test_a_tie_may_be_a_rounding_away_from_zero():
    scores = pd.DataFrame({"one": [0.1 + 0.2, 0.7, 0.9], "two": [0.3, 0.6, 0.7]})
    pair = summarize(scores, 0.25, 0.95).pairs.iloc[0]
    assert (pair["wins"], pair["ties"], pair["losses"]) == (2, 1, 0)


def test_the_same_difference_on_every_split_has_no_spread():
    second = np.array([0.1, 0.3, 0.5, 0.7])
    pair = summarize(pd.DataFrame({"one": second + 0.2, "two": second}), 0.25, 0.95).pairs.iloc[0]
    assert pair["cohens_d"] == pair["t"] == math.inf


def test_small_differences_of_large_scores_are_kept():
    second = np.array([1e6, 2e6, 3e6, 4e6])
    first = second + np.array([0.01, -0.02, 0.03, 0.04])
    scores = pd.DataFrame({"one": first, "two": second})
    pair = summarize(scores, 0.25, 0.95).pairs.iloc[0]
    assert (pair["wins"], pair["losses"], pair["wilcoxon"]) == (3, 1, 2)


def test_equal_scores_have_pvalue_one():
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


def test_splits_equal_scikit_learn(wine):
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


def test_custom_splits(wine):
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


class Weighed(GaussianNB):
    """Keeps the weights that it was given."""

    seen: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None):
        self.seen.append(sample_weight)
        return super().fit(X, y, sample_weight)


def test_weights_reach_training_and_scores(wine):
    X, y = wine
    weight = np.random.default_rng(0).random(len(y))
    cv = KFold(3, shuffle=True, random_state=0)
    Weighed.seen.clear()
    models = {"alone": Weighed(), "behind": make_pipeline(StandardScaler(), Weighed())}
    found = compare(models, X, y, cv=cv, sample_weight=weight)
    for i, (train, test) in enumerate(cv.split(X)):
        for weights in Weighed.seen[2 * i : 2 * i + 2]:
            assert_allclose(weights, weight[train])
        model = GaussianNB().fit(X.iloc[train], y.iloc[train], weight[train])
        predicted = model.predict(X.iloc[test])
        expected = accuracy_score(y.iloc[test], predicted, sample_weight=weight[test])
        assert found.scores["alone"].iloc[i] == pytest.approx(expected)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss", make_scorer(accuracy_score)])
def test_weight_two_equals_repeating_the_row(wine, scoring):
    X, y = (each.to_numpy() for each in wine)
    weight = np.random.default_rng(0).integers(1, 3, len(y))
    twice = np.repeat(np.arange(len(y)), weight)
    splits = list(StratifiedKFold(3).split(X, y))
    of_twice = [tuple(np.flatnonzero(np.isin(twice, part)) for part in split) for split in splits]
    models = {"bayes": GaussianNB(var_smoothing=0), "none": DummyClassifier()}
    options = {"scoring": scoring}
    found = compare(models, X, y, cv=splits, sample_weight=weight, **options)
    expected = compare(models, X[twice], y[twice], cv=of_twice, **options)
    assert_allclose(found.scores, expected.scores)
    assert not np.allclose(found.scores, compare(models, X, y, cv=splits, **options).scores)


@pytest.mark.parametrize(
    ("estimators", "scoring", "message"),
    [
        (
            [GaussianNB(), KNeighborsClassifier()],
            None,
            "KNeighborsClassifier, whose fit does not",
        ),
        (
            [GaussianNB(), DummyClassifier()],
            lambda estimator, X, y: 0.0,
            "scoring must accept it, .*: make it with sklearn.metrics.make_scorer",
        ),
        (
            [GaussianNB(), GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]})],
            None,
            "got GridSearchCV, whose score does not: pass scoring",
        ),
    ],
)
def test_estimators_without_sample_weight_are_named(wine, estimators, scoring, message):
    with pytest.raises(TypeError, match=message):
        compare(estimators, *wine, scoring=scoring, sample_weight=np.ones(178))


def test_searches_take_weights_with_a_scoring(wine):
    search = GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, cv=2)
    options = {"cv": 2, "repeats": 1, "scoring": "accuracy", "sample_weight": np.ones(178)}
    found = compare({"search": search, "alone": GaussianNB()}, *wine, **options)
    assert_allclose(found.scores["search"], found.scores["alone"])


def test_masks_are_splits_too(wine):
    X, y = wine
    masks = [np.arange(178) % 3 == k for k in range(3)]
    positions = [np.flatnonzero(mask) for mask in masks]
    everything = np.arange(178)
    models = {"bayes": GaussianNB(), "none": DummyClassifier()}
    by_mask = compare(models, X, y, cv=[(~mask, mask) for mask in masks])
    by_position = compare(
        models, X, y, cv=[(np.setdiff1d(everything, part), part) for part in positions]
    )
    assert by_mask.test_ratio == by_position.test_ratio == pytest.approx(0.5, abs=0.01)
    pd.testing.assert_frame_equal(by_mask.scores, by_position.scores)


def test_cv_none_means_five_folds(wine):
    models = {"bayes": GaussianNB(), "none": DummyClassifier()}
    found, expected = (compare(models, *wine, cv=cv, repeats=1) for cv in (None, 5))
    pd.testing.assert_frame_equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("differences", "test_ratio", "confidence", "message"),
    [
        ([0.1, np.nan, 0.2], 0.2, 0.95, r"differences must be finite numbers, got \[0.1, nan"),
        ([0.1, np.inf], 0.2, 0.95, "differences must be finite numbers"),
        ([[0.1, 0.2], [0.2, 0.3]], 0.2, 0.95, r"one number per split, got .* shape \(2, 2\)"),
        ([0.1, 0.2], -1, 0.95, "test_ratio must be a number, zero or more, got -1: pass"),
        ([0.1, 0.2], np.nan, 0.95, "test_ratio must be a number, zero or more, got nan"),
        ([0.1, 0.2], 0.2, 95, "confidence must be between 0 and 1, got 95: pass 0.95 for 95"),
        ([0.1, 0.2], 0.2, 0, "confidence must be between 0 and 1, got 0"),
    ],
)
def test_invalid_differences_raise(differences, test_ratio, confidence, message):
    with pytest.raises(ValueError, match=message):
        corrected_resampled_ttest(differences, test_ratio, confidence=confidence)


@pytest.mark.parametrize(
    ("estimators", "options", "message"),
    [
        ({"one": GaussianNB()}, {}, "must be at least two estimators, got 1"),
        ([GaussianNB(), GaussianNB()], {}, "same class need names, got .*: pass a dict"),
        (
            {1: GaussianNB(), "1": GaussianNB(), "two": GaussianNB()},
            {},
            r"must differ as strings, got \[1, '1', 'two'\]: rename one",
        ),
        (PAIR, {"cv": 1}, "at least 2 and repeats one of at least 1, got cv=1 and repeats=5"),
        (PAIR, {"repeats": 1.5}, "got cv=5 and repeats=1.5"),
        (PAIR, {"cv": "five"}, "Expected `cv` as an integer"),
        (PAIR, {"cv": [([], [1]), ([1], [2])]}, "training and test rows, got 0 and 1: leave out"),
        (PAIR, {"confidence": 95}, "confidence must be between 0 and 1, got 95"),
        (
            PAIR,
            {"scoring": lambda *arguments: math.nan},
            r"Scores must be finite numbers, got \[nan, .* for GaussianNB: choose a scoring",
        ),
        (
            PAIR,
            {"sample_weight": (np.arange(178) < 3).astype(float), "cv": KFold(2)},
            "training and test rows with a positive sample_weight, got split 0 without",
        ),
        (
            PAIR,
            {"cv": ShuffleSplit(1)},
            "cv must give at least two splits, got 1",
        ),
    ],
)
def test_invalid_input_raises(wine, estimators, options, message):
    with pytest.raises(ValueError, match=message):
        compare(estimators, *wine, **options)
