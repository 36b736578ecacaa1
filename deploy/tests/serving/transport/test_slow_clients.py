"""Clients that send slowly, read nothing or do nothing do not delay others."""

import contextlib
import json
import resource
import socket
import time

import pytest

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")
grpc = pytest.importorskip("grpc")

MEBIBYTE = 2**20
N_IDLE = 10_000
INFER = b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\n"
ROW = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture
def many_files():
    """Let this process, and servers that it starts, open as many files as it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = N_IDLE + 3000
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def connect():
    """``connect(port)``; all connections are closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_one(port):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            connection.settimeout(30)
            return connection

        yield open_one


def check_answers(server, seconds=5.0):
    """A good request on a connection of its own is answered, and soon."""
    start = time.monotonic()
    answer = httpx.post(f"{server.url}/v2/models/iris/infer", json={"inputs": [ROW]}, timeout=30)
    assert answer.status_code == 200
    assert time.monotonic() - start < seconds


def memory(server):
    return psutil.Process(server.pid).memory_info().rss


def read_to_end(connection):
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            data += part
    return data


def trickle(connection, data, seconds):
    """Send a byte at a time, until the other side has enough of it."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            connection.sendall(data)
            time.sleep(0.05)


@pytest.fixture(scope="module")
def hasty(start_module_server, models):
    """A server that waits for a second only."""
    return start_module_server(models, "--deadline", 1, "--idle-timeout", 2)


def test_slow_header(hasty, connect):
    connections = [connect(hasty.http_port) for _ in range(50)]
    for connection in connections:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nx: ")
    start = time.monotonic()
    trickle(connections[0], b"a", 5)
    assert 0.5 < time.monotonic() - start < 4.5
    for connection in connections:
        assert read_to_end(connection) == b""
    check_answers(hasty)


def test_slow_body(hasty, connect):
    connections = [connect(hasty.http_port) for _ in range(50)]
    for connection in connections:
        connection.sendall(INFER + b"Content-Length: 1000\r\n\r\n{")
    check_answers(hasty)
    start = time.monotonic()
    trickle(connections[0], b" ", 5)
    assert time.monotonic() - start < 4.5
    for connection in connections[1:]:
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert "must arrive within 1 seconds" in json.loads(body)["error"]
    check_answers(hasty)


def is_closed(connection):
    try:
        for _ in range(5):
            connection.sendall(b"1")
            time.sleep(0.1)
    except ConnectionError:
        return True
    return False


def test_slow_chunks(hasty, connect):
    connection = connect(hasty.http_port)
    connection.sendall(INFER + b"Transfer-Encoding: chunked\r\n\r\n")
    trickle(connection, b"1\r\n \r\n", 5)
    assert is_closed(connection)
    check_answers(hasty)


def test_silent_connection(hasty, connect):
    connection = connect(hasty.http_port)
    start = time.monotonic()
    assert read_to_end(connection) == b""
    assert 1.5 < time.monotonic() - start < 5


def test_clients_that_never_read(hasty, connect):
    """Each asks for 200 large answers and takes none: they wait in no queue of ours."""
    row = {**ROW, "shape": [1000, 4], "data": ROW["data"] * 1000}
    body = json.dumps({"inputs": [row]}).encode()
    request = INFER + b"Content-Length: %d\r\n\r\n" % len(body) + body
    check_answers(hasty)
    before = memory(hasty)
    connections = [connect(hasty.http_port) for _ in range(20)]
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
    unsent = dict.fromkeys(connections, request * 200)
    end = time.monotonic() + 4
    most = 0
    while time.monotonic() < end:
        for connection, data in unsent.items():
            with contextlib.suppress(BlockingIOError, ConnectionError):
                unsent[connection] = data[connection.send(data[: 2**20]) :]
        most = max(most, memory(hasty))
        check_answers(hasty)
    assert most - before < 64 * MEBIBYTE
    # Three times the deadline is for the whole of a request, and then its connection is closed.
    process = psutil.Process(hasty.pid)
    hasty.wait_for(lambda: len(process.net_connections("tcp")) < 10, 10)


def test_endless_header_after_a_request(hasty, connect):
    """What is sent while the first request is answered is bounded as well."""
    body = json.dumps({"inputs": [ROW]}).encode()
    before = memory(hasty)
    for _ in range(5):
        connection = connect(hasty.http_port)
        first = INFER + b"Content-Length: %d\r\n\r\n" % len(body) + body
        with contextlib.suppress(ConnectionError):
            connection.sendall(first + b"GET /v2 HTTP/1.1\r\nx: ")
            for _ in range(64):
                connection.sendall(b"a" * MEBIBYTE)
            pytest.fail("all of it was read")
    assert memory(hasty) - before < 32 * MEBIBYTE
    check_answers(hasty)


def test_idle_connections_beyond_the_limit(start_server, models, many_files, connect):
    """10,000 with the default limit of 1,000: those that are idle for longest are closed."""
    server = start_server(models)
    check_answers(server)
    before = memory(server)
    process = psutil.Process(server.pid)
    for i in range(N_IDLE):
        connect(server.http_port)
        if i % 2500 == 0:
            check_answers(server)
    assert process.num_fds() < 1000 + 256
    assert memory(server) - before < 32 * MEBIBYTE
    check_answers(server, 1.0)


@pytest.mark.slow
def test_idle_connections_within_the_limit(start_server, models, many_files, connect):
    server = start_server(models, "--max-connections", N_IDLE + 100)
    check_answers(server)
    before = memory(server)
    process = psutil.Process(server.pid)
    connections = [connect(server.http_port) for _ in range(N_IDLE)]
    server.wait_for(lambda: process.num_fds() > N_IDLE, 20)
    check_answers(server, 1.0)
    assert memory(server) - before < 150 * MEBIBYTE
    # The first one is there yet.
    connections[0].sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert read_to_end(connections[0]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_idle_connections_to_grpc(start_server, models, many_files, connect):
    """Beyond the limit none is taken, and those without a word are closed at the deadline."""
    server = start_server(models, "--deadline", 2)
    before = memory(server)
    process = psutil.Process(server.pid)
    for _ in range(N_IDLE):
        connect(server.grpc_port)
    assert process.num_fds() < 1000 + 256
    assert memory(server) - before < 64 * MEBIBYTE
    check_answers(server)

    def lives():
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            try:
                return call(b"", timeout=5) == b"\x08\x01"
            except grpc.RpcError:
                return False

    server.wait_for(lives, 30)
