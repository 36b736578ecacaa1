"""The picture of a path over a parameter."""

import matplotlib.pyplot as plt
import pytest
from numpy.testing import assert_allclose

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import AlphaPathDisplay, alpha_path, experts_path

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


def test_the_path_draws_means_and_the_recommendation(path, render, labels, line):
    display = AlphaPathDisplay(path).plot()
    above, below = display.ax_
    assert above.get_ylabel() == "accuracy (share of rows)"
    assert below.get_xlabel() == "alpha, the weight of the distillation"
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["0", "1", "10"]
    assert f"recommended: {path.recommended:g}" in labels(above)
    drawn = next(c for c in above.containers if c.get_label() == "top expert alone")
    assert_allclose(drawn[0].get_ydata(orig=False), path.summary["top_expert", "mean"])
    best = path.summary.loc[path.best, "top_expert"]
    threshold = line(above, "one standard error from the best top expert").get_ydata()
    assert_allclose(threshold, best["mean"] - best["sem"])
    assert_allclose(
        line(below, "consistency of the experts").get_ydata(), path.summary["consistency", "mean"]
    )
    assert render(display)


def test_one_axes_gets_the_scores(path):
    figure, ax = plt.subplots()
    display = AlphaPathDisplay(path).plot(ax)
    assert display.ax_.tolist() == [ax]
    assert display.figure_ is figure
    assert ax.get_xlabel() == "alpha, the weight of the distillation"


def test_threshold_lies_above_the_best_error(diabetes, wine, line):
    found = experts_path(MoDEClassifier(**QUICK), *wine, n_experts=[1, 2], cv=2, scoring="log_loss")
    display = AlphaPathDisplay(found).plot()
    best = found.summary.loc[found.best, "top_expert"]
    threshold = line(display.ax_[0], "one standard error from the best top expert").get_ydata()
    assert_allclose(threshold, best["mean"] + best["sem"])
    assert display.ax_[0].get_ylabel() == "log loss (nats)"
    assert display.ax_[1].get_xlabel() == "number of experts"


def test_a_path_of_a_scorer_has_its_threshold_below(diabetes, line):
    regressor = MoDERegressor(n_experts=2, **QUICK)
    options = {"alphas": [0, 1], "cv": 2, "scoring": "neg_mean_absolute_error"}
    display = AlphaPathDisplay.from_estimator(regressor, *diabetes, **options)
    best = display.path.summary.loc[display.path.best, "top_expert"]
    threshold = line(display.ax_[0], "one standard error from the best top expert").get_ydata()
    assert_allclose(threshold, best["mean"] - best["sem"])
    assert display.ax_[0].get_ylabel() == "neg_mean_absolute_error (greater is better)"
    assert display.ax_[1].get_ylabel() == "consistency, share of rows"


def test_the_path_is_computed_from_an_estimator(wine):
    classifier = MoDEClassifier(n_experts=2, **QUICK)
    display = AlphaPathDisplay.from_estimator(classifier, *wine, alphas=[0, 3], cv=2)
    assert display.path.summary.index.tolist() == [0, 3]


def test_wrong_number_of_axes_raises(path):
    _, axes = plt.subplots(3)
    with pytest.raises(ValueError, match="ax must be one Axes or 2 of them, got 3"):
        AlphaPathDisplay(path).plot(axes)


def test_label_of_consistency_for_regression(diabetes, path):
    assert AlphaPathDisplay(path).plot().ax_[1].get_ylabel() == "share of rows"
    of_values = alpha_path(MoDERegressor(n_experts=2, **QUICK), *diabetes, alphas=[0, 1], cv=2)
    display = AlphaPathDisplay(of_values).plot()
    assert display.ax_[1].get_ylabel() == "consistency, share of rows"
