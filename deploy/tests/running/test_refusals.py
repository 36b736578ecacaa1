"""Values that a bundle refuses, and failures of onnxruntime: never an error that says nothing."""

import dataclasses

import numpy as np
import onnx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from skmode_deploy import bundle, load
from skmode_deploy.cli import main
from skmode_deploy.errors import InferenceError
from skmode_deploy.running.sessions import first_line, run_session
from skmode_deploy.samples import draw_rows
from skmode_deploy.serving.models.model import ServedModel
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.protocol.tensors import from_list

GOOD = {"age": [30.0, 40.0], "city": ["Bern", "Köln"], "plan": [1.0, 2.0]}
REFUSED = {
    "unseen string": (
        "city",
        "Oslo",
        "categories that the model knows, 'Bern', 'Köln', got 'Oslo'",
    ),
    "missing string": ("city", None, "have no missing values"),
    "unseen number": ("plan", 3.0, "categories that the model knows, '1', '2', got 3.0"),
    "missing number": ("age", None, "have no missing values"),
    "too low": ("age", -1.0, "numbers of at least 0.5, got -1"),
    "too high": ("age", 1e6, "numbers of at most 200, got 1e[+]06"),
}


def change(folder, columns=(), files=()):
    """Write a bundle again with other attributes of its columns, or with other files."""
    manifest = bundle.read(folder)
    data = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    new = tuple(
        dataclasses.replace(column, **dict(columns).get(column.name, {}))
        for column in manifest.columns
    )
    bundle.write(folder, dataclasses.replace(manifest, columns=new), data | dict(files))
    return folder


@pytest.fixture
def refusing(table_bundle):
    both = ("missing", "unseen")
    return change(
        table_bundle,
        {
            "age": {"refuses": ("missing",), "lowest": 0.5, "highest": 200.0},
            "city": {"refuses": both, "has_missing": False},
            "plan": {"refuses": both},
        },
    )


@pytest.fixture(params=REFUSED)
def refused(request):
    column, value, message = REFUSED[request.param]
    return GOOD | {column: [GOOD[column][0], value]}, f"Column '{column}' must .*{message}"


