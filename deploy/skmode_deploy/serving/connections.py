"""Connections that do nothing, or send and read without end, make room for others.

uvicorn limits how many requests run, and closes connections that are idle after a request. What
it leaves open for ever is a connection that never asks anything, sends its header byte by byte, or
never reads its answer.
"""

import asyncio
from collections import OrderedDict
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from skmode_deploy.serving.front import ARRIVED, COMPLETE
from skmode_deploy.serving.service import now

SWEEP_SECONDS = 0.5
KEY = "connections"  # in the state of the application


class Connections:
    """Follow the connections of a server.

    Parameters
    ----------
    most : int
        How many may be open; beyond, the one that has been idle for longest is closed.
    max_header_bytes : int
        Largest header.
    idle_timeout : float
        Seconds until a connection without a request is closed.
    header_timeout : float
        Seconds within which a header must arrive.
    request_timeout : float
        Seconds within which a request must be read and its answer be taken.
    """

    def __init__(
        self,
        most: int,
        max_header_bytes: int,
        idle_timeout: float,
        header_timeout: float,
        request_timeout: float,
    ) -> None:
        self._most = most
        self.max_header_bytes = max_header_bytes
        self._timeouts = {
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
        """Count the requests that have arrived as a whole and are not answered.

        Returns
        -------
        int
            Their number.
        """
        return len(self._states["request"])

    def __len__(self) -> int:
        return len(self._state_of)

    def admit(self) -> bool:
        """Make room for one more.

        Returns
        -------
        bool
            Whether there is room.
        """
        if len(self) < self._most:
            return True
        for state in ("idle", "header"):
            if self._states[state]:
                oldest = next(iter(self._states[state]))
                self.forget(oldest)
                oldest.transport.abort()
                return True
        return False

    def enter(self, connection: Any, state: str, time: float) -> None:
        """Say what a connection does from now on.

        Parameters
        ----------
        connection : GuardedProtocol
            The connection.
        state : {"idle", "header", "body", "request"}
            What it does.
        time : float
            Time of the event loop.
        """
        self.forget(connection)
        self._state_of[connection] = state
        self._states[state][connection] = time

    def forget(self, connection: Any) -> None:
        """Say that a connection is closed.

        Parameters
        ----------
        connection : GuardedProtocol
            The connection.
        """
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


class GuardedProtocol(HttpToolsProtocol):
    """A connection that says what it does."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin.

        Parameters
        ----------
        transport : Transport
            The connection.
        """
        super().connection_made(transport)
        self._head_bytes = 0  # received without a header, a part of a body or an end in between
        self._guard: Connections = self.app_state[KEY]
        if self._guard.admit():
            self._guard.enter(self, "idle", self.loop.time())
            return
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
            b"content-length: 0\r\n\r\n"
        )
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End.

        Parameters
        ----------
        exc : Exception or None
            Why.
        """
        self._guard.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read.

        Parameters
        ----------
        data : bytes
            What arrived.
        """
        if not self._head_bytes and (self.cycle is None or self.cycle.response_complete):
            self._guard.enter(self, "header", self.loop.time())
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._guard.max_header_bytes and not self.transport.is_closing():
            self._refuse(
                "431 Request Header Fields Too Large",
                f"The header must have at most {self._guard.max_header_bytes} bytes, got more: "
                "leave out what is not needed.",
            )

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as everything else is refused.

        Parameters
        ----------
        msg : str
            uvicorn's words for it.
        """
        reason = "The request must be HTTP/1.1, got other bytes: use a client of that protocol."
        self._refuse("400 Bad Request", reason)

    def _refuse(self, status: str, reason: str) -> None:
        body = orjson.dumps({"error": reason})
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._head_bytes = 0
        self._guard.enter(self, "body", self.loop.time())
        self.scope["state"][ARRIVED] = now()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body.

        Parameters
        ----------
        body : bytes
            The part.
        """
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the reading of a request."""
        self._head_bytes = 0
        self.scope["state"][COMPLETE] = True
        # Only these wait for a model: whoever reads the metrics is not in its own count.
        if not self.cycle.response_complete and self.scope["method"] == "POST":
            self._guard.enter(self, "request", self.loop.time())
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a request."""
        # Of the next one there may be a part already.
        self._guard.enter(self, "header" if self._head_bytes else "idle", self.loop.time())
        super().on_response_complete()
        if self.pipeline or not self.cycle.response_complete:
            self._guard.enter(self, "request", self.loop.time())
        if self.pipeline:
            # uvicorn reads on after each answer. A client that sends requests faster than they are
            # answered would fill the memory.
            self.flow.pause_reading()
