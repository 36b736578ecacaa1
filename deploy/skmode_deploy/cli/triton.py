"""Write the model of a bundle into a model repository of the Triton Inference Server.

A repository holds a folder for each model with ``config.pbtxt``, and in it a folder for each
version with the model's file::

    repository/
      credit/
        config.pbtxt    inputs, outputs, batching: for all versions
        labels.txt      the classes, in the order of the probabilities
        1/model.onnx    as it is in the bundle
        2/model.onnx

Triton runs ``model.onnx`` with its onnxruntime backend and does not need this package.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skmode_deploy.bundle import MODEL, GraphValue, Manifest, graph_values, read_graph
from skmode_deploy.bundle.files import replace_directory, to_path
from skmode_deploy.bundle.graph_check import LENGTH
from skmode_deploy.running.predictor import load
from skmode_deploy.samples import check_samples

__all__ = ["CONFIG", "LABELS", "model_config", "write_repository"]

CONFIG = "config.pbtxt"
LABELS = "labels.txt"

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1

_TYPES = {
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "string": "TYPE_STRING",
}
# The name becomes a folder, and a part of URLs.
_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_INTERFACE = re.compile(
    r'parameters\s*\{\s*key:\s*"skmode_interface"\s+value\s*\{\s*string_value:\s*"([0-9a-f]{64})"'
)
_HEADER = """\
# Written by skmode-deploy, for all versions of the model. Batching, instances and the version
# policy may be changed. The inputs, outputs and classes describe the exported model, and
# skmode_interface is their hash: a version with another hash needs another model name or config.
"""


def write_repository(
    bundle: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    name: str | None = None,
    version: int = 1,
    max_batch_size: int = 1024,
    max_queue_delay_microseconds: int = 0,
    instances: int = 2,
    overwrite_config: bool = False,
    require_signature: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the model of a bundle into a model repository of Triton.

    The bundle is checked first, with its predictions for its sample rows. New folders and files
    are renamed when they are complete. Other models and other versions do not change.

    Notes
    -----
    Labels, experts and their probabilities are of shape `(n,)` in ``model.onnx`` and of shape
    `(n, 1)` in requests to Triton, whose tensors need a dimension besides the rows. If a request
    asks for `probabilities` with the classification extension, Triton returns the class names.

    Texts become tokens outside the graph: requests have the inputs `tokens` and `counts`, as the
    tokenizer in the bundle gives them, see :func:`skmode_deploy.samples.graph_inputs`. Triton
    batches requests whose lists of tokens have the same length; pad them to a common one.

    Missing numbers are NaN, which JSON does not have: send numbers as binary data or by gRPC.

    With ``--model-control-mode=poll`` Triton reads a repository at any time, without locks.
    Incomplete folders therefore have a hidden name, ``.<name>-<digits>``. A process that is killed
    may leave such a folder behind, which can be removed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import export
    >>> from skmode_deploy.cli.triton import write_repository
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(estimator, folder + "/iris")
    ...     written = write_repository(folder + "/iris", folder + "/models")
    ...     sorted(path.name for path in written.parent.iterdir())
    ['1', 'config.pbtxt', 'labels.txt']
    """
    folder, root = to_path(bundle, "bundle"), to_path(repository, "repository")
    name = _checked_name(folder.resolve().name if name is None else name)
    version = _checked_count(version, "version", 1, MAX_INT64)
    options = {
        "max_batch_size": _checked_count(max_batch_size, "max_batch_size", 1, MAX_INT32),
        "max_queue_delay_microseconds": _checked_count(
            max_queue_delay_microseconds, "max_queue_delay_microseconds", 0, MAX_INT64
        ),
        "instances": _checked_count(instances, "instances", 1, MAX_INT32),
    }
    predictor = load(
        folder, providers=("CPUExecutionProvider",), require_signature=require_signature
    )
    check_samples(predictor)
    manifest = predictor.manifest
    model = read_graph(folder, manifest, MODEL)
    texts = {CONFIG: model_config(manifest, name, **options)}
    if manifest.classes is not None:
        texts[LABELS] = _labels(manifest.classes.values)
    target = root / name
    with _naming_folder(root):
        root.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            _add_version(target, version, model, texts, overwrite_config)
        else:
            _add_model(target, version, model, texts)
    return target / str(version)


def model_config(
    manifest: Manifest,
    name: str,
    *,
    max_batch_size: int = 1024,
    max_queue_delay_microseconds: int = 0,
    instances: int = 2,
) -> str:
    """Write the configuration of a model, ``config.pbtxt``."""
    inputs, outputs = graph_values(manifest, MODEL)
    lines = [
        f"name: {_quote(name)}",
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {max_batch_size}",
        *(line for value in inputs for line in _tensor("input", value)),
        *(line for value in outputs for line in _tensor("output", value)),
        f"dynamic_batching {{ max_queue_delay_microseconds: {max_queue_delay_microseconds} }}",
        f"instance_group {{ count: {instances} kind: KIND_CPU }}",
        "version_policy { latest { num_versions: 1 } }",
        # One thread is fastest for these models; instances use the other cores.
        _parameter("intra_op_thread_count", "1"),
    ]
    facts = _facts(manifest)
    lines += [_parameter(key, value) for key, value in facts.items()]
    interface = json.dumps([facts, inputs, outputs], sort_keys=True)
    lines.append(_parameter("skmode_interface", hashlib.sha256(interface.encode()).hexdigest()))
    return _HEADER + "\n".join(lines) + "\n"


