"""deploy/proxy/nginx.conf in front of a server, all on loopback."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx")
grpc = pytest.importorskip("grpc")

CONFIGURATION = Path(__file__).parents[2] / "proxy" / "nginx.conf"
SERVICE = "/inference.GRPCInferenceService"
ROW = {"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def replace(text, changes):
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, str(new))
    return text


@pytest.fixture
def models(make_regressor, language_bundle, tmp_path):
    """A folder with the models `array` and `lm`."""
    shutil.copytree(make_regressor(), tmp_path / "models" / "array")
    shutil.copytree(language_bundle, tmp_path / "models" / "lm")
    return tmp_path / "models"


@pytest.fixture
def proxy(start_server, models, certificate, free_port, tmp_path):
    """The port of nginx; the server knows the model `array`."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if nginx is None:
        pytest.skip("needs nginx, in Debian `apt-get install nginx-light`")
    server = start_server(models)
    folder = tmp_path / "nginx"
    folder.mkdir()
    temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    changes = {
        "listen 8443": f"listen 127.0.0.1:{free_port}",
        "127.0.0.1:8080": f"127.0.0.1:{server.http_port}",
        "127.0.0.1:8081": f"127.0.0.1:{server.grpc_port}",
        "/etc/skmode/cert.pem": certificate[0],
        "/etc/skmode/key.pem": certificate[1],
        "client_header_timeout 10s": "client_header_timeout 2s",
        "worker_rlimit_nofile 16384;\n": "",  # which some may not raise
        "worker_connections 8192": "worker_connections 512",
        "    server_tokens off;\n": f"    server_tokens off;\n    access_log off;\n{temporary}",
    }
    (folder / "nginx.conf").write_text(replace(CONFIGURATION.read_text(), changes))
    options = f"daemon off; pid {folder}/pid; error_log {folder}/error.log;"
    command = [nginx, "-p", folder, "-c", folder / "nginx.conf", "-g", options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_open(free_port, process)
        yield free_port
    finally:
        process.terminate()
        process.wait(20)


def wait_until_open(port, process):
    for _ in range(200):
        assert process.poll() is None, process.stderr.read()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        time.sleep(0.05)
    raise AssertionError("nginx was not ready in ten seconds")


@pytest.fixture
def client(proxy, certificate):
    trust = ssl.create_default_context(cafile=certificate[0])
    with httpx.Client(base_url=f"https://127.0.0.1:{proxy}", verify=trust, timeout=20) as client:
        yield client


@pytest.mark.slow
def test_rest_and_grpc_go_through_and_the_rest_does_not(proxy, client, certificate):
    response = client.post("/v2/models/array/infer", json={"inputs": [ROW]})
    assert response.status_code == 200
    assert response.json()["outputs"][0]["data"] == [1.0]
    assert client.get("/v2/health/ready").status_code == 200
    h2c = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
    body = json.dumps({"inputs": [ROW]}).encode()
    assert client.post("/v2/models/array/infer", content=body, headers=h2c).status_code == 200
    # What the server says against a request comes through as it is.
    refused = client.post("/v2/models/none/infer", json={"inputs": [ROW]})
    assert refused.status_code == 404
    assert refused.json()["error"].startswith("The model must be one of 'array'")

    assert client.get("/metrics").status_code == 404
    assert client.post("/v2/repository/index").status_code == 403
    assert client.post("/v2/models/array/infer", content=b" " * (2**24 + 1)).status_code == 413

    credentials = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{proxy}", credentials) as channel:
        assert channel.unary_unary(f"{SERVICE}/ServerReady")(b"", timeout=20) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"{SERVICE}/RepositoryModelLoad")(b"", timeout=20)
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.slow
def test_completions_stream_token_by_token(client):
    """Else all events would come at the end, in one block."""
    # Few events: nginx passes on whatever fills one of its buffers.
    body = {"model": "lm", "prompt": "the dog and", "max_tokens": 12, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.headers["content-type"] == "text/event-stream"
        parts = [part for part in response.iter_raw() if part]
    assert len(parts) > 1


@pytest.mark.slow
def test_silent_clients_block_nobody(proxy, client):
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy), 20))
            for _ in range(200)
        ]
        assert client.get("/v2/health/ready").status_code == 200
        start = time.monotonic()
        for connection in connections:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""
        assert time.monotonic() - start < 10
