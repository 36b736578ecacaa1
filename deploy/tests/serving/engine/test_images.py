"""Models of images behind a real server, called by real clients."""

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
from skmode_deploy import bundle  # noqa: E402

OUTPUTS = ("label", "probabilities", "expert", "gate_probability")
SHAPES = {"grey": (4, 6), "colour": (3, 4, 6)}


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_image_bundle):
    """`grey` reads bytes, `colour` floats, channels first."""
    folder = tmp_path_factory.mktemp("images") / "models"
    folder.mkdir()
    write_image_bundle(folder / "grey" / "1")
    write_image_bundle(folder / "colour" / "1", "chw", "float32", 3)
    return folder


@pytest.fixture(scope="module")
def server(start_module_server, models):
    return start_module_server(models, "--shadow", "1", "--max-rows", "2000",
                               "--max-body-bytes", "1000000")  # fmt: skip


def random_images(model, n_images=5):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(n_images, *SHAPES[model]), dtype=np.uint8)


def tensor(X, datatype="UINT8", **changes):
    values = {"name": "image", "datatype": datatype, "shape": list(X.shape)}
    return {**values, "data": X.ravel().tolist(), **changes}


def infer(server, model, *inputs):
    return httpx.post(f"{server.url}/v2/models/{model}/infer", json={"inputs": list(inputs)})


def check(find, models, model, X):
    expected = skmode_deploy.load(models / model / "1").predict_full(X)
    labels = find("label")
    if labels.dtype == object:
        labels = np.array([x.decode() if isinstance(x, bytes) else x for x in labels])
    assert_array_equal(labels, expected.value)
    assert_allclose(find("probabilities"), expected.probabilities, rtol=1e-6)
    assert_array_equal(find("expert"), expected.expert)
    assert_allclose(find("gate_probability"), expected.gate_probability, rtol=1e-6)


def test_metadata(server):
    for model, datatype in ("grey", "UINT8"), ("colour", "FP32"):
        document = httpx.get(f"{server.url}/v2/models/{model}").json()
        shape = [-1, *SHAPES[model]]
        assert document["inputs"] == [{"name": "image", "datatype": datatype, "shape": shape}]
    example = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/v2/models/grey/infer"]
    content = example["post"]["requestBody"]["content"]["application/json"]["example"]
    assert httpx.post(f"{server.url}/v2/models/grey/infer", json=content).status_code == 200


@pytest.mark.parametrize("model", ["grey", "colour"])
def test_json(server, models, model):
    X = random_images(model)
    requests = [tensor(X), tensor(X, data=X.tolist())]
    if model == "colour":
        floats = X.astype(np.float64) / 255
        requests += [tensor(floats, datatype) for datatype in ("FP32", "FP64")]
    for request in requests:
        response = infer(server, model, request)
        assert response.status_code == 200, response.text
        found = {
            output["name"]: np.array(output["data"]).reshape(output["shape"])
            for output in response.json()["outputs"]
        }
        check(found.__getitem__, models, model, X)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("model", "datatype"), [("grey", "UINT8"), ("colour", "UINT8"), ("colour", "FP32")]
)
def test_triton_rest(server, models, model, datatype, binary):
    http = pytest.importorskip("tritonclient.http")
    X = random_images(model, 300)
    values = X if datatype == "UINT8" else X / np.float32(255)
    sent = http.InferInput("image", list(X.shape), datatype)
    sent.set_data_from_numpy(values, binary_data=binary)
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    with http.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client:
        result = client.infer(model, [sent], outputs=outputs)
    check(result.as_numpy, models, model, X)


# In a process of its own: this server's messages and tritonclient's have the same names.
TRITON_GRPC = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

address, images, answers = sys.argv[1:]
client = triton.InferenceServerClient(address)
found, refusals = {}, []
for name, X in np.load(images).items():
    model = name.partition("-")[0]
    sent = triton.InferInput("image", list(X.shape), "UINT8" if X.dtype == np.uint8 else "FP32")
    sent.set_data_from_numpy(X)
    try:
        result = client.infer(model, [sent])
    except triton.InferenceServerException as error:
        refusals.append([error.status(), error.message()])
        continue
    for output in ("label", "probabilities", "expert", "gate_probability"):
        found[f"{name} {output}"] = result.as_numpy(output)
