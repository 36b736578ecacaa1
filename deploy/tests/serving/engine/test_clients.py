"""Third-party clients: tritonclient and curl. KServe's are in test_kserve_clients.py."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal


def check_credit(find, expected):
    labels = find("label")
    if labels.dtype == object:
        labels = np.array([x.decode() if isinstance(x, bytes) else x for x in labels], object)
    assert_array_equal(labels, expected["label"])
    assert_allclose(find("probabilities"), expected["probabilities"], atol=1e-5)
    assert_array_equal(find("expert"), expected["expert"])


def to_arrays(table):
    """Columns of shape (n, 1): float32 with NaN, and objects with "" where missing."""
    arrays = {}
    for name, column in table.items():
        if pd.api.types.is_numeric_dtype(column.dtype):
            arrays[name] = column.to_numpy(np.float32)[:, None]
        else:
            arrays[name] = column.astype(object).fillna("").to_numpy(object)[:, None]
    return arrays


@pytest.fixture(scope="module")
def triton_http(server):
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client:
        yield http, client


def triton_inputs(module, table, **options):
    inputs = []
    for name, array in to_arrays(table).items():
        datatype = "BYTES" if array.dtype == object else "FP32"
        inputs.append(module.InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, **options)
    return inputs


def fill_missing(table):
    """tritonclient writes NaN into JSON, which is none."""
    return table.fillna({"Income": 100.0, "Assets": 0.0, "Debt": 0.0})


@pytest.mark.parametrize("binary_inputs", [True, False])
@pytest.mark.parametrize("binary_outputs", [True, False])
def test_triton_rest(
    triton_http, credit_rows, credit_answers, estimators, binary_inputs, binary_outputs
):
    http, client = triton_http
    table, expected = credit_rows, credit_answers["2"]
    if not binary_inputs:
        table = fill_missing(credit_rows)
        estimator = estimators["credit@2"]
        expected = {
            "label": estimator.predict(table),
            "probabilities": estimator.predict_proba(table),
            "expert": estimator.route(table),
        }
    inputs = triton_inputs(http, table, binary_data=binary_inputs)
    names = ["label", "probabilities", "expert"]
    outputs = [http.InferRequestedOutput(name, binary_data=binary_outputs) for name in names]
    result = client.infer("credit", inputs, outputs=outputs, request_id="r1")
    check_credit(result.as_numpy, expected)
    assert result.as_numpy("gate_probability") is None
    assert result.get_response()["id"] == "r1"


def test_triton_rest_all_outputs(triton_http, credit_rows, credit_answers):
    http, client = triton_http
    result = client.infer("credit", triton_inputs(http, credit_rows), model_version="1")
    check_credit(result.as_numpy, credit_answers["1"])
    assert result.as_numpy("gate_probability").dtype == np.float32
    assert result.get_response()["model_version"] == "1"


def test_triton_rest_refusal(triton_http):
    http, client = triton_http
    tensor = http.InferInput("X", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(Exception, match="must have the shape .n, 4., got .1, 3.") as error:
        client.infer("iris", [tensor])
    assert error.value.status() == "400"


def test_triton_rest_metadata(triton_http, credit_rows):
    _, client = triton_http
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("credit")
    assert client.is_model_ready("credit", "1")
    assert not client.is_model_ready("credit", "9")
    assert client.get_server_metadata()["name"] == "skmode-deploy"
    metadata = client.get_model_metadata("credit")
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(credit_rows)
    assert client.get_model_metadata("credit", "1")["versions"] == ["1"]


# In a process of its own: this server's messages and tritonclient's have the same names.
TRITON_GRPC = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

address, rows, answers = sys.argv[1:]
arrays = {name: array for name, array in np.load(rows, allow_pickle=True).items()}
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("credit", "2")
inputs = []
for name, array in arrays.items():
    datatype = "BYTES" if array.dtype == object else "FP32"
    inputs.append(triton.InferInput(name, list(array.shape), datatype))
    inputs[-1].set_data_from_numpy(array)
names = ["label", "probabilities", "expert"]
outputs = [triton.InferRequestedOutput(name) for name in names]
found = {}
for version, wanted in ("", outputs), ("1", None):
    result = client.infer("credit", inputs, version, outputs=wanted, request_id="r2")
    assert result.get_response().id == "r2"
    assert (result.as_numpy("gate_probability") is None) == (wanted is not None)
    found |= {f"{name}{version}": result.as_numpy(name) for name in names}
np.savez(answers, **found)
try:
    client.get_model_metadata("churn")
except triton.InferenceServerException as error:
    refusal = [error.status(), error.message()]
metadata = client.get_model_metadata("credit")
inputs = [tensor.name for tensor in metadata.inputs]
print(json.dumps({"refusal": refusal, "inputs": inputs, "versions": list(metadata.versions)}))
"""


def test_triton_grpc(server, credit_rows, credit_answers, tmp_path):
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient")
    rows, answers = tmp_path / "rows.npz", tmp_path / "answers.npz"
    np.savez(rows, **to_arrays(credit_rows))
    command = [sys.executable, "-c", TRITON_GRPC, server.grpc_address, str(rows), str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = dict(np.load(answers, allow_pickle=True))
    check_credit(found.__getitem__, credit_answers["2"])
    check_credit(lambda name: found[f"{name}1"], credit_answers["1"])
    said = json.loads(done.stdout)
    assert said["inputs"] == list(credit_rows)
    assert said["versions"] == ["1", "2"]
    assert said["refusal"][0] == "StatusCode.NOT_FOUND"
    assert said["refusal"][1].startswith("The model must be one of")


TRITON_MANAGEMENT = """
import sys
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])


def refusal(call, name):
    try:
        call(name)
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"


client.unload_model("iris")
print(refusal(client.is_model_ready, "iris"))
client.load_model("iris")
assert client.is_model_ready("iris")
print(refusal(client.load_model, "none"))
"""


def test_triton_grpc_loads_and_unloads(start_server, models):
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient")
    server = start_server(models, "--management")
    command = [sys.executable, "-c", TRITON_MANAGEMENT, server.grpc_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    unloaded, unknown = done.stdout.splitlines()
    assert unloaded.startswith("StatusCode.NOT_FOUND The model must be one of 'credit', 'diabetes'")
    assert unknown.startswith("StatusCode.NOT_FOUND The model must be one of")


def curl(server, path, *arguments):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = ["curl", "--silent", "--show-error", "--max-time", "30", *arguments]
    done = subprocess.run([*command, server.url + path], capture_output=True, check=True)
    return done.stdout


def test_curl(server, credit_rows, credit_answers, to_inputs, tmp_path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": to_inputs(credit_rows)}))
    answer = curl(server, "/v2/models/credit/infer", "--data", f"@{body}")
    found = {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in json.loads(answer)["outputs"]
    }
    check_credit(found.__getitem__, credit_answers["2"])
    code = curl(server, "/v2/health/ready", "--write-out", "%{http_code}", "--output", "/dev/null")
    assert code == b"200"


def test_curl_with_expect_100_continue(server, iris_body, tmp_path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps(iris_body))
    answer = curl(
        server, "/v2/models/iris/infer", "--data", f"@{body}", "--header", "Expect: 100-continue"
    )
    assert json.loads(answer)["model_name"] == "iris"
    chunked = curl(
        server,
        "/v2/models/iris/infer",
        "--data-binary",
        f"@{body}",
        "--header",
        "Transfer-Encoding: chunked",
    )
    assert json.loads(chunked)["outputs"] == json.loads(answer)["outputs"]
