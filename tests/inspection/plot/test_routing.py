"""The map of the experts' regions."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier
from skmode.inspection import RoutingMapDisplay

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "balance": 0.1}


def test_the_map_of_two_columns_is_exact(moons, render, labels):
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
    assert display.ax_.get_legend().get_title().get_text() == "expert: share of the rows shown"
    assert labels(display.ax_) == [text for k, text in enumerate(shares) if k in display.route]
    assert render(display)


@pytest.mark.parametrize("kind", ["pandas", "polars", "array", "whole numbers"])
@pytest.mark.parametrize("weighted", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_shades_average_over_the_other_columns(wine, kind, weighted):
    """There are 20 rows, so each point of the grid is put into all of them."""
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


@pytest.mark.slow
def test_max_samples_limits_the_points(wine, wine_mixture):
    display = RoutingMapDisplay.from_estimator(
        wine_mixture, wine[0], features=["hue", "proline"], max_samples=50
    )
    assert len(display.points) == 50
    assert display.grid[2].shape[:2] == (50, 50)
    again = RoutingMapDisplay.from_estimator(
        wine_mixture, wine[0], features=["hue", "proline"], max_samples=50
    )
    assert_array_equal(display.grid[2], again.grid[2])


def test_legend_counts_rows_by_weight(moons, labels):
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
    with pytest.raises(ValueError, match="positive sample_weight, got only zeros"):
        RoutingMapDisplay.from_estimator(classifier, X, sample_weight=np.zeros(200))


def test_region_numbers_hide_no_rows():
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


def test_map_of_a_pipeline_has_its_input_columns(wine):
    X, y = wine
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(n_experts=2, **QUICK)).fit(X, y)
    display = RoutingMapDisplay.from_estimator(
        pipeline, X, features=["hue", "proline"], grid_resolution=4
    )
    assert_array_equal(display.route, pipeline[-1].route(pipeline[0].transform(X)))
    assert display.points[:, 1].max() > 1000


def test_the_map_from_predictions_has_no_boundary(labels):
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
        (np.ones((5, 1)), None, "at least two columns, got 1"),
        (np.ones((5, 3)), 3, "two of the columns, by position or name, got 3: choose from 0 to 2"),
        (np.ones((5, 3)), [0, 1, 1], "two of the columns"),
        (
            pd.DataFrame(np.ones((5, 3)), columns=list("abc")),
            "ab",
            "two of the columns, .* got 'ab'",
        ),
        (np.ones((1, 3)), None, "at least two rows for principal components, got one"),
    ],
)
def test_invalid_features_raise(moons, table, features, message):
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
def test_invalid_parameters_raise(moons, options, message):
    with pytest.raises(ValueError, match=message):
        RoutingMapDisplay.from_estimator(*moons, **options)


def test_one_row_has_a_map(moons, labels):
    classifier, X = moons
    display = RoutingMapDisplay.from_estimator(classifier, X[:1], grid_resolution=5)
    assert labels(display.ax_) == [f"{classifier.route(X[:1])[0]}: 100 %"]
