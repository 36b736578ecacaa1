"""The picture of expert probing."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skmode.inspection import ExpertProbingDisplay


def test_probing_draws_the_scores(wine, wine_mixture, render, line):
    display = ExpertProbingDisplay.from_estimator(wine_mixture, *wine)
    experts, ax = display.probing.experts, display.ax_
    assert_allclose(line(ax, "expert alone, own rows").get_ydata(), experts["score"])
    assert_allclose(line(ax, "expert alone, other rows").get_ydata(), experts["score_rest"])
    assert_allclose(
        line(ax, "mixture, own rows of the expert").get_ydata(), experts["mixture_score"]
    )
    top = line(ax, "top expert alone, all rows").get_ydata()
    assert_allclose(top, display.probing.top_expert_score)
    assert ax.get_ylabel() == "accuracy (share of rows)"
    assert ax.get_xlabel() == "expert and share of the rows in its domain"
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert ticks[1] == f"1\n{100 * experts.loc[1, 'share']:.0f} %"
    assert display.figure_ is ax.figure
    assert render(display)


def test_probing_of_regression_has_units(diabetes, diabetes_mixture):
    display = ExpertProbingDisplay.from_estimator(diabetes_mixture, *diabetes)
    assert display.ax_.get_ylabel() == "root mean squared error (units of y)"


def test_probing_from_predictions_is_the_same(wine, wine_mixture):
    X, y = wine
    weight = np.random.default_rng(0).random(len(y))
    one = ExpertProbingDisplay.from_estimator(wine_mixture, X, y, sample_weight=weight)
    other = ExpertProbingDisplay.from_predictions(
        y,
        gate_proba=wine_mixture.gate_proba(X),
        expert_predictions=wine_mixture.expert_predict(X),
        mixture_prediction=wine_mixture.predict(X),
        sample_weight=weight,
    )
    pd.testing.assert_frame_equal(one.probing.experts, other.probing.experts)
    pd.testing.assert_frame_equal(one.probing.error_types, other.probing.error_types)


def test_probing_from_predictions_of_values(diabetes, diabetes_mixture):
    X, y = diabetes
    display = ExpertProbingDisplay.from_predictions(
        y,
        gate_proba=diabetes_mixture.gate_proba(X),
        expert_predictions=diabetes_mixture.expert_predict(X),
        mixture_prediction=diabetes_mixture.predict(X),
        metric="rmse",
    )
    one = ExpertProbingDisplay.from_estimator(diabetes_mixture, X, y)
    assert_allclose(display.probing.experts["score"], one.probing.experts["score"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "f1"}, 'metric must be "accuracy" or "rmse", got \'f1\''),
        (
            {"expert_predictions": [["a"]] * 6},
            r"shape \(6, 1\) and gate .* \(6, 3\)",
        ),
        ({"mixture_prediction": ["a"]}, "inconsistent numbers of samples"),
    ],
)
def test_inconsistent_predictions_raise(six_rows, changes, message):
    mixture, _, y = six_rows
    options = {
        "gate_proba": mixture.gate,
        "expert_predictions": mixture.experts,
        "mixture_prediction": mixture.mixture,
    }
    with pytest.raises(ValueError, match=message):
        ExpertProbingDisplay.from_predictions(y, **options | changes)


def test_an_expert_without_rows_is_drawn_without_a_dot(told_classifier, render, line):
    mixture = told_classifier([[0.9, 0.1]] * 2, [["a", "b"]] * 2, ["a", "a"], ["a", "b"])
    display = ExpertProbingDisplay.from_estimator(mixture, np.arange(2.0)[:, None], ["a", "b"])
    assert np.isnan(line(display.ax_, "expert alone, own rows").get_ydata()[1])
    assert render(display)


def test_small_shares_are_not_called_none(told_classifier):
    route = np.where(np.arange(400) == 7, 1, 0)
    gate = np.where(np.arange(3) == route[:, None], 0.8, 0.1)
    mixture = told_classifier(gate, np.full((400, 3), "a"), np.full(400, "a"), ["a", "b"])
    display = ExpertProbingDisplay.from_estimator(
        mixture, np.arange(400.0)[:, None], np.repeat(["a", "b"], 200)
    )
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["0\n100 %", "1\n<1 %", "2\nnone"]


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_names_of_many_experts_do_not_overlap(told_classifier, layout, inside):
    gate = np.eye(16)[np.arange(160) % 16]
    mixture = told_classifier(gate, np.full((160, 16), "a"), np.full(160, "a"), ["a", "b"])
    figure, ax = plt.subplots(figsize=(4, 4), layout=layout)
    y = np.repeat(["a", "b"], 80)
    ExpertProbingDisplay.from_estimator(mixture, np.arange(160.0)[:, None], y, ax=ax)
    figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in ax.get_xticklabels()]
    assert all(one.x1 < two.x0 for one, two in itertools.pairwise(boxes))
    assert all(inside(box, figure.bbox) for box in boxes)
