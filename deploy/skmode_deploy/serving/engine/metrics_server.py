"""Metrics on a port of their own, with the limits and the certificate of the main one."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skmode_deploy.serving.engine.routes import REFUSALS, JSONResponse, metrics_endpoint
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.connections import KEY, Connections
from skmode_deploy.serving.transport.http import make_config

MAX_CONNECTIONS = 100
TIMEOUT = 10.0  # seconds


@contextlib.contextmanager
def serve_metrics(
    settings: Settings,
    listener: socket.socket,
    registry: CollectorRegistry,
    flush: Callable[[], None],
) -> Iterator[None]:
    """Answer ``/metrics`` in a thread."""
    metrics = metrics_endpoint(registry, flush)
    app = Starlette(
        routes=[Route("/metrics", metrics), Route("/", metrics)],
        lifespan=lambda app: _lifespan(settings),
        exception_handlers={**REFUSALS, HTTPException: _refuse_route},
    )
    server = uvicorn.Server(make_config(app, settings, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)


async def _refuse_route(request: Request, error: Any) -> Response:
    reason = "This port has `GET /metrics` alone: ask that of --http-port for all else."
    return JSONResponse({"error": reason}, error.status_code, error.headers)


@contextlib.asynccontextmanager
async def _lifespan(settings: Settings) -> AsyncIterator[dict[str, Any]]:
    connections = Connections(
        MAX_CONNECTIONS,
        settings.max_header_bytes,
        settings.idle_timeout,
        TIMEOUT,
        TIMEOUT,
    )
    task = asyncio.create_task(connections.sweep())
    yield {KEY: connections}
    task.cancel()
