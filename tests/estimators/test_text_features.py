"""Columns of texts in tables, beside numbers and categories."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import (
    FeatureImportance,
    expert_attention,
    expert_probing,
    feature_importances,
    report,
)

QUICK = {"n_experts": 2, "hidden_layer_sizes": (16,), "max_epochs": 12, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
WORDS = ["red", "green", "blue", "sun", "moon", "star", "tree", "river", "stone", "cloud"]
N_ROWS = 300
target = rng.integers(0, 2, N_ROWS)
table = pd.DataFrame(
    {
        "size": rng.normal(size=N_ROWS),
        "kind": rng.choice(["a", "b"], N_ROWS),
        "remarks": [
            " ".join([*rng.choice(WORDS, 7), ["dull", "great"][label]]) for label in target
        ],
    }
)
table.loc[::20, "remarks"] = None
table.loc[::17, "size"] = np.nan


def fit(X=table, y=target, **options):
    return MoDEClassifier(**QUICK | {"text_features": ["remarks"]} | options).fit(X, y)


@pytest.fixture(scope="module")
def model():
    return fit(text_features="auto")


def test_texts_are_read_beside_the_other_columns(model):
    kinds = {column.name: column.kind for column in model.encoder_.columns_}
    assert kinds == {"size": "number", "kind": "category", "remarks": "text"}
    assert model.score(table, target) > 0.85
    others = table.drop(columns="remarks")
    assert MoDEClassifier(**QUICK).fit(others, target).score(others, target) < 0.75
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict_proba(table), model.predict_proba(table))


@pytest.mark.slow
def test_names_positions_and_masks_mean_the_same(model):
    expected = model.predict_proba(table)
    for chosen in (["remarks"], [2], [False, False, True]):
        assert_array_equal(fit(text_features=chosen).predict_proba(table), expected)


def test_none_changes_nothing():
    plain = MoDEClassifier(**QUICK).fit(table, target)
    assert [column.kind for column in plain.encoder_.columns_] == ["number"] + ["category"] * 2
    assert type(plain.net_.module_.trunk).__name__ == "TabularTrunk"


def test_auto_takes_long_and_distinct_strings_alone():
    some = table.assign(
        short=[f"no {i}" for i in range(N_ROWS)],
        repeated=rng.choice(["this is a rather long category", "and this is another one"], N_ROWS),
    )
    found = fit(some, text_features="auto", max_epochs=1)
    assert [column.name for column in found.encoder_.text_columns] == ["remarks"]


def test_auto_finds_texts_whatever_holds_their_strings(model):
    expected = model.predict_proba(table)
    as_category = table.astype({"remarks": "category"})
    found = fit(as_category, text_features="auto")
    assert_array_equal(found.predict_proba(as_category), expected)
    for named, kind in ((["kind", "remarks"], "category"), (["kind"], "text")):
        found = fit(table, text_features="auto", categorical_features=named, max_epochs=1)
        assert found.encoder_.columns_[2].kind == kind


def test_auto_finds_texts_in_arrays_of_objects():
    array = table.to_numpy(dtype=object)
    options = {"categorical_features": [1], "max_epochs": 2}
    found = fit(array, text_features="auto", **options)
    expected = fit(array, text_features=[2], **options)
    assert_array_equal(found.predict_proba(array), expected.predict_proba(array))
    numbers = np.arange(2.0 * N_ROWS).reshape(-1, 2).astype(object)
    plain = fit(numbers, text_features="auto", max_epochs=1)
    assert [column.kind for column in plain.encoder_.columns_] == ["number"] * 2


@pytest.mark.parametrize("missing", [pd.NA, None, np.nan, "", pd.NaT])
def test_auto_skips_missing_texts(model, missing):
    remarks = table["remarks"].astype(object)
    remarks[table["remarks"].isna()] = missing
    found = fit(table.assign(remarks=remarks), text_features="auto")
    assert_array_equal(found.predict_proba(table), model.predict_proba(table))


@pytest.mark.slow
def test_other_containers():
    expected = fit(max_epochs=2).predict_proba(table)
    frame = pl.from_pandas(table)
    np.testing.assert_allclose(fit(frame, max_epochs=2).predict_proba(frame), expected, atol=1e-6)
    array = table.to_numpy(dtype=object)
    options = {"text_features": [2], "categorical_features": [1], "max_epochs": 2}
    found = fit(array, **options).predict_proba(array)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_texts_alone_and_several_columns():
    alone = fit(table[["remarks"]])
    assert alone.score(table[["remarks"]], target) > 0.85
    two = table.assign(notes=table["remarks"].fillna("").str[::-1])
    both = fit(two, text_features=["remarks", "notes"], max_epochs=2)
    assert len(both.net_.module_.trunk.texts) == 2
    assert both.predict(two.iloc[:1]).shape == (1,)


@pytest.mark.slow
def test_options_of_tables_work():
    for options in (
        {"teacher": MoDEClassifier(**QUICK, text_features="auto"), "teacher_cv": 2},
        {"gate": "sparse", "numeric_embedding": "piecewise_linear"},
    ):
        assert np.isfinite(fit(max_epochs=3, **options).predict_proba(table)).all()
    values = MoDERegressor(**QUICK, text_features="auto").fit(table, target * 2.0)
    assert values.score(table, target * 2.0) > 0.4


@pytest.mark.slow
def test_short_texts_beside_long_ones_may_lack_targets():
    teacher = MoDEClassifier(**QUICK, text_features=["remarks"])
    model = MoDEClassifier(**QUICK, text_features=["remarks"], teacher=teacher, teacher_cv=2)
    some = table.iloc[:40].assign(remarks="great")
    assert np.isfinite(model.fit(table, target, X_unlabeled=some).predict_proba(some)).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([3] * N_ROWS, "Column 'remarks' of text_features must hold texts. Texts must be strings"),
        (
            ["a\0b"] * N_ROWS,
            "Column 'remarks' of text_features must hold texts. A text must have no",
        ),
        ([None] * N_ROWS, "Column 'remarks' of text_features must hold texts. At least one text"),
    ],
)
def test_what_is_no_text_is_refused(column, message):
    with pytest.raises(ValueError, match=message):
        fit(table.assign(remarks=pd.Series(column, dtype=object)))


def test_wrong_choices_are_refused(model):
    with pytest.raises(ValueError, match="text_features names must be columns of a DataFrame"):
        fit(text_features=["absent"])
    with pytest.raises(ValueError, match="The 'text_features' parameter"):
        fit(text_features="remarks")
    with pytest.raises(ValueError, match=r"got \{'remarks'\} of type set: pass a list"):
        fit(text_features={"remarks"})
    with pytest.raises(ValueError, match=r"got \['remarks'\] in both"):
        fit(categorical_features=["remarks"])
    with pytest.raises(ValueError, match="Column 'remarks' of text_features must hold texts"):
        model.predict(table.assign(remarks=1.0))


@pytest.mark.parametrize("method", ["permutation", "integrated_gradients"])
def test_attention_tells_which_kind_of_column_matters(model, method):
    attention = expert_attention(model, table, target, method, random_state=0)
    assert attention.importances.index.tolist() == ["size", "kind", "remarks"]
    assert attention.importances.drop(columns="gate").sum(axis=1).idxmax() == "remarks"


@pytest.mark.slow
def test_instruments_and_importances_work(model, tmp_path):
    assert len(expert_probing(model, table, target).experts) == 2
    callbacks = [FeatureImportance(random_state=0)]
    importances = feature_importances(fit(callbacks=callbacks))
    assert importances.argmax() == 2
    assert "texts: remarks" in model._repr_html_()
    path = report(model, table, target, tmp_path / "report.html", n_repeats=1)
    assert "columns of texts" in path.read_text(encoding="utf-8")


def test_the_only_text_may_be_held_out():
    sparse = pd.DataFrame({"size": np.arange(20.0), "note": ["one text", *[None] * 19]})
    split = [(np.arange(2, 20), np.arange(2))]
    model = MoDEClassifier(
        **QUICK, text_features=["note"], early_stopping=True, validation_fraction=split
    )
    assert model.fit(sparse, np.arange(20) % 2).predict(sparse).shape == (20,)
