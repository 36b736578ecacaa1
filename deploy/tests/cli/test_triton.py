"""Model repositories of Triton. The configuration is read by Triton's own protocol buffers."""

import dataclasses
import errno
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from skmode_deploy import bundle
from skmode_deploy.cli import main
from skmode_deploy.cli.triton import _labels, model_config, write_repository
from skmode_deploy.errors import FileHashError, SampleMismatchError
from skmode_deploy.samples import Samples

TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(int64)": "TYPE_INT64",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(string)": "TYPE_STRING",
}


def rewrite(folder, **changes):
    """Write a bundle with other fields in its manifest."""
    manifest = bundle.read(folder)
    files = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    bundle.write(folder, dataclasses.replace(manifest, **changes), files)


def make_by_index(folder):
    """Labels of the table's bundle that ONNX has no type for."""
    rewrite(folder, classes=bundle.Classes((0.5, 1.5, 2.5, 3.5), "<f8", "index"))


@pytest.fixture(params=["table", "by index", "array", "two outputs", "images"])
def folder(request):
    if request.param == "images":
        return request.getfixturevalue("make_image_bundle")("hwc", channels=3)
    if request.param in ("array", "two outputs"):
        return request.getfixturevalue("make_regressor")(1 + (request.param == "two outputs"))
    folder = request.getfixturevalue("table_bundle")
    if request.param == "by index":
        make_by_index(folder)
    return folder


def read_config(path):
    # From its file: the rest of tritonclient.grpc and this server's messages exclude each other.
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("needs tritonclient")
    file = Path(spec.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    model_config_pb2 = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model_config_pb2)
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def full_shape(tensor):
    """The shape that Triton's onnxruntime backend compares with the model's."""
    return [-1, *(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)]


def test_configuration_agrees_with_the_graph(folder, tmp_path):
    written = write_repository(folder, tmp_path / "models", name="credit", version=3)
    config = read_config(tmp_path / "models" / "credit" / "config.pbtxt")
    session = onnxruntime.InferenceSession(written / "model.onnx")
    types = type(config).DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    for described, stated in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [tensor.name for tensor in described] == [value.name for value in stated]
        for tensor, value in zip(described, stated, strict=True):
            assert types[tensor.data_type].name == TYPES[value.type]
            shape = [size if isinstance(size, int) else -1 for size in value.shape]
            assert full_shape(tensor) == shape
            assert len(tensor.dims) >= 1  # Triton refuses tensors without one


def test_the_configuration_says_how_to_run(table_bundle, tmp_path):
    options = {"max_batch_size": 64, "max_queue_delay_microseconds": 500, "instances": 3}
    write_repository(table_bundle, tmp_path / "models", **options)
    config = read_config(tmp_path / "models" / "table" / "config.pbtxt")
    assert config.name == "table"
    assert config.platform == "onnxruntime_onnx"
    assert config.max_batch_size == 64
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (group,) = config.instance_group
    assert (group.count, group.Kind.Name(group.kind)) == (3, "KIND_CPU")
    assert config.version_policy.latest.num_versions == 1
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert parameters.pop("skmode_interface")
    assert parameters == {
        "intra_op_thread_count": "1",
        "task": "classification",
        "routing": "top_expert",
        "n_experts": "2",
        "classes": "[10, 20, 30, 40]",
        "label": "value",
    }


def test_batching_is_on_by_default(make_regressor, tmp_path):
    write_repository(make_regressor(), tmp_path / "models")
    config = read_config(tmp_path / "models" / "array" / "config.pbtxt")
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size > 1


def test_labels_name_the_probabilities(table_bundle, tmp_path):
    make_by_index(table_bundle)
    write_repository(table_bundle, tmp_path / "models")
    model = tmp_path / "models" / "table"
    config = read_config(model / "config.pbtxt")
    files = {output.name: output.label_filename for output in config.output}
    assert files.pop("probabilities") == "labels.txt"
    assert set(files.values()) == {""}
    assert (model / "labels.txt").read_text() == "0.5\n1.5\n2.5\n3.5\n"


def test_a_regressor_has_no_labels(make_regressor, tmp_path):
    write_repository(make_regressor(), tmp_path / "models")
    assert sorted(contents(tmp_path / "models")) == ["array/1/model.onnx", "array/config.pbtxt"]


