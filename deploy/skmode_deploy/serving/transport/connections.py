"""Connections that are idle or too slow make room for others.

uvicorn limits how many requests run, and closes connections that are idle after a request. But a
connection that never sends a request, sends its header byte by byte or never reads the response
would stay open forever.
"""

import asyncio
from collections import OrderedDict
from typing import Any, Literal

SWEEP_SECONDS = 0.5
KEY = "connections"  # in the state of the application
# In the state of a request: when its header was complete, whether the header is known to keep its
# limit, the body if it came at once, and a function that sends a response at once.
HEADER_TIME, HEADER_IS_SHORT, BODY, RESPOND = "header_time", "header_is_short", "body", "respond"

State = Literal["idle", "header", "body", "request"]


class Connections:
    """Follow what the connections of a server do, and close those that do it for too long."""

    def __init__(
        self,
        max_connections: int,
        max_header_bytes: int,
        idle_timeout: float,
        header_timeout: float,
        request_timeout: float,
    ) -> None:
        self._max_connections = max_connections
        self.max_header_bytes = max_header_bytes
        self._timeouts: dict[State, float] = {
            "idle": idle_timeout,
            "header": header_timeout,
            "body": request_timeout,
            "request": request_timeout,
        }
        # By state, in the order of their entry: the first one has been there for longest.
        self._members: dict[State, OrderedDict[Any, float]] = {
            state: OrderedDict() for state in self._timeouts
        }
        self._state_of: dict[Any, State] = {}

    def n_requests(self) -> int:
        """Count the requests that have arrived as a whole and have no response yet."""
        return len(self._members["request"])

    def __len__(self) -> int:
        return len(self._state_of)

    def admit(self) -> bool:
        """Make room for one more: close the connection that has asked nothing for longest."""
        if len(self) < self._max_connections:
            return True
        states: tuple[State, ...] = ("idle", "header")
        for state in states:
            if self._members[state]:
                oldest = next(iter(self._members[state]))
                self.forget(oldest)
                oldest.transport.abort()
                return True
        return False

    def enter(self, connection: Any, state: State, time: float) -> None:
        """Say what a connection does from now on."""
        self.forget(connection)
        self._state_of[connection] = state
        self._members[state][connection] = time

    def forget(self, connection: Any) -> None:
        """Say that a connection is closed."""
        state = self._state_of.pop(connection, None)
        if state is not None:
            del self._members[state][connection]

    async def sweep(self) -> None:
        """Close what has stayed too long in one state, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for state, timeout in self._timeouts.items():
                latest = loop.time() - timeout
                late = []
                for connection, time in self._members[state].items():
                    if time > latest:
                        break
                    late.append(connection)
                for connection in late:
                    self.forget(connection)
                    connection.transport.abort()
