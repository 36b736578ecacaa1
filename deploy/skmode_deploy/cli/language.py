"""The commands `generate` and `route`, for bundles with a language model."""

import argparse
import json
import sys
from typing import Any

from skmode_deploy.language import LanguageModel, load
from skmode_deploy.language.inputs import MAX_TEXT_BYTES
from skmode_deploy.running.tables.errors import InputError, UsageError


def add_generate(commands: Any, epilog: str) -> None:
    """Add the command `generate`."""
    command = _add_command(commands, "generate", "continue a text with a language model", epilog)
    add = command.add_argument
    add("prompt", metavar="PROMPT", help="the text; - reads it from stdin")
    add("--max-tokens", type=int, metavar="N",
        help="tokens to generate, default as many as the model has positions for")  # fmt: skip
    add("--domain", metavar="NAME", help="domain whose expert writes, default: the router's choice")
    add("--temperature", type=float, default=0.0, metavar="T",
        help="divisor of the logits; 0, the default, takes the most probable token")  # fmt: skip
    add("--top-k", type=int, metavar="K", help="draw from the K most probable tokens only")
    add("--top-p", type=float, metavar="P",
        help="draw from the most probable tokens only whose probabilities reach P")  # fmt: skip
    add("--seed", type=int, metavar="N", help="seed of the draws")
    add("--stop", action="append", default=[], metavar="TEXT",
        help="text that ends the continuation; repeatable")  # fmt: skip
    _add_serving(command)
    command.set_defaults(run=_generate)


def add_route(commands: Any, epilog: str) -> None:
    """Add the command `route`."""
    command = _add_command(commands, "route", "tell the domains of texts", epilog)
    add = command.add_argument
    add("texts", metavar="TEXT", nargs="+", help="texts; - reads one from each line of stdin")
    add("--json", action="store_true", help="print probabilities and confidence as JSON")
    _add_serving(command)
    command.set_defaults(run=_route)


def _add_command(commands: Any, name: str, text: str, epilog: str) -> Any:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle")
    return command


def _add_serving(command: Any) -> None:
    add = command.add_argument
    add("--unknown", choices=("best", "common", "error"),
        help="what becomes of texts of unknown domains: the most probable domain, the common "
             "expert, or an error")  # fmt: skip
    add("--threads", type=int, default=1, metavar="N", help="threads for one operation, default 1")
    add("--provider", metavar="NAME", action="append", dest="providers",
        help="onnxruntime execution provider; repeatable; default: CUDA if it works, else the "
             "CPU")  # fmt: skip
    add("--public-key", metavar="KEY",
        help="PEM file of the key that must have signed the bundle")  # fmt: skip


def _load(args: argparse.Namespace) -> LanguageModel:
    try:
        return load(
            args.bundle,
            unknown=args.unknown,
            providers=args.providers or "auto",
            threads=args.threads,
            require_signature=args.public_key,
        )
    except ValueError as error:
        if type(error) is not ValueError:  # a bundle that is refused has a type of its own
            raise
        raise UsageError(str(error)) from None


def _generate(args: argparse.Namespace) -> None:
    model = _load(args)
    prompt = _read_stdin() if args.prompt == "-" else args.prompt
    try:
        pieces = model.generate(
            prompt,
            args.max_tokens,
            domain=args.domain,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            seed=args.seed,
            stop=args.stop,
            stream=True,
        )
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None
    for piece in pieces:
        _print(piece)
    _print("\n")


def _route(args: argparse.Namespace) -> None:
    if "-" in args.texts[1:] or (args.texts[0] == "-" and len(args.texts) > 1):
        raise UsageError("- must stand alone, got other texts beside it: pass either.")
    model = _load(args)
    texts = _read_lines() if args.texts == ["-"] else args.texts
    try:
        routing = model.route_full(texts)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None
    names = [*model.domains, None]
    if args.json:
        rows = zip(*(part.tolist() for part in routing), strict=True)
        document = [
            {
                "domain": names[domain],
                "probabilities": dict(zip(model.domains, probabilities, strict=True)),
                "confidence": confidence,
            }
            for domain, probabilities, confidence in rows
        ]
        _print(f"{json.dumps(document, indent=2)}\n")
        return
    _print("".join(f"{names[i] or '(unknown)'}\n" for i in routing.domain.tolist()))


def _read_lines() -> list[str]:
    """Read texts; other separators than ends of lines, such as form feeds, are part of a text."""
    lines = _read_stdin().replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _read_stdin() -> str:
    """Read a text, but no more than a text may have."""
    if sys.stdin is None:
        raise UsageError(
            "Standard input must be open for -, but it is closed: pass the text, or redirect."
        )
    data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if len(data) <= MAX_TEXT_BYTES:
            raise InputError(
                f"Standard input must be UTF-8, and reading it gave {error}: convert it first."
            ) from None
        text = data.decode(errors="replace")
    if len(data) > MAX_TEXT_BYTES:
        raise InputError(
            f"Standard input must have at most {MAX_TEXT_BYTES} bytes, got more: pass it in parts."
        )
    return text


def _print(text: str) -> None:
    """Print a piece of text at once; what a model writes must not control a terminal."""
    if sys.stdout is None:
        raise UsageError("Standard output must be open, but it is closed: redirect it.")
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
