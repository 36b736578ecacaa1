"""Pictures: what is drawn, on which axes, with which labels."""

import io
import itertools
import subprocess
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_moons
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import (
    AlphaPathDisplay,
    ExpertAttentionDisplay,
    ExpertProbingDisplay,
    GateHistoryDisplay,
    GateRecognition,
    RoutingMapDisplay,
    alpha_path,
    experts_path,
)
from skmode.inspection._plot import _style

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


def render(display):
    """Draw without any complaint, and return the picture's bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = io.BytesIO()
        display.figure_.savefig(file, format="png")
    return file.getvalue()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def inside(inner, outer, slack=1.0):
    """Whether a box in pixels lies within another one."""
    return (
        inner.x0 >= outer.x0 - slack
        and inner.x1 <= outer.x1 + slack
        and inner.y0 >= outer.y0 - slack
        and inner.y1 <= outer.y1 + slack
    )


def line(ax, label):
    return next(one for one in ax.get_lines() if one.get_label() == label)


@pytest.fixture(scope="module")
def path(wine):
    return alpha_path(MoDEClassifier(n_experts=2, **QUICK), *wine, alphas=[0, 1, 10], cv=2)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(200, noise=0.2, random_state=0)
    return MoDEClassifier(n_experts=3, **QUICK).fit(X, y), X


# Expert probing.


def test_probing_draws_the_scores(wine, wine_mixture):
    display = ExpertProbingDisplay.from_estimator(wine_mixture, *wine)
    experts, ax = display.probing.experts, display.ax_
    assert_allclose(line(ax, "expert alone, own rows").get_ydata(), experts["score"])
    assert_allclose(line(ax, "expert alone, other rows").get_ydata(), experts["score_rest"])
    assert_allclose(
        line(ax, "mixture, own rows of that expert").get_ydata(), experts["mixture_score"]
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
        ({"expert_predictions": [["a"]] * 6}, r"got shape \(6, 1\) beside \(6, 3\) of the gate"),
        ({"mixture_prediction": ["a"]}, "inconsistent numbers of samples"),
    ],
)
def test_predictions_must_fit_together(six_rows, changes, message):
    mixture, _, y = six_rows
    options = {
        "gate_proba": mixture.gate,
        "expert_predictions": mixture.experts,
        "mixture_prediction": mixture.mixture,
    }
    with pytest.raises(ValueError, match=message):
        ExpertProbingDisplay.from_predictions(y, **options | changes)


def test_an_expert_without_rows_is_drawn_without_a_dot(told_classifier):
    mixture = told_classifier([[0.9, 0.1]] * 2, [["a", "b"]] * 2, ["a", "a"], ["a", "b"])
    display = ExpertProbingDisplay.from_estimator(mixture, np.arange(2.0)[:, None], ["a", "b"])
    assert np.isnan(line(display.ax_, "expert alone, own rows").get_ydata()[1])
    assert render(display)


def test_few_rows_are_not_none(told_classifier):
    route = np.where(np.arange(400) == 7, 1, 0)
    gate = np.where(np.arange(3) == route[:, None], 0.8, 0.1)
    mixture = told_classifier(gate, np.full((400, 3), "a"), np.full(400, "a"), ["a", "b"])
    display = ExpertProbingDisplay.from_estimator(
        mixture, np.arange(400.0)[:, None], np.repeat(["a", "b"], 200)
    )
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["0\n100 %", "1\n<1 %", "2\nnone"]


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_many_experts_in_little_room_keep_their_names_apart(told_classifier, layout):
    gate = np.eye(16)[np.arange(160) % 16]
    mixture = told_classifier(gate, np.full((160, 16), "a"), np.full(160, "a"), ["a", "b"])
    figure, ax = plt.subplots(figsize=(4, 4), layout=layout)
    y = np.repeat(["a", "b"], 80)
    ExpertProbingDisplay.from_estimator(mixture, np.arange(160.0)[:, None], y, ax=ax)
    figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in ax.get_xticklabels()]
    assert all(one.x1 < two.x0 for one, two in itertools.pairwise(boxes))
    assert all(inside(box, figure.bbox) for box in boxes)


# Paths.


def test_the_path_draws_means_and_the_recommendation(path):
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


def test_a_path_of_errors_has_its_threshold_above(diabetes, wine):
    found = experts_path(MoDEClassifier(**QUICK), *wine, n_experts=[1, 2], cv=2, scoring="log_loss")
    display = AlphaPathDisplay(found).plot()
    best = found.summary.loc[found.best, "top_expert"]
    threshold = line(display.ax_[0], "one standard error from the best top expert").get_ydata()
    assert_allclose(threshold, best["mean"] + best["sem"])
    assert display.ax_[0].get_ylabel() == "log loss (nats)"
    assert display.ax_[1].get_xlabel() == "number of experts"


def test_the_path_is_computed_from_an_estimator(wine):
    classifier = MoDEClassifier(n_experts=2, **QUICK)
    display = AlphaPathDisplay.from_estimator(classifier, *wine, alphas=[0, 3], cv=2)
    assert display.path.summary.index.tolist() == [0, 3]


def test_axes_must_be_as_many_as_are_drawn(path):
    _, axes = plt.subplots(3)
    with pytest.raises(ValueError, match="ax must be one Axes or 2 of them, got 3"):
        AlphaPathDisplay(path).plot(axes)


def test_the_consistency_of_values_is_no_share(diabetes, path):
    assert AlphaPathDisplay(path).plot().ax_[1].get_ylabel() == "share of rows"
    of_values = alpha_path(MoDERegressor(n_experts=2, **QUICK), *diabetes, alphas=[0, 1], cv=2)
    display = AlphaPathDisplay(of_values).plot()
    assert display.ax_[1].get_ylabel() == "consistency, share of rows"


# Gate history.


def test_history_draws_every_expert_and_what_was_recorded(wine):
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


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_usage_of_many_experts_is_drawn_in_shades(wine, layout):
    classifier = MoDEClassifier(n_experts=9, **QUICK).fit(*wine)
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


def test_history_of_regression_says_r_squared(diabetes_mixture):
    display = GateHistoryDisplay.from_estimator(diabetes_mixture)
    assert "R² of the mixture" in labels(display.ax_[2])
    assert display.ax_[2].get_ylabel() == "consistency, R²"
    assert render(display)


# Attention.


def test_attention_draws_shares(wine, wine_mixture):
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


def test_an_expert_without_rows_has_dashes(told_classifier):
    mixture = told_classifier([[0.9, 0.1]] * 4, [["a", "b"]] * 4, ["a"] * 4, ["a", "b"])
    display = ExpertAttentionDisplay.from_estimator(
        mixture, np.arange(4.0)[:, None], list("aabb"), random_state=0
    )
    assert [text.get_text() for text in display.ax_.texts] == ["0", "-", "0"]
    assert render(display)


LONG = "a name that says at length what is in this column"


def test_long_names_are_not_cut_off(moons):
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
def test_attention_needs_features_to_draw(wine, wine_mixture, max_features):
    with pytest.raises(ValueError, match="max_features must be a whole number of at least 1, got"):
        ExpertAttentionDisplay.from_estimator(
            wine_mixture, *wine, n_repeats=1, random_state=0, max_features=max_features
        )


# Routing map.


def test_the_map_of_two_columns_is_exact(moons):
    classifier, X = moons
    display = RoutingMapDisplay.from_estimator(classifier, X, grid_resolution=40)
    x, y, gate = display.grid
    assert gate.shape == (40, 40, 3)
    assert_allclose(gate[7, 3], classifier.gate_proba([[x[3], y[7]]])[0], atol=1e-6)
    assert_array_equal(display.route, classifier.route(X))
    shown = np.concatenate(
        [one.get_offsets() for one in display.ax_.collections if len(one.get_offsets()) > 1]
    )
    assert sorted(map(tuple, shown)) == sorted(map(tuple, X))
    assert display.ax_.get_xlabel() == "x0"
    shares = [f"{k}: {100 * np.mean(display.route == k):.0f} %" for k in range(3)]
    assert display.ax_.get_legend().get_title().get_text() == "expert: its share of the rows shown"
    assert labels(display.ax_) == [text for k, text in enumerate(shares) if k in display.route]
    assert render(display)


@pytest.mark.parametrize("kind", ["pandas", "polars", "array", "whole numbers"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_ground_is_the_mean_over_what_rows_hold_in_other_columns(wine, kind, weighted):
    """Of 20 rows all are taken, and each point of the grid is put into every one."""
    X, y = wine
    X, y = X[::9], y[::9]
    features = names = ["hue", "proline"]
    kinds = {
        "pandas": lambda table: table,
        "polars": pl.from_pandas,
        "array": pd.DataFrame.to_numpy,
    }
    if kind == "whole numbers":
        X = X.round().astype(int)
    convert = kinds.get(kind, kinds["array"])
    if kind in ("array", "whole numbers"):
        features = [list(X).index(name) for name in names]
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(convert(X), y)
    weight = np.arange(float(len(X))) if weighted else np.ones(len(X))
    display = RoutingMapDisplay.from_estimator(
        classifier,
        convert(X),
        features=features,
        grid_resolution=5,
        sample_weight=weight if weighted else None,
    )
    x, y, gate = display.grid
    table = X.astype(float)
    table[names] = x[4], y[2]
    expected = np.average(classifier.gate_proba(convert(table)), axis=0, weights=weight)
    assert_allclose(gate[2, 4], expected, atol=1e-6)
    middle = X.median()
    middle[names] = x[4], y[2]
    alone = classifier.gate_proba(convert(pd.DataFrame([middle])))[0]
    assert np.abs(alone - expected).max() > 1e-3
    assert len(display.points) == (weight > 0).sum()


def test_other_columns_keep_their_types():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["a", "b"], 100, p=[0.9, 0.1])),
            "one": rng.normal(size=100),
            "two": rng.integers(0, 9, 100),
            "flag": rng.random(100) < 0.8,
            "holes": np.where(rng.random(100) < 0.5, np.nan, 1.0),
        },
        index=np.arange(100)[::-1],
    )
    y = X["one"].to_numpy() > 0
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    few = X[:25]
    display = RoutingMapDisplay.from_estimator(
        classifier, few, features=["one", "two"], grid_resolution=4
    )
    x, y_steps, gate = display.grid
    row = few.assign(one=x[1], two=y_steps[2])
    assert_allclose(gate[2, 1], classifier.gate_proba(row).mean(axis=0), atol=1e-6)
    again = RoutingMapDisplay.from_estimator(
        MoDEClassifier(n_experts=2, **QUICK).fit(pl.from_pandas(X), y),
        pl.from_pandas(few),
        features=[1, 2],
        grid_resolution=4,
    )
    assert again.grid[2].shape == (4, 4, 2)
    assert display.ax_.get_ylabel() == "two"


def test_many_rows_are_drawn_from(wine, wine_mixture):
    display = RoutingMapDisplay.from_estimator(
        wine_mixture, wine[0], features=["hue", "proline"], max_samples=50
    )
    assert len(display.points) == 50
    assert display.grid[2].shape[:2] == (50, 50)
    again = RoutingMapDisplay.from_estimator(
        wine_mixture, wine[0], features=["hue", "proline"], max_samples=50
    )
    assert_array_equal(display.grid[2], again.grid[2])


def test_the_map_counts_by_weights(moons):
    classifier, X = moons
    route = classifier.route(X)
    weight = np.where(route == route[0], 3.0, 1.0)
    weight[:20] = 0
    display = RoutingMapDisplay.from_estimator(
        classifier, X, sample_weight=weight, grid_resolution=9
    )
    assert len(display.points) == 180
    share = weight[route == route[0]].sum() / weight.sum()
    assert f"{route[0]}: {100 * share:.0f} %" in labels(display.ax_)
    one = RoutingMapDisplay.from_predictions(
        [[0, 0], [1, 1]], [[1, 0], [0, 1]], sample_weight=[1, 999]
    )
    assert labels(one.ax_) == ["0: <1 %", "1: 100 %"]
    with pytest.raises(ValueError, match="positive sample_weight, got zeros only"):
        RoutingMapDisplay.from_estimator(classifier, X, sample_weight=np.zeros(200))


def test_the_number_of_a_region_hides_no_row():
    points = np.column_stack([part.ravel() for part in np.meshgrid(np.linspace(0, 10, 41), [5.0])])
    steps = np.linspace(0, 10, 21)
    grid = steps, steps, np.ones((21, 21, 1))
    display = RoutingMapDisplay(points, np.zeros(41, dtype=int), grid).plot()
    (number,) = [text for text in display.ax_.texts if text.get_text() == "0"]
    assert abs(number.get_position()[1] - 5) > 2  # the rows lie in the middle


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, np.asarray])
def test_many_columns_are_drawn_in_the_plane_of_two_components(wine, kind):
    X, y = wine
    table = pl.from_pandas(X) if kind is pl.DataFrame else kind(X)
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(table, y)
    display = RoutingMapDisplay.from_estimator(classifier, table, grid_resolution=6)
    x, y, gate = display.grid
    center, spread = X.mean(), X.std(ddof=0)
    directions = np.linalg.svd(((X - center) / spread).to_numpy(), full_matrices=False)[2][:2]
    # The signs of components are arbitrary: take those that the points show.
    scores = ((X - center) / spread).to_numpy() @ directions.T
    directions *= np.sign((scores * display.points).sum(axis=0))[:, None]
    row = (np.array([x[1], y[4]]) @ directions) * spread + center
    row = pd.DataFrame([row], columns=X.columns)
    row = pl.from_pandas(row) if kind is pl.DataFrame else kind(row)
    assert_allclose(gate[4, 1], classifier.gate_proba(row)[0], atol=1e-4)
    assert display.ax_.get_xlabel() == "first principal component (36\u00a0% of the variance)"


def test_the_map_of_a_pipeline_has_the_columns_that_come_in(wine):
    X, y = wine
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(n_experts=2, **QUICK)).fit(X, y)
    display = RoutingMapDisplay.from_estimator(
        pipeline, X, features=["hue", "proline"], grid_resolution=4
    )
    assert_array_equal(display.route, pipeline[-1].route(pipeline[0].transform(X)))
    assert display.points[:, 1].max() > 1000


def test_the_map_from_predictions_has_no_boundary():
    points = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 4.0]])
    gate = [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]
    display = RoutingMapDisplay.from_predictions(points, gate, labels=("length (cm)", "width (cm)"))
    assert display.grid is None
    assert_array_equal(display.route, [0, 1, 1])
    assert display.ax_.get_xlabel() == "length (cm)"
    assert labels(display.ax_) == ["0: 33 %", "1: 67 %"]
    with pytest.raises(ValueError, match="points must have two columns, got 3"):
        RoutingMapDisplay.from_predictions(np.ones((3, 3)), gate)


@pytest.mark.parametrize(
    ("table", "features", "message"),
    [
        (np.ones((5, 3)), [0], "two of the columns, by position or name, got .*0 to 2"),
        (np.ones((5, 3)), [0, 0], "two of the columns"),
        (np.ones((5, 3)), [0, 3], "two of the columns"),
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), ["a", "b"], "two number columns, got .*'b'"),
        (np.array([[1.0, np.nan]] * 3), None, "no missing values, got some in"),
        (pd.DataFrame({"a": ["x"], "b": [1], "c": [2]}), None, "components need numbers"),
        (np.ones((5, 1)), None, "two columns or more, got 1"),
        (np.ones((5, 3)), 3, "two of the columns, by position or name, got 3: choose from 0 to 2"),
        (np.ones((5, 3)), [0, 1, 1], "two of the columns"),
        (
            pd.DataFrame(np.ones((5, 3)), columns=list("abc")),
            "ab",
            "two of the columns, .* got 'ab'",
        ),
        (np.ones((1, 3)), None, "two rows or more for principal components, got one"),
    ],
)
def test_a_map_needs_two_number_columns(moons, table, features, message):
    with pytest.raises(ValueError, match=message):
        RoutingMapDisplay.from_estimator(moons[0], table, features=features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid_resolution": 1}, "grid_resolution must be a whole number of at least 2, got 1"),
        ({"grid_resolution": 9.5}, "grid_resolution must be a whole number of at least 2, got 9.5"),
        ({"max_samples": 0}, "max_samples must be a whole number of at least 1, got 0"),
    ],
)
def test_numbers_of_the_map_are_checked(moons, options, message):
    with pytest.raises(ValueError, match=message):
        RoutingMapDisplay.from_estimator(*moons, **options)


def test_one_row_has_a_map(moons):
    classifier, X = moons
    display = RoutingMapDisplay.from_estimator(classifier, X[:1], grid_resolution=5)
    assert labels(display.ax_) == [f"{classifier.route(X[:1])[0]}: 100 %"]


# All of them.


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


@pytest.mark.parametrize("name", ["probing", "map", "path", "history"])
def test_on_given_axes_the_legend_lies_inside_and_hides_nothing(drawers, name):
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


@pytest.mark.parametrize("name", ["probing", "map", "path", "history"])
def test_where_there_is_room_the_legend_stands_outside(drawers, name):
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


def test_names_of_columns_are_drawn_as_they_are(moons):
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
    """Whoever sees no colour tells two experts apart by the marker, for up to 88 experts."""
    looks = [tuple(_style.style(i).values()) for i in range(88)]
    assert len(set(looks)) == 88
    assert len({_style.style(i)["marker"] for i in range(11)}) == 11
    for color in _style.COLORS:
        red, green, blue = to_rgb(color)
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.75  # stands out from white


def test_labels_are_spread_around_where_they_belong():
    assert_allclose(_style.spread([0.0, 1.0], 0.1), [0, 1])
    assert_allclose(_style.spread([0.5, 0.5, 0.5], 0.1), [0.4, 0.5, 0.6])
    spread = _style.spread([0.3, 0.31, 0.0, 0.305], 0.1)
    assert (np.diff(np.sort(spread)) >= 0.1 - 1e-12).all()
    assert_array_equal(np.argsort(spread), [2, 0, 3, 1])


def test_without_matplotlib_the_extra_is_named():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy as np\n"
        "from skmode.inspection import RoutingMapDisplay\n"
        "RoutingMapDisplay.from_predictions(np.ones((3, 2)), np.ones((3, 2)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "install skmode with its extra `plot`" in ran.stderr