def _facts(manifest: Manifest) -> dict[str, str]:
    """Collect what all versions of a model share, for readers of the configuration."""
    facts = {
        "task": manifest.task,
        "routing": manifest.routing,
        "n_experts": str(manifest.n_experts),
    }
    if manifest.classes is not None:
        facts["classes"] = json.dumps(manifest.classes.values)
        facts["label"] = manifest.classes.label  # the class, or its position among them
    return facts


def _tensor(field: str, value: GraphValue) -> list[str]:
    """Describe an input or output; its dimensions leave the rows out."""
    dims = [-1 if size == LENGTH else size for size in value.shape[1:]]
    lines = [
        f"{field} {{",
        f"  name: {_quote(value.name)}",
        f"  data_type: {_TYPES[value.dtype]}",
        f"  dims: [ {', '.join(map(str, dims or [1]))} ]",
    ]
    if not dims:  # Triton wants a dimension; the model has none.
        lines.append("  reshape { shape: [ ] }")
    if value.name == "probabilities":
        lines.append(f"  label_filename: {_quote(LABELS)}")
    return [*lines, "}"]


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quote(key)} value {{ string_value: {_quote(value)} }} }}"


def _quote(text: str) -> str:
    """Write a string of protobuf's text format; bytes that do not print are octal."""
    parts = []
    for character in text:
        if character in '"\\':
            parts.append(f"\\{character}")
        elif character.isprintable():
            parts.append(character)
        else:
            octets = character.encode("utf-8", "backslashreplace")
            parts += [f"\\{octet:03o}" for octet in octets]
    return f'"{"".join(parts)}"'


def _labels(values: tuple[Any, ...]) -> str:
    """Write one class per line; Triton ends a line at the line feed only."""
    lines = []
    for value in values:
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in str(value)
        )
        lines.append(f"{text}\n")
    return "".join(lines)


# Files.


@contextlib.contextmanager
def _naming_folder(root: Path) -> Iterator[None]:
    """Say which folder cannot be written; errors with a message of their own have no number."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno,
            f"repository must be a folder that can be written and has room, got {str(root)!r}, and "
            f"to write there gave: {os.strerror(error.errno)}. Mend that, or pass another one.",
        ) from None


def _add_model(target: Path, version: int, model: bytes, texts: dict[str, str]) -> None:
    """Write a model that is not there yet."""
    fresh = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    fresh.mkdir()
    try:
        # The hidden name keeps servers from taking the unfinished folder for a model.
        for file, text in texts.items():
            _write(fresh / file, text)
        replace_directory(fresh / str(version), {MODEL: model})
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _add_version(
    target: Path, version: int, model: bytes, texts: dict[str, str], overwrite_config: bool
) -> None:
    """Add a version to a model that is there."""
    there = _read(target / CONFIG)
    if there is None:
        raise FileExistsError(
            f"The folder of the model must be new or have a {CONFIG}, got {str(target)!r} without "
            "one: choose another name, or remove it first."
        )
    fits = _interface(there) == _interface(texts[CONFIG])
    if not fits and not overwrite_config:
        raise FileExistsError(
            "All versions of a model must have the inputs, outputs, classes and experts of its "
            f"{CONFIG}, but this bundle differs from {str(target / CONFIG)!r}: choose another "
            "name, or overwrite the configuration if no other version is to be served."
        )
    folder = target / str(version)
    exists = os.path.lexists(folder)
    if exists and not _holds(folder, model):
        raise FileExistsError(
            f"version must be new, got {version}, but {str(folder)!r} has another model: choose "
            f"a higher version, such as {_highest(target) + 1}, or remove that one first."
        )
    if overwrite_config and there != texts[CONFIG]:
        for file in reversed(texts):  # the labels before the configuration that names them
            _write(target / file, texts[file])
    if not exists:
        replace_directory(folder, {MODEL: model})


def _interface(config: str) -> str | None:
    found = _INTERFACE.search(config)
    return found and found[1]


def _holds(folder: Path, model: bytes) -> bool:
    """Whether a version holds exactly this model."""
    path = folder / MODEL
    return path.is_file() and path.stat().st_size == len(model) and path.read_bytes() == model


def _highest(target: Path) -> int:
    return max(
        int(path.name) for path in target.iterdir() if re.fullmatch("[1-9][0-9]*", path.name)
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, text: str) -> None:
    """Write a file that gets its name when it is complete."""
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with fresh.open("xb") as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


# Parameters.


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "The name of a model must have at most 200 letters, digits, '_', '-' and '.', and not "
            f"start with '-' or '.', got {name!r}: pass a name such as \"credit\"."
        )
    return name


def _checked_count(value: Any, name: str, least: int, most: int) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise ValueError(
            f"{name} must be an integer from {least} to {most}, got {value!r}: change it."
        )
    return int(value)
