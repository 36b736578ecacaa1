"""The pages that are made from the code and from other files of the repository.

``write`` makes all of them. `COPIES` are Markdown files of the repository that become pages, with
their links turned to pages or to the repository. The reference pages of skmode-deploy are read off
the code itself.
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/skmode/skmode"
# Page of the site: the file of the repository that it shows.
COPIES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "evidence/ablations.md": "benchmarks/ablations.md",
    "operate/skmode-deploy.md": "deploy/README.md",
    "operate/proxy.md": "deploy/proxy/README.md",
    "operate/dashboard.md": "deploy/grafana/README.md",
    "operate/docker.md": "deploy/docker/README.md",
    "operate/kserve.md": "deploy/kserve/README.md",
}
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(\))")


def write(folder: Path) -> None:
    """Write every page below a folder, and leave those alone that are as they should be."""
    for name, text in make().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def make() -> dict[str, str]:
    """Return the text of every page, by its name."""
    made = {page: copy(page) for page in COPIES}
    return made | {
        "reference/command.md": command_page(),
        "reference/manifest.md": manifest_page(),
        "reference/metrics.md": metrics_page(),
        "reference/server-api.md": server_page(),
        "reference/server-options.md": options_page(),
    }


def copy(page: str) -> str:
    """Return a file of the repository as a page; its links lead to pages, or to the repository."""
    source = COPIES[page]
    text = (ROOT / source).read_text(encoding="utf-8")
    return LINK.sub(lambda found: _turned(found, page, source), text)


def _turned(found: re.Match[str], page: str, source: str) -> str:
    start, target, anchor, end = found.groups()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    pages = {file: name for name, file in COPIES.items()}
    own = path.removeprefix("docs/")  # a page that stands in docs as it is
    if path.endswith(".md") and own != path and (ROOT / path).is_file():
        pages[path] = own
    if path not in pages:
        return f"{start}repo:{path}{anchor or ''}{end}"
    relative = os.path.relpath(pages[path], os.path.dirname(page) or ".")
    return f"{start}{relative}{anchor or ''}{end}"


def metrics_page() -> str:
    """Every metric of the server, from its definition."""
    from prometheus_client import Counter, Histogram

    from skmode_deploy.serving.observe.metric_definitions import DEFINITIONS

    kinds = {Counter: "counter", Histogram: "histogram"}
    rows = []
    for name, each in DEFINITIONS.items():
        labels = ", ".join(f"`{label}`" for label in each.labels) or "none"
        buckets = each.options.get("buckets")
        limits = " Buckets up to " + ", ".join(f"{b:g}" for b in buckets) + "." if buckets else ""
        kind = kinds.get(each.kind, "gauge")
        rows.append((f"`{name}`", kind, labels, each.help + limits))
    return _page(
        "Metrics",
        "`skmode-deploy serve` offers these at `/metrics` in Prometheus's text format. "
        "[The dashboard and the alerts](../operate/dashboard.md) read them. A counter only grows, "
        "so look at its rate. A histogram has three series, which end in `_bucket`, `_sum` and "
        "`_count`. Requests for health, metadata and metrics are logged, but not counted, unless "
        "they are turned away. With `--workers`, what is running and waiting is the sum of all "
        "processes, as are the counters.\n\n"
        "On Linux there are also `process_resident_memory_bytes`, `process_cpu_seconds_total`, "
        "`process_open_fds` and others that start with `process_`. With `--workers` they are of "
        "the parent of the processes that predict, and are served at `--metrics-port` alone.",
        table(("metric", "kind", "labels", "what it tells"), rows),
    )


def options_page() -> str:
    """The options of the server, from its settings."""
    from skmode_deploy.serving.settings import Settings

    rows = []
    for name, option in Settings.__dataclass_fields__.items():
        if name == "path":
            continue
        value = option.metadata.get("placeholder", "")
        default = "off" if option.default is False else option.default
        written = "" if default is None else f"`{default}`"
        flag = f"`--{name.replace('_', '-')}{' ' + value if value else ''}`"
        rows.append((flag, written, option.metadata["text"]))
    return _page(
        "Options of the server",
        "`skmode-deploy serve PATH` serves a bundle or a folder of models. These are its options; "
        "[Serving and operating](../guide/serving.md) says which to set.",
        table(("option", "default", "meaning"), rows),
    )


def command_page() -> str:
    """The help texts of the command line."""
    from skmode_deploy.cli.arguments import make_parser

    os.environ["COLUMNS"] = "90"
    parser = make_parser()
    parts = ["```text\n" + parser.format_help().strip() + "\n```"]
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        parts.append(f"## {name}\n\n```text\n{command.format_help().strip()}\n```")
    return _page(
        "The command `skmode-deploy`",
        "What `--help` prints. [skmode-deploy](../operate/skmode-deploy.md) has examples.",
        "\n\n".join(parts),
    )


def manifest_page() -> str:
    """The fields of a bundle's manifest, from its JSON Schema."""
    schema = json.loads((ROOT / "deploy/skmode_deploy/manifest.schema.json").read_text())
    parts = [_fields(schema)]
    for name, each in schema["$defs"].items():
        parts.append(f"## {name}\n\n{each.get('description', '')}\n\n{_fields(each)}")
    return _page(
        "The manifest of a bundle",
        f"{schema['description']} The [schema](repo:deploy/skmode_deploy/manifest.schema.json) "
        "also states conditions between fields. `skmode_deploy.load` and `skmode-deploy verify` "
        "check all of it.",
        "\n\n".join(parts),
    )


