"""Start and stop: one process or several, REST and gRPC, and what runs beside them."""

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    multiprocess,
)
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from skmode_deploy.serving.engine.gateway import Application, Gateway
from skmode_deploy.serving.engine.grpc_service.server import make_grpc_server
from skmode_deploy.serving.engine.metrics_server import serve_metrics
from skmode_deploy.serving.engine.routes import make_app
from skmode_deploy.serving.engine.service import Service
from skmode_deploy.serving.models.repository import Repository
from skmode_deploy.serving.observe import metric_files
from skmode_deploy.serving.observe.logs import configure_logs
from skmode_deploy.serving.observe.metrics import Metrics
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.connections import KEY, Connections
from skmode_deploy.serving.transport.http import make_config
from skmode_deploy.serving.transport.tls import check_certificate
from skmode_deploy.serving.transport.tokens import Tokens, warn_if_public

LOGGER = logging.getLogger("skmode_deploy.serving")
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
BACKLOG = 2048
# Beside the connections: models, logs, the listening sockets.
SPARE_FILES = 256
# Exit codes out of sysexits.h.
NO_INPUT = 66
NO_ROOM = 74
RETRY_SECONDS = 1.0
FLUSH_SECONDS = 0.5


class StartError(ValueError):
    """A server cannot start as it is told to."""


class NoModelError(StartError):
    """There is nothing to serve."""


class Server(uvicorn.Server):
    """A server that exits with 0 after SIGTERM."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End; at once where SIGINT comes again."""
        self.should_exit: bool
        self.force_exit: bool
        # uvicorn's own handler would raise the signal once more, and exit with its number.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


