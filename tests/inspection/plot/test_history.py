"""The picture of gate and experts in training."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmode import MoDEClassifier
from skmode.inspection import GateHistoryDisplay, GateRecognition

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


def test_history_draws_every_expert_and_what_was_recorded(wine, render, labels):
    classifier = MoDEClassifier(
        n_experts=3, early_stopping=True, callbacks=[GateRecognition()], **QUICK
    ).fit(*wine)
    display = GateHistoryDisplay.from_estimator(classifier)
    above, middle, below = display.ax_
    usage = display.history.usage
    drawn = [one for one in above.get_lines() if len(one.get_xdata()) == len(usage)]
    assert_allclose(np.transpose([one.get_ydata() for one in drawn]), usage)
    assert [text.get_text() for text in above.texts] == ["expert 0", "expert 1", "expert 2"]
    assert middle.get_ylabel() == "entropy (nats)"
    assert labels(below) == [
        "consistency of the experts",
        "gate recognition accuracy",
        "accuracy of the mixture",
        "accuracy of the top expert",
    ]
    assert below.get_xlabel() == "epoch"
    assert above.get_title(loc="left") == "measured on validation rows"
    assert render(display)


@pytest.mark.parametrize("layout", [None, pytest.param("constrained", marks=pytest.mark.slow)])
def test_usage_of_many_experts_is_drawn_in_shades(wine, layout, render):
    classifier = MoDEClassifier(n_experts=9, refit_fraction=0, **QUICK).fit(*wine)
    figure, axes = plt.subplots(3, 1, figsize=(6, 7), layout=layout)
    display = GateHistoryDisplay.from_estimator(classifier, ax=axes)
    (image,) = axes[0].images
    assert_allclose(image.get_array(), display.history.usage.to_numpy().T)
    assert image.get_extent() == [0.5, 4.5, 8.5, -0.5]
    assert axes[0].get_ylabel() == "expert"
    assert axes[0].get_legend() is None
    figure.canvas.draw()
    epochs = [ax.get_window_extent().x1 for ax in figure.axes if ax.get_ylabel()]
    bar = max(figure.axes + axes[0].child_axes, key=lambda ax: ax.get_window_extent().x0)
    assert bar.get_ylabel() == "share of rows (%)"
    assert bar.get_window_extent().x0 - axes[0].get_window_extent().x1 < 30
    assert len(epochs) >= 3
    names = [tick.get_window_extent() for tick in axes[0].get_yticklabels()]
    assert all(one.y0 > two.y1 - 2 for one, two in itertools.pairwise(names))
    assert render(display)


def test_history_of_regression_says_r_squared(diabetes_mixture, render, labels):
    display = GateHistoryDisplay.from_estimator(diabetes_mixture)
    assert "R² of the mixture" in labels(display.ax_[2])
    assert display.ax_[2].get_ylabel() == "consistency, R²"
    assert render(display)
