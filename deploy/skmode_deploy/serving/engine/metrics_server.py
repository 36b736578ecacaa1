"""Metrics on a port of their own, with the limits and the certificate of the main one."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, exposition
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.connections import KEY, Connections
from skmode_deploy.serving.transport.http import GuardedProtocol
from skmode_deploy.serving.transport.tls import make_context

MOST_CONNECTIONS = 100
TIMEOUT = 10.0  # seconds
TRIES, SECONDS_BETWEEN_TRIES = 5, 0.01


def write_metrics(registry: CollectorRegistry, accept: str) -> Response:
    """Write all metrics."""
    encode, kind = exposition.choose_encoder(accept)
    for _ in range(TRIES):
        # Files of several processes are read while these write: what is half written is whole soon.
        with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
            return Response(encode(registry), headers={"content-type": kind})
        time.sleep(SECONDS_BETWEEN_TRIES)
    return Response("The metrics cannot be read: try again.", 503, {"retry-after": "1"})


@contextlib.contextmanager
def serve_metrics(
    settings: Settings,
    listener: socket.socket,
    registry: CollectorRegistry,
    flush: Callable[[], None],
) -> Any:
    """Answer ``/metrics`` in a thread."""

    def metrics(request: Request) -> Response:
        flush()
        return write_metrics(registry, request.headers.get("accept", ""))

    app = Starlette(
        routes=[Route("/metrics", metrics), Route("/", metrics)],
        lifespan=lambda app: _lifespan(settings),
    )
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)


@contextlib.asynccontextmanager
async def _lifespan(settings: Settings) -> AsyncIterator[dict[str, Any]]:
    connections = Connections(
        MOST_CONNECTIONS,
        settings.max_header_bytes,
        settings.idle_timeout,
        TIMEOUT,
        TIMEOUT,
        make_context(settings),
    )
    task = asyncio.create_task(connections.sweep())
    yield {KEY: connections}
    task.cancel()
