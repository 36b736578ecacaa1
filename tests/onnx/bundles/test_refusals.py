"""What the rows of an export do not show is tried, and refused where model and graph fail."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)

import skmode_deploy
from skmode import MoDEClassifier
from skmode.onnx import export
from skmode_deploy import bundle

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.uniform(1, 9, 120),
            "city": rng.choice(["Bern", "Köln", "Oslo"], 120),
            "zip": rng.choice([1, 2, 7], 120),
        }
    )


def fit(X, *steps):
    last = MoDEClassifier(
        n_experts=2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0, inference="top_expert"
    )
    return make_pipeline(*steps, last).fit(X, np.arange(len(X)) % 2)


def refusals(folder):
    return {c.name: (c.refuses, c.lowest, c.highest) for c in bundle.read(folder).columns}


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=repr)
def test_an_encoder_that_refuses_unknown_categories(frame, encoder, tmp_path):
    steps = make_column_transformer((StandardScaler(), ["age"]), (encoder, ["city", "zip"]))
    export(fit(frame, steps), tmp_path, X=frame)
    assert refusals(tmp_path) == {
        "age": ((), None, None),
        "city": (("missing", "unseen"), None, None),
        "zip": (("missing", "unseen"), None, None),
    }
    model = skmode_deploy.load(tmp_path)
    assert model.manifest.columns[2].categories == (1.0, 2.0, 7.0)
    row = {"age": [3.0], "city": ["Bern"], "zip": [1]}
    model.predict(row | {"age": [None]})
    for column, value, message in (
        ("city", "Paris", "'city' must hold categories .* 'Bern', 'Köln', 'Oslo', got 'Paris'"),
        ("city", None, "'city' must have no missing values"),
        ("zip", 3, "'zip' must hold categories that the model knows, '1', '2', '7', got 3.0"),
        ("zip", None, "'zip' must have no missing values"),
    ):
        for rows in (row | {column: [value]}, pd.DataFrame(row | {column: [value]})):
            with pytest.raises(ValueError, match=message):
                model.predict(rows)


def test_an_encoder_of_an_array(tmp_path):
    X = np.random.default_rng(0).choice([0.1, 0.2, 0.3], (100, 2))
    export(fit(X, OneHotEncoder(sparse_output=False)), tmp_path, X=X)
    model = skmode_deploy.load(tmp_path)
    assert model.predict(X[:5]).shape == (5,)
    for value, message in ((0.4, "'x1' must hold categories"), (np.nan, "'x1' must have no miss")):
        with pytest.raises(ValueError, match=message):
            model.predict(np.array([[0.1, value]]))


def test_categories_of_encoders_inside_other_steps(frame, tmp_path):
    """X lacks some that training saw, and the model must still take them."""
    inner = make_column_transformer((OneHotEncoder(sparse_output=False), ["city"]))
    union = FeatureUnion([("inner", inner), ("codes", make_pipeline(SimpleImputer(
        strategy="most_frequent"), OrdinalEncoder()))])  # fmt: skip
    outer = make_column_transformer((union, ["city"]), (StandardScaler(), slice(0, 1)))
    pipeline = fit(frame, outer)
    rows = frame[frame["city"] == "Bern"]
    export(pipeline, tmp_path, X=rows)
    model = skmode_deploy.load(tmp_path)
    assert model.manifest.columns[1].categories == ("Bern", "Köln", "Oslo")
    assert_allclose(model.predict_proba(frame), pipeline.predict_proba(frame), atol=1e-5)


def test_numbers_that_a_step_refuses(frame, tmp_path):
    pipeline = fit(frame[["age"]], PowerTransformer("box-cox"))
    export(pipeline, tmp_path, X=frame[["age"]])
    (column,) = bundle.read(tmp_path).columns
    assert 0 < column.lowest < 0.01
    assert column.highest is None
    model = skmode_deploy.load(tmp_path)
    rows = pd.DataFrame({"age": [0.01, 100.0]})
    assert_allclose(model.predict_proba(rows), pipeline.predict_proba(rows), atol=1e-3)
    with pytest.raises(ValueError, match="'age' must hold numbers of at least .*, got -1"):
        model.predict({"age": [-1.0]})


def test_missing_values_that_a_step_refuses(frame, tmp_path):
    X = frame[["age", "zip"]]
    pipeline = fit(X, make_column_transformer((SimpleImputer(), ["age"]), (PCA(1), ["zip"])))
    export(pipeline, tmp_path, X=X)
    assert {name: kinds for name, (kinds, *_) in refusals(tmp_path).items()} == {
        "age": (),
        "zip": ("missing",),
    }
    model = skmode_deploy.load(tmp_path)
    rows = pd.DataFrame({"age": [None, 2.0], "zip": [1, 2]})
    assert_allclose(model.predict_proba(rows), pipeline.predict_proba(rows), atol=1e-5)
    with pytest.raises(ValueError, match="Column 'zip' must have no missing values"):
        model.predict({"age": [1.0], "zip": [None]})


@pytest.mark.parametrize(
    ("missing", "encoder"),
    [
        (None, TargetEncoder()),
        (np.nan, TargetEncoder()),
        (np.nan, OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
    ],
    ids=str,
)
def test_missing_values_that_X_does_not_show(frame, missing, encoder, tmp_path):
    """Training had some, and whether the graph treats them alike depends on their kind."""
    X = frame[["city"]].astype(object)
    X.iloc[::3, 0] = missing
    last = MoDEClassifier(
        n_experts=2, hidden_layer_sizes=(8,), max_epochs=20, random_state=0, inference="top_expert"
    )
    pipeline = make_pipeline(encoder, last).fit(X, (X["city"] == "Bern").astype(int))
    export(pipeline, tmp_path / "few", X=X.dropna())
    with pytest.raises(ValueError, match="Column 'city' must have no missing values"):
        skmode_deploy.load(tmp_path / "few").predict(X)
    few = skmode_deploy.load(tmp_path / "few").predict_proba(X.dropna())
    assert_allclose(few, pipeline.predict_proba(X.dropna()), atol=1e-5)
    export(pipeline, tmp_path / "all", X=X)
    found = skmode_deploy.load(tmp_path / "all").predict_proba(X)
    assert_allclose(found, pipeline.predict_proba(X), atol=1e-5)


def test_what_cannot_be_tried_is_refused(frame, tmp_path, monkeypatch):
    """X shows no missing value, and steps fail on all rows that are made of it."""
    pipeline = fit(frame[["age"]], StandardScaler())

    def fail(*args):
        raise TypeError("no such rows")

    monkeypatch.setattr("skmode.onnx._bundles.checks.refusals.like_training", fail)
    export(pipeline, tmp_path, X=frame[["age"]])
    assert refusals(tmp_path) == {"age": (("missing",), None, None)}


def test_the_estimator_alone_refuses_nothing(frame, tmp_path):
    export(fit(frame)[-1], tmp_path)
    assert set(refusals(tmp_path).values()) == {((), None, None)}
    model = skmode_deploy.load(tmp_path)
    model.predict({"age": [None], "city": ["Paris"], "zip": [9]})
