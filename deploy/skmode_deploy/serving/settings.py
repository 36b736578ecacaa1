"""How a server is to run."""

import os
from dataclasses import dataclass, fields
from typing import Any

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Settings:
    """How a server is to run. The defaults are safe ones for a small machine.

    Attributes
    ----------
    path : str
        A bundle, or a folder of models.
    name : str or None
        Name of the model, where `path` is a bundle. None is the name of the folder.
    host : str
        Address to listen on.
    http_port, grpc_port : int
        Ports. 0 opens none for gRPC.
    metrics_port : int or None
        Port of the metrics. None is ``/metrics`` on the HTTP port.
    workers : int
        Processes that answer.
    threads : int
        Threads that compute one operation of a model.
    watch : bool
        Whether to look for new bundles.
    watch_interval : float
        Seconds between two looks.
    shadow : float
        Share of the requests, from 0 to 1, that the whole mixture answers as well.
    max_body_bytes : int
        Largest body of a request.
    max_grpc_message_bytes : int
        Largest message of gRPC, which is in memory before it can be looked at.
    max_pending_bytes : int
        Largest sum of the bodies in memory.
    max_rows : int
        Rows of a request.
    max_concurrency : int
        Requests that compute at a time.
    max_queue : int
        Requests that wait at most.
    deadline : float
        Seconds until a request is given up.
    max_connections : int
        Open connections; beyond, the one that has been idle for longest is closed.
    max_header_bytes : int
        Largest header of a request.
    max_json_depth : int
        How deeply JSON may be nested.
    idle_timeout : float
        Seconds until a connection without a request is closed.
    token_file : str or None
        File of bearer tokens. None lets everyone in.
    tls_cert, tls_key : str or None
        PEM files of the certificate chain and the private key.
    management : bool
        Whether clients may load and unload models.
    public_key : str or None
        Public key of whoever must have signed the bundles.
    drain_seconds : float
        How long the server says that it is not ready before it stops to listen.
    log_level : str
        Lowest level of the logs.
    """

    path: str
    name: str | None = None
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    metrics_port: int | None = None
    workers: int = 1
    threads: int = 1
    watch: bool = False
    watch_interval: float = 2.0
    shadow: float = 0.0
    max_body_bytes: int = 16 * MEBIBYTE
    max_grpc_message_bytes: int = 4 * MEBIBYTE
    max_pending_bytes: int = 128 * MEBIBYTE
    max_rows: int = 10_000
    max_concurrency: int = 8
    max_queue: int = 64
    deadline: float = 10.0
    max_connections: int = 1000
    max_header_bytes: int = 16_384
    max_json_depth: int = 16
    idle_timeout: float = 65.0
    token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    management: bool = False
    public_key: str | None = None
    drain_seconds: float = 5.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))
        ports = [self.http_port, self.grpc_port, self.metrics_port]
        if len({port for port in ports if port}) < sum(map(bool, ports)):
            raise ValueError(
                "http_port, grpc_port and metrics_port must differ, got "
                f"{', '.join(map(str, ports))}: pass different ones."
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                "tls_cert and tls_key must be given together, got one of them: pass the "
                "certificate and its private key."
            )
        for option in ("token_file", "tls_cert", "tls_key", "public_key"):
            file = getattr(self, option)
            if file is not None and not os.path.isfile(file):
                raise ValueError(f"{option} must be a file, got {file!r}: pass the path of one.")
        if self.management and self.workers > 1:
            raise ValueError(
                "management must not be open with several workers, for a request reaches only one "
                f"of them, got workers={self.workers}: use one, or change the folder of the models "
                "and let the server watch it."
            )
        if self.max_pending_bytes < self.max_body_bytes:
            raise ValueError(
                "max_pending_bytes must be at least max_body_bytes, got "
                f"{self.max_pending_bytes} and {self.max_body_bytes}: raise it."
            )


_RANGES: dict[str, tuple[float, float]] = {
    "http_port": (1, 65535),
    "grpc_port": (0, 65535),
    "metrics_port": (1, 65535),
    "workers": (1, 256),
    "threads": (1, 1024),
    "watch_interval": (0.05, 86400),
    "shadow": (0, 1),
    "max_body_bytes": (1024, 2**31 - 1),
    "max_grpc_message_bytes": (1024, 2**31 - 1),
    "max_pending_bytes": (1024, 2**40),
    "max_rows": (1, 10_000_000),
    "max_concurrency": (1, 10_000),
    "max_queue": (0, 100_000),
    "deadline": (0.01, 3600),
    "max_connections": (1, 1_000_000),
    "max_header_bytes": (1024, 2**20),
    "max_json_depth": (4, 100),
    "idle_timeout": (0.1, 86400),
    "drain_seconds": (0, 3600),
}
_LEVELS = ("debug", "info", "warning", "error")


def _check(name: str, value: Any) -> None:
    if name == "log_level" and value not in _LEVELS:
        raise ValueError(f"log_level must be one of {_LEVELS}, got {value!r}: pass one of them.")
    if name not in _RANGES or (value is None and name == "metrics_port"):
        return
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}: pass such a number.")
