"""A table with a column of images behind a real server, by REST and by gRPC."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

httpx = pytest.importorskip("httpx")
grpc = pytest.importorskip("grpc")

import skmode_deploy  # noqa: E402
from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as messages  # noqa: E402
from skmode_deploy.serving.engine.grpc_service import (  # noqa: E402
    open_inference_grpc_pb2_grpc as stubs,
)

PHOTOS = np.random.default_rng(0).integers(256, size=(5, 4, 6), dtype=np.uint8)
AGES = np.arange(5, dtype=np.float32) * 10


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_image_bundle):
    folder = tmp_path_factory.mktemp("photos") / "models"
    folder.mkdir()
    write_image_bundle(folder / "bytes" / "1", table=True)
    write_image_bundle(folder / "floats" / "1", "hwc", "float32", 3, table=True)
    return folder


@pytest.fixture(scope="module")
def server(start_module_server, models):
    return start_module_server(models, "--shadow", "1")


@pytest.fixture
def expected(models):
    return skmode_deploy.load(models / "bytes" / "1").predict_proba({"age": AGES, "photo": PHOTOS})


def tensor(name, values, datatype):
    shape = list(np.shape(values))
    return {"name": name, "datatype": datatype, "shape": shape, "data": np.ravel(values).tolist()}


def infer(server, *inputs, model="bytes"):
    return httpx.post(f"{server.url}/v2/models/{model}/infer", json={"inputs": list(inputs)})


def test_metadata_and_examples(server):
    for model, datatype, shape in ("bytes", "UINT8", [4, 6]), ("floats", "FP32", [4, 6, 3]):
        inputs = httpx.get(f"{server.url}/v2/models/{model}").json()["inputs"]
        assert inputs == [
            {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "photo", "datatype": datatype, "shape": [-1, *shape]},
        ]
        operation = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        content = operation[f"/v2/models/{model}/infer"]["post"]["requestBody"]["content"]
        example = content["application/json"]["example"]
        response = httpx.post(f"{server.url}/v2/models/{model}/infer", json=example)
        assert response.status_code == 200, response.text


def test_rest(server, expected):
    response = infer(server, tensor("age", AGES, "FP32"), tensor("photo", PHOTOS, "UINT8"))
    assert response.status_code == 200, response.text
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert_allclose(np.reshape(outputs["probabilities"], (5, 2)), expected, rtol=1e-6)
    counted = httpx.get(f"{server.metrics_url}/metrics").text
    assert 'skmode_missing_values_total{column="photo"' not in counted.replace(" 0.0", "")


def test_grpc(server, expected):
    request = messages.ModelInferRequest(model_name="bytes")
    for name, values, datatype in ("age", AGES, "FP32"), ("photo", PHOTOS, "UINT8"):
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(values.tobytes())
    with grpc.insecure_channel(server.grpc_address) as channel:
        answer = stubs.GRPCInferenceServiceStub(channel).ModelInfer(request)
    names = [output.name for output in answer.outputs]
    found = np.frombuffer(answer.raw_output_contents[names.index("probabilities")], "<f4")
    assert_allclose(found.reshape(5, 2), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (
            tensor("photo", PHOTOS[:, :, :5], "UINT8"),
            "must have the shape [n, 4, 6], got [5, 4, 5]",
        ),
        (tensor("photo", PHOTOS / 255, "FP32"), "must be of UINT8, got FP32"),
        (tensor("photo", ["/etc/hostname"] * 5, "BYTES"), "must be of UINT8, got BYTES"),
        (tensor("photo", PHOTOS[:3], "UINT8"), "must have the same number of rows, got 3 and 5"),
    ],
    ids=["size", "type", "path", "rows"],
)
def test_refusals(server, photo, message):
    response = infer(server, tensor("age", AGES, "FP32"), photo)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_floats_must_be_pixels(server):
    for value in (None, 1.5):
        photo = tensor("photo", np.full((5, 4, 6, 3), 0.5), "FP32")
        photo["data"][7] = value
        response = infer(server, tensor("age", AGES, "FP32"), photo, model="floats")
        assert response.status_code == 400
        assert "must hold finite numbers from 0 to 1" in response.json()["error"]
