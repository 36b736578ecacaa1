"""All pictures: on given axes and on new ones, with legends, names and colours."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal

from skmode import MoDEClassifier
from skmode.inspection import (
    AlphaPathDisplay,
    ExpertAttentionDisplay,
    ExpertProbingDisplay,
    GateHistoryDisplay,
    RoutingMapDisplay,
)
from skmode.inspection._plot import style

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


@pytest.fixture
def drawers(wine, wine_mixture, moons, path):
    """What draws a legend on given axes, and on how many."""
    classifier, X = moons
    return {
        "probing": (1, lambda ax: ExpertProbingDisplay.from_estimator(wine_mixture, *wine, ax=ax)),
        "map": (
            1,
            lambda ax: RoutingMapDisplay.from_estimator(classifier, X, grid_resolution=9, ax=ax),
        ),
        "path": (2, lambda ax: AlphaPathDisplay(path).plot(ax)),
        "history": (3, lambda ax: GateHistoryDisplay.from_estimator(wine_mixture, ax=ax)),
    }


@pytest.mark.parametrize(
    "name",
    ["map", "path", *(pytest.param(k, marks=pytest.mark.slow) for k in ("probing", "history"))],
)
def test_legend_inside_given_axes_hides_nothing(drawers, name, inside):
    count, draw = drawers[name]
    figure, axes = plt.subplots(count, 2, figsize=(10, 3.5 * count), squeeze=False)
    draw(axes[0, 0] if count == 1 else axes[:, 0])
    figure.canvas.draw()
    for ax in axes[:, 0]:
        legend = ax.get_legend().get_window_extent()
        assert inside(legend, ax.get_window_extent())
        drawn = [np.asarray(one.get_xydata(), dtype=float) for one in ax.get_lines()]
        drawn = [points for points in drawn if one_of_the_data(points)]
        drawn += [np.asarray(one.get_offsets()) for one in ax.collections if name == "map"]
        highest = np.nanmax(np.concatenate(drawn)[:, 1])
        assert ax.transData.transform((0, highest))[1] <= legend.y0 + 1
        assert max(ax.get_yticks()) < ax.get_ylim()[1]


def one_of_the_data(points):
    """Not a line across the axes, which has its ends at 0 and 1, nor a mark beside them."""
    return len(points) > 1 and not np.array_equal(points[:, 0], [0, 1])


@pytest.mark.parametrize(
    "name",
    ["map", "path", *(pytest.param(k, marks=pytest.mark.slow) for k in ("probing", "history"))],
)
def test_legend_outside_with_a_layout_engine(drawers, name, inside):
    count, draw = drawers[name]
    figure, axes = plt.subplots(
        count, 2, figsize=(10, 3.5 * count), squeeze=False, layout="constrained"
    )
    draw(axes[0, 0] if count == 1 else axes[:, 0])
    figure.canvas.draw()
    for ax, other in axes:
        box = ax.get_tightbbox()
        assert inside(box, figure.bbox)
        assert box.x1 < other.get_window_extent().x0
        if ax.get_legend():
            legend, own = ax.get_legend().get_window_extent(), ax.get_window_extent()
            assert legend.y0 >= own.y1 - 1 or legend.x0 >= own.x1 - 1


def test_a_given_axes_is_drawn_on(wine, wine_mixture, moons):
    attention = ExpertAttentionDisplay.from_estimator(wine_mixture, *wine, random_state=0).attention
    classifier, X = moons
    makers = [
        lambda ax: ExpertProbingDisplay.from_estimator(wine_mixture, *wine, ax=ax),
        lambda ax: ExpertAttentionDisplay(attention).plot(ax),
        lambda ax: RoutingMapDisplay.from_estimator(classifier, X, grid_resolution=9, ax=ax),
    ]
    for make in makers:
        figure, ax = plt.subplots()
        display = make(ax)
        assert display.ax_ is ax
        assert display.figure_ is figure


def test_names_of_columns_are_drawn_as_they_are(moons, render):
    X = moons[1]
    names = ["a $price^$", r"$\frac$"]  # the second is no formula that can be drawn
    table = pd.DataFrame(X, columns=names)
    y = np.arange(len(X)) % 2
    mixture = MoDEClassifier(n_experts=2, **QUICK).fit(table, y)
    attention = ExpertAttentionDisplay.from_estimator(mixture, table, y, random_state=0)
    routes = RoutingMapDisplay.from_estimator(mixture, table, grid_resolution=9)
    assert {tick.get_text() for tick in attention.ax_.get_yticklabels()} == set(names)
    assert routes.ax_.get_xlabel() == names[0]
    assert render(attention)
    assert render(routes)


def test_colours_differ_in_lightness_or_marker():
    """Up to 88 experts can be told apart without colours, by their markers."""
    looks = [tuple(style.style(i).values()) for i in range(88)]
    assert len(set(looks)) == 88
    assert len({style.style(i)["marker"] for i in range(11)}) == 11
    for color in style.COLORS:
        red, green, blue = to_rgb(color)
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.75  # stands out from white


def test_labels_are_spread_around_their_values():
    assert_allclose(style.spread([0.0, 1.0], 0.1), [0, 1])
    assert_allclose(style.spread([0.5, 0.5, 0.5], 0.1), [0.4, 0.5, 0.6])
    spread = style.spread([0.3, 0.31, 0.0, 0.305], 0.1)
    assert (np.diff(np.sort(spread)) >= 0.1 - 1e-12).all()
    assert_array_equal(np.argsort(spread), [2, 0, 3, 1])


def test_without_matplotlib_the_extra_is_named(without):
    without("matplotlib")
    with pytest.raises(ImportError, match="install skmode with its extra `plot`"):
        RoutingMapDisplay.from_predictions(np.ones((3, 2)), np.ones((3, 2)))
