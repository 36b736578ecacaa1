"""Who is let in: a bounded number of requests at a time, a bounded queue, bounded memory."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from skmode_deploy.serving.protocol.errors import RequestError

RETRY_AFTER = 1


class Admission:
    """Let a bounded number of requests compute at a time, and a bounded number wait.

    Attributes
    ----------
    n_running, n_waiting : int
        How many there are.
    count_requests : callable
        Says how many have arrived and are not answered. Small requests are computed as soon as
        they are looked at, and wait before that.
    """

    def __init__(
        self,
        max_concurrency: int,
        max_queue: int,
        max_pending_bytes: int,
        running: Any,
        waiting: Any,
    ) -> None:
        self._free = asyncio.Semaphore(max_concurrency)
        self._max_concurrency = max_concurrency
        self._max_queue = max_queue
        self._max_pending_bytes = max_pending_bytes
        self._pending_bytes = 0
        self._max_requests = max_concurrency + max_queue
        self.n_waiting = 0
        self.n_running = 0
        self.count_requests: Callable[[], int] = lambda: 0
        self._running = running
        self._waiting = waiting

    def has_room(self) -> bool:
        """Say whether nobody has to wait."""
        return self.n_running < self._max_concurrency and not self.n_waiting

    def check_queue(self) -> None:
        """Refuse a request where as many wait as may."""
        if self.count_requests() > self._max_requests:
            self._refuse()

    async def enter(self) -> None:
        """Wait for one's turn, and take it; :meth:`leave` ends it."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        self.n_running += 1

    def leave(self) -> None:
        """End one's turn."""
        self.n_running -= 1
        self._free.release()

    def show(self) -> None:
        """Say how many compute and wait."""
        self._running.set(self.n_running)
        self._waiting.set(max(self.n_waiting, self.count_requests() - self.n_running))

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
            f"At most {self._max_queue} requests may wait for an answer, and as many do: try "
            f"again in {RETRY_AFTER} second, or ask for more rows in one request.",
            503,
            RETRY_AFTER,
            "queue_full",
        )

    def take_bytes(self, n_bytes: int) -> None:
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

    def give_bytes(self, n_bytes: int) -> None:
        """Count bytes that are not kept any more."""
        self._pending_bytes -= n_bytes

    @contextmanager
    def bytes_of(self, data: bytes) -> Iterator[None]:
        """Count a body for as long as it is kept."""
        self.take_bytes(len(data))
        try:
            yield
        finally:
            self.give_bytes(len(data))
