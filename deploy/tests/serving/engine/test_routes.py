"""The routes without a server."""

import asyncio
import threading

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")

from prometheus_client import CollectorRegistry  # noqa: E402

from skmode_deploy.serving.engine.routes import make_app  # noqa: E402
from skmode_deploy.serving.engine.service import Service  # noqa: E402
from skmode_deploy.serving.observe.metrics import Metrics  # noqa: E402
from skmode_deploy.serving.settings import Settings  # noqa: E402


@pytest.fixture
def service(table_bundle):
    service = Service(Settings(str(table_bundle), name="churn"), Metrics(CollectorRegistry()))
    yield service
    service.close()


def make_client(service, registry):
    app = make_app(service, registry)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


class SlowRegistry:
    """Files that cannot be read until something else has happened."""

    def __init__(self):
        self.event = threading.Event()
        self.in_time = None

    def collect(self):
        self.in_time = self.event.wait(5)
        return []


def test_reading_metrics_delays_no_request(service):
    registry = SlowRegistry()

    async def ask():
        async with make_client(service, registry) as client:
            reading = asyncio.create_task(client.get("/metrics"))
            assert (await client.get("/v2/health/live")).status_code == 200
            await asyncio.sleep(0.01)
            assert (await client.get("/v2/health/live")).status_code == 200
            registry.event.set()
            assert (await reading).status_code == 200

    asyncio.run(ask())
    assert registry.in_time


def test_the_models_are_listed(service):
    async def ask():
        async with make_client(service, CollectorRegistry()) as client:
            return (await client.get("/v2/models")).json()

    assert asyncio.run(ask()) == {"models": []}
    service.repository.scan()
    assert asyncio.run(ask()) == {"models": ["churn"]}
