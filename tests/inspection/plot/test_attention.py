"""The picture of the features that matter."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skmode import MoDEClassifier
from skmode.inspection import ExpertAttentionDisplay, RoutingMapDisplay

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


def test_attention_draws_shares(wine, wine_mixture, render):
    display = ExpertAttentionDisplay.from_estimator(
        wine_mixture, *wine, random_state=0, max_features=5
    )
    ax, shares = display.ax_, display.attention.shares()
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    strongest = shares.max(axis=1).sort_values(ascending=False, kind="stable").index[:5]
    assert names == list(strongest)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2", "gate"]
    assert_allclose(ax.images[0].get_array(), shares.loc[names])
    written = [text.get_text() for text in ax.texts]
    assert written[0] == f"{100 * shares.iloc[:, 0].loc[names[0]]:.0f}"
    assert render(display)


def test_an_expert_without_rows_has_dashes(told_classifier, render):
    mixture = told_classifier([[0.9, 0.1]] * 4, [["a", "b"]] * 4, ["a"] * 4, ["a", "b"])
    display = ExpertAttentionDisplay.from_estimator(
        mixture, np.arange(4.0)[:, None], list("aabb"), random_state=0
    )
    assert [text.get_text() for text in display.ax_.texts] == ["0", "-", "0"]
    assert render(display)


LONG = "a name that says at length what is in this column"


@pytest.mark.slow
def test_long_names_are_not_cut_off(moons, inside):
    X = np.column_stack([moons[1], moons[1][:, 0]])
    table = pd.DataFrame(X, columns=[f"{LONG}: first", f"{LONG}: second", "short"])
    y = np.arange(len(X)) % 2
    mixture = MoDEClassifier(n_experts=2, **QUICK).fit(table, y)
    attention = ExpertAttentionDisplay.from_estimator(mixture, table, y, random_state=0)
    ax = attention.ax_
    names = {tick.get_text() for tick in ax.get_yticklabels()}
    assert names == {
        "a name that says at…this column: first",
        "a name that says at…this column: second",
        "short",
    }
    attention.figure_.canvas.draw()
    texts = [*ax.get_yticklabels(), *ax.get_xticklabels(), ax.xaxis.label, ax.yaxis.label]
    bounds = attention.figure_.bbox
    assert all(inside(text.get_window_extent(), bounds) for text in texts)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    RoutingMapDisplay.from_estimator(
        mixture, table, features=["short", f"{LONG}: first"], ax=axes[1]
    )
    figure.canvas.draw()
    label = axes[1].yaxis.label
    assert label.get_text() == "a name that says at length\nwhat is in t…"
    assert inside(label.get_window_extent(), figure.bbox)
    assert inside(axes[1].get_tightbbox(), figure.bbox)


@pytest.mark.parametrize("max_features", [0, -1, 1.5, "all"])
def test_max_features_below_one_raises(wine, wine_mixture, max_features):
    with pytest.raises(ValueError, match="max_features must be a whole number of at least 1, got"):
        ExpertAttentionDisplay.from_estimator(
            wine_mixture, *wine, n_repeats=1, random_state=0, max_features=max_features
        )
