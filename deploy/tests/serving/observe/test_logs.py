"""The log: what it contains, and what it must not."""

import json

import pytest

httpx = pytest.importorskip("httpx")
grpc = pytest.importorskip("grpc")

MARKER = "zebra-marker-8713"
NUMBER = 87138713.0


@pytest.fixture(scope="module")
def server(start_module_server, models):
    return start_module_server(models, "--log-level", "debug", "--max-json-depth", "6")


def post(server, model, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx.post(f"{server.url}/v2/models/{model}/infer", content=content, headers=headers)


def find(server, request_id):
    return server.wait_for_log("request", request_id=request_id, seconds=10)


def test_a_request_is_one_line(server, iris_body):
    post(server, "iris", iris_body, **{"x-request-id": "one-line"})
    log = find(server, "one-line")
    assert log.pop("milliseconds") > 0
    assert log.pop("time").endswith("Z")
    assert log == {
        "level": "info",
        "message": "request",
        "request_id": "one-line",
        "protocol": "rest",
        "method": "POST",
        "path": "/v2/models/iris/infer",
        "model": "iris",
        "version": "1",
        "code": 200,
    }
    assert len([log for log in server.logs() if log.get("request_id") == "one-line"]) == 1


def test_the_generated_id_is_logged(server, iris_body):
    made = post(server, "iris", iris_body).headers["x-request-id"]
    assert find(server, made)["code"] == 200


def test_refusals_have_an_id(server):
    response = post(server, "iris", b"{", **{"x-request-id": "refused"})
    assert response.headers["x-request-id"] == "refused"
    assert find(server, "refused")["code"] == 400
    missing = httpx.get(f"{server.url}/v2/models/none", headers={"x-request-id": "none"})
    assert missing.headers["x-request-id"] == "none"
    assert find(server, "none")["model"] == ""


def test_grpc_is_logged(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        ready(b"", metadata=(("x-request-id", "by-grpc"),))
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError):
            infer(b"\x0a\x04iris", metadata=(("x-request-id", "by-grpc-2"),))
    log = find(server, "by-grpc")
    assert (log["protocol"], log["method"], log["code"]) == ("grpc", "ServerReady", "OK")
    log = find(server, "by-grpc-2")
    assert (log["model"], log["code"]) == ("iris", "INVALID_ARGUMENT")


def marked_requests(credit_rows, to_inputs):
    """Requests that are answered or refused, all with the marker in them."""
    good = to_inputs(credit_rows[:2].astype({"Home": object}))
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, NUMBER]}

    def changed(**change):
        return {"inputs": [{**tensor, **change}]}

    seen = [{**t, "data": [MARKER] * 2} if t["datatype"] == "BYTES" else t for t in good]
    yield "credit", {"inputs": seen, "id": MARKER}, 200
    yield "iris", changed(), 200
    yield "iris", changed(data=[1, 2, 3, MARKER]), 400
    yield "iris", changed(name=MARKER), 400
    yield "iris", changed(datatype=MARKER), 400
    yield "iris", changed(shape=[MARKER]), 400
    yield "iris", changed(shape=[2, 4]), 400
    yield "iris", changed(data=[NUMBER * 1e40] * 4), 400
    yield "iris", {**changed(), "outputs": [{"name": MARKER}]}, 400
    yield "iris", {**changed(), "id": [MARKER]}, 400
    yield "iris", {**changed(), "parameters": {MARKER: {MARKER: [[[[[MARKER]]]]]}}}, 400
    yield "iris", f'{{"inputs": [{{"name": "{MARKER}", {NUMBER}'.encode(), 400
    yield "iris", MARKER.encode(), 400
    yield "credit", {"inputs": [*good, tensor]}, 400
    yield "credit", {"inputs": [{**good[0], "data": [MARKER, 1]}, *good[1:]]}, 400


def test_what_clients_send_is_never_logged(server, credit_rows, to_inputs):
    for model, body, status in marked_requests(credit_rows, to_inputs):
        response = post(server, model, body, **{"user-agent": MARKER, "x-other": MARKER})
        assert response.status_code == status, response.text
    query = httpx.get(f"{server.url}/v2/models/iris?row={MARKER}")
    assert query.status_code == 200
    strange = post(server, "iris", b"{}", **{"x-request-id": f"{MARKER} {NUMBER}"})
    assert strange.status_code == 400
    with grpc.insecure_channel(server.grpc_address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        tensor = b"\x0a" + bytes([len(MARKER)]) + MARKER.encode()
        for request in (
            b"\x0a\x04iris\x2a" + bytes([len(tensor)]) + tensor,
            b"\x0a" + bytes([len(MARKER)]) + MARKER.encode(),
            MARKER.encode(),
        ):
            with pytest.raises(grpc.RpcError):
                infer(request, metadata=(("x-other", MARKER),))
    post(server, "iris", b"{}", **{"x-request-id": "last-of-marked"})
    find(server, "last-of-marked")
    assert MARKER not in server.stderr
    assert "8713" not in "".join(
        line for line in server.lines if "milliseconds" not in line
    ) + "".join(str(log.get("path")) for log in server.logs("request"))


def test_every_line_is_json(server, iris_body):
    """Also what libraries say of protocols that are not ours."""
    import socket

    for garbage in (b"\x00\xff\x16\x03\x01" * 50, b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n"):
        with socket.create_connection(("127.0.0.1", server.http_port), 10) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            while connection.recv(4096):
                pass
    post(server, "iris", iris_body, **{"x-request-id": "after-garbage"})
    find(server, "after-garbage")
    for line in server.lines:
        log = json.loads(line)
        assert {"time", "level", "message"} <= log.keys()
        assert "Traceback" not in line


def test_the_start_is_logged(server):
    (log,) = server.logs("serving")
    assert log["models"] == ["credit", "diabetes", "iris"]
    assert log["http_port"] == server.http_port
    loaded = [(log["model"], log["version"]) for log in server.logs("model loaded")]
    assert loaded == [("credit", 1), ("credit", 2), ("diabetes", 1), ("iris", 1)]


def test_a_quiet_server_logs_no_requests(start_server, models, iris_body):
    server = start_server(
        models / "iris" / "1", "--name", "iris", "--log-level", "warning", wait=False
    )

    def answers():
        try:
            return post(server, "iris", iris_body).status_code == 200
        except httpx.ConnectError:
            return False

    server.wait_for(answers)
    assert server.lines == []
