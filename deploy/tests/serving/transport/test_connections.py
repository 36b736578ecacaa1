"""Bytes before and between the requests of one connection are handled safely."""

import asyncio
import contextlib
import gc
import http.client
import json
import re
import socket
import threading
import time
import types
import weakref

import pytest

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")

MEBIBYTE = 2**20
HEAD = b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\n"
ROW = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
BODY = json.dumps({"inputs": [ROW]}).encode()
GOOD = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
LIST = b"GET /v2/models HTTP/1.1\r\nHost: x\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
TOKEN = "a-token-of-these-tests"


def talk(server, *pieces, seconds=1.0):
    """All that is answered to these pieces, until nothing has come for some time."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.http_port), 20) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.05)  # so that it is read by itself
        connection.settimeout(seconds)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := connection.recv(65_536):
                answer += part
    return answer


def codes(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


def chunks(*parts, trailer=b""):
    written = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"Transfer-Encoding: chunked\r\n\r\n" + written + b"0\r\n" + trailer + b"\r\n"


@pytest.fixture(scope="module")
def iris(start_module_server, models):
    return start_module_server(models / "iris" / "1", "--name", "iris")


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_offer_of_another_protocol_is_declined(iris, pieces):
    """As the clients of Java and curl make it: the request is answered with its body."""
    head = HEAD + H2C + b"Content-Length: %d\r\n\r\n" % len(BODY)
    sent = (head + BODY,) if pieces == 1 else (head, BODY)
    answer = talk(iris, *sent)
    assert codes(answer) == [200]
    assert b'"model_name":"iris"' in answer


def test_a_body_is_never_the_next_request(iris):
    head = HEAD + H2C + b"Content-Length: %d\r\n\r\n" % len(LIST)
    for sent in ((head, LIST), (head + LIST,)):
        assert codes(talk(iris, *sent)) == [400]


def test_endless_upgrade_offers(iris):
    one = HEAD + H2C + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    assert codes(talk(iris, one * 100)) == [200] * 100


def test_connect_is_refused(iris):
    answer = talk(iris, b"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\n\r\n" + LIST)
    assert codes(answer) == [405]
    assert b"got CONNECT" in answer


def test_trailers_are_ignored(start_server, models, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    server = start_server(models / "iris" / "1", "--name", "iris", "--token-file", tokens)
    bearer = b"Authorization: Bearer %s\r\n" % TOKEN.encode()
    assert codes(talk(server, HEAD + chunks(BODY, trailer=bearer))) == [401]
    other = b"Authorization: Bearer wrong\r\nX-Request-Id: other\r\n"
    answer = talk(server, HEAD + bearer + b"X-Request-Id: mine\r\n" + chunks(BODY, trailer=other))
    assert codes(answer) == [200]
    assert b"x-request-id: mine" in answer


def test_garbage_is_refused_with_a_reason(iris):
    answer = talk(iris, b"\x00garbage\r\n\r\n")
    assert codes(answer) == [400]
    assert b"must be HTTP/1.1, got other bytes" in answer


def test_a_body_of_single_bytes(iris):
    assert codes(talk(iris, HEAD + chunks(*[b"%c" % byte for byte in BODY]))) == [200]


def test_another_transfer_encoding(iris):
    head = HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    assert codes(talk(iris, head)) == [415]


# Encrypted


def n_files(server):
    return psutil.Process(server.pid).num_fds()


def test_invalid_tls_bytes(start_server, models, certificate):
    cert, key = certificate
    flags = ["--tls-cert", cert, "--tls-key", key]
    server = start_server(models / "iris" / "1", "--name", "iris", *flags)
    before = n_files(server)
    for data in (GOOD, b"\x16\x03\x01\x02\x00garbage" * 100, b"\x00"):
        assert b"HTTP" not in talk(server, data)
    server.wait_for(lambda: n_files(server) <= before, 10)
    assert "Traceback" not in server.stderr


# The end


def test_kept_connections_are_told_of_the_shutdown(start_server, models):
    """They leave before it is closed, and no request of theirs is lost."""
    server = start_server(models / "iris" / "1", "--name", "iris", "--drain-seconds", 2)
    ends = []

    def ask():
        client = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
        while True:
            try:
                client.request("POST", "/v2/models/iris/infer", BODY)
                answer = client.getresponse()
                answer.read()
            except OSError as error:
                ends.append(error)
                return
            if answer.getheader("connection") == "close":
                ends.append(answer.status)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    server.terminate()
    for thread in threads:
        thread.join(30)
    assert ends == [200] * 4
    assert server.wait() == 0


# Memory


def test_nothing_of_a_refused_request_is_kept():
    """Python looks for cycles hardly ever where there are a few large lists."""
    from skmode_deploy.serving.engine.service import INLINE_BYTES, Service
    from skmode_deploy.serving.observe.metrics import Metrics
    from skmode_deploy.serving.protocol.errors import RequestError
    from skmode_deploy.serving.settings import Settings

    class Read:
        """What was read of it."""

    kept = []

    def read():
        large = Read()
        kept.append(weakref.ref(large))
        raise RequestError("The request must be another, got this: send another.")

    served = types.SimpleNamespace(manifest=types.SimpleNamespace(language=None), reads_texts=False)
    loaded = types.SimpleNamespace(served=served)

    async def scenario():
        with pytest.raises(RequestError, match="must be another"):
            await service.infer(loaded, INLINE_BYTES + 1, read, print)

    service = Service(Settings("."), Metrics())
    gc.disable()
    try:
        asyncio.run(scenario())
        assert kept[0]() is None
    finally:
        gc.enable()
        service.close()


@pytest.mark.slow
def test_memory_of_the_largest_refused_requests(start_server, models):
    """Each takes up to 250 MiB while it is read, and leaves them for the next one."""
    server = start_server(models / "iris" / "1", "--name", "iris")
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    inputs = b'{"inputs":[{"name":"X","datatype":"BYTES","shape":[1,1],"data":[%s]}]}'
    body = inputs % (b'"ab",' * (16 * MEBIBYTE // 5 - 100) + b'"a"')
    assert len(body) < 16 * MEBIBYTE
    for _ in range(12):
        answer = httpx.post(f"{server.url}/v2/models/iris/infer", content=body, timeout=60)
        assert answer.status_code == 400
    assert process.memory_info().rss - before < 600 * MEBIBYTE
