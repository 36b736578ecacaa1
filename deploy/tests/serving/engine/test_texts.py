"""Models of texts behind a real server, called by real clients."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

httpx = pytest.importorskip("httpx")

import skmode_deploy  # noqa: E402

OUTPUTS = ("label", "probabilities", "expert", "gate_probability")
TEXTS = ["good", "a bad, bad day 🙂", "", "good bad good", "naïve 日本"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_text_bundle):
    """`plain` reads texts alone, `table` an age beside them."""
    folder = tmp_path_factory.mktemp("texts") / "models"
    folder.mkdir()
    write_text_bundle(folder / "plain" / "1")
    write_text_bundle(folder / "table" / "1", table=True)
    return folder


@pytest.fixture(scope="module")
def server(start_module_server, models):
    return start_module_server(models, "--shadow", "1", "--max-rows", "2000",
                               "--max-body-bytes", "1000000")  # fmt: skip


def tensor(texts, name="text", **changes):
    values = {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {**values, **changes}


def infer(server, model, *inputs):
    return httpx.post(f"{server.url}/v2/models/{model}/infer", json={"inputs": list(inputs)})


def check(find, models, texts):
    expected = skmode_deploy.load(models / "plain" / "1").predict_full(texts)
    labels = [x.decode() if isinstance(x, bytes) else x for x in find("label")]
    assert_array_equal(labels, expected.value)
    assert_allclose(find("probabilities"), expected.probabilities, rtol=1e-6)
    assert_array_equal(find("expert"), expected.expert)
    assert_allclose(find("gate_probability"), expected.gate_probability, rtol=1e-6)


def test_metadata(server):
    inputs = httpx.get(f"{server.url}/v2/models/plain").json()["inputs"]
    assert inputs == [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
    inputs = httpx.get(f"{server.url}/v2/models/table").json()["inputs"]
    assert inputs[1] == {"name": "review", "datatype": "BYTES", "shape": [-1, 1]}
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    for model in ("plain", "table"):
        operation = paths[f"/v2/models/{model}/infer"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        response = httpx.post(f"{server.url}/v2/models/{model}/infer", json=content["example"])
        assert response.status_code == 200, response.text
        assert '"maxLength": 1000' in json.dumps(content["schema"])


@pytest.mark.parametrize("shape", [[5], [5, 1]])
def test_json(server, models, shape):
    for data in (TEXTS, [text or None for text in TEXTS]):
        response = infer(server, "plain", tensor(data, shape=shape))
        assert response.status_code == 200, response.text
        outputs = {o["name"]: o for o in response.json()["outputs"]}
        check(lambda n, o=outputs: np.reshape(o[n]["data"], o[n]["shape"]), models, TEXTS)


@pytest.mark.parametrize("binary", [True, False])
def test_triton_rest(server, models, binary):
    http = pytest.importorskip("tritonclient.http")
    texts = TEXTS * 300  # more than are computed at once
    sent = http.InferInput("text", [len(texts)], "BYTES")
    sent.set_data_from_numpy(np.array(texts, object), binary_data=binary)
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    with http.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client:
        result = client.infer("plain", [sent], outputs=outputs)
        check(result.as_numpy, models, texts)
        age = http.InferInput("age", [2, 1], "FP32")
        age.set_data_from_numpy(np.zeros((2, 1), np.float32), binary_data=binary)
        review = http.InferInput("review", [2, 1], "BYTES")
        review.set_data_from_numpy(np.array([["good"], ["bad"]], object), binary_data=binary)
        labels = client.infer("table", [age, review]).as_numpy("label").tolist()
    assert [x.decode() if isinstance(x, bytes) else x for x in labels] == ["good", "bad"]


# In a process of its own: this server's messages and tritonclient's have the same names.
TRITON_GRPC = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

address, answers = sys.argv[1:]
client = triton.InferenceServerClient(address)
requests = json.load(sys.stdin)
refusals = []
for number, texts in enumerate(requests):
    sent = triton.InferInput("text", [len(texts)], "BYTES")
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    sent.set_data_from_numpy(np.array(encoded, object))
    try:
        result = client.infer("plain", [sent])
    except triton.InferenceServerException as error:
        refusals.append([error.status(), error.message()])
        continue
    np.savez(answers, **{output: result.as_numpy(output) for output in
             ("label", "probabilities", "expert", "gate_probability")})
print(json.dumps(refusals))
"""


