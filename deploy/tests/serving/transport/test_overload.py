"""Overload by small requests, silent calls and readers of the metrics."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest

from skmode_deploy.serving.engine.service import INLINE_BYTES, Service
from skmode_deploy.serving.observe.metrics import Metrics
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.admission import Admission

SLOW = "/inference.GRPCInferenceService/ModelInfer"


def test_small_requests_have_a_queue_too(start_server, models, iris_body):
    server = start_server(models, "--max-concurrency", "1", "--max-queue", "2")
    url = f"{server.url}/v2/models/iris/infer"
    with ThreadPoolExecutor(48) as pool, httpx.Client(limits=httpx.Limits()) as client:
        asked = pool.map(lambda _: client.post(url, json=iris_body, timeout=60), range(1500))
        responses = list(asked)
    codes = [response.status_code for response in responses]
    assert set(codes) <= {200, 503}
    if 503 in codes:  # 48 threads of Python need not get ahead of the server
        refused = responses[codes.index(503)]
        assert "At most 2 requests may wait" in refused.json()["error"]
        assert int(refused.headers["retry-after"]) >= 1
    assert httpx.post(url, json=iris_body).status_code == 200


@pytest.fixture
def service(models):
    settings = Settings(str(models / "iris" / "1"), name="iris", max_concurrency=1, max_queue=1)
    service = Service(settings, Metrics())
    service.repository.scan()
    yield service
    service.close()


def infer(service, n_bytes=10, read=lambda: None, start=None):
    loaded = service.get("iris")
    return service.infer(loaded, n_bytes, read, lambda answered: answered, start)


def test_a_request_beyond_the_queue_is_refused_before_it_is_read(service):
    service.admission.count_requests = lambda: 3
    with pytest.raises(RequestError, match="At most 1 requests may wait") as refused:
        asyncio.run(infer(service))
    assert (refused.value.status, refused.value.limit) == (503, "queue_full")


def test_a_request_that_waited_too_long_is_not_computed(service):
    with pytest.raises(RequestError, match="must be ready in 10 seconds") as refused:
        asyncio.run(infer(service, start=-1e9))
    assert (refused.value.status, refused.value.limit) == (504, "deadline")


def test_a_thread_keeps_its_slot_after_the_client_left(service):
    async def give_up():
        task = asyncio.create_task(infer(service, INLINE_BYTES + 1, lambda: time.sleep(0.3)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not service.admission.has_room()
        while not service.admission.has_room():
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(give_up(), 10))


def test_full_memory_has_its_own_reason():
    metrics = Metrics()
    admission = Admission(1, 1, 10, metrics.running, metrics.waiting)
    admission.reserve_bytes(10)
    with pytest.raises(RequestError) as refused:
        admission.reserve_bytes(1)
    assert (refused.value.status, refused.value.limit) == (503, "memory")


@pytest.mark.slow
def test_silent_calls_leave_room_for_others(start_server, models, iris_body):
    """Calls that send a header and never a message."""
    server = start_server(models, "--deadline", "2")

    async def attack():
        target = f"127.0.0.1:{server.grpc_port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(target, options) for _ in range(4)]
        calls = [channel.stream_unary(SLOW)() for channel in channels for _ in range(50)]
        async with grpc.aio.insecure_channel(target, options) as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert await live(b"", timeout=5) == b"\x08\x01"
            await asyncio.sleep(5)  # twice the deadline, and a second
            codes = [await asyncio.wait_for(call.code(), 5) for call in calls]
            ready = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
            assert await ready(b"\n\x04iris", timeout=5) == b"\x08\x01"
        for channel in channels:
            await channel.close()
        assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}

    asyncio.run(attack())


def test_without_a_token_nothing_is_received(start_server, models, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-this-server\n")
    flags = ("--token-file", str(tokens))
    server = start_server(models, *flags)

    async def ask():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            call = channel.stream_unary(SLOW)()  # which sends nothing
            return await asyncio.wait_for(call.code(), 5)

    assert asyncio.run(ask()) is grpc.StatusCode.UNAUTHENTICATED


def test_the_port_of_the_metrics_has_limits(start_server, models):
    server = start_server(models, "--metrics-port", "free")
    port = server.metrics_port
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    try:
        time.sleep(0.5)
        assert "skmode_model_info" in httpx.get(server.metrics_url).text
        assert httpx.get(f"http://127.0.0.1:{port}/elsewhere").status_code == 404
        import psutil

        assert psutil.Process(server.pid).num_threads() < 100
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/models/iris?model_versio%6e=1", 400),
        ("/v2/models/iris/ready?model_versio%6e=1", 400),
        ("/v2/models/iris/versions/1/infer%0A", 400),
        ("/v2/models/iris/infer%0A", 400),
        ("/metrics%0A", 400),
        ("/v2/models/iris/infer/", 404),
        ("/v2/models/iris?other=1", 200),
    ],
)
def test_unnormalized_paths(server, iris_body, path, code):
    for method in ("GET", "POST"):
        response = httpx.request(method, server.url + path, json=iris_body)
        if method == "GET" or code != 200:
            assert response.status_code == code
            assert response.headers["content-type"] == "application/json"


def test_metrics_survive_replacing_a_bundle_in_place(models, tmp_path):
    service = Service(Settings(str(models / "iris" / "1"), name="iris"), Metrics())
    service.repository.scan()
    service._open("iris", 1, models / "iris" / "1")
    version = service.get("iris").served.manifest.file_hash()[:12]
    info = service.metrics.get("skmode_model_info", "iris", "1", "classification", version)
    assert info._value.get() == 1
    service.close()


def test_unloaded_models_leave_the_metrics(models):
    service = Service(Settings(str(models)), Metrics())
    service.repository.scan()

    def series():
        samples = [
            sample for metric in service.metrics.registry.collect() for sample in metric.samples
        ]
        return [sample.name for sample in samples if sample.labels.get("model") == "iris"]

    assert "skmode_model_current_version" in series()
    service.repository.unload("iris")
    assert series() == []
    service.repository.load("iris")
    assert "skmode_model_current_version" in series()
    rows = np.zeros((3, 4), np.float32)
    service.metrics.scored(
        service.get("iris").metrics, rows, service.get("iris").served.predictor.predict_full(rows)
    )
    service.flush()
    assert "skmode_rows_total" in series()
    service.close()
