"""The bundle: a folder of ONNX files and the manifest that says what is in them.

The format is written down here and in :mod:`skmode_deploy.bundle.manifest`, and nowhere else.
`skmode.onnx` writes through this module, :class:`skmode_deploy.Predictor` reads through
it.

A bundle holds ``manifest.json`` and, side by side with it, the files that the manifest names:

- ``model.onnx``: columns in, answer out;
- ``gate.onnx``: columns in; gate probabilities, top expert and what the experts read out;
- ``expert_<i>.onnx``: what the experts read in, the answer of expert i alone out;
- ``README.md``: the model card;
- ``samples.json``, where there is one: made-up rows with the model's own answers, see
  :mod:`skmode_deploy.samples`.

A folder is replaced as a whole, and every file is checked against its size and hash before use.
Other files in the folder, such as the signature ``model.sig``, are not looked at.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from skmode_deploy.bundle.card import model_card
from skmode_deploy.bundle.files import open_plain, to_path
from skmode_deploy.bundle.graph_check import GraphValue, check_graph
from skmode_deploy.bundle.limits import MAX_BYTES, check_limits, check_max_bytes, check_size
from skmode_deploy.bundle.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Classes,
    Column,
    File,
    Manifest,
    creation_time,
)
from skmode_deploy.bundle.replace import check_replaceable, replace_directory
from skmode_deploy.errors import (
    BundleError,
    FileHashError,
    GraphInterfaceError,
    LimitError,
    ManifestChangedError,
    ManifestError,
    MissingFileError,
    UnsafeNameError,
)

__all__ = [
    "GATE",
    "MANIFEST",
    "MAX_BYTES",
    "MODEL",
    "README",
    "SAMPLES",
    "SCHEMA_VERSION",
    "SIGNATURE",
    "BundleError",
    "Classes",
    "Column",
    "File",
    "GraphValue",
    "Manifest",
    "creation_time",
    "expert_name",
    "graph_interface",
    "graph_values",
    "model_card",
    "read",
    "read_file",
    "read_graph",
    "verify",
    "write",
]

MODEL = "model.onnx"
GATE = "gate.onnx"
README = "README.md"
SAMPLES = "samples.json"
SIGNATURE = "model.sig"

MAX_MANIFEST_BYTES = 16 * 2**20  # 100,000 columns or experts; more would take long to parse

_BLOCK = 2**20
# Plain on every system; see also _DEVICES.
_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_RESERVED = (MANIFEST, SIGNATURE)
# What a process leaves that was killed while it signed.
_UNFINISHED = re.compile(rf"\.{re.escape(SIGNATURE)}-[0-9a-f]{{16}}")


def expert_name(expert: int) -> str:
    """Name the file of an expert.

    Parameters
    ----------
    expert : int
        Number of the expert.

    Returns
    -------
    str
        Name of its file in a bundle.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> bundle.expert_name(3)
    'expert_3.onnx'
    """
    return f"expert_{expert}.onnx"


def graph_interface(manifest: Manifest, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say how the inputs and outputs of a graph of a bundle are called.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    name : str
        Name of the graph's file.

    Returns
    -------
    inputs, outputs : tuple of str
        Names in the order of the graph.

    Raises
    ------
    GraphInterfaceError
        If a bundle has no graph of this name.

    See Also
    --------
    graph_values : With types and shapes.
    """
    inputs, outputs = graph_values(manifest, name)
    return tuple(value.name for value in inputs), tuple(value.name for value in outputs)


def graph_values(
    manifest: Manifest, name: str
) -> tuple[tuple[GraphValue, ...], tuple[GraphValue, ...]]:
    """Say which inputs and outputs a graph of a bundle has.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    name : str
        Name of the graph's file.

    Returns
    -------
    inputs, outputs : tuple of GraphValue
        Names, element types and shapes, in the order of the graph. In the shapes "n" is the
        number of rows, and "width" what the experts read, which is one number in the whole bundle.

    Raises
    ------
    GraphInterfaceError
        If a bundle has no graph of this name.
    """
    dtypes = {column.input: column.dtype for column in manifest.columns}
    width = len(manifest.columns) if manifest.input == "array" else 1
    inputs = tuple(GraphValue(key, dtype, ("n", width)) for key, dtype in dtypes.items())
    answer = "variable" if manifest.classes is None else "probabilities"
    value = GraphValue(answer, "float32", ("n", manifest.n_outputs))
    hidden = GraphValue("hidden", "float32", ("n", "width"))
    expert = GraphValue("expert", "int64", ("n",))
    if name == MODEL:
        certainty = GraphValue("gate_probability", "float32", ("n",))
        return inputs, (*_label(manifest.classes), value, expert, certainty)
    if name == GATE:
        gate = GraphValue("gate_probabilities", "float32", ("n", manifest.n_experts))
        return inputs, (gate, expert, hidden)
    number = re.fullmatch(r"expert_(0|[1-9][0-9]{0,17})\.onnx", name)
    if number and int(number[1]) < manifest.n_experts:
        return (hidden,), (value,)
    raise GraphInterfaceError(
        f"The graphs of a bundle must be {MODEL}, {GATE} and {expert_name(0)} to "
        f"{expert_name(manifest.n_experts - 1)}, got {name!r}: export the model again."
    )


