"""The commands `serve` and `rollback`."""

import argparse
import dataclasses
import os
from typing import Any

from skmode_deploy.serving.settings import Settings
from skmode_deploy.tables.errors import UsageError

_OPTIONS: dict[str, tuple[Any, str, str]] = {
    # name: (type, placeholder, text)
    "name": (str, "NAME", "name of the model, where PATH is a bundle; default: its folder's"),
    "host": (str, "ADDRESS", "address to listen on"),
    "http_port": (int, "PORT", "port of REST"),
    "grpc_port": (int, "PORT", "port of gRPC; 0 for none"),
    "metrics_port": (int, "PORT", "port of the metrics; default: /metrics on the port of REST"),
    "workers": (int, "N", "processes that answer"),
    "threads": (int, "N", "threads that compute one operation of a model"),
    "watch": (bool, "", "pick up new, changed and removed bundles"),
    "watch_interval": (float, "SECONDS", "time between two looks"),
    "shadow": (float, "SHARE", "share of the requests, from 0 to 1, that the whole mixture "
               "answers as well, to count disagreements"),
    "max_body_bytes": (int, "N", "largest body of a request"),
    "max_grpc_message_bytes": (int, "N", "largest message of gRPC, and at most that of a body"),
    "max_pending_bytes": (int, "N", "largest sum of all bodies in memory"),
    "max_rows": (int, "N", "rows of a request"),
    "max_concurrency": (int, "N", "requests that compute at a time"),
    "max_queue": (int, "N", "requests that wait; beyond, the answer is 503"),
    "deadline": (float, "SECONDS", "time until a request is given up"),
    "max_connections": (int, "N", "open connections; beyond, idle ones are closed"),
    "max_header_bytes": (int, "N", "largest header of a request"),
    "max_json_depth": (int, "N", "how deeply JSON may be nested"),
    "idle_timeout": (float, "SECONDS", "time until a connection without a request is closed"),
    "token_file": (str, "FILE", "bearer tokens, one a line; read anew when it changes"),
    "tls_cert": (str, "FILE", "certificate chain, PEM"),
    "tls_key": (str, "FILE", "private key, PEM"),
    "management": (bool, "", "let clients load and unload models"),
    "public_key": (str, "FILE", "key that must have signed the bundles, PEM"),
    "drain_seconds": (float, "SECONDS", "time between SIGTERM and the end, not ready meanwhile"),
    "log_level": (str, "LEVEL", "debug, info, warning or error"),
}  # fmt: skip


def add_serve(commands: Any) -> None:
    """Add the command `serve`."""
    text = "serve models by the Open Inference Protocol V2, REST and gRPC"
    command = commands.add_parser("serve", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument(
        "path", metavar="PATH", help="a bundle, or a folder of models: NAME/VERSION/ is a bundle"
    )
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    for name, (kind, placeholder, words) in _OPTIONS.items():
        flag, default = f"--{name.replace('_', '-')}", defaults[name]
        if kind is bool:
            command.add_argument(flag, action="store_true", help=words)
            continue
        shown = "" if default is None else f"; default {default:g}" if kind is float else (
            f"; default {default}")  # fmt: skip
        command.add_argument(
            flag, type=kind, default=default, metavar=placeholder, help=words + shown
        )
    command.set_defaults(run=_serve)


def add_rollback(commands: Any) -> None:
    """Add the command `rollback`."""
    text = "serve an earlier version of a model from now on"
    command = commands.add_parser(
        "rollback", help=text, description=f"{text[0].upper()}{text[1:]}. A server with --watch "
        "follows at its next look.",
    )  # fmt: skip
    command.add_argument("path", metavar="MODELS", help="the folder of models")
    command.add_argument("name", metavar="NAME", help="name of the model")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--to", type=int, metavar="VERSION", help="default: the highest version below the current"
    )
    which.add_argument(
        "--latest", action="store_true", help="serve the highest version again, and new ones"
    )
    command.set_defaults(run=_rollback)


def _serve(args: argparse.Namespace) -> None:
    values = {name: getattr(args, name) for name in ("path", *_OPTIONS)}
    try:
        settings = Settings(**values)
    except ValueError as error:
        raise UsageError(str(error)) from None
    # grpc's own lines in the log are no JSON, and any client can bring them about. It looks when
    # it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # So does prometheus_client, which would count in files of another program's folder. Several
    # processes are given one of their own later.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    try:
        from skmode_deploy.serving.server import StartError, serve
    except ImportError as error:
        raise UsageError(
            f"The command needs the packages of its extra, got: {error}. Install "
            "'skmode-deploy[serve]'."
        ) from None
    try:
        serve(settings)
    except (StartError, OSError) as error:
        raise UsageError(str(error)) from None


def _rollback(args: argparse.Namespace) -> None:
    from skmode_deploy.serving.models.rollback import rollback

    try:
        old, new = rollback(args.path, args.name, to=args.to, latest=args.latest)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    print(f"{args.name}: version {new} instead of {old}")
