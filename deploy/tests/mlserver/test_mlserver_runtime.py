"""The runtime in a real MLServer, called by a real client."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import skmode_deploy

# Not imported here: in one process its gRPC messages and those of tritonclient exclude each other.
if importlib.util.find_spec("mlserver") is None:
    pytest.skip("MLServer has an environment of its own", allow_module_level=True)

import tritonclient.grpc
import tritonclient.http
import tritonclient.utils

RUNTIME = "skmode_deploy.serving.mlserver_runtime.SkmodeRuntime"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(table_bundle, make_regressor, make_image_bundle, make_text_bundle, tmp_path):
    """Four hand-made bundles behind one MLServer."""
    names = ("http", "grpc", "metrics")
    ports = {name: free_port() for name in names}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    settings |= {f"{name}_port": port for name, port in ports.items()}
    root = tmp_path / "repository"
    bundles = {
        "table": table_bundle,
        "array": make_regressor(),
        "images": make_image_bundle(),
        "texts": make_text_bundle(),
    }
    for name, bundle in bundles.items():
        (root / name).mkdir(parents=True)
        parameters = {"uri": str(bundle), "version": "3", "extra": {"max_rows": 100}}
        model = {"name": name, "implementation": RUNTIME, "parameters": parameters}
        (root / name / "model-settings.json").write_text(json.dumps(model))
    (root / "settings.json").write_text(json.dumps(settings))
    log = (root / "log").open("w")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("mlserver"), "start", str(root)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=root,
    )
    try:
        wait_until_ready(ports["http"], process, root / "log")
        yield ports
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def wait_until_ready(port, process, log):
    for _ in range(240):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            for name in ("table", "array"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{name}/ready")
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError("MLServer was not ready in a minute")


def ask(port, model, document):
    """Status and answer of a request in JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/{model}/infer",
        json.dumps(document).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def tensor(name, datatype, data, shape=None):
    shape = [len(data), 1] if shape is None else shape
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


AGE = tensor("age", "FP32", [7.0, None])
CITY = tensor("city", "BYTES", ["Köln", None])
PLAN = tensor("plan", "FP64", [1.0, 2.0])


def test_predictions_and_refusals_equal_the_predictor(server, table_bundle, tmp_path):
    port = server["http"]
    status, answer = ask(port, "table", {"inputs": [AGE, CITY, PLAN], "id": "7"})
    assert status == 200, answer
    rows = {"age": [7.0, None], "city": ["Köln", None], "plan": [1.0, 2.0]}
    expected = skmode_deploy.load(table_bundle).predict_full(rows)
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert answer["id"] == "7"
    assert answer["model_version"] == "3"
    assert outputs["label"]["data"] == expected.value.tolist()
    assert outputs["label"]["shape"] == [2]
    assert outputs["expert"]["data"] == expected.expert.tolist()
    assert outputs["probabilities"]["shape"] == [2, 4]
    np.testing.assert_allclose(
        np.reshape(outputs["probabilities"]["data"], (2, 4)), expected.probabilities
    )

    status, answer = ask(
        port, "table", {"inputs": [AGE, CITY, PLAN], "outputs": [{"name": "expert"}]}
    )
    assert [output["name"] for output in answer["outputs"]] == ["expert"]

    for inputs, reason in [
        ([AGE, CITY], 'none called "plan"'),
        ([AGE, CITY, {**PLAN, "shape": [3, 1]}], "as many values as its shape"),
        ([AGE, tensor("city", "FP32", [1.0, 2.0]), PLAN], "must be of BYTES, got FP32"),
        ([tensor("age", "FP32", [1e39, 1]), CITY, PLAN], "infinite or too large"),
        ([tensor("age", "FP32", [[1], [2, 3]]), CITY, PLAN], "nested data of its shape"),
        ([{**AGE, "shape": [-1, 1]}, CITY, PLAN], "shape of one to four whole numbers"),
        ([{**AGE, "shape": [10**12, 20]}, CITY, PLAN], "shape of one to four whole numbers"),
    ]:
        status, answer = ask(port, "table", {"inputs": inputs})
        assert status == 400, answer
        assert reason in answer["error"]

    many = tensor("X", "FP32", [0.0] * 303, [101, 3])
    status, answer = ask(port, "array", {"inputs": [many]})
    assert status == 400
    assert "from 1 to 100 rows, got 101" in answer["error"]

    with urllib.request.urlopen(f"http://127.0.0.1:{server['metrics']}/metrics") as response:
        metrics = response.read().decode()
    assert 'skmode_rows_total{model="table",version="3"} 4.0' in metrics
    assert 'skmode_missing_values_total{column="city",model="table",version="3"} 2.0' in metrics


