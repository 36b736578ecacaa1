import hashlib
import pickle
import subprocess
import sys

import numpy as np
import onnx
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmode_deploy import BundleError, bundle, load, signing
from skmode_deploy.errors import GraphInterfaceError
from skmode_deploy.running import sessions as _sessions
from skmode_deploy.samples import graph_inputs

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
    label, probabilities, expert, certainty = classifier.predict_full(to_table(TABLE))
    assert_array_equal(label, [30, 40, 10, 20])
    assert label.dtype == np.int32
    assert_array_equal(probabilities, np.eye(4)[[2, 3, 0, 1]])
    assert_array_equal(expert, [0, 1, 1, 0])
    assert_array_equal(certainty, np.full(4, 0.75, np.float32))
    assert_array_equal(classifier.predict(to_table(TABLE)), label)
    assert_array_equal(classifier.predict_proba(to_table(TABLE)), probabilities)
    assert_array_equal(classifier.route(to_table(TABLE)), expert)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "", float("nan")])
def test_missing_strings(missing, classifier):
    assert classifier.predict(TABLE | {"city": [missing, "Bern", missing, ""]}).tolist() == [
        10, 30, 10, 10,
    ]  # fmt: skip


def test_wrong_tables(classifier):
    with pytest.raises(ValueError, match=r"Column 'age' must hold numbers.*'old'"):
        classifier.predict(TABLE | {"age": ["old", 1, 2, 3]})
    with pytest.raises(ValueError, match=r"must be a table with the columns 'age', 'city', 'plan'"):
        classifier.route(np.ones((2, 3)))


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_empty_tables(strategy, table_bundle):
    classifier = load(table_bundle, strategy=strategy)
    for table in ({name: [] for name in TABLE}, pd.DataFrame(TABLE)[:0], pl.DataFrame(TABLE)[:0]):
        shapes = [array.shape for array in classifier.predict_full(table)]
        assert shapes == [(0,), (0, 4), (0,), (0,)]
        dtypes = [array.dtype for array in classifier.predict_full(table)]
        assert dtypes == [np.int32, np.float32, np.int64, np.float32]


def test_parameters(table_bundle):
    assert load(table_bundle, max_rows=4).predict(TABLE).shape == (4,)
    with pytest.raises(ValueError, match="at most max_rows=3 rows, got 4"):
        load(table_bundle, max_rows=3).predict(TABLE)
    with pytest.raises(ValueError, match="max_rows must be an integer of at least 1, got 0"):
        load(table_bundle, max_rows=0)
    with pytest.raises(BundleError, match="at most 10 bytes"):
        load(table_bundle, max_bytes=10)
    with pytest.raises(TypeError, match="positional"):
        load(table_bundle, "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_bytes": "x"}, "max_bytes must be an integer of at least 1, got 'x'"),
        ({"max_bytes": 0}, "max_bytes must be an integer of at least 1, got 0"),
        ({"path": None}, "path must be a path, got None"),
        ({"path": b"table"}, "path must be a path, got b'table'"),
        ({"require_signature": ""}, "must be the path of a PEM file, got ''"),
        ({"require_signature": "."}, "must be the path of a PEM file, got '.'"),
        ({"require_signature": True}, "must be the path of a PEM file, got True"),
    ],
)
def test_wrong_parameters(parameters, message, table_bundle):
    with pytest.raises(ValueError, match=message) as error:
        load(**{"path": table_bundle} | parameters)
    assert not isinstance(error.value, BundleError)


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_strings_without_utf_8(strategy, table_bundle):
    rows = TABLE | {"city": ["Bern", None, "a\ud800", "x"]}
    with pytest.raises(ValueError, match=r"'city' must hold strings.*got 'a\\ud800'"):
        load(table_bundle, strategy=strategy).predict(rows)


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_outputs_from_the_inputs_of_the_graph(strategy, table_bundle):
    predictor = load(table_bundle, strategy=strategy, max_rows=1)
    rows = {"age": [30.0, None], "city": ["Bern", "Paris"], "plan": [1.0, 2.0]}
    inputs = graph_inputs(predictor.manifest, rows)
    assert {name: values.shape for name, values in inputs.items()} == dict.fromkeys(rows, (2, 1))
    label, expert = predictor.run(["label", "expert"], inputs)
    assert label.tolist() == [30, 20]
    assert expert.tolist() == [0, 1]
    assert predictor.path == str(table_bundle)


