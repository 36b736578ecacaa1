"""The bundle: a folder of ONNX files and the manifest that says what is in them.

This module is the only place where the format is written down. `skmode.onnx` writes through it,
:class:`skmode_deploy.predictor.Predictor` reads through it.

A bundle holds ``manifest.json`` and, side by side with it, the files that the manifest names:

- ``model.onnx``: columns in, answer out;
- ``gate.onnx``: columns in; gate probabilities, top expert and what the experts read out;
- ``expert_<i>.onnx``: what the experts read in, the answer of expert i alone out.

A folder is replaced as a whole, and every file is checked against its size and hash before use.
"""

import ctypes
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


class BundleError(ValueError):
    """A bundle is incomplete, damaged or of an unknown format."""


@dataclass(frozen=True)
class Column:
    """One input column.

    Attributes
    ----------
    name : str
        Name of the column in tables.
    input : str
        Name of its graph input. Differs from `name` only where that is empty or is also the name
        of an output. Models of arrays have one input for all columns.
    kind : {"number", "category"}
        How the model reads the column.
    dtype : {"float32", "float64", "string"}
        Element type of the graph input.
    categories : tuple or None
        Known categories, strings or floats. None for numbers.
    has_missing : bool
        Whether training saw missing values in the column.
    """

    name: str
    input: str
    kind: Literal["number", "category"]
    dtype: Literal["float32", "float64", "string"]
    categories: tuple[Any, ...] | None = None
    has_missing: bool = False


@dataclass(frozen=True)
class Classes:
    """Class labels of a classifier.

    Attributes
    ----------
    values : tuple
        Labels in the order of the probabilities.
    dtype : str
        numpy's name of the type that `predict` had in training.
    label : {"value", "index"}
        Whether the graph's output `label` is the label itself or its position in `values`: ONNX
        has strings and integers, other types go by position.
    """

    values: tuple[Any, ...]
    dtype: str
    label: Literal["value", "index"]


@dataclass(frozen=True)
class File:
    """Size in bytes and SHA-256 of one file.

    Attributes
    ----------
    size : int
        Number of bytes.
    sha256 : str
        Hash in hexadecimal digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about its model.

    Attributes
    ----------
    task : {"classification", "regression"}
        What `model.onnx` answers.
    routing : {"top_expert", "mixture"}
        Whether `model.onnx` runs the top expert of each row or mixes the experts.
    input : {"columns", "array"}
        One graph input per column, or one float32 input ``X`` for all of them.
    from_table : bool
        Whether training saw a table, so that columns go by name; else they go by position.
    columns : tuple of Column
        Columns in the order of training.
    n_outputs : int
        Number of classes, or of values per row.
    classes : Classes or None
        Labels of a classifier. None for regression.
    n_experts : int
        Number of experts.
    alpha : float
        Weight of the distillation loss in training.
    expert_usage : tuple of float
        Share of the training rows that each expert got.
    validation_scores : dict or None
        Scores on the validation part by kind of inference. None if there was no such part.
    versions : dict
        Versions of the libraries that wrote the bundle.
    files : dict
        Size and hash of each file, by name.
    schema_version : int
        Version of this format.
    """

    task: Literal["classification", "regression"]
    routing: Literal["top_expert", "mixture"]
    input: Literal["columns", "array"]
    from_table: bool
    columns: tuple[Column, ...]
    n_outputs: int
    classes: Classes | None
    n_experts: int
    alpha: float
    expert_usage: tuple[float, ...]
    validation_scores: dict[str, float] | None
    versions: dict[str, str]
    files: dict[str, File] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Write as JSON text.

        Returns
        -------
        str
            JSON with sorted keys; the same manifest gives the same text.
        """
        document = dataclasses.asdict(self)
        return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read JSON text.

        Parameters
        ----------
        text : str or bytes
            What :meth:`to_json` wrote.

        Returns
        -------
        Manifest
            The manifest.

        Raises
        ------
        BundleError
            If the text is not a manifest of this schema version.
        """
        try:
            document = json.loads(text)
            version = document["schema_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(
                f"{MANIFEST} must be a JSON object with a schema_version, and reading it gave "
                f"{type(error).__name__}: {error}. Export the model again."
            ) from None
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{MANIFEST} must have schema_version {SCHEMA_VERSION}, got {version!r}: "
                "install the skmode-deploy release that belongs to it, or export the model again."
            )
        try:
            return _from_document(document)
        except (TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{MANIFEST} must have the fields of schema_version {SCHEMA_VERSION}, and reading "
                f"them gave {type(error).__name__}: {error}. Export the model again."
            ) from None