def _label(classes: Classes | None) -> tuple[GraphValue, ...]:
    if classes is None:
        return ()
    strings = classes.label == "value" and isinstance(classes.values[0], str)
    return (GraphValue("label", "string" if strings else "int64", ("n",)),)


def write(
    directory: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes]
) -> Manifest:
    """Write a bundle, or replace one; whoever looks sees the old bundle or the new one.

    A process that is killed in between leaves the old bundle or the new one as well, and perhaps
    a hidden folder beside it, ``.<name>-<digits>``, that may be removed. (Where the system cannot
    exchange two folders in one step, the bundle is missing for the moment between two renames;
    Linux can.) A signature in the old bundle goes with it.

    Parameters
    ----------
    directory : path
        Folder of the bundle. It is made, with its parents, where it does not exist.
    manifest : Manifest
        What to say about the model; `files`, and `created` where it is empty, are filled in here,
        and a type of string labels is made as long as the longest label.
    files : mapping from str to bytes
        Content of each file by name. The model card ``README.md`` is added unless it is among
        them.

    Returns
    -------
    Manifest
        The manifest as written.

    Raises
    ------
    FileExistsError
        If `directory` exists and is neither empty nor a bundle, or if it holds anything that does
        not belong to the bundle: what is not named in the manifest and no signature.
    BundleError
        If the manifest or a file name would be refused by :func:`read`.
    ValueError
        If the environment variable ``SOURCE_DATE_EPOCH`` is not a number of seconds.

    Examples
    --------
    >>> import tempfile
    >>> from skmode_deploy import bundle
    >>> manifest = bundle.Manifest(
    ...     task="regression",
    ...     routing="top_expert",
    ...     input="array",
    ...     from_table=False,
    ...     columns=(bundle.Column("x0", "X", "number", "float32"),),
    ...     n_outputs=1,
    ...     classes=None,
    ...     n_experts=1,
    ...     alpha=0.0,
    ...     expert_usage=(1.0,),
    ...     validation_scores=None,
    ...     versions={},
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = bundle.write(folder + "/bundle", manifest, {"model.onnx": b"graph"})
    ...     bundle.read(folder + "/bundle") == written
    True
    """
    target = to_path(directory, "directory").resolve()
    check_replaceable(target, lambda: _stated_names(target), ignored=_UNFINISHED)
    created = manifest.created or creation_time()
    manifest = dataclasses.replace(manifest, created=created, files={})
    manifest = _with_exact_label_length(manifest)
    _checked_text(manifest)
    files = {README: model_card(manifest).encode("utf-8", "backslashreplace"), **files}
    _check_names(files)
    entries = {
        name: File(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    manifest = dataclasses.replace(manifest, files=dict(sorted(entries.items())))
    text = _checked_text(manifest)
    replace_directory(target, {**files, MANIFEST: text})
    return manifest


def read(directory: str | os.PathLike[str], *, sha256: str | None = None) -> Manifest:
    """Read the manifest of a bundle.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    sha256 : str or None, default=None
        What the hash of the manifest's bytes must be, as
        :func:`skmode_deploy.signing.verify_signature` returns it. None for any.

    Returns
    -------
    Manifest
        The manifest. The other files are checked by :func:`verify` and :func:`read_file`.

    Raises
    ------
    BundleError
        If there is no manifest, or not one of this schema version, or it was changed.
    """
    path = to_path(directory, "directory") / MANIFEST
    try:
        text = _read_manifest(path)
    except OSError as error:
        raise MissingFileError(
            f"A bundle must be a folder with a {MANIFEST}, and reading {str(path)!r} gave {error}: "
            "pass the folder that skmode.onnx.export wrote."
        ) from None
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise ManifestChangedError(
            f"{MANIFEST} must have the sha256 {sha256} that was signed, got "
            f"{hashlib.sha256(text).hexdigest()}: copy the whole bundle again."
        )
    return Manifest.from_json(text)


def read_file(directory: str | os.PathLike[str], manifest: Manifest, name: str) -> bytes:
    """Read a file of a bundle once and check these bytes.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    manifest : Manifest
        Its manifest.
    name : str
        Name of the file.

    Returns
    -------
    bytes
        The content, which has the size and hash that the manifest states.

    Raises
    ------
    BundleError
        If the file is missing, a link, or not what the manifest states.
    """
    if name not in manifest.files:
        raise MissingFileError(
            f"A file must be named in {MANIFEST}, got {name!r}: it names {sorted(manifest.files)}."
        )
    _check_name(name)
    expected = manifest.files[name]
    with _open_stated(directory, name, expected) as stream:
        # One byte more shows that the file grew since its size was looked up.
        data = stream.read(expected.size + 1)
    check_size(name, len(data), expected)
    _check_hash(name, hashlib.sha256(data).hexdigest(), expected)
    return data


def read_graph(directory: str | os.PathLike[str], manifest: Manifest, name: str) -> bytes:
    """Read a graph of a bundle once and check these bytes, inside too.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    manifest : Manifest
        Its manifest.
    name : str
        Name of the graph's file.

    Returns
    -------
    bytes
        The content: what :func:`read_file` returns, with the inputs and outputs that
        :func:`graph_values` states, without data outside the file and without operators that
        are not ONNX's own.

    Raises
    ------
    BundleError
        If the file is missing, a link, not what the manifest states, or not such a graph.
    """
    return _read_graph(directory, manifest, name)[0]


def _read_graph(
    directory: str | os.PathLike[str], manifest: Manifest, name: str
) -> tuple[bytes, int | None]:
    """Read a graph and check it; give also the width of `hidden`, where it has that."""
    inputs, outputs = graph_values(manifest, name)
    data = read_file(directory, manifest, name)
    return data, check_graph(data, name, inputs, outputs).get("width")


def verify(
    directory: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, sha256: str | None = None
) -> Manifest:
    """Check a bundle as a whole, before anything in it is used.

    In this order: the manifest's schema version, its checksum and fields; number, names and sizes
    of the files against limits; then for each file that it is no link, its size and its hash, and
    for each graph its operators, its data, and names, types and shapes of its inputs and outputs.
    Memory holds one graph at a time.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    max_bytes : int, default=8 GiB
        Largest sum of the files' sizes.
    sha256 : str or None, default=None
        What the hash of the manifest's bytes must be, as
        :func:`skmode_deploy.signing.verify_signature` returns it. None for any.

    Returns
    -------
    Manifest
        The manifest. What :func:`read_file` returns for it later is what was checked here, for it
        has the same hash.

    Raises
    ------
    BundleError
        If the bundle is refused; each rule has its subclass in `skmode_deploy.errors`. A bundle
        that is replaced while it is read is refused too: read it again.
    ValueError
        If `max_bytes` is no integer, or below 1.
    """
    check_max_bytes(max_bytes)
    manifest = read(directory, sha256=sha256)
    check_limits(manifest, max_bytes)
    _check_names(manifest.files)
    _check_complete(manifest)
    widths: dict[str, int] = {}
    for name, expected in manifest.files.items():
        if name.endswith(".onnx"):
            width = _read_graph(directory, manifest, name)[1]
            if width is not None:
                widths[name] = width
        else:
            _check_content(directory, name, expected)
    _check_widths(widths)
    return manifest


def _checked_text(manifest: Manifest) -> bytes:
    """Text of a manifest that reading will not refuse."""
    try:
        text = manifest.to_json().encode()
    except (TypeError, ValueError) as error:
        raise ManifestError(
            f"A manifest must hold strings, finite numbers and true or false only, and writing it "
            f"gave: {error}. Convert the values, for example with float()."
        ) from None
    _check_manifest_size(len(text))
    Manifest.from_json(text)
    return text


def _read_manifest(path: Path) -> bytes:
    with open_plain(path) as stream:
        # Not the limit itself, for as much memory as is asked for would be taken.
        size = os.fstat(stream.fileno()).st_size
        text = stream.read(min(size, MAX_MANIFEST_BYTES) + 1)
    _check_manifest_size(len(text))
    return text


def _check_manifest_size(size: int) -> None:
    if size > MAX_MANIFEST_BYTES:
        raise LimitError(
            f"{MANIFEST} must have at most {MAX_MANIFEST_BYTES} bytes, got more: pass the folder "
            "of a bundle that skmode.onnx.export wrote, or export a model of fewer columns, "
            "categories, classes and experts."
        )


def _with_exact_label_length(manifest: Manifest) -> Manifest:
    """Shorten the type of string labels to the longest: numpy keeps that of the training data."""
    classes = manifest.classes
    if classes is None or not re.fullmatch("[<>|=]?U[0-9]+", classes.dtype):
        return manifest
    letters = max((len(value) for value in classes.values if isinstance(value, str)), default=1)
    dtype = f"{classes.dtype.partition('U')[0]}U{max(letters, 1)}"
    return dataclasses.replace(manifest, classes=dataclasses.replace(classes, dtype=dtype))


def _check_names(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        _check_name(name)
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UnsafeNameError(
                "The files of a bundle must have names that differ in more than upper and lower "
                f"case, got {other!r} and {name!r}: export the model again."
            )


def _check_name(name: str) -> None:
    plain = _NAME.fullmatch(name) and not name.endswith(".") and not _DEVICES.fullmatch(name)
    if not plain or name.lower() in _RESERVED:
        raise UnsafeNameError(
            "A file of a bundle must have a plain name, without a folder (letters, digits, '_', "
            f"'-' and '.'; not {MANIFEST} or {SIGNATURE}), got {name[:300]!r}: export the model "
            "again."
        )


def _check_complete(manifest: Manifest) -> None:
    parts = {GATE, *map(expert_name, range(manifest.n_experts))}
    found = parts & manifest.files.keys()
    if MODEL not in manifest.files or (found and found != parts):
        lacking = sorted(({MODEL} | (parts if found else set())) - manifest.files.keys())
        raise MissingFileError(
            f"A bundle must have {MODEL}, and {GATE} with every expert or none of these, got one "
            f"without {', '.join(lacking[:10])}: export the model again."
        )


def _check_widths(widths: Mapping[str, int]) -> None:
    for name, width in widths.items():
        if width != widths[GATE]:
            raise GraphInterfaceError(
                f"{name} must read the {widths[GATE]} values of a row that {GATE} gives as "
                f"'hidden', got {width}: export the model again."
            )


def _check_content(directory: str | os.PathLike[str], name: str, expected: File) -> None:
    digest, size = hashlib.sha256(), 0
    with _open_stated(directory, name, expected) as stream:
        while size <= expected.size and (block := stream.read(_BLOCK)):
            digest.update(block)
            size += len(block)
    check_size(name, size, expected)
    _check_hash(name, digest.hexdigest(), expected)


def _open_stated(directory: str | os.PathLike[str], name: str, expected: File) -> BinaryIO:
    """Open a file that the manifest names and that has the stated size."""
    try:
        stream = open_plain(to_path(directory, "directory") / name)
    except OSError as error:
        raise MissingFileError(
            f"The files of {MANIFEST} must lie beside it, and reading {name!r} gave {error}: "
            "copy the whole bundle again."
        ) from None
    try:
        check_size(name, os.fstat(stream.fileno()).st_size, expected)
    except BaseException:
        stream.close()
        raise
    return stream


def _check_hash(name: str, digest: str, expected: File) -> None:
    if digest != expected.sha256:
        raise FileHashError(
            f"{name} must have the sha256 {expected.sha256} that {MANIFEST} states, got {digest}: "
            "it was changed after the export; copy the whole bundle again."
        )


def _stated_names(target: Path) -> set[str]:
    """Names that may be in the folder of a bundle, as its manifest states; of others none."""
    try:
        document = json.loads(_read_manifest(target / MANIFEST))
    except (OSError, ValueError, RecursionError):
        return set()
    if not isinstance(document, dict) or type(document.get("schema_version")) is not int:
        return set()
    files = document.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict) and entry.keys() >= {"size", "sha256"} for entry in files.values()
    ):
        return set()
    return {*files, MANIFEST, SIGNATURE}