np.savez(answers, **found)
inputs = client.get_model_metadata("colour", as_json=True)["inputs"]
print(json.dumps([refusals, inputs]))
"""


def test_triton_grpc(server, models, tmp_path):
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient")
    grey, colour = (random_images(model, 300) for model in SHAPES)
    images, answers = tmp_path / "images.npz", tmp_path / "answers.npz"
    sent = {"grey": grey, "colour": colour, "colour-floats": colour / np.float32(255)}
    np.savez(images, **sent, **{"grey-wrong": grey[:, :3], "colour-wrong": colour * np.float32(1)})
    command = [sys.executable, "-c", TRITON_GRPC, server.grpc_address, str(images), str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = dict(np.load(answers, allow_pickle=True))
    for name in sent:
        model = name.partition("-")[0]
        check(lambda output, name=name: found[f"{name} {output}"], models, model, sent[model])
    refusals, inputs = json.loads(done.stdout)
    assert {status for status, _ in refusals} == {"StatusCode.INVALID_ARGUMENT"}
    assert "must have the shape [n, 4, 6], got [300, 3, 6]" in refusals[0][1]
    assert "must hold finite numbers from 0 to 1, got" in refusals[1][1]
    assert inputs == [{"name": "image", "datatype": "FP32", "shape": ["-1", "3", "4", "6"]}]


GREY, COLOUR = random_images("grey"), random_images("colour") / 255
NAN = COLOUR.copy()
NAN[3, 1, 2] = np.nan
NULL = [None if x != x else x for x in NAN.ravel().tolist()]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("grey", [tensor(GREY[:, :3])],
         "Input 'image' must have the shape [n, 4, 6], got [5, 3, 6]: resize or crop the images"),
        ("grey", [tensor(GREY[0])], "got [4, 6]: a single image is X[None]"),
        ("grey", [tensor(GREY[..., None])], "change only the axes, with X.reshape(-1, 4, 6)"),
        ("grey", [tensor(GREY.reshape(5, 24))], "give each image its axes"),
        ("grey", [tensor(GREY, "INT64")], "Input 'image' must be of UINT8, got INT64: see"),
        ("grey", [tensor(GREY / 255, "FP32")], "must be of UINT8, got FP32"),
        ("grey", [tensor(GREY, data=[256] * 120)], "must hold numbers that UINT8 can represent"),
        ("grey", [tensor(GREY, data=[-1] * 120)], "must hold numbers that UINT8 can represent"),
        ("grey", [tensor(GREY, data=[0.5] * 120)], "of UINT8 must hold whole numbers, got 0.5"),
        ("grey", [tensor(GREY, data=[None] * 120)], "must hold whole numbers, got null"),
        ("grey", [tensor(GREY, data=[0] * 119)], "must have as many values as its shape"),
        ("grey", [tensor(GREY, data=[[0] * 24] * 5)], "must have nested data of its shape"),
        ("grey", [tensor(GREY, shape=[5, 4, 6, 1, 1])], "a shape of one to four whole numbers"),
        ("grey", [tensor(GREY, shape=[0, 4, 6], data=[])], "from 1 to 2000 rows, got 0"),
        ("grey", [tensor(np.zeros((2001, 4, 6), int))], "from 1 to 2000 rows, got 2001"),
        ("grey", [tensor(GREY, name="X")], "must be those of the model, got none called"),
        ("grey", [tensor(GREY), tensor(GREY, name="X")], "got \"X\" as well: send \"image\""),
        ("grey", [tensor(GREY), tensor(GREY)], "must have different names"),
        ("grey", [tensor(GREY, "BYTES", data=["photo.png"] * 120)], "must be of UINT8, got BYTES"),
        ("colour", [tensor(NAN, "FP32", data=NULL)],
         "Image 3 must hold finite numbers from 0 to 1, got nan: fill missing pixels in"),
        ("colour", [tensor(COLOUR * 255, "FP32")], "finite numbers from 0 to 1, got"),
        ("colour", [tensor(COLOUR, "FP32", data=[1e300] * 360)], "from 0 to 1, got inf"),
        ("colour", [tensor(COLOUR, "INT32", data=[1] * 360)],
         "must be of FP32 or UINT8 or FP16 or FP64, got INT32"),
        ("colour", [tensor(np.moveaxis(COLOUR, 1, -1), "FP32")],
         "move the channels before the height, with np.moveaxis(X, -1, 1)"),
    ],
)  # fmt: skip
def test_refusals(server, model, inputs, message):
    response = infer(server, model, *inputs)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


def test_too_large_a_body(server):
    body = {"inputs": [tensor(np.zeros((1500, 4, 6), int), data=[255] * 300_000)]}
    response = httpx.post(f"{server.url}/v2/models/grey/infer", json=body)
    assert response.status_code == 413


def test_bytes_that_are_cut_off(server):
    header = {"name": "image", "datatype": "UINT8", "shape": [5, 4, 6]}
    document = json.dumps({"inputs": [{**header, "parameters": {"binary_data_size": 100}}]})
    response = httpx.post(
        f"{server.url}/v2/models/grey/infer",
        content=document.encode() + GREY.tobytes()[:100],
        headers={"Inference-Header-Content-Length": str(len(document))},
    )
    assert response.status_code == 400
    assert (
        "must have as many bytes as its shape [5, 4, 6] of UINT8 takes, 120, got 100"
        in (response.json()["error"])
    )


def metric(server, start):
    lines = httpx.get(server.metrics_url).text.splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start)]


def test_metrics(server, models):
    """Routing, drift and shadow are counted as for tables; there are no columns to count."""
    X = random_images("grey", 600)
    expert = skmode_deploy.load(models / "grey" / "1").route(X)
    labels = 'model="grey",version="1"'
    start = 'skmode_expert_rows_total{expert="%d",' + labels
    before = [sum(metric(server, start % i)) for i in range(2)]
    assert infer(server, "grey", tensor(X)).status_code == 200
    after = [sum(metric(server, start % i)) for i in range(2)]
    assert np.subtract(after, before).tolist() == np.bincount(expert, minlength=2).tolist()
    assert 0 <= metric(server, "skmode_routing_drift{" + labels)[0] < 0.1
    shadowed = "skmode_shadow_rows_total{" + labels
    server.wait_for(lambda: sum(metric(server, shadowed)) > 0)
    assert metric(server, "skmode_shadow_disagreements_total{" + labels) == [0]
    assert metric(server, "skmode_missing_values_total{") == []


def test_swap(start_server, models, write_image_bundle, tmp_path):
    """A new version takes over, a damaged one does not, and a rollback brings the old one back."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    server = start_server(folder, "--watch", "--watch-interval", "0.1")
    assert infer(server, "grey", tensor(GREY)).json()["model_version"] == "1"
    write_image_bundle(folder / "grey" / "2", dtype="float32")
    server.wait_for_log("model switched", model="grey", version=2)
    response = infer(server, "grey", tensor(GREY / 255, "FP32")).json()
    assert response["model_version"] == "2"
    assert infer(server, "grey@1", tensor(GREY)).json()["outputs"] == response["outputs"]

    damaged = write_image_bundle(tmp_path / "damaged")
    manifest = bundle.read(damaged)
    files = {name: bundle.read_file(damaged, manifest, name) for name in manifest.files}
    samples = json.loads(files["samples.json"])
    samples["outputs"][1]["data"] = [0.5] * 8
    bundle.write(damaged, manifest, {**files, "samples.json": json.dumps(samples).encode()})
    damaged.rename(folder / "grey" / "3")
    failed = server.wait_for_log("model failed", model="grey", version=3)
    assert "must get the predictions of the export" in failed["reason"]
    assert infer(server, "grey", tensor(GREY / 255, "FP32")).json()["model_version"] == "2"

    command = [sys.executable, "-m", "skmode_deploy", "rollback", str(folder), "grey", "--to", "1"]
    subprocess.run(command, check=True, capture_output=True)
    # Not by the log: it has said that version 1 serves before.
    server.wait_for(lambda: infer(server, "grey", tensor(GREY)).json()["model_version"] == "1")
