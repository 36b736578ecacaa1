"""Start and stop: one process or several, REST and gRPC, and what runs beside them."""

import asyncio
import contextlib
import functools
import logging
import os
import resource
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    multiprocess,
    start_http_server,
)
from uvicorn.supervisors import Multiprocess

from skmode_deploy.serving.connections import KEY, Connections, GuardedProtocol
from skmode_deploy.serving.front import Application, Front
from skmode_deploy.serving.grpc_server import make_grpc_server
from skmode_deploy.serving.kserve_engine import Plane, make_engine
from skmode_deploy.serving.logs import configure_logs
from skmode_deploy.serving.metrics import Metrics
from skmode_deploy.serving.service import Service
from skmode_deploy.serving.settings import Settings

LOGGER = logging.getLogger("skmode_deploy.serving")
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2048
# Beside the connections: models, logs, the listening sockets.
SPARE_FILES = 256
FLUSH_SECONDS = 0.5


class NoModelError(ValueError):
    """There is nothing to serve."""


class Server(uvicorn.Server):
    """A server whose end by SIGTERM is no failure."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End; at once where it is told again.

        Parameters
        ----------
        sig : int
            The signal.
        frame : frame or None
            Of no meaning here.
        """
        self.should_exit: bool
        self.force_exit: bool
        # uvicorn's own would raise the signal once more at the end, and exit with its number.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    settings : Settings
        What and how.

    Raises
    ------
    NoModelError
        If no model can be loaded.
    OSError
        If a port is taken.
    """
    configure_logs(settings.log_level)
    disable_created_metrics()
    _allow_files(settings.max_connections + SPARE_FILES)
    listener = _listen(settings.host, settings.http_port)
    with contextlib.closing(listener), contextlib.ExitStack() as stack:
        if settings.workers > 1:
            os.environ[MULTIPROCESS] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="skmode-metrics-")
            )
        if settings.metrics_port is not None:
            registry = _registry(None) if settings.workers > 1 else CollectorRegistry()
            server, _ = start_http_server(settings.metrics_port, settings.host, registry)
            stack.callback(server.shutdown)
        else:
            registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        if settings.workers > 1:
            Multiprocess(_config(settings, functools.partial(make_app, settings)), [listener]).run()
            return
        service = Service(settings, Metrics(registry))
        _load(service)
        app = functools.partial(_build, service)
        Server(_config(settings, app)).run([listener])


def make_app(settings: Settings) -> Application:
    """Make the application of one of several processes.

    Parameters
    ----------
    settings : Settings
        What and how.

    Returns
    -------
    ASGI application
        It loads its models when it starts.
    """
    configure_logs(settings.log_level)
    disable_created_metrics()
    _mark_dead()
    return _build(Service(settings, Metrics()))


def _build(service: Service) -> Application:
    registry = _registry(service.metrics.registry)
    plane = Plane(service)
    app = make_engine(service, plane, registry, functools.partial(_lifespan, service))
    return Front(app, plane, service)


def _registry(own: CollectorRegistry | None) -> CollectorRegistry:
    """Where to read metrics: of all processes, if there are several."""
    if MULTIPROCESS not in os.environ:
        assert own is not None
        return own
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry


def _mark_dead() -> None:
    """Forget gauges of processes that ended without a word."""
    folder = Path(os.environ[MULTIPROCESS])
    for process in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}:
        if process.isdigit() and not Path("/proc", process).exists():
            multiprocess.mark_process_dead(int(process))


def _config(settings: Settings, app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_keep_alive=int(settings.idle_timeout) + 1,  # ours is sooner
        timeout_graceful_shutdown=int(2 * settings.deadline) + 5,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


def _allow_files(n_files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= n_files:
        return
    most = n_files if hard == resource.RLIM_INFINITY else min(n_files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    if most < n_files:
        LOGGER.warning("few open files allowed", extra={"allowed": most, "wanted": n_files})


def _load(service: Service) -> None:
    failures = [event for event in service.repository.scan() if event.kind == "failed"]
    if not service.repository.names():
        reason = f": {failures[0].reason}" if failures else ""
        raise NoModelError(
            f"The path must be a bundle or a folder of models, got {service.settings.path!r}, "
            f"where no model can be loaded{reason or ': export one there.'}"
        )


@contextlib.asynccontextmanager
async def _lifespan(service: Service, app: Any) -> AsyncIterator[dict[str, Any]]:
    settings = service.settings
    if not service.repository.names():
        await asyncio.to_thread(_load, service)
    connections = Connections(
        settings.max_connections,
        settings.max_header_bytes,
        settings.idle_timeout,
        settings.deadline,
        3 * settings.deadline,  # to arrive, to be answered, to be taken
    )
    tasks = [asyncio.create_task(connections.sweep()), asyncio.create_task(_flush(service))]
    if settings.watch:
        tasks.append(asyncio.create_task(_watch(service)))
    grpc_server = None
    if settings.grpc_port:
        grpc_server = make_grpc_server(service)
        await grpc_server.start()
    _drain_on_signal(service)
    LOGGER.info(
        "serving",
        extra={
            "host": settings.host,
            "http_port": settings.http_port,
            "grpc_port": settings.grpc_port or None,
            "models": service.repository.names(),
        },
    )
    yield {KEY: connections}
    service.stopping = True
    for task in tasks:
        task.cancel()
    if grpc_server is not None:
        await grpc_server.stop(settings.deadline)
    service.close()
    LOGGER.info("stopped")


async def _flush(service: Service) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        service.flush()


async def _watch(service: Service) -> None:
    while True:
        await asyncio.sleep(service.settings.watch_interval)
        try:
            await asyncio.to_thread(service.repository.scan)
        except Exception as error:
            LOGGER.exception("look at the models failed", extra={"error": type(error).__name__})


def _drain_on_signal(service: Service) -> None:
    """On SIGTERM say first that we are not ready, so that nobody sends more, and then end."""
    loop = asyncio.get_running_loop()
    end: Any = signal.getsignal(signal.SIGTERM)

    def drain(sig: int, frame: Any) -> None:
        if service.stopping:
            end(sig, frame)
            return
        service.stopping = True
        LOGGER.info("stopping", extra={"drain_seconds": service.settings.drain_seconds})
        loop.call_soon_threadsafe(
            loop.call_later, service.settings.drain_seconds, end, signal.SIGTERM, None
        )

    if callable(end):
        signal.signal(signal.SIGTERM, drain)
