"""Read a bundle, and check what is read before it is used."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from skmode_deploy.bundle.files import open_plain, to_path
from skmode_deploy.bundle.graph_check import check_graph
from skmode_deploy.bundle.layout import (
    GATE,
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    check_complete,
    check_limits,
    check_manifest_size,
    check_max_bytes,
    check_name,
    check_names,
    check_size,
    graph_values,
)
from skmode_deploy.bundle.manifest import MANIFEST, File, Manifest
from skmode_deploy.errors import (
    FileHashError,
    GraphInterfaceError,
    ManifestChangedError,
    MissingFileError,
)

_BLOCK = 2**20


def read(directory: str | os.PathLike[str], *, sha256: str | None = None) -> Manifest:
    """Read the manifest of a bundle.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    sha256 : str or None, default=None
        Required hash of the manifest, as :func:`skmode_deploy.signing.verify_signature` returns
        it. None accepts any.

    Returns
    -------
    Manifest
        The manifest. :func:`verify` and :func:`read_file` check the other files.

    Raises
    ------
    BundleError
        If the manifest is missing, has another schema version, or was changed.
    """
    path = to_path(directory, "directory") / MANIFEST
    try:
        text = read_manifest_file(path)
    except OSError as error:
        raise MissingFileError(
            f"A bundle must be a folder with a {MANIFEST}, but reading {str(path)!r} failed with "
            f"{error}: pass the folder that skmode.onnx.export wrote."
        ) from None
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise ManifestChangedError(
            f"{MANIFEST} must have the sha256 {sha256} that was signed, got "
            f"{hashlib.sha256(text).hexdigest()}: copy the whole bundle again."
        )
    return Manifest.from_json(text)


def read_file(directory: str | os.PathLike[str], manifest: Manifest, name: str) -> bytes:
    """Read a file of a bundle, and check size and hash of the bytes that were read.

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
        Content of the file.

    Raises
    ------
    BundleError
        If the file is missing, is a link, or differs from the size or hash in the manifest.
    """
    if name not in manifest.files:
        raise MissingFileError(
            f"name must be a file in {MANIFEST}, got {name!r}: choose one of "
            f"{sorted(manifest.files)}."
        )
    check_name(name)
    expected = manifest.files[name]
    with _open_stated(directory, name, expected) as stream:
        # One byte more than stated shows whether the file has grown meanwhile.
        data = stream.read(expected.size + 1)
    check_data(name, data, expected)
    return data


def check_data(name: str, data: bytes, expected: File) -> None:
    """Compare the bytes of a file with the size and the hash that the manifest states."""
    check_size(name, len(data), expected)
    _check_hash(name, hashlib.sha256(data).hexdigest(), expected)


def read_graph(directory: str | os.PathLike[str], manifest: Manifest, name: str) -> bytes:
    """Read a graph of a bundle, and check the bytes that were read, content included.

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
        Content of the file, as :func:`read_file` returns it. The graph has the inputs and outputs
        of :func:`graph_values`, no data outside the file, and only ONNX's own operators.

    Raises
    ------
    BundleError
        If the file is missing, is a link, or differs from the size or hash in the manifest, or if
        the graph is not as described.
    """
    return _read_graph(directory, manifest, name)[0]


def _read_graph(
    directory: str | os.PathLike[str], manifest: Manifest, name: str
) -> tuple[bytes, int | None]:
    """Read and check a graph; return its bytes, and the width of `hidden` if it has that."""
    inputs, outputs = graph_values(manifest, name)
    data = read_file(directory, manifest, name)
    return data, check_graph(data, name, inputs, outputs).get("width")


def verify(
    directory: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, sha256: str | None = None
) -> Manifest:
    """Check a whole bundle before anything in it is used.

    The checks, in this order, are:

    - the manifest: schema version, fields and checksum;
    - the files together: number, names and sizes, against the limits;
    - each file: that it is not a link, its size and its hash;
    - each graph: operators, no external data, and names, types and shapes of inputs and outputs.

    Only one graph at a time is in memory.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    max_bytes : int, default=8 GiB
        Limit of the sum of all file sizes.
    sha256 : str or None, default=None
        Required hash of the manifest, as :func:`skmode_deploy.signing.verify_signature` returns
        it. None accepts any.

    Returns
    -------
    Manifest
        The manifest. :func:`read_file` checks the hash of a file again when it reads it, so it
        returns only content that was checked here.

    Raises
    ------
    BundleError
        If the bundle is invalid. Each rule has its own subclass in `skmode_deploy.errors`. It is
        also raised if the bundle is replaced during the check: verify it again.
    ValueError
        If `max_bytes` is not an integer of at least 1.
    """
    check_max_bytes(max_bytes)
    manifest = read(directory, sha256=sha256)
    check_limits(manifest, max_bytes)
    check_names(manifest.files)
    check_complete(manifest)
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


def manifest_sha256(path: str | os.PathLike[str]) -> str:
    """Hash the manifest of a bundle, which states the hashes of all its other files.

    Parameters
    ----------
    path : path
        Folder of the bundle.

    Returns
    -------
    str
        SHA-256 of ``manifest.json`` in hexadecimal digits. Bundles with the same hash make the
        same predictions.

    Raises
    ------
    BundleError
        If there is no manifest.

    Examples
    --------
    >>> from skmode_deploy import batch
    >>> batch.manifest_sha256("no-such-folder")
    Traceback (most recent call last):
    skmode_deploy.errors.MissingFileError: A bundle must be a folder with a manifest.json, ...
    """
    manifest = to_path(path, "bundle") / MANIFEST
    try:
        with open_plain(manifest) as stream:
            digest = hashlib.sha256()
            while block := stream.read(_BLOCK):
                digest.update(block)
            return digest.hexdigest()
    except OSError:
        read(path)  # says what is wrong
        raise


def read_manifest_file(path: Path) -> bytes:
    """Read the bytes of a manifest, but no more than a manifest may have."""
    with open_plain(path) as stream:
        # By its size, because reading up to the limit would allocate that much memory.
        size = os.fstat(stream.fileno()).st_size
        text = stream.read(min(size, MAX_MANIFEST_BYTES) + 1)
    check_manifest_size(len(text))
    return text


def _check_widths(widths: Mapping[str, int]) -> None:
    """Check that the experts read as many values of a row as the gate returns."""
    for name, width in widths.items():
        if width != widths[GATE]:
            raise GraphInterfaceError(
                f"{name} must read as many values per row as {GATE} returns in 'hidden', "
                f"{widths[GATE]}, got {width}: export the model again."
            )


def _check_content(directory: str | os.PathLike[str], name: str, expected: File) -> None:
    """Compare size and hash of a file with the manifest, block by block."""
    digest, size = hashlib.sha256(), 0
    with _open_stated(directory, name, expected) as stream:
        while size <= expected.size and (block := stream.read(_BLOCK)):
            digest.update(block)
            size += len(block)
    check_size(name, size, expected)
    _check_hash(name, digest.hexdigest(), expected)


def _open_stated(directory: str | os.PathLike[str], name: str, expected: File) -> BinaryIO:
    """Open a file that the manifest names, and check its size."""
    try:
        stream = open_plain(to_path(directory, "directory") / name)
    except OSError as error:
        raise MissingFileError(
            f"All files in {MANIFEST} must lie beside it, but reading {name!r} failed with "
            f"{error}: copy the whole bundle again."
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
