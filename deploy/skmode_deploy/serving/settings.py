"""The options of a server, each with its default, range and text for the command line."""

import os
from dataclasses import dataclass, field, fields
from typing import Any

MEBIBYTE = 2**20
LOG_LEVELS = ("debug", "info", "warning", "error")


def _option(
    default: Any,
    text: str,
    placeholder: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare an option; without a placeholder it is a flag."""
    metadata = {"text": text, "placeholder": placeholder, "range": (minimum, maximum)}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Options of a server; the defaults are safe on a small machine.

    `path` is a bundle or a folder of models. The text of each option below is also its help in
    ``skmode-deploy serve --help``.
    """

    path: str
    name: str | None = _option(
        None, "name of the model, where PATH is a bundle; default: its folder's", "NAME"
    )
    host: str = _option("127.0.0.1", "address to listen on", "ADDRESS")
    http_port: int = _option(8080, "port of REST", "PORT", 1, 65535)
    grpc_port: int = _option(8081, "port of gRPC; 0 for none", "PORT", 0, 65535)
    metrics_port: int | None = _option(
        None, "port of the metrics; default: /metrics on the port of REST", "PORT", 1, 65535
    )
    metrics_host: str | None = _option(
        None, "address of --metrics-port; default: that of --host", "ADDRESS"
    )
    workers: int = _option(
        1, "processes that serve requests; each has its own models and limits", "N", 1, 256
    )
    threads: int = _option(1, "threads that compute one operation of a model", "N", 1, 1024)
    watch: bool = _option(
        False,
        "pick up new and changed bundles, and drop removed ones that are not the current version",
    )
    watch_interval: float = _option(2.0, "time between two checks", "SECONDS", 0.05, 86400)
    shadow: float = _option(
        0.0,
        "share of the requests, from 0 to 1, that the whole mixture predicts as well, to count "
        "disagreements",
        "SHARE",
        0,
        1,
    )
    max_body_bytes: int = _option(16 * MEBIBYTE, "largest body of a request", "N", 1024, 2**31 - 1)
    max_grpc_message_bytes: int = _option(
        4 * MEBIBYTE,
        # A message is in memory before it can be looked at.
        "largest gRPC message; the limit of a body holds as well",
        "N",
        1024,
        2**31 - 1,
    )
    max_pending_bytes: int = _option(
        128 * MEBIBYTE, "largest sum of all bodies in memory", "N", 1024, 2**40
    )
    max_rows: int = _option(10_000, "rows of a request", "N", 1, 10_000_000)
    max_concurrency: int = _option(8, "requests that compute at a time", "N", 1, 10_000)
    max_queue: int = _option(64, "requests that wait; further ones get 503", "N", 0, 100_000)
    deadline: float = _option(10.0, "time until a request is given up", "SECONDS", 0.01, 3600)
    max_connections: int = _option(
        1000, "open connections; beyond this, idle ones are closed", "N", 1, 1_000_000
    )
    max_header_bytes: int = _option(16_384, "largest header of a request", "N", 1024, 2**20)
    max_json_depth: int = _option(16, "how deeply JSON may be nested", "N", 4, 100)
    idle_timeout: float = _option(
        65.0, "time until a connection without a request is closed", "SECONDS", 0.1, 86400
    )
    token_file: str | None = _option(
        None, "bearer tokens, one per line; read again when it changes", "FILE"
    )
    tls_cert: str | None = _option(None, "certificate chain, PEM", "FILE")
    tls_key: str | None = _option(None, "private key, PEM", "FILE")
    unknown: str | None = _option(
        None,
        "what becomes of texts whose domain a language model does not know: best, common or "
        "error; default: common if there is a common expert, else best",
        "POLICY",
    )
    max_loaded_experts: int | None = _option(
        None, "experts of a language model in memory; default: all that are used", "N", 1, 100_000
    )
    management: bool = _option(False, "let clients load and unload models")
    public_key: str | None = _option(None, "key that must have signed the bundles, PEM", "FILE")
    drain_seconds: float = _option(
        5.0, "time from SIGTERM, not ready but still serving, to the end", "SECONDS", 0, 3600
    )
    log_level: str = _option("info", "debug, info, warning or error", "LEVEL")

    def __post_init__(self) -> None:
        for option in fields(self):
            _check_range(option, getattr(self, option.name))
        if self.log_level not in LOG_LEVELS:
            raise ValueError(
                f"log_level must be one of {LOG_LEVELS}, got {self.log_level!r}: pass one of them."
            )
        if self.unknown not in (None, "best", "common", "error"):
            raise ValueError(
                f"unknown must be best, common or error, got {self.unknown!r}: pass one of them."
            )
        ports = [self.http_port, self.grpc_port, self.metrics_port]
        if len({port for port in ports if port}) < sum(map(bool, ports)):
            raise ValueError(
                "http_port, grpc_port and metrics_port must differ, got "
                f"{', '.join(map(str, ports))}: pass different ones."
            )
        if self.metrics_host is not None and self.metrics_port is None:
            raise ValueError(
                f"metrics_host must stand with metrics_port, got {self.metrics_host!r} alone: pass "
                "the port of the metrics as well."
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                "tls_cert and tls_key must be given together, got one of them: pass the "
                "certificate and its private key."
            )
        for name in ("token_file", "tls_cert", "tls_key", "public_key"):
            file = getattr(self, name)
            if file is not None and not os.path.isfile(file):
                raise ValueError(f"{name} must be a file, got {file!r}: pass the path of one.")
        if self.management and self.workers > 1:
            raise ValueError(
                "management needs a single worker, because a request reaches only one of them, got "
                f"workers={self.workers}: use one, or change the folder of the models and let the "
                "server watch it."
            )
        if self.max_pending_bytes < self.max_body_bytes:
            raise ValueError(
                "max_pending_bytes must be at least max_body_bytes, got "
                f"{self.max_pending_bytes} and {self.max_body_bytes}: raise it."
            )


def _check_range(option: Any, value: Any) -> None:
    low, high = option.metadata.get("range", (None, None))
    if low is None or value is None or low <= value <= high:
        return
    raise ValueError(
        f"{option.name} must be from {low} to {high}, got {value}: pass such a number."
    )