def _fields(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = (
        (f"`{name}`", _kind(each), "always" if name in required else "", each["description"])
        for name, each in schema.get("properties", {}).items()
    )
    if not schema.get("properties"):
        return f"Type: {_kind(schema)}."
    return table(("field", "type", "present", "meaning"), rows)


def _kind(schema: Any) -> str:
    """The type that a schema allows, in words."""
    if not isinstance(schema, dict) or not schema:
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(each) for each in schema[several])
    kinds = schema.get("type", "anything")
    named = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if "array" in kinds and "items" in schema:
        return f"{named} of {_kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"{named} of {_kind(schema['additionalProperties'])}"
    return named


def server_page() -> str:
    """The routes of the server, from the OpenAPI document that it writes."""
    from skmode_deploy.serving.engine.openapi import describe

    without_models: Any = SimpleNamespace(repository=SimpleNamespace(names=list))
    document = describe(without_models)
    parts = list(map(_route, _operations(document)))
    schemas = [
        f"### {name}\n\n{_members(each)}"
        for name, each in document["components"]["schemas"].items()
    ]
    first = next(iter(_operations(document)))[2]
    refusals = [
        (code, each["description"]) for code, each in first["responses"].items() if code != "200"
    ]
    return _page(
        "The server's API",
        "REST routes of the Open Inference Protocol V2, as the server's own document describes "
        f"them (OpenAPI {document['openapi']}). Each server offers that document at "
        "`/openapi.json`, with a path, a schema and an example for each of its models.\n\n"
        f"{document['info']['description']}\n\n"
        "With `--token-file`, all routes need a token but those that say otherwise here.",
        "\n\n".join(
            [
                "## Routes",
                *parts,
                "## Refusals",
                "Any route may refuse a request. The body is then an [Error](#error), or a "
                "[CompletionError](#completionerror) where the path begins with `/v1/`.",
                table(("code", "meaning"), refusals),
                "## gRPC",
                _about_grpc(),
                "## Schemas",
                *schemas,
            ]
        ),
    )


def _about_grpc() -> str:
    """The calls by gRPC, from its interface."""
    path = "deploy/skmode_deploy/serving/engine/grpc_service/open_inference_grpc.proto"
    calls = re.findall(r"^  rpc (\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return (
        f"gRPC has the calls {', '.join(f'`{call}`' for call in calls)}; their messages are in "
        f"[open_inference_grpc.proto](repo:{path}). `ServerLive` and `ServerReady` need no token. "
        "By REST alone there are the lists of models, the index of the repository, completions and "
        "metrics.\n\n"
        "Triton's model configuration and statistics are not offered, by REST or by gRPC, nor its "
        "streams of inference and shared memory. A `config` that its clients pass to "
        "`load_model` is ignored."
    )


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _route(each: tuple[str, str, dict[str, Any]]) -> str:
    method, path, operation = each
    response = _content(operation["responses"]["200"]["content"])
    lines = [f"### {method} {path}", f"{operation['summary']}."]
    if "requestBody" in operation:
        lines.append(f"Request: {_content(operation['requestBody']['content'])}.")
    lines.append(f"Response: {response}.")
    if operation.get("security") == []:
        lines.append("Needs no token.")
    return "\n\n".join(lines)


def _content(content: dict[str, Any]) -> str:
    return ", or ".join(
        _shape(each["schema"]) if kind == "application/json" else f"`{kind}`"
        for kind, each in content.items()
    )


def _shape(schema: dict[str, Any]) -> str:
    """An object with its members, or whatever else a schema allows."""
    if schema.get("type") == "object" and "properties" in schema:
        members = (f"`{name}` ({_kind(each)})" for name, each in schema["properties"].items())
        return "an object with " + ", ".join(members)
    if schema.get("items", {}).get("properties"):
        return f"an array; each item is {_shape(schema['items'])}"
    return _kind(schema)


def _members(schema: dict[str, Any]) -> str:
    return table(("member", "type", "present"), _member_rows(schema))


def _member_rows(schema: dict[str, Any], within: str = "") -> Iterator[tuple[str, str, str]]:
    """A row for each member, and behind it those that it has itself."""
    required = set(schema.get("required", ()))
    for name, each in schema.get("properties", {}).items():
        yield f"`{within}{name}`", _kind(each), "always" if name in required else ""
        yield from _member_rows(each, f"{within}{name}.")
        yield from _member_rows(each.get("items", {}), f"{within}{name}[].")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _page(title: str, about: str, body: str) -> str:
    return f"# {title}\n\n{about}\n\n{body}\n"
