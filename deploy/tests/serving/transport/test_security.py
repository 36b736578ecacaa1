"""Tokens, TLS, management and limits."""

import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

httpx = pytest.importorskip("httpx")
grpc = pytest.importorskip("grpc")

FIRST, SECOND = "first-token-of-this-test", "second-token-of-this-test"
INFER = "/inference.GRPCInferenceService/ModelInfer"


def ask(server, body, token=None, **options):
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.post(f"{server.url}/v2/models/iris/infer", json=body, headers=headers, **options)


def call(server, method, request=b"", token=None, credentials=None, options=()):
    """Call gRPC with bytes for messages; the code, and what the server said."""
    if credentials is None:
        channel = grpc.insecure_channel(server.grpc_address, options)
    else:
        channel = grpc.secure_channel(server.grpc_address, credentials, options)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with channel:
        method = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            return "OK", method(request, metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return error.code().name, error.details()


def field(number, text):
    """A string of a protobuf message."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


# Tokens


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"# who may ask\n{FIRST}\n\n{SECOND}\n")
    return path


@pytest.fixture(scope="module")
def closed(start_module_server, models, token_file):
    return start_module_server(models, "--token-file", token_file, "--metrics-port", "free")


@pytest.mark.parametrize("token", [FIRST, SECOND])
def test_each_token_is_accepted(closed, iris_body, token):
    assert ask(closed, iris_body, token).status_code == 200
    assert call(closed, "ModelMetadata", field(1, "iris"), token)[0] == "OK"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Basic {FIRST}", FIRST, f"Bearer {FIRST}x",
     f"Bearer {FIRST[:-1]}", f"Bearer {FIRST} {SECOND}", "Bearer # who may ask", "Bearer \xff"],
)  # fmt: skip
def test_other_tokens_are_refused(closed, iris_body, authorization):
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    response = httpx.post(f"{closed.url}/v2/models/iris/infer", json=iris_body, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "send `Authorization: Bearer TOKEN`" in response.json()["error"]
    assert FIRST not in response.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/"),
        ("GET", "/v2/models"),
        ("GET", "/v2/models/iris"),
        ("GET", "/v2/models/iris/versions/1"),
        ("POST", "/v2/models/iris/infer"),
        ("POST", "/v2/models/iris/versions/1/infer"),
        ("POST", "/v2/repository/models/iris/load"),
        ("POST", "/v2/repository/models/iris/unload"),
        ("GET", "/openapi.json"),
        ("GET", "//v2/models/iris"),
        ("GET", "/v2/models/iris%2finfer"),
        ("GET", "/v2/models/none"),
        ("GET", "/v2/models/iris/ready"),
        ("GET", "/v2/models/iris/versions/1/ready"),
        ("GET", "/elsewhere"),
    ],
)
def test_routes_that_need_a_token(closed, method, path):
    assert httpx.request(method, closed.url + path).status_code == 401


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_token(closed, path):
    assert httpx.get(closed.url + path).status_code == 200


@pytest.mark.parametrize("method", ["ServerMetadata", "ModelMetadata", "ModelReady", "ModelInfer",
                                    "RepositoryModelLoad", "RepositoryModelUnload"])  # fmt: skip
def test_grpc_calls_that_need_a_token(closed, method):
    code, reason = call(closed, method, field(1, "iris"))
    assert code == "UNAUTHENTICATED"
    assert "send `Bearer TOKEN`" in reason
    assert call(closed, method, field(1, "iris"), token="wrong")[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady"])
def test_grpc_health_needs_no_token(closed, method):
    assert call(closed, method, field(1, "iris"))[0] == "OK"


def test_metrics_have_their_own_port(closed):
    assert httpx.get(closed.metrics_url).status_code == 200
    assert httpx.get(f"{closed.url}/metrics").status_code in (401, 404)
    authorized = {"authorization": f"Bearer {FIRST}"}
    assert httpx.get(f"{closed.url}/metrics", headers=authorized).status_code == 404


def test_the_port_of_the_metrics_names_what_it_has(closed):
    url = closed.metrics_url.removesuffix("/metrics")
    for response in (httpx.get(f"{url}/v2"), httpx.post(closed.metrics_url)):
        assert response.status_code in (404, 405)
        assert "has `GET /metrics` alone" in response.json()["error"]


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_metrics_may_have_an_address_of_their_own(start_server, models, n_workers):
    """Prometheus asks from elsewhere, while the models are for this machine alone."""
    server = start_server(models, "--metrics-port", "free", "--metrics-host", "127.0.0.2",
                          "--workers", n_workers)  # fmt: skip
    elsewhere = server.metrics_url.replace("127.0.0.1", "127.0.0.2")
    assert "skmode_model_info" in httpx.get(elsewhere).text
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.metrics_url)
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url.replace('127.0.0.1', '127.0.0.2')}/v2/health/ready")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_token_file_that_everyone_can_read_is_logged(start_server, models, tmp_path, mode):
    file = tmp_path / "tokens"
    file.write_text(FIRST)
    file.chmod(mode)
    server = start_server(models / "iris" / "1", "--name", "iris", "--token-file", file)
    warnings = server.logs("token file is public")
    assert len(warnings) == (mode == 0o644)
    assert all(str(file) in each["reason"] for each in warnings)


def test_refusals_are_counted(closed, iris_body):
    def count():
        lines = httpx.get(closed.metrics_url).text.splitlines()
        found = [line for line in lines if line.startswith("skmode_rejected_total{")]
        found = [line.split()[1] for line in found if 'reason="unauthorized"' in line]
        return float(found[0]) if found else 0.0

    before = count()
    ask(closed, iris_body)
    call(closed, "ServerMetadata")
    assert count() == before + 2


def test_tokens_are_never_logged(closed, iris_body):
    ask(closed, iris_body, FIRST)
    ask(closed, iris_body, "a-token-that-is-wrong")
    call(closed, "ServerMetadata", token="another-token-that-is-wrong")
    for token in (FIRST, SECOND, "a-token-that-is-wrong", "another-token-that-is-wrong"):
        assert token not in closed.stderr


def test_the_token_file_is_read_again(start_server, models, iris_body, tmp_path):
    path = tmp_path / "tokens"
    path.write_text(FIRST)
    server = start_server(models / "iris" / "1", "--name", "iris", "--token-file", path)
    assert ask(server, iris_body, FIRST).status_code == 200
    assert ask(server, iris_body, SECOND).status_code == 401
    # Without a port of their own, the metrics are closed too.
    metrics = f"{server.url}/metrics"
    assert httpx.get(metrics).status_code == 401
    authorized = {"authorization": f"Bearer {FIRST}"}
    assert httpx.get(metrics, headers=authorized).status_code == 200

    def replace(text):
        (tmp_path / "new").write_text(text)
        os.replace(tmp_path / "new", path)

    replace(SECOND)
    server.wait_for(lambda: ask(server, iris_body, SECOND).status_code == 200, 10)
    assert ask(server, iris_body, FIRST).status_code == 401
    server.wait_for(lambda: call(server, "ServerMetadata", token=SECOND)[0] == "OK", 10)
    assert call(server, "ServerMetadata", token=FIRST)[0] == "UNAUTHENTICATED"
    # A file that is empty for a moment locks nobody out, nor lets anybody in.
    replace("")
    server.wait_for(
        lambda: (
            ask(server, iris_body, SECOND).status_code == 200
            and server.logs("tokens not read, the former ones stay")
        ),
        10,
    )
    assert ask(server, iris_body).status_code == 401
    assert call(server, "ServerMetadata", token=SECOND)[0] == "OK"


# TLS


@pytest.fixture(scope="module")
def encrypted(start_module_server, models, certificate):
    cert, key = certificate
    return start_module_server(
        models / "iris" / "1", "--name", "iris", "--tls-cert", cert, "--tls-key", key
    )


def test_tls_of_rest(encrypted, certificate, iris_body):
    trust = ssl.create_default_context(cafile=certificate[0])
    assert ask(encrypted, iris_body, verify=trust).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(encrypted, iris_body)


def test_tls_of_grpc(encrypted, certificate):
    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    assert call(encrypted, "ServerReady", credentials=credentials)[0] == "OK"
    strangers = grpc.ssl_channel_credentials()
    assert call(encrypted, "ServerReady", credentials=strangers)[0] == "UNAVAILABLE"


def test_plain_http_to_tls_gets_no_response(encrypted):
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{encrypted.http_port}/v2/health/live")
    assert call(encrypted, "ServerReady")[0] == "UNAVAILABLE"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(encrypted):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", encrypted.http_port), 10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain)


# Management


@pytest.mark.parametrize("change", ["load", "unload"])
def test_management_is_off_by_default(server, iris_body, change):
    response = httpx.post(f"{server.url}/v2/repository/models/iris/{change}")
    assert response.status_code == 403
    assert "start the server with --management" in response.json()["error"]
    method = f"RepositoryModel{change.capitalize()}"
    code, reason = call(server, method, field(1, "iris"))
    assert code == "PERMISSION_DENIED"
    assert "start the server with --management" in reason
    assert ask(server, iris_body).status_code == 200


def test_management(start_server, models, iris_body):
    server = start_server(models, "--management")

    def change(what, name):
        return httpx.post(f"{server.url}/v2/repository/models/{name}/{what}")

    assert "model_repository" in httpx.get(f"{server.url}/v2").json()["extensions"]
    assert change("unload", "iris").json() == {"name": "iris", "unload": True}
    assert ask(server, iris_body).status_code == 404
    assert httpx.get(f"{server.url}/v2/models/iris/ready").status_code == 404
    assert httpx.get(f"{server.url}/v2/models").json() == {"models": ["credit", "diabetes"]}
    assert change("load", "iris").json() == {"name": "iris", "load": True}
    assert ask(server, iris_body).status_code == 200
    assert change("load", "iris").status_code == 200  # it is loaded already
    assert change("load", "churn").status_code == 404
    assert change("unload", "churn").status_code == 404
    assert change("load", "..%2f..%2fetc").status_code == 404
    assert call(server, "RepositoryModelUnload", field(1, "iris"))[0] == "OK"
    assert ask(server, iris_body).status_code == 404
    assert call(server, "RepositoryModelLoad", field(1, "iris"))[0] == "OK"
    assert ask(server, iris_body).status_code == 200
    assert call(server, "RepositoryModelLoad", field(1, "churn"))[0] == "NOT_FOUND"


def test_a_bundle_that_is_not_signed_is_not_served(start_server, models, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pytest.importorskip("model_signing")
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "public.pem").write_bytes(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    server = start_server(models, "--public-key", tmp_path / "public.pem", wait=False)
    assert server.wait() == 2
    assert "signed" in server.lines[-1]


# Limits


@pytest.fixture(scope="module")
def narrow(start_module_server, models):
    return start_module_server(
        models,
        "--max-rows", "100",
        "--max-body-bytes", "20000",
        "--max-header-bytes", "2000",
        "--max-json-depth", "6",
    )  # fmt: skip


def test_rows_are_limited(narrow, trained):
    def body(n_rows):
        tensor = {"name": "X", "datatype": "INT8", "shape": [n_rows, 4]}
        return {"inputs": [{**tensor, "data": [1] * (4 * n_rows)}]}

    assert ask(narrow, body(100)).status_code == 200
    response = ask(narrow, body(101))
    assert response.status_code == 400
    assert "must have from 1 to 100 rows, got 101" in response.json()["error"]


@pytest.mark.parametrize("declared", [True, False])
def test_bodies_are_limited(narrow, declared):
    content = b" " * 20001

    def parts():
        yield content[:10000]
        yield content[10000:]

    response = httpx.post(
        f"{narrow.url}/v2/models/iris/infer", content=content if declared else parts()
    )
    assert response.status_code == 413
    assert "must have at most 20000 bytes" in response.json()["error"]


def test_messages_are_limited(narrow):
    assert call(narrow, "ModelInfer", b"\x0a\x05iris" + b"\0" * 20001)[0] == "RESOURCE_EXHAUSTED"


def test_headers_are_limited(narrow, iris_body):
    response = httpx.post(
        f"{narrow.url}/v2/models/iris/infer", json=iris_body, headers={"x-long": "a" * 2500}
    )
    assert response.status_code in (400, 431)
    assert ask(narrow, iris_body).status_code == 200


def test_depth_is_limited(narrow, iris_body):
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}
    response = ask(narrow, {**iris_body, "parameters": deep})
    assert response.status_code == 400
    assert "nested at most 6 levels deep" in response.json()["error"]


def test_the_queue_is_limited(start_server, models, credit_rows, to_inputs):
    """Many large requests at a server for one at a time: some wait, the others are told so."""
    server = start_server(models, "--max-concurrency", "1", "--max-queue", "1", "--deadline", "30")
    inputs = to_inputs(credit_rows)
    for tensor in inputs:
        tensor["data"], tensor["shape"] = tensor["data"] * 10, [10000]
    url = f"{server.url}/v2/models/credit/infer"
    content = httpx.Request("POST", url, json={"inputs": inputs}).content
    with ThreadPoolExecutor(12) as pool:
        responses = list(
            pool.map(lambda _: httpx.post(url, content=content, timeout=60), range(24))
        )
    codes = [response.status_code for response in responses]
    assert set(codes) == {200, 503}
    refused = responses[codes.index(503)]
    assert "At most 1 requests may wait" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) >= 1
    text = httpx.get(f"{server.url}/metrics").text
    assert f'skmode_rejected_total{{reason="queue_full"}} {float(codes.count(503))}' in text
    assert "skmode_requests_waiting 0.0" in text
    assert "skmode_queue_limit 1.0" in text
    assert "skmode_requests_running 0.0" in text


def test_a_late_response_is_abandoned(start_server, models, credit_rows, to_inputs):
    server = start_server(models, "--deadline", "0.02", "--max-body-bytes", "30000000")
    inputs = to_inputs(credit_rows)
    for tensor in inputs:
        tensor["data"], tensor["shape"] = tensor["data"] * 10, [10000]
    url = f"{server.url}/v2/models/credit/infer"
    response = httpx.post(url, json={"inputs": inputs}, timeout=60)
    # It arrives too late, or the answer is not ready in time.
    assert response.status_code in (408, 504)
    assert "seconds" in response.json()["error"]
    small = {"inputs": to_inputs(credit_rows[:1])}
    server.wait_for(lambda: httpx.post(url, json=small).status_code == 200, 10)


def test_comparing_tokens_takes_as_long_for_any_token(tmp_path):
    """Each of 2,000 tokens is compared, also after one that fits."""
    from skmode_deploy.serving.transport import tokens

    path = tmp_path / "tokens"
    lines = [f"token-number-{i:010d}" for i in range(2000)]
    path.write_text("\n".join(lines))
    checker = tokens.Tokens(path)

    def best(token):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(5):
                checker.allow(f"Bearer {token}")
            times.append(time.perf_counter() - start)
        return min(times)

    assert 0.5 < best(lines[0]) / best(lines[-1]) < 2
    assert 0.5 < best(lines[0]) / best("none") < 2