def test_triton_grpc(server, models, tmp_path):
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient")
    command = [sys.executable, "-c", TRITON_GRPC, server.grpc_address, str(tmp_path / "a.npz")]
    requests = [["x" * 2000], ["a\0b"], ["\ud800"], TEXTS]
    done = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "a.npz", allow_pickle=True)
    check(found.__getitem__, models, TEXTS)
    refusals = json.loads(done.stdout)
    assert {status for status, _ in refusals} == {"StatusCode.INVALID_ARGUMENT"}
    messages = ("text 0 has at least 2,000", "text 0 has one at position 1", "strings in UTF-8")
    for (_, message), expected in zip(refusals, messages, strict=True):
        assert expected in message


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("plain", [tensor(["good", 3])], "must hold strings, and null for missing, got 3"),
        ("plain", [tensor([["good"], ["bad", "x"]], shape=[2, 1])], "nested data of its shape"),
        ("plain", [tensor(["good"], shape=[2])], "as many values as its shape"),
        ("plain", [tensor(["good", "bad"], shape=[1, 2])], "must have the shape [n, 1] or [n]"),
        ("plain", [tensor([], shape=[0])], "from 1 to 2000 rows, got 0"),
        ("plain", [tensor(["a"] * 2001)], "from 1 to 2000 rows, got 2001"),
        ("plain", [tensor(["good", "x" * 2000])],
         "A text must have at most 1,000 bytes, as in the manifest, but text 1 has at least 2,000"),
        ("plain", [tensor(["x" * 500_000])], "text 0 has at least 500,000"),
        ("plain", [tensor(["good", "é" * 501])], "text 1 has 1,002: cut it off"),
        ("plain", [tensor(["a\0"])], "null characters, but text 0 has one at position 1"),
        ("plain", [tensor([1.5], datatype="FP32")], "Input 'text' must be of BYTES, got FP32"),
        ("plain", [tensor(["a"], name="tokens")], "none called \"text\""),
        ("table", [tensor(["a"], name="review")], "none called \"age\""),
        ("table", [tensor(["a", "b\0"], name="review"),
                   tensor([1, 2], name="age", datatype="FP32")],
         "text 1 of column 'review' has one at position 1"),
    ],
)  # fmt: skip
def test_refusals(server, model, inputs, message):
    response = infer(server, model, *inputs)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]
    assert infer(server, "plain", tensor(TEXTS)).status_code == 200


def test_half_characters(server):
    """JSON can name half a character, and bytes need not be UTF-8."""
    body = b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["\\ud800"]}]}'
    response = httpx.post(f"{server.url}/v2/models/plain/infer", content=body)
    assert response.status_code == 400, response.text
    header = {"name": "text", "datatype": "BYTES", "shape": [1]}
    document = json.dumps({"inputs": [{**header, "parameters": {"binary_data_size": 6}}]})
    response = httpx.post(
        f"{server.url}/v2/models/plain/infer",
        content=document.encode() + b"\x02\x00\x00\x00\xff\xfe",
        headers={"Inference-Header-Content-Length": str(len(document))},
    )
    assert response.status_code == 400
    assert "must hold strings in UTF-8, got other bytes" in response.json()["error"]


def test_too_large_a_body(server):
    assert infer(server, "plain", tensor(["x" * 2_000_000])).status_code == 413


def metric(server, start):
    lines = httpx.get(server.metrics_url).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def test_metrics(server, models):
    """Missing texts, routing, drift and shadow are counted as for tables."""
    texts = ["good", "bad", "", None, "good good"] * 120
    expert = skmode_deploy.load(models / "plain" / "1").route(texts)
    labels = 'model="plain",version="1"'
    missing = 'skmode_missing_values_total{column="text",' + labels
    routed = 'skmode_expert_rows_total{expert="%d",' + labels
    before = [metric(server, missing), *(metric(server, routed % i) for i in range(2))]
    assert infer(server, "plain", tensor(texts)).status_code == 200
    after = [metric(server, missing), *(metric(server, routed % i) for i in range(2))]
    assert np.subtract(after, before).tolist() == [240, *np.bincount(expert).tolist()]
    assert 0 <= metric(server, "skmode_routing_drift{" + labels) < 1
    server.wait_for(lambda: metric(server, "skmode_shadow_rows_total{" + labels) > 0)
    assert metric(server, "skmode_shadow_disagreements_total{" + labels) == 0


def test_swap(start_server, models, write_text_bundle, tmp_path):
    """A version with a foreign tokenizer does not take over."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    server = start_server(folder, "--watch", "--watch-interval", "0.1")
    write_text_bundle(tmp_path / "foreign", n_tokens=100).rename(folder / "plain" / "2")
    failed = server.wait_for_log("model failed", model="plain", version=2)
    assert "at most the 100 tokens that the graph knows" in failed["reason"]
    assert infer(server, "plain", tensor(TEXTS)).json()["model_version"] == "1"
