"""The server by gRPC, with raw messages of the protocol."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

grpc = pytest.importorskip("grpc")

from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as messages  # noqa: E402
from skmode_deploy.serving.engine.grpc_service import (  # noqa: E402
    open_inference_grpc_pb2_grpc as stubs,
)

CONTENTS = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
    "INT64": "int64_contents",
    "INT32": "int_contents",
    "INT8": "int_contents",
    "UINT8": "uint_contents",
    "UINT64": "uint64_contents",
    "BOOL": "bool_contents",
}
DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4"}


@pytest.fixture(scope="module")
def channel(server):
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return stubs.GRPCInferenceServiceStub(channel)


def make_request(model, tensors, *, raw=False, version="", outputs=(), **more):
    """`tensors` are those of a JSON request."""
    request = messages.ModelInferRequest(model_name=model, model_version=version, **more)
    for tensor in tensors:
        datatype = tensor["datatype"]
        data = np.array(tensor["data"], object).ravel().tolist()
        text = datatype == "BYTES"
        if text:
            data = [("" if value is None else value).encode() for value in data]
        elif datatype.startswith("FP"):
            data = [np.nan if value is None else value for value in data]
        added = request.inputs.add(name=tensor["name"], datatype=datatype, shape=tensor["shape"])
        if not raw:
            getattr(added.contents, CONTENTS[datatype]).extend(data)
        elif text:
            lengths = [len(value).to_bytes(4, "little") + value for value in data]
            request.raw_input_contents.append(b"".join(lengths))
        else:
            request.raw_input_contents.append(np.array(data, DTYPES[datatype]).tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    return request


def values(response):
    found = {}
    for i, output in enumerate(response.outputs):
        if not response.raw_output_contents:
            data = getattr(output.contents, CONTENTS[output.datatype])
            array = np.array([v.decode() if output.datatype == "BYTES" else v for v in data])
        elif output.datatype == "BYTES":
            data, texts = response.raw_output_contents[i], []
            while data:
                end = 4 + int.from_bytes(data[:4], "little")
                texts.append(data[4:end].decode())
                data = data[end:]
            array = np.array(texts)
        else:
            array = np.frombuffer(response.raw_output_contents[i], DTYPES[output.datatype])
        found[output.name] = array.reshape(output.shape)
    return found


@pytest.mark.parametrize("raw", [False, True], ids=["contents", "raw"])
def test_1000_rows_of_a_table_are_predicted_like_the_estimator(
    stub, credit_rows, credit_answers, to_inputs, raw
):
    request = make_request("credit", to_inputs(credit_rows), raw=raw, id="all")
    response = stub.ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("credit", "2", "all")
    assert bool(response.raw_output_contents) is raw
    found = values(response)
    assert_array_equal(found["label"], credit_answers["2"]["label"])
    assert_allclose(found["probabilities"], credit_answers["2"]["probabilities"], atol=1e-5)
    assert_array_equal(found["expert"], credit_answers["2"]["expert"])


def test_a_regression_is_predicted_like_the_estimator(stub, trained, estimators):
    X = trained.diabetes_rows
    tensor = {"name": "X", "datatype": "FP64", "shape": [200, 10], "data": X.tolist()}
    found = values(stub.ModelInfer(make_request("diabetes", [tensor])))
    expected = estimators["diabetes@1"].predict(X)
    assert_allclose(found["variable"][:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("name_or_version", ["name", "version"])
def test_a_pinned_version_predicts(stub, credit_rows, credit_answers, to_inputs, name_or_version):
    model, version = ("credit@1", "") if name_or_version == "name" else ("credit", "1")
    request = make_request(model, to_inputs(credit_rows[:100]), version=version)
    response = stub.ModelInfer(request)
    assert response.model_version == "1"
    expected = credit_answers["1"]["probabilities"][:100]
    assert_allclose(values(response)["probabilities"], expected, atol=1e-5)
    assert np.abs(expected - credit_answers["2"]["probabilities"][:100]).max() > 0.01


@pytest.mark.parametrize("datatype", ["FP64", "INT8", "INT32", "INT64", "UINT8", "UINT64", "BOOL"])
def test_a_number_is_the_same_in_every_datatype(stub, datatype):
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 0.0, 1.0, 1.0]}
    expected = values(stub.ModelInfer(make_request("iris", [tensor])))
    data = [1, 0, 1, 1] if datatype != "FP64" else tensor["data"]
    other = {**tensor, "datatype": datatype, "data": data}
    found = values(stub.ModelInfer(make_request("iris", [other])))
    assert_array_equal(found["probabilities"], expected["probabilities"])


@pytest.mark.parametrize("raw", [False, True], ids=["contents", "raw"])
def test_outputs_are_chosen(stub, iris_body, raw):
    request = make_request("iris", iris_body["inputs"], raw=raw, outputs=["expert", "label"])
    assert list(values(stub.ModelInfer(request))) == ["expert", "label"]


def test_metadata_and_health(stub, credit_rows):
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    assert stub.ModelReady(messages.ModelReadyRequest(name="credit", version="1")).ready
    server = stub.ServerMetadata(messages.ServerMetadataRequest())
    assert server.name == "skmode-deploy"
    metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name="credit"))
    assert list(metadata.versions) == ["1", "2"]
    assert [tensor.name for tensor in metadata.inputs] == list(credit_rows)
    assert [list(tensor.shape) for tensor in metadata.outputs] == [[-1], [-1, 2], [-1], [-1]]
    pinned = stub.ModelMetadata(messages.ModelMetadataRequest(name="credit", version="1"))
    assert list(pinned.versions) == ["1"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"model": "churn"}, "NOT_FOUND", "The model must be one of 'credit', 'diabetes', 'iris'"),
        ({"version": "7"}, "NOT_FOUND", "The version of 'iris' must be one of '1', got '7'"),
        ({"outputs": ["variable"]}, "INVALID_ARGUMENT", "An output must be one of label"),
        ({"tensors": []}, "INVALID_ARGUMENT", "A request must have inputs, got none"),
        ({"id": "a" * 1001}, "INVALID_ARGUMENT", "must be a string of at most 1000 characters"),
    ],
)
def test_a_bad_request_is_refused(stub, iris_body, change, code, message):
    arguments = {"model": "iris", "tensors": iris_body["inputs"], **change}
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(make_request(**arguments))
    assert error.value.code().name == code
    assert message in error.value.details()


def test_raw_contents_must_fit_the_shape(stub, iris_body):
    request = make_request("iris", iris_body["inputs"], raw=True)
    request.raw_input_contents[0] = request.raw_input_contents[0][:-4]
    with pytest.raises(grpc.RpcError, match=r"as its shape \[3, 4\] of FP32 takes, 48, got 44"):
        stub.ModelInfer(request)


@pytest.mark.parametrize(("given", "kept"), [("case-18", True), ("a b{}", False)])
def test_the_request_id_comes_back(stub, iris_body, given, kept):
    request = make_request("iris", iris_body["inputs"])
    _, call = stub.ModelInfer.with_call(request, metadata=(("x-request-id", given),))
    (found,) = [value for key, value in call.trailing_metadata() if key == "x-request-id"]
    assert (found == given) is kept
    assert kept or len(found) == 32


def test_streaming_calls_are_unimplemented(channel):
    method = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as error:
        list(method(iter([b""])))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
