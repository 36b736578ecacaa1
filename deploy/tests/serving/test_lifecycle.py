"""The life of a server: liveness, readiness, and requests in flight at SIGTERM."""

import asyncio
import json
import logging
import signal
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
grpc = pytest.importorskip("grpc")
server_module = pytest.importorskip("skmode_deploy.serving.server")


def code(server, path):
    return httpx.get(server.url + path, timeout=10).status_code


class SlowRequest:
    """A request of which one half is sent at once, and the other when it is told."""

    def __init__(self, server, body):
        self.body = json.dumps(body).encode()
        self.socket = socket.create_connection(("127.0.0.1", server.http_port), 10)
        head = (
            "POST /v2/models/iris/infer HTTP/1.1\r\nhost: test\r\n"
            f"content-length: {len(self.body)}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + self.body[:20])

    def finish(self):
        """Status and body of the answer."""
        self.socket.sendall(self.body[20:])
        self.socket.settimeout(20)
        data = b""
        while part := self.socket.recv(65536):
            data += part
            head, _, body = data.partition(b"\r\n\r\n")
            length = [
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ]
            if length and len(body) >= length[0]:
                break
        self.socket.close()
        return int(data.split()[1]), body


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_requests_in_flight_finish_after_sigterm(start_server, models, iris_body, workers):
    server = start_server(models, "--drain-seconds", "2", "--workers", workers, "--deadline", "60")
    slow = SlowRequest(server, iris_body)
    assert code(server, "/v2/health/ready") == 200
    server.terminate()
    # First nobody is to send more; whoever does is still answered.
    server.wait_for(lambda: code(server, "/v2/health/ready") == 503, 10)
    server.wait_for(lambda: len(server.logs("stopping")) == workers, 10)
    assert code(server, "/v2/health/live") == 200
    response = httpx.post(f"{server.url}/v2/models/iris/infer", json=iris_body)
    assert response.status_code == 200
    # Then nobody is let in, and what is in flight is finished.
    end = time.monotonic() + 20
    while listens(server.http_port):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.process.poll() is None
    status, body = slow.finish()
    assert status == 200
    assert json.loads(body)["outputs"] == response.json()["outputs"]
    assert server.wait() == 0
    assert "Traceback" not in server.stderr
    assert len(server.logs("stopped")) == workers


def test_grpc_reports_the_shutdown(start_server, models):
    server = start_server(models, "--drain-seconds", "2")
    with grpc.insecure_channel(server.grpc_address) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert ready(b"") == b"\x08\x01"
        server.terminate()
        server.wait_for(lambda: ready(b"") == b"", 10)
        assert live(b"") == b"\x08\x01"
        assert server.wait() == 0
        with pytest.raises(grpc.RpcError) as error:
            live(b"", timeout=5)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_large_request_in_flight_finishes(start_server, models, credit_rows, to_inputs):
    """As the one above, but it computes, and there is no time to drain."""
    from concurrent.futures import ThreadPoolExecutor

    server = start_server(models, "--drain-seconds", "0", "--deadline", "60")
    inputs = to_inputs(credit_rows)
    for tensor in inputs:
        tensor["data"], tensor["shape"] = tensor["data"] * 10, [10000]
    url = f"{server.url}/v2/models/credit/infer"
    content = httpx.Request("POST", url, json={"inputs": inputs}).content
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(httpx.post, url, content=content, timeout=60) for _ in range(4)]
        metrics = f"{server.url}/metrics"
        running = "skmode_requests_running 0.0"
        server.wait_for(lambda: running not in httpx.get(metrics, timeout=30).text, 30)
        server.terminate()
        codes = [answer.result().status_code for answer in answers]
    assert codes == [200] * 4
    assert server.wait() == 0


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_connection_delays_nothing(start_server, models, iris_body, which):
    server = start_server(models / "iris" / "1", "--name", "iris")
    with httpx.Client() as client:
        assert client.post(f"{server.url}/v2/models/iris/infer", json=iris_body).is_success
        start = time.monotonic()
        server.process.send_signal(which)
        assert server.wait() == 0
    assert time.monotonic() - start < 8
    assert "Traceback" not in server.stderr


