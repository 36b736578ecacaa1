"""HTTP/1.1 as uvicorn reads it, with what it leaves open.

Handshakes are counted and timed, what follows a body is no header, offers of other protocols are
declined, and what is no HTTP is refused in words, behind the answers that are on their way.
"""

import asyncio
import contextlib
import socket
from ssl import SSLContext

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl

from skmode_deploy.serving.engine.front import ARRIVED, COMPLETE, SHORT
from skmode_deploy.serving.engine.service import now
from skmode_deploy.serving.transport.connections import KEY, Connections

# Parts of a body: to read each costs as much, were it a byte or a hundred thousand.
MOST_PARTS = 100_000


class Handshake:
    """Begin to encrypt a connection, and follow it from now on.

    A server of asyncio that encrypts says nothing of a connection before the handshake is done:
    clients that never begin one would be neither counted nor timed.

    Attributes
    ----------
    transport : Handshake
        Itself: there is nothing else to abort yet.
    """

    def __init__(
        self,
        protocol: "GuardedProtocol",
        accepted: asyncio.Transport,
        guard: Connections,
        tls: SSLContext,
    ) -> None:
        self.transport = self
        connection = accepted.get_extra_info("socket").dup()
        accepted.abort()
        if not guard.admit():
            connection.close()
            return
        loop = asyncio.get_running_loop()
        guard.enter(self, "handshake", loop.time())
        self._task = loop.create_task(self._run(protocol, connection, guard, tls))

    async def _run(
        self,
        protocol: "GuardedProtocol",
        connection: socket.socket,
        guard: Connections,
        tls: SSLContext,
    ) -> None:
        loop = asyncio.get_running_loop()
        # An error of the connection, or of ssl: the other side speaks no TLS that we speak.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls)
        guard.forget(self)

    def abort(self) -> None:
        """Close the connection."""
        self._task.cancel()


class GuardedProtocol(HttpToolsProtocol):
    """A connection that says what it does."""

    _handshake: Handshake | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin."""
        self._guard: Connections = self.app_state[KEY]
        if self._guard.tls is not None and not is_ssl(transport):
            self._handshake = Handshake(self, transport, self._guard, self._guard.tls)
            return
        if self._handshake is not None:  # it is done
            self._guard.forget(self._handshake)
            self._handshake = None
        super().connection_made(transport)
        self._head_bytes = 0  # received without a header, a part of a body or an end in between
        self._most_head_bytes = 0  # that a header can have which ends in what arrived last
        self._n_parts = 0  # of a body
        self._upgrading = False  # whether the request that is read asks for another protocol
        self._refusal = b""  # what is to be said after the answers that are on their way
        if self._guard.admit():
            self._guard.enter(self, "idle", self.loop.time())
            return
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
            b"content-length: 0\r\n\r\n"
        )
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._handshake is not None:  # the end of what was accepted; it goes on encrypted
            return
        self._guard.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read."""
        if self._refusal:
            return
        if not self._head_bytes and (self.cycle is None or self.cycle.response_complete):
            self._guard.enter(self, "header", self.loop.time())
        self._head_bytes += len(data)
        self._most_head_bytes = self._head_bytes
        self._unset_keepalive_if_required()
        self._read(data)
        n_bytes = max(self._head_bytes, self._trailer_bytes())
        if n_bytes > self._guard.max_header_bytes and not self.transport.is_closing():
            self._refuse(
                "431 Request Header Fields Too Large",
                f"The header must have at most {self._guard.max_header_bytes} bytes, got more: "
                "leave out what is not needed.",
            )

    def _trailer_bytes(self) -> int:
        if self.cycle is None or not self.cycle.more_body:
            return 0
        return sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _read(self, data: bytes) -> None:
        while data and not self._refusal and not self.transport.is_closing():
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                reason = "The request must be HTTP/1.1, got other bytes: use a client of that."
                self._refuse("400 Bad Request", reason)
                return

    def _without_upgrade(self) -> bytes:
        """Write the header of a request anew, that the parser has left for another protocol.

        Who offers to go on with another one (as clients do that know HTTP/2) must take an answer
        of HTTP/1.1 (RFC 9110, section 7.8). uvicorn would lose the body, or take it for the next
        request.
        """
        self._upgrading = False
        method = self.parser.get_method()
        if method == b"CONNECT":
            reason = "The request must be one of the protocol, got CONNECT: this is no proxy."
            self._refuse("405 Method Not Allowed", reason)
            return b""
        version = self.parser.get_http_version().encode()
        lines = [method + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _refuse(self, status: str, reason: str) -> None:
        body = orjson.dumps({"error": reason})
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._refusal = head.encode() + body
            return
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._head_bytes = self._n_parts = 0
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._guard.enter(self, "body", self.loop.time())
        state = self.scope["state"]
        state[ARRIVED] = now()
        state[SHORT] = self._most_head_bytes <= self._guard.max_header_bytes
        super().on_headers_complete()
        # What follows a body in chunks is no header: no token, no length, no id.
        self.headers: list[tuple[bytes, bytes]] = []

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._head_bytes = 0
        self._n_parts += 1
        if self._n_parts == MOST_PARTS:
            reason = (
                f"The body must come in less than {MOST_PARTS} parts, got more: send large ones."
            )
            self._refuse("400 Bad Request", reason)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the reading of a request."""
        if self._upgrading:
            return
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
        if self._refusal and self.cycle.response_complete and not self.transport.is_closing():
            self.transport.write(self._refusal)
            self.transport.close()
        if self.pipeline:
            # uvicorn reads on after each answer. A client that sends requests faster than they are
            # answered would fill the memory.
            self.flow.pause_reading()