@pytest.mark.parametrize("text", ['"a"\\', "line\nfeed\r\t", "Köln Łódź 東京", "\x00\x7f", "' #{}"])
def test_any_text_survives(text, table_bundle, tmp_path):
    manifest = bundle.read(table_bundle)
    classes = bundle.Classes((text, "b", "c", "d"), "<U20", "index")
    inputs = (dataclasses.replace(manifest.columns[0], input=text), *manifest.columns[1:])
    config = tmp_path / "config.pbtxt"
    manifest = dataclasses.replace(manifest, columns=inputs, classes=classes)
    config.write_text(model_config(manifest, "any"), encoding="utf-8", newline="")
    assert read_config(config).input[0].name == text
    assert _labels(classes.values).splitlines()[1:] == ["b", "c", "d"]


# The repository.


def test_model_is_copied_from_the_bundle(table_bundle, tmp_path):
    written = write_repository(table_bundle, tmp_path / "new" / "models")
    assert written == tmp_path / "new" / "models" / "table" / "1"
    assert contents(tmp_path / "new") == {
        "models/table/1/model.onnx": (table_bundle / "model.onnx").read_bytes(),
        "models/table/config.pbtxt": (written.parent / "config.pbtxt").read_bytes(),
        "models/table/labels.txt": b"10\n20\n30\n40\n",
    }


def change_answers(folder):
    """Another model with the same inputs and outputs."""
    manifest = bundle.read(folder)
    files = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    graph = files["model.onnx"].replace(np.float32(0.75).tobytes(), np.float32(0.875).tobytes())
    assert graph != files["model.onnx"]
    bundle.write(folder, manifest, files | {"model.onnx": graph})


def test_versions_and_models_stand_beside_each_other(table_bundle, make_regressor, tmp_path):
    models = tmp_path / "models"
    write_repository(table_bundle, models)
    write_repository(make_regressor(), models)
    (models / "array" / "notes.txt").write_text("of somebody")
    before = contents(models)
    change_answers(table_bundle)
    write_repository(table_bundle, models, version=2)
    after = contents(models)
    assert after.pop("table/2/model.onnx") == (table_bundle / "model.onnx").read_bytes()
    assert after == before


def test_a_version_is_never_replaced(table_bundle, tmp_path):
    models = tmp_path / "models"
    write_repository(table_bundle, models)
    write_repository(table_bundle, models, version=7)
    change_answers(table_bundle)
    before = contents(models)
    with pytest.raises(FileExistsError, match="got 1, .* has another model: .* such as 8, or"):
        write_repository(table_bundle, models)
    assert contents(models) == before


def test_repeating_the_command_changes_nothing(table_bundle, tmp_path):
    models = tmp_path / "models"
    first = write_repository(table_bundle, models)
    times = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    assert write_repository(table_bundle, models) == first
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == times


def test_a_configuration_that_was_changed_by_hand_is_kept(table_bundle, tmp_path):
    models = tmp_path / "models"
    config = write_repository(table_bundle, models).parent / "config.pbtxt"
    ours = config.read_text()
    config.write_text(re.sub("count: 2", "count: 9", ours))
    write_repository(table_bundle, models, version=2, max_batch_size=5)
    assert config.read_text() == re.sub("count: 2", "count: 9", ours)
    write_repository(table_bundle, models, version=3, max_batch_size=5, overwrite_config=True)
    assert config.read_text() == re.sub("size: 1024", "size: 5", ours)
    assert sorted(path.name for path in models.iterdir()) == ["table"]


def test_another_interface_is_another_model(table_bundle, tmp_path):
    models = tmp_path / "models"
    write_repository(table_bundle, models)
    rewrite(table_bundle, classes=bundle.Classes((1, 2, 3, 4), "<i4", "value"))
    before = contents(models)
    with pytest.raises(FileExistsError, match="All versions of a model must have .* another name"):
        write_repository(table_bundle, models, version=2)
    assert contents(models) == before
    write_repository(table_bundle, models, version=2, overwrite_config=True)
    assert (models / "table" / "labels.txt").read_text() == "1\n2\n3\n4\n"
    assert "[1, 2, 3, 4]" in (models / "table" / "config.pbtxt").read_text()


