"""The server by REST: predictions, forms of requests, metadata, limits and refusals."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

httpx = pytest.importorskip("httpx")

OUTPUTS = ["label", "probabilities", "expert", "gate_probability"]
LENGTH = "inference-header-content-length"


def infer(server, model, body, **headers):
    if isinstance(body, dict):
        return httpx.post(f"{server.url}/v2/models/{model}/infer", json=body, headers=headers)
    return httpx.post(f"{server.url}/v2/models/{model}/infer", content=body, headers=headers)


def values(response):
    """Outputs of an answer in JSON as arrays."""
    assert response.status_code == 200, response.text
    return {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in response.json()["outputs"]
    }


def reason(response, status=400):
    """Why a request was refused."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    return body["error"]


def to_binary(document, arrays):
    """A body with the values of `arrays` as bytes, and the length of its JSON."""
    parts, inputs = [], []
    for tensor, array in zip(document["inputs"], arrays, strict=True):
        if array.dtype == object:
            texts = [text.encode() for text in array.ravel()]
            data = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        else:
            data = array.tobytes()
        parts.append(data)
        inputs.append({**tensor, "parameters": {"binary_data_size": len(data)}})
    text = json.dumps({**document, "inputs": inputs}).encode()
    return b"".join([text, *parts]), {LENGTH: str(len(text))}


