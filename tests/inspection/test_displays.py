"""Pictures: what is drawn, on which axes, with which labels."""

import io
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

from skmode import MoDEClassifier
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


def test_history_of_regression_says_r_squared(diabetes_mixture):
    display = GateHistoryDisplay.from_estimator(diabetes_mixture)
    assert "R² of the mixture" in labels(display.ax_[2])
    assert display.ax_[2].get_ylabel() == "share, or R²"
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
    shares = [
        f"expert {k} ({100 * np.mean(display.route == k):.0f} % of the rows)" for k in range(3)
    ]
    assert labels(display.ax_) == [text for k, text in enumerate(shares) if k in display.route]
    assert render(display)


@pytest.mark.parametrize("kind", ["pandas", "polars", "array"])
def test_other_columns_have_their_median(wine, kind):
    X, y = wine
    names = ["hue", "proline"]
    features = names
    if kind == "polars":
        X = pl.from_pandas(X)
    elif kind == "array":
        features = [list(X).index(name) for name in names]
        X = X.to_numpy()
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    display = RoutingMapDisplay.from_estimator(
        classifier, X, features=features, grid_resolution=5, max_samples=50
    )
    x, y, gate = display.grid
    row = wine[0].median()
    row[names] = x[4], y[2]
    table = pd.DataFrame([row])
    table = {"pandas": table, "polars": pl.from_pandas(table), "array": table.to_numpy()}[kind]
    assert_allclose(gate[2, 4], classifier.gate_proba(table)[0], atol=1e-6)
    assert len(display.points) == 50


def test_other_columns_have_their_most_frequent_category():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["a", "b"], 100, p=[0.9, 0.1])),
            "one": rng.normal(size=100),
            "two": rng.integers(0, 9, 100),
            "flag": rng.random(100) < 0.8,
        }
    )
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, X["one"] > 0)
    display = RoutingMapDisplay.from_estimator(
        classifier, X, features=["one", "two"], grid_resolution=4
    )
    x, y, gate = display.grid
    row = pd.DataFrame({"kind": ["a"], "one": [x[1]], "two": [y[2]], "flag": [True]})
    assert_allclose(gate[2, 1], classifier.gate_proba(row)[0], atol=1e-6)
    again = RoutingMapDisplay.from_estimator(
        MoDEClassifier(n_experts=2, **QUICK).fit(pl.from_pandas(X), X["one"] > 0),
        pl.from_pandas(X),
        features=[1, 2],
        grid_resolution=4,
    )
    assert again.grid[2].shape == (4, 4, 2)
    assert display.ax_.get_ylabel() == "two"


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
    assert display.ax_.get_xlabel() == "first principal component (36 % of the variance)"


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
    assert labels(display.ax_) == ["expert 0 (33 % of the rows)", "expert 1 (67 % of the rows)"]
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
    ],
)
def test_a_map_needs_two_number_columns(moons, table, features, message):
    with pytest.raises(ValueError, match=message):
        RoutingMapDisplay.from_estimator(moons[0], table, features=features)


# All of them.


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
