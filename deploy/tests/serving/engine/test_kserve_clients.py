"""KServe's own clients, in a separate environment: `make test-engines`."""

import asyncio
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmode_deploy

N_ROWS = 1000


@pytest.fixture
def kserve(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])  # which it parses when it is imported
    return pytest.importorskip("kserve")


@pytest.fixture
def table_server(kserve, start_server, table_bundle):
    return start_server(table_bundle, "--name", "table")


def make_rows(*, missing):
    rng = np.random.default_rng(0)
    age = rng.uniform(3, 80, (N_ROWS, 1)).astype(np.float32)
    city = rng.choice(np.array(["Bern", "Köln", "Paris", ""], object), (N_ROWS, 1))
    if missing:  # in JSON the clients write NaN, which is none
        age[rng.random((N_ROWS, 1)) < 0.1] = np.nan
    return {"age": age, "city": city, "plan": rng.integers(1, 3, (N_ROWS, 1)).astype(float)}


def make_inputs(kserve, rows, *, binary):
    datatypes = {"age": "FP32", "city": "BYTES", "plan": "FP64"}
    inputs = []
    for name, array in rows.items():
        inputs.append(kserve.InferInput(name, list(array.shape), datatypes[name]))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return inputs


def check_response(response, bundle, rows):
    columns = {name: array[:, 0] for name, array in rows.items()}
    expected = skmode_deploy.load(bundle).predict_full(columns)
    found = {output.name: output.as_numpy() for output in response.outputs}
    assert_array_equal(found["label"], expected.value)
    assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
    assert_array_equal(found["expert"], expected.expert)
    assert len(set(found["label"].tolist())) > 1


@pytest.mark.parametrize("binary", [True, False])
def test_kserve_rest(kserve, table_server, table_bundle, binary):
    rows = make_rows(missing=binary)

    async def ask():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2", timeout=30))
        request = kserve.InferRequest(
            model_name="table", infer_inputs=make_inputs(kserve, rows, binary=binary)
        )
        request.parameters = {"binary_data_output": binary}
        try:
            return await client.infer(table_server.url, request, model_name="table")
        finally:
            await client.close()

    check_response(asyncio.run(ask()), table_bundle, rows)


def test_kserve_rest_health(kserve, table_server):
    async def ask():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        try:
            return [
                await client.is_server_live(table_server.url),
                await client.is_server_ready(table_server.url),
                await client.is_model_ready(table_server.url, "table"),
            ]
        finally:
            await client.close()

    assert asyncio.run(ask()) == [True, True, True]


@pytest.mark.parametrize("raw", [True, False])
def test_kserve_grpc(kserve, table_server, table_bundle, raw):
    rows = make_rows(missing=True)

    async def ask():
        async with kserve.InferenceGRPCClient(table_server.grpc_address) as client:
            inputs = make_inputs(kserve, rows, binary=raw)
            request = kserve.InferRequest(model_name="table", infer_inputs=inputs)
            return await client.is_model_ready("table"), await client.infer(request)

    ready, response = asyncio.run(ask())
    assert ready
    check_response(response, table_bundle, rows)


@pytest.fixture
def image_server(kserve, start_server, make_image_bundle):
    return start_server(make_image_bundle("hwc", "float32", 3), "--name", "colour")


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("transport", ["grpc", "json", "binary"])
def test_kserve_sends_images(kserve, image_server, tmp_path, transport, datatype):
    images = np.random.default_rng(0).integers(256, size=(50, 4, 6, 3), dtype=np.uint8)
    sent = images if datatype == "UINT8" else images / np.float32(255)
    tensor = kserve.InferInput("image", list(sent.shape), datatype)
    tensor.set_data_from_numpy(sent, binary_data=transport != "json")
    request = kserve.InferRequest(model_name="colour", infer_inputs=[tensor])
    request.parameters = {"binary_data_output": transport == "binary"}

    async def ask():
        if transport == "grpc":
            async with kserve.InferenceGRPCClient(image_server.grpc_address) as client:
                return await client.infer(request)
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2", timeout=30))
        try:
            return await client.infer(image_server.url, request, model_name="colour")
        finally:
            await client.close()

    found = {output.name: output.as_numpy() for output in asyncio.run(ask()).outputs}
    expected = skmode_deploy.load(tmp_path / "images").predict_full(images)
    labels = [x.decode() if isinstance(x, bytes) else x for x in found["label"].tolist()]
    assert labels == expected.value.tolist()
    assert_allclose(found["probabilities"], expected.probabilities, atol=1e-6)
    assert_array_equal(found["expert"], expected.expert)