def read_binary(response):
    """Outputs of an answer that has some of them as bytes."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    document, rest = json.loads(response.content[:length]), response.content[length:]
    found = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = np.array(output["data"]).reshape(output["shape"])
            continue
        data, rest = rest[:size], rest[size:]
        if output["datatype"] == "BYTES":
            texts = []
            while data:
                end = 4 + int.from_bytes(data[:4], "little")
                texts.append(data[4:end].decode())
                data = data[end:]
            found[output["name"]] = np.array(texts).reshape(output["shape"])
        else:
            dtype = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
            found[output["name"]] = np.frombuffer(data, dtype).reshape(output["shape"])
    assert rest == b""
    return found


def check_credit(found, expected):
    assert_array_equal(found["label"], expected["label"])
    assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-5)
    assert_array_equal(found["expert"], expected["expert"])


# Answers


def test_1000_rows_of_a_table_are_predicted_like_the_estimator(
    server, credit_rows, credit_answers, to_inputs
):
    response = infer(server, "credit", {"id": "all", "inputs": to_inputs(credit_rows)})
    assert credit_rows.isna().to_numpy().sum() > 50
    found = values(response)
    check_credit(found, credit_answers["2"])
    assert (found["gate_probability"] > 0.25).all()  # of four experts the likeliest
    document = response.json()
    assert document["model_name"] == "credit"
    assert document["model_version"] == "2"
    assert document["id"] == "all"
    assert [output["datatype"] for output in document["outputs"]] == [
        "BYTES",
        "FP32",
        "INT64",
        "FP32",
    ]


def test_missing_and_unseen_text_is_predicted_like_the_estimator(
    server, credit_rows, estimators, to_inputs
):
    rows = credit_rows[:64].astype({"Home": object, "Job": object})
    rows.loc[::3, "Home"] = None
    rows.loc[::5, "Job"] = "astronaut"
    rows.loc[1::4, "Seniority"] = np.nan
    found = values(infer(server, "credit", {"inputs": to_inputs(rows)}))
    estimator = estimators["credit@2"]
    assert_array_equal(found["label"], estimator.predict(rows))
    assert_allclose(found["probabilities"], estimator.predict_proba(rows), atol=1e-5)


def test_an_array_is_predicted_like_the_estimator(server, trained, estimators):
    X = trained.iris_rows
    tensor = {"name": "X", "datatype": "FP32", "shape": [150, 4], "data": X.ravel().tolist()}
    found = values(infer(server, "iris", {"inputs": [tensor]}))
    assert_array_equal(found["label"], estimators["iris@1"].predict(X))
    assert_allclose(found["probabilities"], estimators["iris@1"].predict_proba(X), atol=1e-5)
    assert_array_equal(found["expert"], estimators["iris@1"].route(X))


def test_a_regression_is_predicted_like_the_estimator(server, trained, estimators):
    X = trained.diabetes_rows
    tensor = {"name": "X", "datatype": "FP32", "shape": [200, 10], "data": X.tolist()}
    found = values(infer(server, "diabetes", {"inputs": [tensor]}))
    assert list(found) == ["variable", "expert", "gate_probability"]
    assert found["variable"].shape == (200, 1)
    assert_allclose(found["variable"][:, 0], estimators["diabetes@1"].predict(X), rtol=1e-4)


def test_binary_tensors_are_predicted_like_the_estimator(server, credit_rows, credit_answers):
    inputs, arrays = [], []
    for name, column in credit_rows.items():
        text = column.dtype == "category"
        array = column.astype(object if text else np.float32).to_numpy()
        arrays.append(array)
        inputs.append({"name": name, "datatype": "BYTES" if text else "FP32", "shape": [1000, 1]})
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    body, headers = to_binary(document, arrays)
    check_credit(read_binary(infer(server, "credit", body, **headers)), credit_answers["2"])


# Forms of a request


def test_one_tensor_for_each_column_of_an_array(server, trained, iris_body):
    rows = trained.iris_rows[[0, 60, 120]]
    inputs = [
        {"name": f"x{i}", "datatype": "FP64", "shape": [3], "data": rows[:, i].tolist()}
        for i in range(4)
    ]
    whole = values(infer(server, "iris", iris_body))
    apart = values(infer(server, "iris", {"inputs": inputs[::-1]}))
    for name in OUTPUTS:
        assert_array_equal(apart[name], whole[name])


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("FP64", "<f8"),
        ("FP16", "<f2"),
        ("INT8", "i1"),
        ("INT16", "<i2"),
        ("INT32", "<i4"),
        ("INT64", "<i8"),
        ("UINT8", "u1"),
        ("UINT16", "<u2"),
        ("UINT32", "<u4"),
        ("UINT64", "<u8"),
        ("BOOL", "?"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_a_number_is_the_same_in_every_datatype(server, datatype, dtype, binary):
    array = np.array([[1, 0, 1, 1], [0, 1, 1, 0]], dtype)
    plain = {"name": "X", "datatype": "FP32", "shape": [2, 4], "data": array.tolist()}
    plain["data"] = array.astype(float).tolist()
    expected = values(infer(server, "iris", {"inputs": [plain]}))
    tensor = {"name": "X", "datatype": datatype, "shape": [2, 4]}
    if binary:
        body, headers = to_binary({"inputs": [tensor]}, [array])
        response = infer(server, "iris", body, **headers)
    else:
        response = infer(server, "iris", {"inputs": [{**tensor, "data": array.tolist()}]})
    assert_array_equal(values(response)["probabilities"], expected["probabilities"])


def test_whole_numbers_and_columns_in_any_order(server, credit_rows, credit_answers, to_inputs):
    inputs = to_inputs(credit_rows[:50])
    for tensor in inputs:
        if tensor["name"] in ("Seniority", "Time", "Age", "Price"):
            tensor["datatype"] = "INT64"
        tensor["shape"] = [50]
    found = values(infer(server, "credit", {"inputs": inputs[::-1]}))
    check_credit(found, {name: answer[:50] for name, answer in credit_answers["2"].items()})


def test_missing_values_have_one_meaning_in_json_and_bytes(server, credit_rows, to_inputs):
    rows = credit_rows[:2].astype({"Home": object, "Income": float})
    rows.loc[0, ["Home", "Income"]] = None, np.nan
    as_null = to_inputs(rows)
    as_empty = [{**tensor} for tensor in as_null]
    as_empty[1]["data"] = ["", as_null[1]["data"][1]]
    assert as_null[1]["data"][0] is None
    arrays = []
    for tensor in as_empty:
        text = tensor["datatype"] == "BYTES"
        data = [np.nan if value is None else value for value in tensor["data"]]
        arrays.append(np.array(data, object if text else np.float32))
    header = [{key: t[key] for key in ("name", "datatype", "shape")} for t in as_empty]
    body, headers = to_binary({"inputs": header}, arrays)
    answers = [
        values(infer(server, "credit", {"inputs": as_null})),
        values(infer(server, "credit", {"inputs": as_empty})),
        values(infer(server, "credit", body, **headers)),
    ]
    for name in OUTPUTS:
        assert_array_equal(answers[1][name], answers[0][name])
        assert_array_equal(answers[2][name], answers[0][name])


def test_content_types_of_other_clients_change_nothing(server, credit_rows, to_inputs):
    inputs = to_inputs(credit_rows[:5])
    marked = [
        {**t, "parameters": {"content_type": "str" if t["datatype"] == "BYTES" else "np"}}
        for t in inputs
    ]
    plain = values(infer(server, "credit", {"inputs": inputs}))
    pandas = values(
        infer(server, "credit", {"inputs": marked, "parameters": {"content_type": "pd"}})
    )
    for name in OUTPUTS:
        assert_array_equal(pandas[name], plain[name])


@pytest.mark.parametrize(
    "names", [["label"], ["expert", "label"], ["probabilities"], ["gate_probability", "expert"]]
)
def test_outputs_are_chosen(server, iris_body, names):
    chosen = {**iris_body, "outputs": [{"name": name} for name in names]}
    found, whole = values(infer(server, "iris", chosen)), values(infer(server, "iris", iris_body))
    assert list(found) == names
    assert list(whole) == OUTPUTS
    for name in names:
        assert_array_equal(found[name], whole[name])


def test_each_output_may_be_bytes_or_json(server, iris_body):
    body = {
        **iris_body,
        "outputs": [
            {"name": "probabilities", "parameters": {"binary_data": True}},
            {"name": "expert"},
            {"name": "label", "parameters": {"binary_data": True}},
        ],
    }
    found = read_binary(infer(server, "iris", body))
    whole = values(infer(server, "iris", iris_body))
    assert list(found) == ["probabilities", "expert", "label"]
    for name, answer in found.items():
        assert_allclose(answer, whole[name], rtol=1e-6)


# Refusals say the rule, the value and the fix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Y"}, 'must be those of the model, got none called "X": send "X"'),
        ({"shape": [3, 3]}, "must have as many values as its shape .3, 3. says, 9, got 12"),
        ({"shape": [4, 3]}, "'X' must have the shape .n, 4., got .4, 3.: send the columns"),
        ({"datatype": "FP23"}, 'must have one of the datatypes .*, got "FP23"'),
        ({"datatype": "BYTES", "data": ["a"] * 12}, "X must hold numbers only, .*: 'a'"),
        ({"data": [*range(11), "marker"]}, "must hold numbers, and null for missing, got"),
        ({"data": [1e39] * 12}, "'X' must hold numbers that are finite as float32"),
        ({"shape": [0, 4], "data": []}, "must have from 1 to 10000 rows, got 0: send at least one"),
        ({"shape": [10**12, 4]}, r"must have a shape of one to four whole numbers .*10000000000"),
    ],
)
def test_a_bad_tensor_is_refused(server, iris_body, change, message):
    body = {"inputs": [{**iris_body["inputs"][0], **change}]}
    text = reason(infer(server, "iris", body))
    assert re.search(message, text), text


def test_an_unknown_output_is_refused(server, iris_body):
    text = reason(infer(server, "iris", {**iris_body, "outputs": [{"name": "variable"}]}))
    assert text.startswith("An output must be one of label, probabilities, expert")
    assert '"variable"' in text


def test_a_lacking_column_is_refused_by_name(server, credit_rows, to_inputs):
    text = reason(infer(server, "credit", {"inputs": to_inputs(credit_rows[:2])[1:]}))
    assert 'got none called "Seniority"' in text


def test_literal_nan_is_refused(server):
    body = b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,4],"data":[1,2,3,NaN]}]}'
    assert "NaN and Infinity are no JSON: a missing value is null" in reason(
        infer(server, "iris", body)
    )


def test_compressed_bodies_are_refused(server, iris_body):
    response = infer(server, "iris", iris_body, **{"content-encoding": "gzip"})
    assert "must not be compressed" in reason(response, 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/churn", 404),
        ("POST", "/v2/models/churn/infer", 404),
        ("GET", "/v2/models/credit/versions/9", 404),
        ("POST", "/v2/models/credit/versions/9/infer", 404),
        ("POST", "/v2/models/credit@9/infer", 404),
        ("POST", "/v2/models/credit/versions/one/infer", 404),
        ("GET", "/v2/models/churn/ready", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/credit/infer", 405),
        ("DELETE", "/v2/models/credit", 405),
        ("GET", "/docs", 404),
    ],
)
def test_unknown_routes_and_models(server, iris_body, method, path, status):
    content = json.dumps(iris_body) if method == "POST" else None
    response = httpx.request(method, server.url + path, content=content)
    text = reason(response, status)
    assert any(hint in text for hint in ("must be one of", "see /openapi.json", "version")), text


def test_a_connection_survives_bad_requests(server, iris_body):
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            assert client.post("/v2/models/iris/infer", content=b"{").status_code == 400
            assert client.post("/v2/models/none/infer", json=iris_body).status_code == 404
            assert client.post("/v2/models/iris/infer", json=iris_body).status_code == 200


# About the server and its models


def test_the_operations_of_the_published_document(server, iris_body):
    """kserve/open-inference-protocol, open_inference_rest.yaml."""
    url = f"{server.url}/v2"
    version = f"{url}/models/iris/versions/1"
    for path in ("health/live", "health/ready", "models/iris/versions/1/ready"):
        assert httpx.get(f"{url}/{path}").status_code == 200
    assert httpx.get(f"{url}/").json() == httpx.get(url).json()
    metadata = httpx.get(version).json()
    assert list(metadata) == ["name", "versions", "platform", "inputs", "outputs"]
    answer = httpx.post(f"{version}/infer", json=iris_body)
    assert answer.json()["model_name"] == "iris"
    assert reason(httpx.post(f"{version}/infer", content=b"{"))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("0/versions/0", "version 0 of model '0'"),
        ("0@0", "'0@0'"),
        ("0", "'0'"),
        ("iris/versions/0", "'0'"),
    ],
)
def test_a_refusal_names_the_model_as_the_client_did(server, path, named):
    text = reason(httpx.get(f"{server.url}/v2/models/{path}"), 404)
    assert f"got {named}: ask for one of these" in text


def test_server_metadata(server):
    document = httpx.get(f"{server.url}/v2").json()
    assert document["name"] == "skmode-deploy"
    assert document["extensions"] == ["binary_tensor_data"]
    assert httpx.get(f"{server.url}/v2/models").json() == {"models": ["credit", "diabetes", "iris"]}


def test_metadata_agree_with_the_manifest(server, credit_rows):
    document = httpx.get(f"{server.url}/v2/models/credit").json()
    assert document["platform"] == "onnxruntime_onnx"
    assert [tensor["name"] for tensor in document["inputs"]] == list(credit_rows)
    by_name = {tensor["name"]: tensor for tensor in document["inputs"] + document["outputs"]}
    assert by_name["Home"] == {"name": "Home", "datatype": "BYTES", "shape": [-1, 1]}
    assert by_name["Income"] == {"name": "Income", "datatype": "FP32", "shape": [-1, 1]}
    assert by_name["probabilities"]["shape"] == [-1, 2]
    iris = httpx.get(f"{server.url}/v2/models/iris").json()
    assert iris["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    assert iris["outputs"][0] == {"name": "label", "datatype": "INT64", "shape": [-1]}


def test_metadata_list_the_available_versions(server):
    def versions(path):
        return httpx.get(f"{server.url}/v2/models/{path}").json()["versions"]

    assert versions("credit") == ["1", "2"]
    assert versions("credit/versions/1") == ["1"]
    assert versions("credit@2") == ["2"]


@pytest.mark.parametrize(
    "path", ["/", "/v2/health/live", "/v2/health/ready", "/v2/models/credit/ready",
             "/v2/models/credit/versions/1/ready", "/v2/models/credit@2/ready"],
)  # fmt: skip
def test_health(server, path):
    assert httpx.get(server.url + path).status_code == 200


def test_the_request_id_is_returned_or_made(server, iris_body):
    given = infer(server, "iris", iris_body, **{"x-request-id": "case-17.a"})
    assert given.headers["x-request-id"] == "case-17.a"
    made = infer(server, "iris", iris_body).headers["x-request-id"]
    assert len(made) == 32
    assert made != infer(server, "iris", iris_body).headers["x-request-id"]
    strange = infer(server, "iris", iris_body, **{"x-request-id": "a b{}"})
    assert strange.headers["x-request-id"] != "a b{}"


# The command line


def test_a_single_bundle_is_version_1_named_like_its_folder(start_server, models, iris_body):
    server = start_server(models / "iris" / "1", "--name", "flowers", "--grpc-port", "0")
    document = infer(server, "flowers", iris_body).json()
    assert (document["model_name"], document["model_version"]) == ("flowers", "1")
    assert httpx.get(f"{server.url}/v2/models").json() == {"models": ["flowers"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}/none"], "must be a bundle or a folder of models"),
        (["{folder}"], "where no model can be loaded"),
        pytest.param(
            ["{folder}", "--workers", "2"],
            "Each process must start, and one did not",
            marks=pytest.mark.slow,
        ),
        (["{folder}/none", "--workers", "2"], "must be a bundle or a folder of models"),
        (["{folder}", "--name", "a/b"], "must be a bundle or|The name of a model must be"),
        (["{folder}", "--token-file", "{file}"], "must hold tokens of at least 16 characters"),
        (
            ["{folder}", "--tls-cert", "{file}", "--tls-key", "{file}", "--workers", "2"],
            "tls_cert must be a certificate chain and tls_key its private key",
        ),
        (["{folder}", "--grpc-port", "59999"], "grpc_port and metrics_port must differ"),
        (["{folder}", "--max-rows", "0"], "max_rows must be from 1 to 10000000, got 0"),
        (["{folder}", "--token-file", "/none"], "token_file must be a file, got '/none'"),
        (["{folder}", "--tls-cert", "/none"], "tls_cert and tls_key must be given together"),
        (["{folder}", "--log-level", "loud"], "log_level must be one of"),
    ],
)
def test_wrong_usage_is_explained(start_server, tmp_path, arguments, message):
    (tmp_path / "short").write_text("short")
    places = {"folder": tmp_path, "file": tmp_path / "short"}
    arguments = [argument.format(**places) for argument in arguments]
    command = [sys.executable, "-m", "skmode_deploy", "serve", *arguments, "--http-port", "59999"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.search(message, last), last
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_explained(server, models):
    command = [sys.executable, "-m", "skmode_deploy", "serve", str(models / "iris" / "1")]
    command += ["--name", "iris", "--http-port", str(server.http_port), "--grpc-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "in use" in done.stderr.splitlines()[-1]
