"""Connections that do nothing, or send and read without end, make room for others.

uvicorn limits how many requests run, and closes connections that are idle after a request. What
it leaves open for ever is a connection that never asks anything, sends its header byte by byte, or
never reads its answer.
"""

import asyncio
from collections import OrderedDict
from ssl import SSLContext
from typing import Any

SWEEP_SECONDS = 0.5
KEY = "connections"  # in the state of the application


class Connections:
    """Follow the connections of a server.

    Attributes
    ----------
    max_header_bytes : int
        Largest header.
    tls : SSLContext or None
        What connections are encrypted with.
    """

    def __init__(
        self,
        most: int,
        max_header_bytes: int,
        idle_timeout: float,
        header_timeout: float,
        request_timeout: float,
        tls: SSLContext | None = None,
    ) -> None:
        self._most = most
        self.max_header_bytes = max_header_bytes
        self.tls = tls
        self._timeouts = {
            "handshake": header_timeout,
            "idle": idle_timeout,
            "header": header_timeout,
            "body": request_timeout,
            "request": request_timeout,
        }
        # By state, in the order of their entry: the first one has been there for longest.
        self._states: dict[str, OrderedDict[Any, float]] = {
            state: OrderedDict() for state in self._timeouts
        }
        self._state_of: dict[Any, str] = {}

    def n_requests(self) -> int:
        """Count the requests that have arrived as a whole and are not answered."""
        return len(self._states["request"])

    def __len__(self) -> int:
        return len(self._state_of)

    def admit(self) -> bool:
        """Make room for one more."""
        if len(self) < self._most:
            return True
        for state in ("handshake", "idle", "header"):
            if self._states[state]:
                oldest = next(iter(self._states[state]))
                self.forget(oldest)
                oldest.transport.abort()
                return True
        return False

    def enter(self, connection: Any, state: str, time: float) -> None:
        """Say what a connection does from now on."""
        self.forget(connection)
        self._state_of[connection] = state
        self._states[state][connection] = time

    def forget(self, connection: Any) -> None:
        """Say that a connection is closed."""
        state = self._state_of.pop(connection, None)
        if state is not None:
            del self._states[state][connection]

    async def sweep(self) -> None:
        """Close what has stayed too long in one state, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for state, timeout in self._timeouts.items():
                latest = loop.time() - timeout
                late = []
                for connection, time in self._states[state].items():
                    if time > latest:
                        break
                    late.append(connection)
                for connection in late:
                    self.forget(connection)
                    connection.transport.abort()
