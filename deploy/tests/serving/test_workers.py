"""Several processes behind one port: killed under load, and stopped together."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time

import pytest

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")
grpc = pytest.importorskip("grpc")

SECONDS_TO_RECOVER = 60  # a few where nobody else uses the processors: it is all importing
ROW = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
INFER = "/v2/models/iris/infer"


def workers(server):
    """Processes that answer: they listen, as their parent does, but write the log as well."""
    children = psutil.Process(server.pid).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def answers(server):
    return httpx.post(f"{server.url}{INFER}", json={"inputs": [ROW]}, timeout=30).status_code


class Load:
    """Four clients that ask again and again, each on one connection until it breaks."""

    def __init__(self, server):
        self.codes, self.broken = [], []
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def _run(self):
        while not self._stop.is_set():
            with contextlib.suppress(httpx.TransportError), httpx.Client() as client:
                while not self._stop.is_set():
                    try:
                        url = f"{self._server.url}{INFER}"
                        answer = client.post(url, json={"inputs": [ROW]}, timeout=30)
                    except httpx.TransportError:
                        self.broken.append(time.monotonic())
                        raise
                    self.codes.append(answer.status_code)
                    # A new process needs the processors as well.
                    self._stop.wait(0.02)

    def go_on(self, n_answers=100):
        wanted, end = len(self.codes) + n_answers, time.monotonic() + 60
        while len(self.codes) < wanted:
            assert time.monotonic() < end, "no answers"
            time.sleep(0.01)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def pair(start_server, models):
    return start_server(models, "--workers", 2)


@pytest.mark.slow
def test_killed_under_load(pair):
    """What it worked on is lost: all else is answered, and another takes its place."""
    before = workers(pair)
    assert len(before) == 2
    with Load(pair) as load:
        load.go_on()
        os.kill(before[0], signal.SIGKILL)
        killed = time.monotonic()
        load.go_on()
        pair.wait_for(lambda: len(pair.logs("serving")) >= 3, SECONDS_TO_RECOVER)
        recovered = time.monotonic() - killed
        load.go_on()
    assert set(load.codes) == {200}
    (said,) = pair.logs("process ended, another one starts")
    assert (said["level"], said["pid"]) == ("warning", before[0])
    assert said["reason"] == "It ended by signal 9."
    # At most one request of each client, and only at that moment.
    assert len(load.broken) <= 4
    assert all(moment - killed < 1 for moment in load.broken)
    assert recovered < SECONDS_TO_RECOVER
    after = workers(pair)
    assert len(after) == 2
    assert before[1] in after
    assert before[0] not in after
    check_metrics_are_whole(pair, len(load.codes))
    check_grpc(pair)
    pair.terminate()
    assert pair.wait() == 0


def check_metrics_are_whole(server, n_answers):
    """What the dead process counted still counts, and it has no part in the gauges."""
    text = httpx.get(f"{server.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    name = 'skmode_requests_total{code="200",model="iris",protocol="rest",version="1"}'
    assert n_answers - 4 <= float(values[name]) <= n_answers + 4
    assert float(values["skmode_requests_running"]) <= 1
    assert float(values["skmode_requests_waiting"]) == 0
    assert float(values["skmode_queue_limit"]) == 2 * 64


def check_grpc(server):
    for _ in range(8):
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert call(b"", timeout=30) == b"\x08\x01"


@pytest.mark.slow
def test_counts_survive_the_end_of_a_process(pair):
    """Some of it is written half a second later, or when it ends."""
    assert [answers(pair) for _ in range(40)] == [200] * 40
    for pid in workers(pair):
        os.kill(pid, signal.SIGTERM)
    pair.wait_for(lambda: len(pair.logs("serving")) >= 4, 2 * SECONDS_TO_RECOVER)
    text = httpx.get(f"{pair.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    version = 'model="iris",version="1"'
    for name in (
        'skmode_requests_total{code="200",model="iris",protocol="rest",version="1"}',
        f"skmode_rows_total{{{version}}}",
        f"skmode_gate_confidence_count{{{version}}}",
        'skmode_request_rows_count{model="iris"}',
    ):
        assert float(values[name]) == 40, name


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nohup"), reason="needs nohup")
@pytest.mark.parametrize("n_workers", [1, 2])
def test_nohup(start_server, models, n_workers):
    """The hangup of a terminal that closes is ignored by all processes."""
    server = start_server(models, "--workers", n_workers, prefix=["nohup"])
    before = workers(server)
    with Load(server) as load:
        load.go_on()
        os.killpg(server.pid, signal.SIGHUP)
        time.sleep(1.5)  # the first process looks for signals twice a second
        load.go_on()
    assert set(load.codes) == {200}
    assert not load.broken
    assert workers(server) == before
    assert len(server.logs("serving")) == n_workers
    server.terminate()
    assert server.wait() == 0


@pytest.mark.slow
def test_all_killed(pair):
    """Connections wait in the queue of the port until others are there."""
    for pid in workers(pair):
        os.kill(pid, signal.SIGKILL)
    pair.wait_for(lambda: len(pair.logs("serving")) >= 4, 2 * SECONDS_TO_RECOVER)
    assert answers(pair) == 200


@pytest.mark.slow
def test_killed_when_its_bundle_is_damaged(start_server, models, tmp_path):
    """The new process has nothing to serve; the other one goes on until the bundle is whole."""
    folder = tmp_path / "models"
    shutil.copytree(models / "iris", folder / "iris")
    server = start_server(folder, "--workers", 2)
    with open(folder / "iris" / "1" / "model.onnx", "rb+") as file:
        file.truncate(100)
    victim = workers(server)[0]
    with Load(server) as load:
        load.go_on()
        os.kill(victim, signal.SIGKILL)
        server.wait_for(
            lambda: any('"nothing to serve"' in line for line in list(server.lines)),
            SECONDS_TO_RECOVER,
        )
        time.sleep(3)
        load.go_on()
        assert server.process.poll() is None
        shutil.rmtree(folder / "iris")
        shutil.copytree(models / "iris", folder / "iris")
        server.wait_for(lambda: len(server.logs("serving")) >= 3, SECONDS_TO_RECOVER)
        load.go_on()
    assert set(load.codes) == {200}
    assert len(load.broken) <= 4


def test_end_of_the_parent_under_load(pair):
    """SIGTERM: both answer what they were asked, and nothing is left."""
    children = workers(pair)
    with Load(pair) as load:
        load.go_on()
        pair.terminate()
        code = pair.wait()
    assert code == 0
    assert set(load.codes) == {200}
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert "Traceback" not in pair.stderr
    assert len(pair.logs("stopped")) == 2


def test_parent_killed(pair):
    """Processes without a parent end, so that their port is free for the next one."""
    children = workers(pair)
    os.kill(pair.pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in children):
        assert time.monotonic() < end, "they go on without a parent"
        time.sleep(0.1)
    logs = [json.loads(line) for line in pair.lines]
    assert any(log["message"] == "stopped" for log in logs)