def test_tritonclient_by_grpc_and_the_metadata(server):
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server['grpc']}")
    inputs = []
    for name, datatype, values in [
        ("age", "FP32", np.array([[7.0], [np.nan]], np.float32)),
        ("city", "BYTES", np.array([["Bern"], ["Paris"]], object)),
        ("plan", "FP64", np.array([[1.0], [2.0]])),
    ]:
        inputs.append(tritonclient.grpc.InferInput(name, values.shape, datatype))
        inputs[-1].set_data_from_numpy(values)
    answer = client.infer("table", inputs)
    assert answer.as_numpy("label").tolist() == [30, 20]
    assert answer.as_numpy("expert").tolist() == [0, 1]

    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server['http']}")
    metadata = client.get_model_metadata("table")
    assert [item["name"] for item in metadata["inputs"]] == ["age", "city", "plan"]
    label = metadata["outputs"][0]
    assert (label["name"], label["datatype"], label["shape"]) == ("label", "INT32", [-1])


def test_images(server, tmp_path):
    """By REST as JSON, because MLServer knows no binary tensors there; by gRPC as bytes."""
    X = np.random.default_rng(0).integers(256, size=(5, 4, 6), dtype=np.uint8)
    expected = skmode_deploy.load(tmp_path / "images").predict_full(X)
    for module, port, options in (
        (tritonclient.http, "http", {"binary_data": False}),
        (tritonclient.grpc, "grpc", {}),
    ):
        sent = module.InferInput("image", list(X.shape), "UINT8")
        sent.set_data_from_numpy(X, **options)
        names = ("label", "probabilities", "expert")
        outputs = [module.InferRequestedOutput(name, **options) for name in names]
        with module.InferenceServerClient(f"127.0.0.1:{server[port]}") as client:
            result = client.infer("images", [sent], outputs=outputs)
        assert result.as_numpy("expert").tolist() == expected.expert.tolist()
        np.testing.assert_allclose(
            result.as_numpy("probabilities"), expected.probabilities, rtol=1e-5
        )
        labels = result.as_numpy("label").ravel().astype(str)
        assert labels.tolist() == expected.value.tolist()


def test_texts(server, tmp_path):
    texts = ["good", "a bad 🙂", "", "good bad good"]
    expected = skmode_deploy.load(tmp_path / "texts").predict_full(texts)
    for module, port, options in (
        (tritonclient.http, "http", {"binary_data": False}),
        (tritonclient.grpc, "grpc", {}),
    ):
        with module.InferenceServerClient(f"127.0.0.1:{server[port]}") as client:
            for sent in (texts, ["good", "x" * 2000]):
                tensor = module.InferInput("text", [len(sent)], "BYTES")
                tensor.set_data_from_numpy(np.array(sent, object), **options)
                if sent is texts:
                    result = client.infer("texts", [tensor])
                    assert result.as_numpy("expert").tolist() == expected.expert.tolist()
                    continue
                with pytest.raises(
                    tritonclient.utils.InferenceServerException, match="text 1 has at least 2,000"
                ):
                    client.infer("texts", [tensor])
