"""Sample rows of a bundle, made by hand; tests/onnx/bundles/test_samples.py has real ones."""

import dataclasses
import json

import numpy as np
import pytest

from skmode_deploy import bundle, load
from skmode_deploy.cli import main
from skmode_deploy.errors import (
    FileHashError,
    LimitError,
    SampleFormatError,
    SampleMismatchError,
)
from skmode_deploy.samples import Samples, check_samples, read_samples

TOLERANCE = {"probabilities": (1e-4,), "gate_probability": (1e-4,)}


def add_samples(folder, content):
    """Write a bundle anew, with sample rows."""
    manifest = bundle.read(folder)
    files = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    return bundle.write(folder, manifest, {**files, "samples.json": content})


@pytest.fixture
def table_samples():
    """What `table_bundle` answers."""
    return Samples(
        {
            "age": np.array([[30], [np.nan], [40.1]], np.float32),
            "city": np.array([["Köln"], [""], ["Rom"]], object),
            "plan": np.array([[1.0], [2.0], [np.nan]]),
        },
        {
            "label": np.array([40, 10, 20]),
            "probabilities": np.eye(4, dtype=np.float32)[[3, 0, 1]],
            "expert": np.array([0, 1, 1]),
            "gate_probability": np.full(3, 0.75, np.float32),
        },
        TOLERANCE,
        "estimator",
    )


@pytest.fixture
def sampled(table_bundle, table_samples):
    add_samples(table_bundle, table_samples.to_json())
    return table_bundle


def test_round_trip(sampled, table_samples):
    read = read_samples(sampled, bundle.read(sampled))
    assert (read.n_rows, read.source, read.tolerance) == (3, "estimator", TOLERANCE)
    for found, written in ((read.inputs, table_samples.inputs),
                           (read.outputs, table_samples.outputs)):  # fmt: skip
        assert list(found) == list(written)
        for name, values in written.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)


def test_the_file_speaks_the_open_inference_protocol(sampled):
    document = json.loads((sampled / "samples.json").read_text(encoding="ascii"))
    assert document["inputs"][0] == {
        "name": "age", "datatype": "FP32", "shape": [3, 1], "data": [30.0, None, 40.1],
    }  # fmt: skip
    assert document["inputs"][1]["datatype"] == "BYTES"
    assert document["inputs"][1]["data"] == ["Köln", "", "Rom"]
    assert document["inputs"][2]["data"] == [1.0, 2.0, None]
    label, probabilities, *_ = document["outputs"]
    assert label == {"name": "label", "datatype": "INT64", "shape": [3], "data": [40, 10, 20]}
    assert probabilities["shape"] == [3, 4]
    assert len(probabilities["data"]) == 12


def test_a_bundle_without_samples_is_served_unchecked(table_bundle):
    assert read_samples(table_bundle, bundle.read(table_bundle)) is None
    check_samples(load(table_bundle))


@pytest.mark.parametrize("options", [{}, {"strategy": "split"}, {"max_rows": 1}])
def test_right_predictions_pass(options, sampled):
    check_samples(load(sampled, **options))


@pytest.mark.parametrize(("output", "row", "wrong", "message"), [
    ("label", 1, 20, "label of row 1 must be 20, got 10, and 1 of 3 rows"),
    ("expert", 2, 0, "expert of row 2 must be 0, got 1"),
    ("probabilities", (2, 1), 0.99, "probabilities of row 2 must be 0.99 within 0.0001, got 1:"),
    ("gate_probability", 0, 0.7502, "gate_probability of row 0 must be 0.7502 within 0.0001, got"),
])  # fmt: skip
def test_other_predictions_are_refused(output, row, wrong, message, table_bundle, table_samples):
    table_samples.outputs[output][row] = wrong
    add_samples(table_bundle, table_samples.to_json())
    bundle.verify(table_bundle)
    with pytest.raises(SampleMismatchError, match=f"{message}.*export the model again"):
        check_samples(load(table_bundle))


def test_predictions_within_the_tolerance_pass(table_bundle, table_samples):
    table_samples.outputs["gate_probability"][0] = 0.75005
    add_samples(table_bundle, table_samples.to_json())
    check_samples(load(table_bundle))


def regressor_samples(second):
    X = np.array([[0.5, 0.25, 0.125], [0.1, 0.2, 0.9]], np.float32)
    gate = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    variable = X[:, :2].copy()
    variable[1, 1] = second
    outputs = {
        "variable": variable,
        "expert": X.argmax(axis=1),
        "gate_probability": gate.max(axis=1),
    }
    tolerance = {"variable": (1e-4, 0.1), "gate_probability": (1e-4,)}
    return Samples({"X": X}, outputs, tolerance, "estimator").to_json()


def test_each_output_of_a_regressor_has_its_tolerance(make_regressor):
    folder = make_regressor(n_outputs=2)
    add_samples(folder, regressor_samples(second=0.29))
    check_samples(load(folder))
    add_samples(folder, regressor_samples(second=0.31))
    with pytest.raises(SampleMismatchError, match="variable of row 1 must be 0.31 within 0.1, got"):
        check_samples(load(folder))


def test_an_error_of_the_runtime_is_a_mismatch(sampled, monkeypatch):
    predictor = load(sampled)

    def fail(outputs, feeds):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(predictor._strategy, "run", fail)
    with pytest.raises(SampleMismatchError, match="got RuntimeError: no kernel. Upgrade"):
        check_samples(predictor)


def test_a_changed_file_is_refused(sampled):
    predictor = load(sampled)
    path = sampled / "samples.json"
    path.write_bytes(path.read_bytes().replace(b"40.1", b"41.1"))
    with pytest.raises(FileHashError, match="samples.json must have the sha256"):
        check_samples(predictor)


