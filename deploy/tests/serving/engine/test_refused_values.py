"""Values that a step of a served Pipeline refuses, through a server that runs."""

import json
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest

ROWS = pd.DataFrame(
    {"city": ["Bern", "Graz", "Lyon"] * 20, "age": np.linspace(20, 79, 60, dtype=np.float32)}
)
BAD = {
    "unseen": (
        ["Bern", "Oslo"],
        ["Column 'city' must hold categories that the model knows", "'Oslo'", "Correct the value"],
    ),
    "missing": (["Bern", ""], ["Column 'city' must have no missing values", "Fill them in"]),
}
BOTH = pytest.mark.parametrize("model", ["one_hot", "ordinal"])
EACH = pytest.mark.parametrize("kind", BAD)


@pytest.fixture(scope="module")
def refusing_server(start_module_server, tmp_path_factory):
    """Pipelines whose encoders have the default ``handle_unknown="error"``."""
    skmode = pytest.importorskip("skmode")
    onnx = pytest.importorskip("skmode.onnx")
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    folder = tmp_path_factory.mktemp("refusing")
    for name, encoder in (("one_hot", OneHotEncoder()), ("ordinal", OrdinalEncoder())):
        steps = make_column_transformer((encoder, ["city"]), (StandardScaler(), ["age"]))
        last = skmode.MoDEClassifier(
            n_experts=2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0
        ).set_params(inference="top_expert")
        model = make_pipeline(steps, last).fit(ROWS, ROWS["age"] > 50)
        (folder / name).mkdir()
        onnx.export(model, folder / name / "1", X=ROWS)
    return start_module_server(folder)


def check(message, kind):
    assert all(part in message for part in BAD[kind][1]), message
    assert "onnxruntime" not in message.lower()
    assert "out of data bounds" not in message


@BOTH
@EACH
def test_rest(refusing_server, model, kind):
    cities = BAD[kind][0]
    inputs = [
        {"name": "city", "datatype": "BYTES", "shape": [2, 1], "data": cities},
        {"name": "age", "datatype": "FP32", "shape": [2, 1], "data": [30, 40]},
    ]
    request = urllib.request.Request(
        f"{refusing_server.url}/v2/models/{model}/infer",
        json.dumps({"inputs": inputs}).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=30)
    assert error.value.code == 400
    check(json.load(error.value)["error"], kind)


def infer(refusing_server, model, cities):
    """Ask by gRPC, and return the number of labels."""
    grpc = pytest.importorskip("grpc")
    from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as messages
    from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2_grpc as stubs

    request = messages.ModelInferRequest(model_name=model)
    city = request.inputs.add(name="city", datatype="BYTES", shape=[2, 1])
    city.contents.bytes_contents.extend(value.encode() for value in cities)
    age = request.inputs.add(name="age", datatype="FP32", shape=[2, 1])
    age.contents.fp32_contents.extend([30, 40])
    with grpc.insecure_channel(refusing_server.grpc_address) as channel:
        response = stubs.GRPCInferenceServiceStub(channel).ModelInfer(request)
    return response.outputs[0].shape[0]


@BOTH
@EACH
def test_grpc(refusing_server, model, kind):
    grpc = pytest.importorskip("grpc")
    with pytest.raises(grpc.RpcError) as error:
        infer(refusing_server, model, BAD[kind][0])
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    check(error.value.details(), kind)
    assert infer(refusing_server, model, ["Bern", "Graz"]) == 2  # it goes on working
