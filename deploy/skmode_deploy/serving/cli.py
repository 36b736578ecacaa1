"""The commands `serve` and `rollback`."""

import argparse
import dataclasses
import os
import typing
from typing import Any

from skmode_deploy.running.tables.errors import UsageError
from skmode_deploy.serving.settings import Settings


def add_serve(commands: Any) -> None:
    """Add the command `serve`."""
    text = "serve models by the Open Inference Protocol V2, REST and gRPC"
    command = commands.add_parser("serve", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument(
        "path", metavar="PATH", help="a bundle, or a folder of models: NAME/VERSION/ is a bundle"
    )
    for option in _options():
        flag, default = f"--{option.name.replace('_', '-')}", option.default
        words, placeholder = option.metadata["text"], option.metadata["placeholder"]
        if option.type is bool:
            command.add_argument(flag, action="store_true", help=words)
            continue
        kind: Any = next(iter(typing.get_args(option.type)), option.type)  # `str` of `str | None`
        if default is not None:
            words += f"; default {default:g}" if kind is float else f"; default {default}"
        command.add_argument(flag, type=kind, default=default, metavar=placeholder, help=words)
    command.set_defaults(run=_serve)


def _options() -> list[dataclasses.Field[Any]]:
    return [option for option in dataclasses.fields(Settings) if option.metadata]


def add_rollback(commands: Any) -> None:
    """Add the command `rollback`."""
    text = "serve an earlier version of a model from now on"
    command = commands.add_parser(
        "rollback", help=text, description=f"{text[0].upper()}{text[1:]}. A server with --watch "
        "follows at its next look, after --latest at the one behind it.",
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
    values = {option.name: getattr(args, option.name) for option in _options()}
    try:
        settings = Settings(args.path, **values)
    except ValueError as error:
        raise UsageError(str(error)) from None
    # grpc writes log lines that are not JSON, and any client can cause them. It reads this
    # variable when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # prometheus_client reads these when it is imported, and would count in files of another
    # program's folder. Several processes get a folder of their own later.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    try:
        from skmode_deploy.serving.server import StartError, serve
    except ImportError as error:
        raise UsageError(
            f"The command needs the packages of its extra, got: {error}. Install the extra 'serve' "
            "of skmode-deploy (in a checkout: pip install './deploy[serve]')."
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