def test_too_large_a_file_is_refused_unread(sampled, monkeypatch):
    monkeypatch.setattr("skmode_deploy.samples.document.MAX_BYTES", 100)
    with pytest.raises(LimitError, match="samples.json must have at most 100 bytes"):
        check_samples(load(sampled))


def change(*path_and_value):
    """A function that sets a value in a document."""
    *path, last, value = path_and_value

    def apply(document):
        for key in path:
            document = document[key]
        document[last] = value

    return apply


@pytest.mark.parametrize(("apply", "message"), [
    (change("source", "me"), "source in samples.json must be 'estimator' or 'graph', got 'me'"),
    (change("more", 1), "must be an object with the fields inputs, outputs, source, tolerance"),
    (change("inputs", []), "inputs in samples.json must be tensors of 1 to 10000 rows, got None"),
    (change("inputs", 0, "shape", [0, 1]), "must be tensors of 1 to 10000 rows, got 0"),
    (change("inputs", 0, "shape", [4, 1]), r"inputs\[0\].data .* a flat array of 4 values, got 3"),
    (change("inputs", 1, "shape", [3]), r"inputs\[1\].shape .* must be \[3, 1\], got \[3\]"),
    (change("inputs", 0, "name", "Age"), "inputs .* the inputs of model.onnx, .*got .*'Age'"),
    (change("inputs", 0, "datatype", "FP64"), r"inputs\[0\].datatype .* must be 'FP32'"),
    (change("inputs", 0, "data", "x"), r"inputs\[0\].data .* a flat array of 3 values, got 'x'"),
    (change("inputs", 0, "data", 0, True), r"inputs\[0\].data .* must be numbers, got True"),
    (change("inputs", 0, "data", 0, 10**400), r"inputs\[0\].data .* must be numbers, got 1000"),
    (change("inputs", 1, "data", 0, None), r"inputs\[1\].data .* must be strings, got None"),
    (change("inputs", 1, "more", 0), r"inputs\[1\] .* an object with name, datatype, shape"),
    (change("inputs", 1, []), "inputs in samples.json must be an array of objects"),
    (change("outputs", 0, "data", 0, 1.5), r"outputs\[0\].data .* whole numbers of 64 bits, got"),
    (change("outputs", 1, "data", 0, None), r"outputs\[1\].data .* must be numbers, got None"),
    (change("outputs", {}), "outputs in samples.json must be an array of objects"),
    (change("tolerance", {}), "tolerance .* fields probabilities, gate_probability, got {}"),
    (change("tolerance", "probabilities", [1, 2]), "one positive number, or one for each column"),
    (change("tolerance", "probabilities", [0]), "one positive number, or one for each column"),
])  # fmt: skip
def test_inconsistent_files_are_refused(apply, message, table_bundle, table_samples):
    document = json.loads(table_samples.to_json())
    apply(document)
    add_samples(table_bundle, json.dumps(document).encode())
    with pytest.raises(SampleFormatError, match=f"{message}.*export the model again"):
        check_samples(load(table_bundle))


@pytest.mark.parametrize("content", [b"", b"[1", b'{"inputs": NaN}', b"\xff", b"[" * 100_000, b"1"])
def test_invalid_json_is_refused(content, table_bundle):
    add_samples(table_bundle, content)
    with pytest.raises(SampleFormatError, match="samples.json must be"):
        check_samples(load(table_bundle))


def test_nonfinite_predictions_are_not_written(table_samples):
    table_samples.outputs["gate_probability"][0] = np.inf
    with pytest.raises(ValueError, match="JSON compliant"):
        table_samples.to_json()


# On the command line.


def test_verify_confirms_the_sample_predictions(sampled, table_samples, capsys):
    assert main(["verify", str(sampled)]) == 0
    assert capsys.readouterr().out.endswith("bytes, 3 sample rows match the model's predictions\n")
    graph = dataclasses.replace(table_samples, source="graph")
    add_samples(sampled, graph.to_json())
    assert main(["verify", str(sampled)]) == 0
    assert capsys.readouterr().out.endswith("bytes, 3 sample rows match the export's predictions\n")


def test_verify_refuses_other_predictions(table_bundle, table_samples, capsys):
    table_samples.outputs["label"][0] = 10
    add_samples(table_bundle, table_samples.to_json())
    assert main(["verify", str(table_bundle)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("skmode-deploy: The rows of samples.json must get the")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("layout", "channels"), [("hw", 1), ("hwc", 3), ("chw", 4)])
def test_images(make_image_bundle, layout, channels, dtype):
    folder = make_image_bundle(layout, dtype, channels)
    predictor = load(folder)
    check_samples(predictor)
    samples = read_samples(folder, predictor.manifest)
    assert samples.n_rows == 4
    assert samples.inputs["image"].dtype == dtype
    assert samples.inputs["image"].shape == (4, *predictor.manifest.image.shape)
    assert samples.to_json() == (folder / "samples.json").read_bytes()


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("uint8", 256, r"inputs\[0\].data .* must be whole numbers from 0 to 255, got 256"),
        ("uint8", None, "must be whole numbers from 0 to 255, got None"),
        ("uint8", 0.5, "must be whole numbers from 0 to 255, got 0.5"),
        ("float32", None, r"inputs\[0\].data .* must be numbers from 0 to 1, none missing"),
        ("float32", 1.5, "must be numbers from 0 to 1, none missing"),
    ],
)
def test_invalid_images_are_refused(make_image_bundle, dtype, value, message):
    folder = make_image_bundle(dtype=dtype)
    document = json.loads((folder / "samples.json").read_text())
    change("inputs", 0, "data", 7, value)(document)
    add_samples(folder, json.dumps(document).encode())
    with pytest.raises(SampleFormatError, match=message):
        check_samples(load(folder))
