"""Every kind of input that the estimators take has a report."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import expert_probing, report

QUICK = {
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "batch_size": 100,
    "random_state": 0,
    "balance": 0.1,
}


@pytest.mark.slow
def test_missing_values_in_a_pipeline(tmp_path, read):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": rng.normal(50, 9, 200),
            "income": rng.normal(3, 1, 200),
            "city": rng.choice(["Bern", "Köln"], 200),
        }
    )
    X.loc[::4, "income"] = np.nan
    X.loc[:8, "city"] = None
    y = np.where(X["age"] > 50, "old", "young")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    kinds = OneHotEncoder(handle_unknown="ignore")
    prepare = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (kinds, make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )
    pipeline = make_pipeline(prepare, MoDEClassifier(n_experts=2, **QUICK)).fit(X, y)
    page = read(report(pipeline, X, y, tmp_path / "a.html", n_repeats=1))
    assert "Pipeline (ColumnTransformer, MoDEClassifier): 2 experts" in page.text
    some = X.isna().any(axis=1)
    assert page.numbers("missing", 1) == [some.sum(), (~some).sum()]
    right = pipeline.predict(X) == y
    assert_allclose(page.numbers("missing", 3), [right[some].mean(), right[~some].mean()])
    assert sorted(page.words("attention")) == ["age", "city", "income"]
    assert "by “age” and “income”" in page.text or "by “income” and “age”" in page.text
    assert "50 rows without one of the two are not shown" in page.text


@pytest.mark.parametrize(
    "kind",
    [
        *("polars", "weights", "told"),
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("search", "outputs", "one expert")),
    ],
)
def test_every_kind(kind, wine, diabetes, six_rows, tmp_path, read, pictures):
    X, y = wine
    options = {"n_repeats": 1}
    estimator = MoDEClassifier(n_experts=2, **QUICK)
    if kind == "polars":
        X = pl.from_pandas(X)
        X = X.with_columns(pl.when(pl.col("hue") > 1.2).then(None).otherwise(pl.col("hue")))
        X = X.rename({"hue": "color"})
    elif kind == "search":
        estimator = GridSearchCV(estimator, {"alpha": [1]}, cv=2)
    elif kind == "weights":
        options["sample_weight"] = np.random.default_rng(0).random(len(y))
    elif kind == "outputs":
        X, y = diabetes
        y = np.column_stack([y, -2 * y])
        estimator = MoDERegressor(n_experts=2, **QUICK)
    elif kind == "one expert":
        estimator.set_params(n_experts=1)
    else:
        estimator, X, y = six_rows
    page = read(report(estimator.fit(X, y), X, y, tmp_path / "a.html", **options))
    expected = {
        "polars": "some value is missing",
        "search": "GridSearchCV (MoDEClassifier)",
        "weights": "Rows count by their weights",
        "outputs": "mean of target 1",
        "one expert": "There is one expert, so the mixture is that expert",
        "told": "The estimator has no record of its training",
    }
    assert expected[kind] in page.text
    assert len(pictures(page)) == (1 if kind == "told" else 3)
    if kind == "weights":
        probing = expert_probing(estimator, X, y, sample_weight=options["sample_weight"])
        assert_allclose(page.numbers("experts", 2), probing.experts["share"], rtol=1e-8)
        assert "Shares count rows by their weights." in page.text
        written = {"".join(node.itertext()).strip() for node in pictures(page)[1].iter()}
        assert f"0: {100 * probing.experts.loc[0, 'share']:.0f} %" in written


def test_classes_that_training_did_not_see(wine, wine_mixture, tmp_path, read):
    X, y = wine
    y = y.replace({2: 9})
    page = read(report(wine_mixture, X, y, tmp_path / "a.html", n_repeats=1))
    rows = dict(zip(page.words("classes"), page.numbers("classes", 2), strict=True))
    assert rows["(classes unseen in training)"] == 0


def test_max_samples_draws_some_rows(wine, wine_mixture, tmp_path, read, no_pictures):
    page = read(report(wine_mixture, *wine, tmp_path / "a.html", n_repeats=1, max_samples=60))
    assert "Measured on 60 rows, drawn at random." in page.text
    assert "measured on 178 rows" in page.text
    assert sum(page.numbers("experts", 1)) == 178


def test_rows_without_weight_are_not_drawn(wine, wine_mixture, tmp_path, read, no_pictures):
    weight = np.zeros(178)
    weight[[3, 90, 170]] = 1.0
    options = {"sample_weight": weight, "n_repeats": 1}
    page = read(report(wine_mixture, *wine, tmp_path / "a.html", max_samples=20, **options))
    assert "Measured on 3 rows, all that have a weight." in page.text
    page = read(report(wine_mixture, *wine, tmp_path / "b.html", max_samples=2, **options))
    assert "Measured on 2 rows, drawn at random." in page.text


@pytest.mark.slow
def test_long_tables_of_features_and_classes_are_cut(tmp_path, read):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 35))
    y = np.arange(200) % 33
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    assert len(page.words("attention")) == len(page.words("classes")) == 30
    assert "The most important 30 of 35 features." in page.text
    assert "The most frequent 30 of 33 classes." in page.text


def test_sparse_rows_give_the_page_of_dense_ones(tmp_path, no_pictures):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)) * (rng.random((120, 4)) < 0.5)
    y = (X[:, 0] > 0).astype(int)
    classifier = MoDEClassifier(n_experts=2, max_epochs=2, random_state=0).fit(X, y)
    pages = [
        report(
            classifier, rows, y, tmp_path / "page.html", n_repeats=1, max_samples=100
        ).read_text()
        for rows in (X, scipy.sparse.coo_array(X))
    ]
    assert pages[0] == pages[1]
