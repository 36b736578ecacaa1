"""A column of another type than in training: estimator and served bundle do the same."""

import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

import skmode_deploy
from skmode import MoDEClassifier
from skmode._encoding.matching import match_strings
from skmode.onnx import export
from skmode_deploy.cli import main
from skmode_deploy.serving.models.model import ServedModel
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.protocol.tensors import from_list

# Each type through fit, export and every way in; the encoder's own tests are fast.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
]

# What training saw: a column of each kind, the same rows.
TRAINING = {
    "texts of integers": ["101", "102", "103"],
    "long integers": ["9007199254740992", "9007199254740993", "3"],
    "texts of floats": ["0.5", "1.5", "2.0"],
    "leading zeros": ["01", "2", "3"],
    "ambiguous": ["1", "1.0", "2"],
    "words": ["a", "b", "101"],
    "texts of bools": ["True", "False", "True"],
    "lower case": ["true", "false", "true"],
    "numbers": [101, 102, 103],
    "numeric categories": pd.Categorical([101, 102, 103]),
    "zeros and ones": pd.Categorical([0, 1, 0]),
    "bools": [True, False, True],
}
# What comes then, and the values of training that it stands for; None where it is refused.
CASES = [
    ("texts of integers", [101, 102, 9], ["101", "102", "9"]),
    ("texts of integers", np.array([101, 102], np.int16), ["101", "102"]),
    ("texts of integers", [101.0, np.nan, 102.5], ["101", None, "102.5"]),
    ("texts of integers", pd.array([101, None], dtype="Int64"), ["101", None]),
    ("texts of integers", pd.Categorical([103, 101]), ["103", "101"]),
    ("texts of integers", np.array([101, "102", None], object), ["101", "102", None]),
    ("texts of integers", [True, False], None),
    ("texts of integers", pd.to_datetime(["2020-01-01"]), None),
    ("long integers", [9007199254740993, 3], ["9007199254740993", "3"]),
    ("long integers", [3.0, np.nan], ["3", None]),
    ("long integers", [9007199254740992.0, 3.0], None),
    ("texts of floats", [0.5, 2.0, 2], ["0.5", "2.0", "2.0"]),
    ("leading zeros", [1, 2], None),
    ("leading zeros", ["1", "01"], ["1", "01"]),
    ("ambiguous", [1, 2], None),
    ("words", [101, 102], None),
    ("texts of bools", [True, False], ["True", "False"]),
    ("texts of bools", pd.array([True, None], dtype="boolean"), ["True", None]),
    ("texts of bools", [1, 0], None),
    ("lower case", [True, False], None),
    ("numbers", ["101", "102.5", ""], [101, 102.5, np.nan]),
    ("numbers", np.array(["101", 102, None], object), [101, 102, np.nan]),
    ("numbers", pd.Categorical(["101", "103"]), [101, 103]),
    ("numbers", [True, False], [1, 0]),
    ("numbers", ["a", "101"], None),
    ("numbers", [datetime.date(2020, 1, 1)], None),
    ("numeric categories", ["101", "103", "7"], [101, 103, 7]),
    ("numeric categories", [101.0, 103.0], [101, 103]),
    ("numeric categories", ["0101"], None),
    ("numeric categories", ["a"], None),
    ("numeric categories", [True, False], None),
    ("numeric categories", pd.array([True, None], dtype="boolean"), None),
    ("zeros and ones", [True, False], [1, 0]),
    ("bools", [1, 0], [True, False]),
    ("bools", ["True"], None),
]