def _from_document(document: dict[str, Any]) -> Manifest:
    columns = tuple(
        Column(
            **item
            | {"categories": None if item["categories"] is None else tuple(item["categories"])}
        )
        for item in document["columns"]
    )
    classes = document["classes"]
    if classes is not None:
        classes = Classes(**classes | {"values": tuple(classes["values"])})
    files = {str(name): File(**item) for name, item in document["files"].items()}
    usage = tuple(document["expert_usage"])
    rest = {"columns": columns, "classes": classes, "files": files, "expert_usage": usage}
    return Manifest(**document | rest)


def write(
    directory: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes]
) -> Manifest:
    """Write a bundle, or replace one; whoever looks sees the old bundle or the new one.

    Parameters
    ----------
    directory : path
        Folder of the bundle. It is made, with its parents, where it does not exist.
    manifest : Manifest
        What to say about the model; `files` is filled in here.
    files : mapping from str to bytes
        Content of each file by name.

    Returns
    -------
    Manifest
        The manifest as written.

    Raises
    ------
    FileExistsError
        If `directory` exists and is neither empty nor a bundle.

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
    target = Path(directory).resolve()
    _check_replaceable(target)
    entries = {
        name: File(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    manifest = dataclasses.replace(manifest, files=dict(sorted(entries.items())))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _new_sibling(target)
    try:
        for name, data in files.items():
            _write_file(fresh / _checked_name(name), data)
        _write_file(fresh / MANIFEST, manifest.to_json().encode())
        _sync_directory(fresh)
        _replace_directory(fresh, target)
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def read(directory: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a bundle.

    Parameters
    ----------
    directory : path
        Folder of the bundle.

    Returns
    -------
    Manifest
        The manifest. The other files are checked by :func:`read_file`.

    Raises
    ------
    BundleError
        If there is no manifest, or not one of this schema version.
    """
    path = Path(directory) / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"A bundle is a folder with a {MANIFEST}, and reading {str(path)!r} gave {error}: "
            "pass the folder that skmode.onnx.export wrote."
        ) from None
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
        raise BundleError(
            f"A file must be named in {MANIFEST}, got {name!r}: it names {sorted(manifest.files)}."
        )
    path = Path(directory) / _checked_name(name)
    expected = manifest.files[name]
    try:
        if path.is_symlink():
            raise OSError("it is a link")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"The files of {MANIFEST} must lie beside it, and reading {name!r} gave {error}: "
            "copy the whole bundle again."
        ) from None
    if len(data) != expected.size:
        raise BundleError(
            f"{name} must have the {expected.size} bytes that {MANIFEST} states, got {len(data)}: "
            "copy the whole bundle again."
        )
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected.sha256:
        raise BundleError(
            f"{name} must have the sha256 {expected.sha256} that {MANIFEST} states, got {digest}: "
            "it was changed after the export; copy the whole bundle again."
        )
    return data


def _checked_name(name: str) -> str:
    if name in ("", ".", "..", MANIFEST) or any(mark in name for mark in "/\\:\0"):
        raise BundleError(
            f"A file of a bundle must have a plain name, without a folder, got {name!r}: "
            "export the model again."
        )
    return name


def _check_replaceable(target: Path) -> None:
    if not target.exists() or (target / MANIFEST).is_file():
        return
    if not target.is_dir() or any(target.iterdir()):
        raise FileExistsError(
            f"directory must be new, empty or a bundle, got {str(target)!r}, which is none of "
            "these: choose another one, or remove it first."
        )


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable without.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_sibling(target: Path) -> Path:
    """Make a hidden folder beside `target`, on the same file system and with the usual rights."""
    folder = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    folder.mkdir()
    return folder


def _replace_directory(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; what was there ends up as `fresh`, to be removed."""
    if not target.exists():
        fresh.rename(target)
        return
    if _exchange(fresh, target):
        return
    # Without an atomic exchange, target is missing for the moment between two renames.
    aside = _new_sibling(target)
    try:
        target.rename(aside / "bundle")
        try:
            fresh.rename(target)
        except OSError:
            (aside / "bundle").rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step where the system can (Linux: renameat2)."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    relative_to_cwd, exchange = -100, 2
    status = rename(
        relative_to_cwd, os.fsencode(first), relative_to_cwd, os.fsencode(second), exchange
    )
    return cast(int, status) == 0