def with_code(data, **attributes):
    """A graph whose lookup of cities gives other positions."""
    model = onnx.load_from_string(data)
    (node,) = (node for node in model.graph.node if node.op_type == "LabelEncoder")
    kept = [entry for entry in node.attribute if entry.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(onnx.helper.make_attribute(*item) for item in attributes.items())
    return model.SerializeToString()


def break_graphs(folder, **attributes):
    manifest = bundle.read(folder)
    names = ("model.onnx", "gate.onnx")
    return change(
        folder,
        files={n: with_code(bundle.read_file(folder, manifest, n), **attributes) for n in names},
    )


@pytest.mark.parametrize("wrap", [dict, pd.DataFrame, pl.DataFrame, pa.table])
def test_refused_values_in_each_kind_of_table(refusing, refused, wrap):
    rows, message = refused
    model = load(refusing)
    assert model.predict(wrap(GOOD)).tolist() == [30, 40]
    for method in (model.predict, model.predict_proba, model.route, model.predict_full):
        with pytest.raises(ValueError, match=message):
            method(wrap(rows))
    with pytest.raises(ValueError, match=message):
        load(refusing, strategy="split").predict(wrap(rows))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_refused_values_on_the_command_line(refusing, refused, form, tmp_path, capsys):
    rows, _ = refused
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        pyarrow.parquet.write_table(pa.table(rows), path)
    assert main(["predict", str(refusing), str(path), str(tmp_path / "out.csv")]) == 3
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert ("Row 2: Column" if form == "parquet" else "line 2 on: Column") in error


def test_refused_values_at_the_server(refusing, refused):
    rows, message = refused
    served = ServedModel("credit", 1, load(refusing))
    tensors = [
        from_list(name, "BYTES" if name == "city" else "FP64", [2, 1],
                  ["" if x is None and name == "city" else x for x in values])
        for name, values in rows.items()
    ]  # fmt: skip
    request = Request(tensors, None, "")
    with pytest.raises(RequestError, match=message) as error:
        served.score(request, served.read_rows(request))
    assert error.value.status == 400


def test_refused_values_in_an_array(make_regressor):
    folder = change(make_regressor(), {"x1": {"refuses": ("missing",)}, "x2": {"highest": 2.0}})
    model = load(folder)
    assert model.predict(np.array([[1.0, 2.0, 2.0], [np.nan, 0, 0]])).shape == (2,)
    with pytest.raises(ValueError, match="Column 'x1' must have no missing values"):
        model.predict(np.array([[1.0, np.nan, 2.0]]))
    with pytest.raises(ValueError, match="Column 'x2' must hold numbers of at most 2, got 3"):
        model.predict(np.array([[1.0, 1.0, 3.0]]))


def test_drawn_rows_have_no_refused_values(refusing):
    model = load(refusing)
    assert model.predict(draw_rows(model.manifest, 200)).shape == (200,)


def test_numbers_that_the_model_cannot_hold_are_refused(table_bundle):
    """The steps of a Pipeline read float64, and what they make of it must fit into float32."""
    folder = change(table_bundle, {"plan": {"kind": "number", "categories": None}})
    with pytest.raises(ValueError, match="column 'plan' contains infinity or a value too large"):
        load(folder).predict(GOOD | {"plan": [1.0, 1e300]})


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_unknown_values_that_an_older_bundle_does_not_refuse(table_bundle, strategy):
    model = load(break_graphs(table_bundle, default_int64=9), strategy=strategy)
    assert model.predict(GOOD).tolist() == [30, 40]
    with pytest.raises(ValueError, match="Column 'city' must hold categories .*, got 'Oslo'"):
        model.predict(GOOD | {"city": ["Bern", "Oslo"]})


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_a_failure_of_the_runtime(table_bundle, strategy, tmp_path, capsys):
    folder = break_graphs(table_bundle, values_int64s=[0, 2, 9])
    model = load(folder, strategy=strategy)
    message = r"onnxruntime .* must predict the 2 rows of a call, but it failed: .*out of.*bounds"
    with pytest.raises(InferenceError, match=message):
        model.predict(GOOD)
    path = tmp_path / "rows.csv"
    pd.DataFrame(GOOD).to_csv(path, index=False)
    assert main(["predict", str(folder), str(path), "-", f"--strategy={strategy}"]) == 70
    error = capsys.readouterr().err
    assert "In the rows from line 2 on: onnxruntime" in error
    assert "Traceback" not in error
    served = ServedModel("credit", 1, model)
    with pytest.raises(RequestError, match=message) as refusal:
        served.score(Request([], None, ""), GOOD)
    assert refusal.value.status == 500


def test_inputs_that_the_graph_does_not_have(table_bundle):
    model = load(table_bundle)
    with pytest.raises(InferenceError, match="Required inputs .* are missing"):
        model.run(["label"], {})
    with pytest.raises(InferenceError, match="Unexpected input data type"):
        model.run(["label"], {name: np.ones((1, 1)) for name in GOOD})


class _WithoutMemory:
    def run(self, outputs, feeds):
        raise Exception(
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul "
            "node. Name:'' Status Message: /src/bfc_arena.cc:360 void* onnxruntime::Alloc(size_t, "
            "bool) Failed to allocate memory for requested buffer of size 40000000000000"
        )


def test_no_memory(table_bundle):
    message = "onnxruntime must get the memory to predict 3 rows, but it did not: .*Pass fewer rows"
    with pytest.raises(MemoryError, match=message):
        run_session(_WithoutMemory(), ["y"], {"x": np.ones((3, 1))})
    served = ServedModel("credit", 1, load(table_bundle))

    def fail(rows):
        raise MemoryError

    served.predictor.predict_full = fail
    with pytest.raises(RequestError, match="memory.*: send fewer rows") as refusal:
        served.score(Request([], None, ""), GOOD)
    assert refusal.value.status == 503


def test_first_line_leaves_source_files_out():
    with pytest.raises(MemoryError) as error:
        run_session(_WithoutMemory(), ["y"], {})
    assert ".cc" not in str(error.value)
    assert first_line(ValueError("a. \nb")) == "a"
