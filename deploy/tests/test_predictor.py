import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from skmode_deploy import load

TABLE = {
    "age": [30.0, 41.5, None, 3.0],
    "city": ["Bern", "Köln", None, "Paris"],
    "plan": [1.0, None, 1.0, 2.0],
}


@pytest.fixture
def classifier(table_bundle):
    return load(table_bundle)


@pytest.mark.parametrize(
    "to_table",
    [
        lambda table: table,
        pd.DataFrame,
        lambda table: pd.DataFrame(table).convert_dtypes(),
        lambda table: pd.DataFrame(table).astype({"city": "category"}),
        lambda table: pd.DataFrame(table).astype(object),
        lambda table: pd.DataFrame(table)[["plan", "city", "age"]],
        pl.DataFrame,
        lambda table: pl.DataFrame(table).with_columns(pl.col("city").cast(pl.Categorical)),
        pa.table,
        lambda table: pa.table({k: pa.array(v).dictionary_encode() for k, v in table.items()}),
        lambda table: {k: pa.array(v).dictionary_encode() for k, v in table.items()},
        lambda table: {k: pa.array(v) for k, v in table.items()},
        lambda table: pl.DataFrame(table).with_columns(
            pl.col("city").cast(pl.Enum(["Paris", "Köln", "Bern"]))
        ),
    ],
)
def test_tables_of_all_kinds(to_table, classifier):
    label, probabilities, expert = classifier.predict_full(to_table(TABLE))
    assert_array_equal(label, [30, 40, 10, 20])
    assert label.dtype == np.int32
    assert_array_equal(probabilities, np.eye(4)[[2, 3, 0, 1]])
    assert_array_equal(expert, [0, 1, 1, 0])
    assert_array_equal(classifier.predict(to_table(TABLE)), label)
    assert_array_equal(classifier.predict_proba(to_table(TABLE)), probabilities)
    assert_array_equal(classifier.route(to_table(TABLE)), expert)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "", float("nan")])
def test_missing_strings(missing, classifier):
    assert classifier.predict(TABLE | {"city": [missing, "Bern", missing, ""]}).tolist() == [
        10, 30, 10, 10,
    ]  # fmt: skip


def test_numbers_as_a_csv_file_gives_them(classifier):
    """As in training: a number column reads strings that are numbers."""
    table = TABLE | {"age": ["30", "", "1e3", None], "plan": ["1", "2.0", "", "1"]}
    assert classifier.route(table).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": ["old", 1, 2, 3]}, r"Column 'age' must hold numbers.*'old'"),
        ({"age": [np.inf, 1, 2, 3]}, r"column 'age' contains infinity"),
        ({"age": [1e300, 1, 2, 3]}, r"column 'age' contains infinity or a value too large"),
        ({"plan": ["gold", 1, 2, 3]}, r"Column 'plan' must hold numbers.*gold"),
        (
            {"city": [1, "Bern", "Bern", "Bern"]},
            r"Column 'city' must hold strings, got 1 of type int",
        ),
        ({"city": ["Bern"]}, r"same number of rows.*'city': 1"),
        ({"age": np.ones((4, 1))}, r"one dimension.*'age' has shape \(4, 1\)"),
        ({"age": np.array(["2020-01-01"] * 4, "M8[D]")}, r"Column 'age' must hold numbers"),
        (
            {"sex": [0, 1, 0, 1]},
            r"columns of training only, got 'sex' as well: select 'age', 'city'",
        ),
    ],
)
def test_wrong_tables(change, message, classifier):
    with pytest.raises(ValueError, match=message):
        classifier.predict(TABLE | change)


def test_missing_columns(classifier):
    with pytest.raises(ValueError, match=r"got none called 'age', 'plan': add them"):
        classifier.predict({"city": ["Bern"]})


def test_arrays_where_training_saw_a_table(classifier):
    with pytest.raises(ValueError, match=r"must be a table with the columns 'age', 'city', 'plan'"):
        classifier.predict(np.ones((2, 3)))


def test_empty_tables(classifier):
    for table in ({name: [] for name in TABLE}, pd.DataFrame(TABLE)[:0], pl.DataFrame(TABLE)[:0]):
        assert classifier.predict(table).shape == (0,)
        assert classifier.predict_proba(table).shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, bool, object])
def test_arrays(dtype, make_regressor):
    X = np.array([[1, 0, 0], [0, 1, 0]], dtype=dtype)
    value, probabilities, expert = load(make_regressor()).predict_full(X)
    assert_array_equal(value, np.array([1, 0], np.float32))
    assert value.dtype == np.float32
    assert probabilities is None
    assert expert.tolist() == [0, 1]
    assert load(make_regressor(2)).predict(X).shape == (2, 2)
    assert load(make_regressor()).predict(pd.DataFrame(X)).shape == (2,)


def test_arrow_dictionaries_in_place_of_an_array(make_regressor):
    first = pa.array([7.0, None, 5.0]).dictionary_encode()
    table = pa.table({"a": first, "b": [1, 2, 3], "c": [True, False, None]})
    for rows in (table, table.to_batches()[0]):
        assert_array_equal(load(make_regressor()).predict(rows), [7, np.nan, np.nan])


@pytest.mark.parametrize("order", ["C", "F"])
def test_array_layouts(order, make_regressor):
    X = np.asarray(np.arange(12.0).reshape(4, 3), order=order)
    assert load(make_regressor()).predict(X).tolist() == [0, 3, 6, 9]
    assert load(make_regressor()).predict(X[::-2]).tolist() == [9, 3]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones(3), r"shape \(n_samples, 3\), got \(3,\).*reshape\(1, -1\)"),
        (np.ones((2, 4)), r"shape \(n_samples, 3\), got \(2, 4\)"),
        ([["a", "b", "c"]], r"numbers only.*'a'"),
        ([[1.0, np.inf, 0.0]], r"X contains infinity"),
        ([[1.0, 1e39, 0.0]], r"X contains infinity or a value too large for dtype\('float32'\)"),
    ],
)
def test_wrong_arrays(X, message, make_regressor):
    with pytest.raises(ValueError, match=message):
        load(make_regressor()).predict(X)


def test_regressors_have_no_probabilities(make_regressor):
    with pytest.raises(AttributeError, match="Only a classifier has predict_proba"):
        load(make_regressor()).predict_proba(np.ones((1, 3)))


def test_serving_imports_neither_torch_nor_scikit_learn(table_bundle):
    code = (
        "import sys, skmode_deploy; "
        f"print(skmode_deploy.load({str(table_bundle)!r}).predict("
        "{'age': [1], 'city': ['Bern'], 'plan': [1]})); "
        "print({'torch', 'sklearn', 'skmode', 'pandas', 'polars', 'onnx'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert output.split("\n")[:2] == ["[30]", "set()"]