def fit(values):
    X = pd.DataFrame({"c": values, "x": [1.0, 2.0, 3.0]})
    X = pd.concat([X] * 8, ignore_index=True)
    X["c"] = X["c"].astype(pd.Series(values).dtype)  # which concat may lose
    model = MoDEClassifier(
        n_experts=2, hidden_layer_sizes=(8,), max_epochs=20, random_state=0, inference="top_expert"
    )
    return model.fit(X, [0, 1, 2] * 8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    found = {}
    for kind, values in TRAINING.items():
        folder = tmp_path_factory.mktemp("bundle") / "bundle"
        estimator = fit(values)
        export(estimator, folder)
        found[kind] = estimator, skmode_deploy.load(folder)
    return found


def table(values):
    return pd.DataFrame({"c": values, "x": 2.0})


@pytest.mark.parametrize(("kind", "values", "meaning"), CASES, ids=str)
def test_a_column_of_another_type(models, kind, values, meaning):
    estimator, served = models[kind]
    frame = table(values)
    ways = {
        "estimator": lambda: estimator.predict_proba(frame),
        "served DataFrame": lambda: served.predict_proba(frame),
        "served dict": lambda: served.predict_proba(dict(frame.items())),
        "many rows": lambda: served.predict_proba(pd.concat([frame] * 40))[: len(frame)],
    }
    objects = any(isinstance(x, datetime.date) for x in values)
    mixed = frame["c"].dtype == object and len({type(x) for x in values if x is not None}) > 1
    if not (objects or mixed or isinstance(values, pd.Categorical)):
        ways["served arrow"] = lambda: served.predict_proba(pa.Table.from_pandas(frame))
        ways["polars"] = lambda: estimator.predict_proba(pl.from_pandas(frame))
    if meaning is None:
        for way, predict in ways.items():
            with pytest.raises((TypeError, ValueError), match=r"olumn.* 'c'[ :]") as error:
                predict()
            assert "str" in str(error.value) or "numbers" in str(error.value), way
        return
    expected = estimator.predict_proba(table(meaning))
    for way, predict in ways.items():
        assert_allclose(predict(), expected, rtol=0, atol=1e-5, err_msg=way)


def test_score_and_partial_fit_read_columns_as_predict_does(models):
    estimator, _ = models["leading zeros"]
    for call in (estimator.score, estimator.partial_fit):
        with pytest.raises(ValueError, match="'c' must hold strings, .*'01'.* got 1 of type int"):
            call(table([1, 2, 3]), [0, 1, 2])
    estimator, _ = models["texts of integers"]
    assert estimator.score(table([101, 102]), [0, 1]) == estimator.score(
        table(["101", "102"]), [0, 1]
    )


@pytest.mark.parametrize(
    ("kind", "datatype", "values", "meaning"),
    [
        ("texts of integers", "INT64", [101, 102], ["101", "102"]),
        ("texts of integers", "FP32", [101.0, None], ["101", None]),
        ("texts of bools", "BOOL", [True, False], ["True", "False"]),
        ("numbers", "BYTES", ["101", ""], [101, np.nan]),
        ("numeric categories", "BYTES", ["101", "7"], [101, 7]),
        ("leading zeros", "INT64", [1, 2], None),
        ("texts of bools", "INT64", [1, 0], None),
        ("numbers", "BYTES", ["a", "101"], None),
        ("numeric categories", "BYTES", ["0101", "101"], None),
    ],
)
def test_tensors_of_another_type(models, kind, datatype, values, meaning):
    estimator, predictor = models[kind]
    served = ServedModel("model", 1, predictor)
    tensors = [from_list("c", datatype, [2], values), from_list("x", "FP32", [2], [2.0, 2.0])]
    request = Request(tensors, None, "")
    if meaning is None:
        with pytest.raises(Exception, match="'c' must") as error:
            served.score(request, served.read_rows(request))
        assert error.value.status == 400
        return
    found = served.score(request, served.read_rows(request)).prediction.probabilities
    assert_allclose(found, estimator.predict_proba(table(meaning)), rtol=0, atol=1e-5)


def test_object_arrays_of_another_type(tmp_path):
    X = np.array([["101", 1.0], ["102", 2.0]] * 10, dtype=object)
    estimator = MoDEClassifier(
        n_experts=2, max_epochs=5, random_state=0, categorical_features=[0], inference="top_expert"
    ).fit(X, [0, 1] * 10)
    export(estimator, tmp_path)
    served = skmode_deploy.load(tmp_path)
    expected = estimator.predict_proba(X[:2])
    for rows in (np.array([[101, 1.0], [102, 2.0]]), np.array([[101, 1], [102, 2]], object)):
        assert_allclose(estimator.predict_proba(rows), expected)
        assert_allclose(served.predict_proba(rows), expected, atol=1e-5)


def test_float32_of_a_long_integer():
    """It stands for several integers from 2**24 on."""
    known = np.array(["16777217", "3"], dtype=object)
    values = np.array([np.float32(3), np.float32(16777216)], dtype=object)
    assert match_strings("c", known, values[:1]).tolist() == ["3"]
    with pytest.raises(ValueError, match="Column 'c' must hold strings"):
        match_strings("c", known, values)


# A field of a CSV file has no type: in a column of strings it is a category, or may stand for the
# number or bool of one.
FIELDS = [
    ("texts of integers", ["101", "102", "9"], ["101", "102", "9"]),
    ("texts of integers", ["101.0", "", "9.5"], ["101", None, "9.5"]),
    ("texts of integers", ["a", " 101"], ["a", " 101"]),
    ("texts of integers", ["0101"], None),
    ("texts of integers", ["True"], None),
    ("long integers", ["9007199254740993", "3.0"], ["9007199254740993", "3"]),
    ("long integers", ["9007199254740992.0"], None),
    ("texts of floats", ["0.5", "2"], ["0.5", "2.0"]),
    ("texts of floats", ["2.00"], None),
    ("leading zeros", ["01", "2", "4"], ["01", "2", "4"]),
    ("leading zeros", ["1"], None),
    ("leading zeros", ["01.0"], None),
    ("ambiguous", ["1", "1.0", "2"], ["1", "1.0", "2"]),
    ("ambiguous", ["2.0"], None),
    ("words", ["101", "0101", "True"], ["101", "0101", "True"]),
    ("texts of bools", ["true", "FALSE", "True", ""], ["True", "False", "True", None]),
    ("texts of bools", ["no"], ["no"]),
    ("texts of bools", ["1"], None),
    ("lower case", ["false"], ["false"]),
    ("lower case", ["True"], None),
    ("numbers", ["101", "102.0", "0103", ""], [101, 102, 103, np.nan]),
    ("numbers", ["a"], None),
    ("numeric categories", ["101", "103.0", ""], [101, 103, None]),
    ("numeric categories", ["a"], None),
    ("bools", ["True", "false", "1", "0"], [True, False, True, False]),
    ("bools", ["yes"], None),
]


def score_file(folder, path, capsys):
    """Run the command line, and return its predictions, or its message if it refuses the rows."""
    target = path.with_suffix(".predictions.parquet")
    code = main(["predict", str(folder), str(path), str(target)])
    message = capsys.readouterr().err
    if code:
        assert code == 3
        return message
    table = pq.read_table(target)
    return np.column_stack([table[f"probability_{i}"].to_numpy() for i in range(3)])


@pytest.mark.parametrize(("kind", "fields", "meaning"), FIELDS, ids=str)
def test_csv_files(models, kind, fields, meaning, tmp_path, capsys):
    estimator, served = models[kind]
    path = tmp_path / "rows.csv"
    path.write_text("c,x\n" + "".join(f"{field},2.0\n" for field in fields))
    found = score_file(served.path, path, capsys)
    if meaning is None:
        assert "Column 'c' must hold" in found
        assert f"got {fields[0]!r} in line 2: " in found
    else:
        assert_allclose(found, estimator.predict_proba(table(meaning)), rtol=0, atol=1e-5)


def arrow_tables(values):
    """The same values as other writers of Parquet store them."""
    plain = pa.Table.from_pandas(table(values), preserve_index=False)
    column = plain["c"].combine_chunks()
    columns = {"plain": column}
    if pa.types.is_dictionary(column.type):
        columns["decoded"] = column.cast(column.type.value_type)
    else:
        columns["dictionary"] = column.dictionary_encode()
    if pa.types.is_string(column.type):
        columns["large"] = column.cast(pa.large_string())
    if pa.types.is_integer(column.type):
        columns["decimal"] = column.cast(pa.decimal128(20, 0))
        columns["small"] = column.cast(pa.int8() if column.type != pa.int64() else pa.int64())
    # Without the types that pandas would restore.
    plain = plain.replace_schema_metadata(None)
    return {name: plain.set_column(0, "c", each) for name, each in columns.items()}


@pytest.mark.parametrize(
    ("kind", "values", "meaning"),
    [
        *(case for case in CASES if not any(isinstance(x, datetime.date) for x in case[1])),
        ("numbers", [datetime.date(2020, 1, 1)], None),
    ],
    ids=str,
)
def test_parquet_files(models, kind, values, meaning, tmp_path, capsys):
    estimator, served = models[kind]
    try:
        tables = arrow_tables(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pytest.skip("Parquet has no column of several types")
    for name, rows in tables.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(rows, path)
        by_pandas = partial(pd.read_parquet, path)
        as_dictionary = partial(pq.read_table, path, read_dictionary=["c"])
        for way, predict, read in (
            ("command", partial(score_file, served.path, capsys=capsys), partial(Path, path)),
            ("read as dictionary", served.predict_proba, as_dictionary),
            ("pandas", served.predict_proba, by_pandas),
            ("estimator", estimator.predict_proba, by_pandas),
        ):
            try:
                found = predict(read())
            except (ValueError, TypeError) as error:
                found = str(error)
            where = f"{name}, {way}: {found}"
            if meaning is None:
                assert isinstance(found, str), where
                assert "olumn 'c'" in found or "columns 'c'" in found, where
            else:
                assert not isinstance(found, str), where
                expected = estimator.predict_proba(table(meaning))
                assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=where)


def test_long_integers_with_nulls_in_parquet_files(models, tmp_path, capsys):
    """They would become floats, which do not hold them."""
    estimator, served = models["long integers"]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"c": [9007199254740993, None], "x": [2.0, 2.0]}), path)
    expected = estimator.predict_proba(table(["9007199254740993", None]))
    for found in (
        score_file(served.path, path, capsys),
        served.predict_proba(pq.read_table(path)),
        estimator.predict_proba(pq.read_table(path)),
    ):
        assert_allclose(found, expected, rtol=0, atol=1e-5)