def test_a_folder_that_cannot_be_written_is_named(table_bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="repository must be a folder that can be written"):
        write_repository(table_bundle, tmp_path / "file" / "models")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=f"has room, got '{tmp_path}/models'.* No space left"):
        write_repository(table_bundle, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_what_is_no_model_is_left_alone(make, table_bundle, tmp_path):
    (tmp_path / "models").mkdir()
    make(tmp_path / "models" / "table")
    with pytest.raises(FileExistsError, match=r"must be new or have a config.pbtxt, got .*table'"):
        write_repository(table_bundle, tmp_path / "models")
    assert contents(tmp_path / "models") in ({}, {"table": b"x"})


def test_an_error_leaves_nothing_behind(table_bundle, tmp_path, monkeypatch):
    def fail(target, files):
        target.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr("skmode_deploy.cli.triton.replace_directory", fail)
    with pytest.raises(OSError, match="disk full"):
        write_repository(table_bundle, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


# Refusals.


def test_a_damaged_bundle_is_refused(table_bundle, tmp_path):
    model = table_bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(FileHashError, match="model.onnx"):
        write_repository(table_bundle, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_bundle_with_other_predictions_is_refused(make_regressor, tmp_path):
    folder = make_regressor()
    X = np.array([[0.5, 0.25, 0.125]], np.float32)
    outputs = {
        "variable": np.array([[0.6]], np.float32),
        "expert": np.array([0]),
        "gate_probability": np.array([0.41], np.float32),
    }
    tolerance = {"variable": (1e-4,), "gate_probability": (1.0,)}
    manifest = bundle.read(folder)
    files = {name: bundle.read_file(folder, manifest, name) for name in manifest.files}
    files["samples.json"] = Samples({"X": X}, outputs, tolerance, "estimator").to_json()
    bundle.write(folder, manifest, files)
    with pytest.raises(SampleMismatchError, match="variable of row 0"):
        write_repository(folder, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("options", "message"), [
    ({"name": "a/b"}, "The name of a model must have at most .* got 'a/b'"),
    ({"name": ".hidden"}, "got '.hidden': pass a name such as"),
    ({"name": ""}, "got ''"),
    ({"version": 0}, "version must be an integer from 1 to 9223372036854775807, got 0"),
    ({"version": "1"}, "version must be an integer .* got '1'"),
    ({"max_batch_size": 2**31}, "max_batch_size must be an integer from 1 to 2147483647"),
    ({"instances": True}, "instances must be an integer .* got True"),
    ({"max_queue_delay_microseconds": -1}, "must be an integer from 0 to .* got -1"),
    ({"require_signature": ""}, "must be the path of a PEM file, got ''"),
])  # fmt: skip
def test_wrong_parameters_are_refused(options, message, table_bundle, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_repository(table_bundle, tmp_path / "models", **options)
    assert not (tmp_path / "models").exists()


# On the command line.


def test_command(table_bundle, tmp_path, capsys):
    models = tmp_path / "models"
    options = ["--name", "credit", "--version", "2", "--max-batch-size", "8", "--instances", "1",
               "--max-queue-delay", "50"]  # fmt: skip
    assert main(["triton", str(table_bundle), str(models), *options]) == 0
    size = (table_bundle / "model.onnx").stat().st_size
    assert capsys.readouterr().out == (
        f"{models / 'credit' / '2'}: {size:,} bytes of model.onnx, config.pbtxt beside it\n"
    )
    config = (models / "credit" / "config.pbtxt").read_text()
    for line in ("max_batch_size: 8", "count: 1 kind", "max_queue_delay_microseconds: 50"):
        assert line in config
    assert main(["triton", str(table_bundle), str(models), *options, "--overwrite-config"]) == 0


def test_exit_codes_of_the_command(table_bundle, tmp_path, capsys):
    models = str(tmp_path / "models")
    assert main(["triton", str(table_bundle), models, "--version", "0"]) == 2
    assert main(["triton", str(table_bundle), models, "--public-key", ""]) == 2
    assert main(["triton", str(table_bundle), models]) == 0
    change_answers(table_bundle)
    assert main(["triton", str(table_bundle), models]) == 2
    (table_bundle / "model.onnx").write_bytes(b"")
    capsys.readouterr()
    assert main(["triton", str(table_bundle), models]) == 1
    assert "model.onnx must have the" in capsys.readouterr().err