def test_a_second_sigterm_ends_draining(start_server, models):
    server = start_server(models / "iris" / "1", "--name", "iris", "--drain-seconds", "600")
    server.terminate()
    server.wait_for_log("stopping")
    server.terminate()
    assert server.wait(15) == 0


def test_live_is_not_ready(start_server, models, iris_body):
    """Without a model nobody should send requests, but nothing is gained by a restart."""
    server = start_server(models / "iris" / "1", "--name", "iris", "--management")
    assert code(server, "/v2/health/ready") == 200
    assert httpx.post(f"{server.url}/v2/repository/models/iris/unload").status_code == 200
    assert code(server, "/v2/health/ready") == 503
    assert code(server, "/v2/health/live") == 200
    assert code(server, "/v2/models/iris/ready") == 404
    assert httpx.post(f"{server.url}/v2/models/iris/infer", json=iris_body).status_code == 404
    assert httpx.post(f"{server.url}/v2/repository/models/iris/load").status_code == 200
    assert code(server, "/v2/health/ready") == 200


def test_a_taken_grpc_port_is_explained(server, start_server, models):
    other = start_server(
        models / "iris" / "1", "--name", "iris", "--grpc-port", server.grpc_port, wait=False
    )
    assert other.wait() == 2
    assert f"got {server.grpc_port} of 127.0.0.1" in other.lines[-1]
    assert "in use" in other.lines[-1]
    assert "as --grpc-port" in other.lines[-1]
    assert "Traceback" not in other.stderr


def test_a_folder_of_versions_is_served_with_a_warning(start_server, models):
    server = start_server(models / "iris")  # and not the folder above, as one should
    warning = server.wait_for_log("models are called as versions are")
    assert (warning["level"], warning["models"]) == ("warning", ["1"])
    assert "The model is called '1': did you mean" in warning["reason"]
    assert code(server, "/v2/models/1") == 200
    named = start_server(models / "iris" / "1", "--name", "1")
    assert named.logs("models are called as versions are") == []


def test_models_with_names_are_served_without_a_warning(server):
    assert server.logs("models are called as versions are") == []


@pytest.mark.slow
def test_every_process_predicts_the_same(start_server, models, trained, estimators):
    """Two processes behind one port."""
    server = start_server(models, "--workers", "2")
    X = trained.iris_rows
    tensor = {"name": "X", "datatype": "FP32", "shape": [150, 4], "data": X.ravel().tolist()}
    expected = estimators["iris@1"].predict_proba(X)
    for _ in range(12):
        response = httpx.post(f"{server.url}/v2/models/iris/infer", json={"inputs": [tensor]})
        outputs = {output["name"]: output for output in response.json()["outputs"]}
        found = np.reshape(outputs["probabilities"]["data"], (150, 3))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with grpc.insecure_channel(server.grpc_address) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        assert ready(b"") == b"\x08\x01"


def test_a_sigterm_in_the_middle_of_a_log_line_spoils_nothing(capsys):
    lines, ended = [], []
    service = SimpleNamespace(stopping=False, settings=SimpleNamespace(drain_seconds=0.01))

    class Stream:
        busy = False

        def write(self, text):
            if self.busy:
                raise RuntimeError("reentrant call")  # as the stream of stderr does
            self.busy = True
            if not service.stopping:
                signal.raise_signal(signal.SIGTERM)
            lines.append(text)
            self.busy = False

        def flush(self):
            pass

    async def serve():
        server_module._drain_on_signal(service)
        server_module.LOGGER.error("a line")
        while not ended:
            await asyncio.sleep(0.01)

    handler = logging.StreamHandler(Stream())
    server_module.LOGGER.addHandler(handler)
    level = server_module.LOGGER.level
    server_module.LOGGER.setLevel(logging.INFO)
    before = signal.signal(signal.SIGTERM, lambda *given: ended.append(given))
    try:
        asyncio.run(asyncio.wait_for(serve(), 10))
    finally:
        signal.signal(signal.SIGTERM, before)
        server_module.LOGGER.setLevel(level)
        server_module.LOGGER.removeHandler(handler)
    assert lines == ["a line\n", "stopping\n"]
    assert "Logging error" not in capsys.readouterr().err
