"""Bounds on the requests that compute, on those that wait, and on the memory of their bodies."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from skmode_deploy.serving.protocol.errors import RequestError

RETRY_AFTER = 1  # seconds


class Admission:
    """Let a bounded number of requests compute at a time, and a bounded number wait."""

    def __init__(
        self,
        max_concurrency: int,
        max_queue: int,
        max_pending_bytes: int,
        running_gauge: Any,
        waiting_gauge: Any,
    ) -> None:
        self._free = asyncio.Semaphore(max_concurrency)
        self._max_concurrency = max_concurrency
        self._max_queue = max_queue
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0
        self._max_requests = max_concurrency + max_queue
        self.n_waiting = 0
        self.n_running = 0
        # Requests without a response yet: small ones wait before they get here.
        self.count_requests: Callable[[], int] = lambda: 0
        self._running_gauge = running_gauge
        self._waiting_gauge = waiting_gauge

    def has_room(self) -> bool:
        """Say whether nobody has to wait."""
        return self.n_running < self._max_concurrency and not self.n_waiting

    def check_queue(self) -> None:
        """Refuse a request if the queue is full."""
        if self.count_requests() > self._max_requests:
            self._refuse()

    async def enter(self) -> None:
        """Wait for a turn, and take it; :meth:`leave` ends it."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        self.n_running += 1

    def leave(self) -> None:
        """End a turn."""
        self.n_running -= 1
        self._free.release()

    def update_gauges(self) -> None:
        """Tell the metrics how many requests compute and wait."""
        self._running_gauge.set(self.n_running)
        self._waiting_gauge.set(max(self.n_waiting, self.count_requests() - self.n_running))

    async def _wait(self) -> None:
        if self.n_waiting >= self._max_queue:
            self._refuse()
        self.n_waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.n_waiting -= 1

    def _refuse(self) -> NoReturn:
        raise RequestError(
            f"At most {self._max_queue} requests may wait, and as many do: try again in "
            f"{RETRY_AFTER} second, or send more rows in one request.",
            503,
            RETRY_AFTER,
            "queue_full",
        )

    def reserve_bytes(self, n_bytes: int) -> None:
        """Count bytes of a body before they are kept."""
        if self._pending_bytes + n_bytes > self._max_pending_bytes:
            raise RequestError(
                f"The bodies of all waiting requests may take {self._max_pending_bytes} bytes, and "
                f"they do: try again in {RETRY_AFTER} second.",
                503,
                RETRY_AFTER,
                "memory",
            )
        self._pending_bytes += n_bytes

    def release_bytes(self, n_bytes: int) -> None:
        """Count bytes that are not kept any more."""
        self._pending_bytes -= n_bytes

    @contextmanager
    def reserve(self, n_bytes: int) -> Iterator[None]:
        """Count the bytes of a body for as long as it is kept."""
        self.reserve_bytes(n_bytes)
        try:
            yield
        finally:
            self.release_bytes(n_bytes)
