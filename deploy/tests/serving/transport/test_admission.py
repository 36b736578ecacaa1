"""Limits on the requests that run and that wait."""

import asyncio
import contextlib

import pytest

from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.transport.admission import Admission


class Gauge:
    def __init__(self):
        self.value = None

    def set(self, value):
        self.value = value


def make_admission(concurrency=2, queue=1, pending=1000):
    return Admission(concurrency, queue, pending, Gauge(), Gauge())


@contextlib.asynccontextmanager
async def turn(admission):
    await admission.enter()
    try:
        yield
    finally:
        admission.leave()


async def hold(admission, event, entered):
    async with turn(admission):
        entered.append(len(entered))
        await event.wait()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def test_requests_beyond_limit_and_queue_are_refused():
    async def scenario():
        admission, event, entered = make_admission(), asyncio.Event(), []
        tasks = [asyncio.create_task(hold(admission, event, entered)) for _ in range(3)]
        await settle()
        assert len(entered) == 2
        with pytest.raises(RequestError, match="At most 1 requests may wait") as error:
            await admission.enter()
        assert (error.value.status, error.value.retry_after) == (503, 1)
        event.set()
        await asyncio.gather(*tasks)
        assert len(entered) == 3
        async with turn(admission):  # there is room again
            assert admission.n_running == 1
        assert admission.n_running == 0

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_the_queue():
    async def scenario():
        admission, event, entered = make_admission(1, 1), asyncio.Event(), []
        running = asyncio.create_task(hold(admission, event, entered))
        await settle()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await admission.enter()
        waiting = asyncio.create_task(hold(admission, event, entered))
        await settle()
        event.set()
        await asyncio.gather(running, waiting)
        assert len(entered) == 2

    asyncio.run(scenario())


def test_an_error_frees_the_slot():
    async def scenario():
        admission = make_admission(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with turn(admission):
                    raise ZeroDivisionError

    asyncio.run(scenario())


def test_bytes_in_memory_are_bounded():
    admission = make_admission(pending=1000)
    admission.reserve_bytes(600)
    with pytest.raises(RequestError, match="may take 1000 bytes") as error:
        admission.reserve_bytes(500)
    assert error.value.status == 503
    admission.reserve_bytes(400)
    admission.release_bytes(600)
    admission.reserve_bytes(600)