class Processes(Multiprocess):
    """Processes that serve requests at one port."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        super().__init__(config, sockets)
        # Under nohup a hangup stays ignored, also by the processes that inherit it. uvicorn would
        # start all of them anew.
        if hangup == signal.SIG_IGN:
            signal.signal(signal.SIGHUP, hangup)

    def keep_subprocess_alive(self) -> None:
        """Start another process for each that ended, and say so."""
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                code = old.exitcode or 0
                reason = f"signal {-code}" if code < 0 else f"exit code {code}"
                LOGGER.warning(
                    "process ended, another one starts",
                    extra={"pid": old.pid, "reason": f"It ended by {reason}."},
                )

    def terminate_all(self) -> None:
        """Tell all of them to end."""
        super().terminate_all()
        # The processes listen until they are drained; from then on nobody must connect and wait.
        for listener in self.sockets:
            listener.close()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logs(settings.log_level)
    disable_created_metrics()
    _check_files(settings)
    _allow_files(settings.max_connections + SPARE_FILES)
    listener = _listen(settings.host, settings.http_port, "http")
    if settings.grpc_port:  # gRPC's own message would not say why
        _listen(settings.host, settings.grpc_port, "grpc").close()
    with contextlib.closing(listener), contextlib.ExitStack() as stack:
        if settings.workers > 1:
            folder = stack.enter_context(metric_files.make_folder())
            metric_files.reserve(folder, os.getpid())  # rather now than in every worker
            os.environ[MULTIPROCESS] = folder
            registry = _registry(None)
            ProcessCollector(registry=registry)
            _open_metrics(stack, settings, registry, lambda: None)
            _run_processes(settings, listener)
            return
        service = Service(settings, Metrics())
        ProcessCollector(registry=service.metrics.registry)
        _load(service)
        _open_metrics(stack, settings, service.metrics.registry, service.flush)
        Server(_configure(settings, functools.partial(_build, service))).run([listener])


def _open_metrics(
    stack: contextlib.ExitStack,
    settings: Settings,
    registry: CollectorRegistry,
    flush: Callable[[], None],
) -> None:
    if settings.metrics_port is not None:
        host, option = settings.host, "host"
        if settings.metrics_host is not None:
            host, option = settings.metrics_host, "metrics-host"
        listener = stack.enter_context(_listen(host, settings.metrics_port, "metrics", option))
        stack.enter_context(serve_metrics(settings, listener, registry, flush))


def _run_processes(settings: Settings, listener: socket.socket) -> None:
    config = _configure(settings, functools.partial(_build_in_process, settings))
    processes = Processes(config, [listener])
    processes.run()
    if any(process.exitcode == STARTUP_FAILURE for process in processes.processes):
        raise StartError("Each process must start, and one did not: see the log above for why.")


def _check_files(settings: Settings) -> None:
    """Fail here with a message, rather than in each process."""
    try:
        Repository(settings.path, lambda name, version, folder: None, name=settings.name)
        if settings.token_file is not None:
            Tokens(settings.token_file)
            warn_if_public(settings.token_file)
        check_certificate(settings)
    except (OSError, ValueError) as error:
        raise StartError(str(error)) from None


def _build_in_process(settings: Settings) -> Application:
    """Make the application of one of several processes."""
    configure_logs(settings.log_level)
    disable_created_metrics()
    folder = os.environ[MULTIPROCESS]
    metric_files.forget_dead(folder)
    try:
        metric_files.reserve(folder, os.getpid())
    except OSError as error:
        LOGGER.error("no room for metrics", extra={"folder": folder, "reason": str(error)})
        os._exit(NO_ROOM)  # what runs goes on, and the next one is started in a moment
    try:
        return _build(Service(settings, Metrics()))
    except (OSError, ValueError) as error:  # all was well when the first process started
        LOGGER.error("process not started", extra={"reason": str(error)})
        time.sleep(RETRY_SECONDS)
        os._exit(NO_INPUT)


def _build(service: Service) -> Application:
    registry = _registry(service.metrics.registry)
    return Gateway(make_app(service, registry, functools.partial(_lifespan, service)), service)


def _registry(own: CollectorRegistry | None) -> CollectorRegistry:
    """Give the registry to read metrics from: that of all processes, if there are several."""
    if MULTIPROCESS not in os.environ:
        assert own is not None
        return own
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry


def _configure(settings: Settings, app: Any) -> uvicorn.Config:
    return make_config(
        app,
        settings,
        factory=True,
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(2 * settings.deadline) + 5,
    )


def _listen(host: str, port: int, name: str, host_option: str = "host") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno,
            f"The port must be free and the address one of this machine, got {port} of {host}, "
            f"and to listen there gave: {error.strerror}. Pass another one as "
            f"--{name}-port, end what has it, or pass an address of this machine as "
            f"--{host_option}.",
        ) from None
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


async def _load_in_process(service: Service) -> None:
    """Load in one of several processes; a failure ends all of them unless others serve already."""
    served = os.path.join(os.environ[MULTIPROCESS], "served")
    try:
        await asyncio.to_thread(_load, service)
    except NoModelError as error:
        LOGGER.error("nothing to serve", extra={"reason": str(error)})
        if not os.path.exists(served):
            os._exit(STARTUP_FAILURE)  # and uvicorn ends all of them
        await asyncio.sleep(RETRY_SECONDS)
        # As if killed: uvicorn gives up all processes when one does not start.
        os._exit(NO_INPUT)
    with open(served, "ab"):
        pass


async def _follow_parent() -> None:
    """End as by SIGTERM when the first process is gone: nobody else would end this one."""
    parent = multiprocessing.parent_process()
    while parent is not None:
        await asyncio.sleep(RETRY_SECONDS)
        if not parent.is_alive():
            os.kill(os.getpid(), signal.SIGTERM)
            return


@contextlib.asynccontextmanager
async def _lifespan(service: Service, app: Any) -> AsyncIterator[dict[str, Any]]:
    settings = service.settings
    if not service.repository.names():
        await _load_in_process(service)
    connections = Connections(
        settings.max_connections,
        settings.max_header_bytes,
        settings.idle_timeout,
        settings.deadline,
        3 * settings.deadline,  # one each for the request, the prediction and the response
    )
    service.admission.count_requests = connections.n_requests
    tasks = [asyncio.create_task(connections.sweep()), asyncio.create_task(_flush(service))]
    if settings.workers > 1:
        tasks.append(asyncio.create_task(_follow_parent()))
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
    _warn_of_versions(service)
    yield {KEY: connections}
    service.stopping = True
    for task in tasks:
        task.cancel()
    if grpc_server is not None:
        await grpc_server.stop(settings.deadline)
    await asyncio.to_thread(service.close)
    LOGGER.info("stopped")


def _warn_of_versions(service: Service) -> None:
    """Warn if all models are called as versions are, which nobody chose."""
    names = service.repository.names()
    if service.settings.name is None and names and all(name.isdecimal() for name in names):
        LOGGER.warning(
            "models are called as versions are",
            extra={
                "models": names,
                "reason": f"The model is called {names[0]!r}: did you mean to serve the folder of "
                "all models, which holds NAME/VERSION/?",
            },
        )


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
    """On SIGTERM say that the server is not ready, so that nobody sends more, and end later."""
    loop = asyncio.get_running_loop()
    end: Any = signal.getsignal(signal.SIGTERM)

    def drain(sig: int, frame: Any) -> None:
        if service.stopping:
            end(sig, frame)
            return
        service.stopping = True
        # Not here: the signal may have come in the middle of another line of the log.
        loop.call_soon_threadsafe(wait)

    def wait() -> None:
        LOGGER.info("stopping", extra={"drain_seconds": service.settings.drain_seconds})
        loop.call_later(service.settings.drain_seconds, end, signal.SIGTERM, None)

    if callable(end):
        signal.signal(signal.SIGTERM, drain)
