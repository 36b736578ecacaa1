"""HTTP/1.1 as uvicorn reads it, with limits for connections and headers.

This is the one file that uses undocumented members of uvicorn's protocol: pyproject.toml caps its
version, and tests/serving/transport/test_uvicorn.py says which members must be there. What a proxy
does better is left to one, see deploy/proxy.
"""

import asyncio
import functools
import time
from typing import Any

import httptools
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.connections import (
    BODY,
    HEADER_IS_SHORT,
    HEADER_TIME,
    KEY,
    RESPOND,
    Connections,
    State,
)


def make_config(app: Any, settings: Settings, **options: Any) -> uvicorn.Config:
    """Configure a server of uvicorn around an application."""
    return uvicorn.Config(
        app,
        http=TrackedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(settings.idle_timeout) + 1,  # `Connections` closes them sooner
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ciphers="",  # OpenSSL's defaults
        **options,
    )


class TrackedProtocol(HttpToolsProtocol):
    """A connection that tells `Connections` what it does.

    It also declines upgrades to other protocols, which HTTP/2 clients offer, and never reads bytes
    after a body as a header.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._tracker: Connections = self.app_state[KEY]
        # Bytes received since the last header, part of a body or end of a request.
        self._n_head_bytes = 0
        # Largest possible size of a header that ends in the bytes that arrived last.
        self._max_head_bytes = 0
        self._is_upgrade = False  # whether this request asks for another protocol
        self._is_new = False  # whether the application has not seen this request yet
        if self._tracker.admit():
            self._tracker.enter(self, "idle", self.loop.time())
            return
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
            b"content-length: 0\r\n\r\n"
        )
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._tracker.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read."""
        begins = not self._n_head_bytes
        self._n_head_bytes += len(data)
        self._max_head_bytes = self._n_head_bytes
        self._unset_keepalive_if_required()
        self._parse(data)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            if begins and self._n_head_bytes:
                self._tracker.enter(self, "header", self.loop.time())
        elif self._is_new and self.cycle.more_body:
            self._tracker.enter(self, "body", self.loop.time())
        self._is_new = False
        n_bytes = max(self._n_head_bytes, self._count_trailer_bytes())
        if n_bytes > self._tracker.max_header_bytes:
            self._refuse(
                "431 Request Header Fields Too Large",
                f"The header must have at most {self._tracker.max_header_bytes} bytes, got more: "
                "leave out what is not needed.",
            )

    def _parse(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._write_head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                reason = "The request must be HTTP/1.1, got other bytes: use a client of that."
                self._refuse("400 Bad Request", reason)
                return

    def _count_trailer_bytes(self) -> int:
        if self.cycle is None or not self.cycle.more_body:
            return 0
        return sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _write_head_without_upgrade(self) -> bytes:
        """Write again the header of a request that the parser left for another protocol.

        A client that offers another protocol must accept a response in HTTP/1.1 (RFC 9110, section
        7.8). uvicorn would lose the body, or take it for the next request.
        """
        self._is_upgrade = False
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
        if self.transport.is_closing():
            return
        body = orjson.dumps({"error": reason})
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._n_head_bytes = 0
        if self.parser.should_upgrade():
            self._is_upgrade = True
            return
        self._is_new = True
        state = self.scope["state"]
        state[HEADER_TIME] = time.perf_counter()
        state[HEADER_IS_SHORT] = self._max_head_bytes <= self._tracker.max_header_bytes
        super().on_headers_complete()
        state[RESPOND] = functools.partial(self._respond, self.cycle)
        # Trailers after a chunked body must not count as headers: they could set token, length, id.
        self.headers: list[tuple[bytes, bytes]] = []

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._n_head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the reading of a request."""
        if self._is_upgrade:
            return
        self._n_head_bytes = 0
        cycle = self.cycle
        if self._is_new:
            self.scope["state"][BODY], cycle.body = bytes(cycle.body), bytearray()
        if not cycle.response_complete:
            # Only POST requests wait for a model. A reader of the metrics must not count itself.
            state: State = "request" if self.scope["method"] == "POST" else "body"
            self._tracker.enter(self, state, self.loop.time())
        super().on_message_complete()

    async def _respond(self, cycle: RequestResponseCycle, head: bytes, body: bytes) -> None:
        """Send a response with 200 at once: uvicorn looks at each header, and sends in parts."""
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if cycle.disconnected:
            return
        parts = [b"HTTP/1.1 200 OK\r\n"]
        parts += [name + b": " + value + b"\r\n" for name, value in cycle.default_headers]
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        self.transport.write(b"".join([*parts, head, b"\r\n", body]))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def on_response_complete(self) -> None:
        """End a request."""
        # Part of the next request may have arrived already.
        self._tracker.enter(self, "header" if self._n_head_bytes else "idle", self.loop.time())
        super().on_response_complete()
        if self.pipeline or not self.cycle.response_complete:
            self._tracker.enter(self, "request", self.loop.time())
        if self.pipeline:
            # uvicorn reads on after each response. A client that sends requests faster than the
            # server answers them would fill the memory.
            self.flow.pause_reading()
