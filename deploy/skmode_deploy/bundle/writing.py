"""Write a bundle, or replace one."""

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from skmode_deploy.bundle.card import model_card
from skmode_deploy.bundle.files import check_replaceable, replace_directory, to_path
from skmode_deploy.bundle.layout import README, SIGNATURE, check_manifest_size, check_names
from skmode_deploy.bundle.manifest import MANIFEST, File, Manifest
from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.bundle.reading import read_manifest_file
from skmode_deploy.errors import ManifestError

LAST_SECOND = 253402300799  # of the year 9999

# Left behind by a process that was killed while it signed.
_UNFINISHED = re.compile(rf"\.{re.escape(SIGNATURE)}-[0-9a-f]{{16}}")


def write(
    directory: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes]
) -> Manifest:
    """Write a bundle, or replace one in a single step.

    Other processes see the old bundle or the new one, never a mixture, even if this process is
    killed. In that case it may leave a hidden folder ``.<name>-<digits>`` beside the bundle, which
    can be removed. On systems other than Linux, which cannot exchange two folders in one step, the
    bundle is missing for a moment. A signature of the old bundle is removed with it.

    Parameters
    ----------
    directory : path
        Folder of the bundle. It is created, with its parents, if it does not exist.
    manifest : Manifest
        Description of the model. This function fills in `files` and, if it is empty, `created`. It
        sets the length of the type of string labels to that of the longest label.
    files : mapping from str to bytes
        Content of each file, by name. A model card ``README.md`` is added if there is none.

    Returns
    -------
    Manifest
        The manifest as written.

    Raises
    ------
    FileExistsError
        If `directory` exists and is neither empty nor a bundle, or if it holds files that belong
        to no bundle: neither named in its manifest nor a signature.
    BundleError
        If :func:`read` would refuse the manifest or a file name.
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
    check_names(files)
    entries = {
        name: File(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    manifest = dataclasses.replace(manifest, files=dict(sorted(entries.items())))
    text = _checked_text(manifest)
    replace_directory(target, {**files, MANIFEST: text})
    return manifest


def creation_time() -> str:
    """Return the time to write into a manifest.

    Returns
    -------
    str
        The current time in UTC, as ``2026-11-22T05:00:00Z``. For reproducible builds, the
        environment variable ``SOURCE_DATE_EPOCH`` sets another time, in seconds since 1970.

    Raises
    ------
    ValueError
        If ``SOURCE_DATE_EPOCH`` is not a number of seconds.

    Examples
    --------
    >>> from skmode_deploy.bundle import creation_time
    >>> len(creation_time())
    20
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = time.time()
    if epoch:
        if not re.fullmatch("[0-9]{1,12}", epoch) or int(epoch) > LAST_SECOND:
            raise ValueError(
                "SOURCE_DATE_EPOCH must be a whole number of seconds since 1970, from 0 to "
                f"{LAST_SECOND}, got {short_repr(epoch)}: set it to such a number, for example "
                "with $(git log -1 --format=%ct), or unset it."
            )
        seconds = int(epoch)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _checked_text(manifest: Manifest) -> bytes:
    """Write the text of a manifest, and check that it can be read again."""
    try:
        text = manifest.to_json().encode()
    except (TypeError, ValueError) as error:
        raise ManifestError(
            "A manifest must hold only strings, finite numbers and true or false, but writing it "
            f"failed: {error}. Convert the values, for example with float()."
        ) from None
    check_manifest_size(len(text))
    Manifest.from_json(text)
    return text


def _with_exact_label_length(manifest: Manifest) -> Manifest:
    """Fit the type of string labels to the longest label; training may have had longer ones."""
    classes = manifest.classes
    if classes is None or not re.fullmatch("[<>|=]?U[0-9]+", classes.dtype):
        return manifest
    letters = max((len(value) for value in classes.values if isinstance(value, str)), default=1)
    dtype = f"{classes.dtype.partition('U')[0]}U{max(letters, 1)}"
    return dataclasses.replace(manifest, classes=dataclasses.replace(classes, dtype=dtype))


def _stated_names(target: Path) -> set[str]:
    """Names that the manifest in a folder allows there; none if there is no manifest."""
    try:
        document = json.loads(read_manifest_file(target / MANIFEST))
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