def test_the_whole_bundle_is_checked_before_any_graph_opens(table_bundle, monkeypatch):
    def fail(*arguments, **keywords):
        raise AssertionError("a session was opened")

    monkeypatch.setattr(_sessions, "Session", fail)
    (table_bundle / "expert_1.onnx").write_bytes(b"")
    for strategy in ("graph", "split"):
        with pytest.raises(BundleError, match=r"expert_1\.onnx must have"):
            load(table_bundle, strategy=strategy)


def test_a_signature_is_checked_before_anything_is_read(table_bundle, tmp_path, monkeypatch):
    manifest = (table_bundle / "manifest.json").read_bytes()
    asked = []

    def verify_signature(directory, public_key, *, max_bytes):
        assert max_bytes == bundle.MAX_BYTES
        asked.append((directory, public_key))
        return hashlib.sha256(manifest).hexdigest()

    monkeypatch.setattr(signing, "verify_signature", verify_signature)
    predictor = load(table_bundle, require_signature=tmp_path / "key.pub")
    assert asked == [(str(table_bundle), tmp_path / "key.pub")]
    assert pickle.loads(pickle.dumps(predictor)).predict(TABLE).tolist() == [30, 40, 10, 20]
    assert asked[1:] == [(str(table_bundle), str(tmp_path / "key.pub"))]
    (table_bundle / "manifest.json").write_bytes(manifest.replace(b"0.89", b"0.99"))
    with pytest.raises(BundleError, match="that was signed"):
        load(table_bundle, require_signature=tmp_path / "key.pub")


def test_pickles_open_the_same_bundle_in_the_same_way(table_bundle, monkeypatch):
    monkeypatch.chdir(table_bundle.parent)
    predictor = load("table", strategy="split", max_loaded_experts=1, threads=2, max_rows=4)
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(predictor))
    for mine, other in zip(again.predict_full(TABLE), predictor.predict_full(TABLE), strict=True):
        assert_array_equal(mine, other)
    assert again._parameters == predictor._parameters
    with pytest.raises(ValueError, match="max_rows=4"):
        again.predict({name: values * 2 for name, values in TABLE.items()})
    (table_bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx"):
        pickle.loads(pickle.dumps(predictor))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, bool, object])
def test_arrays(dtype, make_regressor):
    X = np.array([[1, 0, 0], [0, 1, 0]], dtype=dtype)
    value, probabilities, expert, certainty = load(make_regressor()).predict_full(X)
    assert_array_equal(value, np.array([1, 0], np.float32))
    assert value.dtype == np.float32
    assert probabilities is None
    assert expert.tolist() == [0, 1]
    assert_allclose(certainty, [np.e / (np.e + 2)] * 2)
    assert load(make_regressor(2)).predict(X).shape == (2, 2)
    assert load(make_regressor()).predict(pd.DataFrame(X)).shape == (2,)


def test_arrow_dictionaries_instead_of_an_array(make_regressor):
    first = pa.array([7.0, None, 5.0]).dictionary_encode()
    table = pa.table({"a": first, "b": [1, 2, 3], "c": [True, False, None]})
    for rows in (table, table.to_batches()[0]):
        assert_array_equal(load(make_regressor()).predict(rows), [7, np.nan, np.nan])


@pytest.mark.parametrize("order", ["C", "F"])
def test_array_layouts(order, make_regressor):
    X = np.asarray(np.arange(12.0).reshape(4, 3), order=order)
    assert load(make_regressor()).predict(X).tolist() == [0, 3, 6, 9]
    assert load(make_regressor()).predict(X[::-2]).tolist() == [9, 3]


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


def replace_model(folder, change):
    """Change model.onnx, with hashes that fit: as somebody could who writes bundles by hand."""
    manifest = bundle.read(folder)
    files = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    model = onnx.load_from_string(files["model.onnx"])
    change(model.graph)
    bundle.write(folder, manifest, files | {"model.onnx": model.SerializeToString()})


def test_an_output_of_another_shape_than_stated_is_refused(table_bundle):
    def rename(graph):
        for node in graph.node:
            node.output[:] = ["old" if name == "probabilities" else name for name in node.output]
        graph.node.append(
            onnx.helper.make_node("Identity", ["gate_probability"], ["probabilities"])
        )

    replace_model(table_bundle, rename)
    served = load(table_bundle)
    with pytest.raises(GraphInterfaceError, match=r"'probabilities' must have .*4.* got \(4,\)"):
        served.predict_proba(TABLE)
