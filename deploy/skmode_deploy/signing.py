"""Sign a bundle with a key, and verify the signature, with the library model-signing.

The signature is the file ``model.sig`` in the folder of the bundle. It contains the hash of every
other file. The command line of model-signing can verify it too. No network is needed.
"""

import importlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from skmode_deploy import bundle
from skmode_deploy.bundle import MANIFEST, MAX_BYTES, SIGNATURE
from skmode_deploy.bundle.files import open_plain, to_path
from skmode_deploy.bundle.layout import check_limits, check_max_bytes, check_size
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.errors import BundleError, LimitError, SignatureError

__all__ = ["sign", "verify_signature"]

MAX_SIGNATURE_BYTES = 16 * 2**20


def sign(
    directory: str | os.PathLike[str],
    private_key: str | os.PathLike[str],
    *,
    password: str | None = None,
) -> None:
    """Sign a bundle.

    Parameters
    ----------
    directory : path
        Folder of the bundle, which is verified first. An earlier signature is replaced.
    private_key : path
        PEM file of a private key on the elliptic curve P-256, P-384 or P-521, as
        ``openssl ecparam -name prime256v1 -genkey -noout`` writes it.
    password : str or None, default=None
        Password of the key. None if the key is not encrypted.

    Raises
    ------
    BundleError
        If :func:`skmode_deploy.bundle.verify` refuses the bundle, or if its folder has files that
        the manifest does not name.
    ValueError
        If the key cannot be read.
    ImportError
        If model-signing is not installed.
    """
    signing = _import("signing")
    secret = None if password is None else password.encode()
    config = _with_key(
        lambda: signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret),
        "private_key",
        private_key,
    )
    manifest = bundle.verify(directory)
    hashes = {name: file.sha256 for name, file in manifest.files.items()}
    hashes[MANIFEST] = manifest.file_hash()
    folder = to_path(directory, "directory").resolve()
    fresh = folder / f".{SIGNATURE}-{secrets.token_hex(8)}"
    config.set_hashing_config(_Hasher(expected=hashes))
    try:
        config.sign(folder, fresh)
        fresh.replace(folder / SIGNATURE)
    except BundleError:
        raise
    except ValueError as error:  # for example a link or a pipe
        raise SignatureError(
            f"A bundle must hold only plain files to be signed, got: {error}. "
            "Export the model again."
        ) from None
    finally:
        fresh.unlink(missing_ok=True)


def verify_signature(
    directory: str | os.PathLike[str],
    public_key: str | os.PathLike[str],
    *,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Check that a bundle was signed with a key, before any graph in it is parsed.

    The checks are, in this order: the signature itself; the manifest; names and sizes of the
    files, against the manifest and the limits; the hash of each file.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    public_key : path
        PEM file of the signer's public key, as ``openssl ec -pubout`` writes it.
    max_bytes : int, default=8 GiB
        Limit of the sum of all file sizes.

    Returns
    -------
    str
        SHA-256 of the manifest that was signed.

    Raises
    ------
    SignatureError
        If there is no signature, or if it is by another key or for other files.
    LimitError
        If there are more files or bytes than the limits allow.
    ValueError
        If the key cannot be read, or if `max_bytes` is not an integer of at least 1.
    ImportError
        If model-signing is not installed.

    Notes
    -----
    Files may change between this check and their use. Therefore pass the returned hash as `sha256`
    to :func:`skmode_deploy.bundle.verify` or :func:`skmode_deploy.bundle.read`: they refuse any
    other manifest, and all other files are checked against the hashes in this manifest when they
    are read for use.
    """
    verifying = _import("verifying")
    config = _with_key(
        lambda: verifying.Config().use_elliptic_key_verifier(public_key=public_key),
        "public_key",
        public_key,
    )
    check_max_bytes(max_bytes)
    folder = to_path(directory, "directory").resolve()
    signature = folder / SIGNATURE
    _check_signature_file(signature)
    hasher = _Hasher(max_bytes=max_bytes)
    config.set_hashing_config(hasher)
    try:
        config.verify(folder, signature)
        return hasher.hashes[MANIFEST]
    except LimitError:
        raise
    except Exception as error:
        # The library raises many types of errors for wrong files. After any, nothing is trusted.
        raise SignatureError(
            f"{SIGNATURE} must be a signature of the bundle's files that the public key "
            f"{str(public_key)!r} verifies, but checking it failed with {_problem(error)} Copy "
            "the whole bundle again, or pass the public key of whoever signed it."
        ) from None


class _Hasher:
    """Hashes a folder for model-signing, which compares the hashes with the signature.

    It keeps them: if the comparison succeeds, they are the hashes that were signed.
    """

    def __init__(self, expected: dict[str, str] | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.hashes: dict[str, str] = {}
        self._expected = expected
        self._max_bytes = max_bytes
        # All files except the signature; by default, model-signing ignores files of git.
        self._config = (
            _import("hashing")
            .Config()
            .use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
            .set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
        )

    def add_ignored_paths(self, *, model_path: Any, paths: Any) -> None:
        """Ignore no further paths, whatever the signature says."""

    def hash(self, model_path: Any, files_to_hash: Any = None) -> Any:
        """Check names and sizes of the files, then hash them: a huge file could waste hours."""
        if self._expected is None:
            _check_files(Path(model_path), self._max_bytes)
        else:
            names = {entry.name for entry in os.scandir(model_path)} - {SIGNATURE}
            self._refuse_others(names ^ self._expected.keys())
        hashed = self._config.hash(model_path, files_to_hash=files_to_hash)
        self.hashes = {
            item.identifier: item.digest.digest_hex for item in hashed.resource_descriptors()
        }
        if self._expected is not None:
            self._refuse_others({name for name, _ in self.hashes.items() ^ self._expected.items()})
        return hashed

    def _refuse_others(self, names: set[str]) -> None:
        if names:
            raise SignatureError(
                "A bundle must have exactly the files of its manifest to be signed, got a "
                f"difference in {list_names(sorted(names))}: remove files that do not belong to "
                "the bundle, or export the model again."
            )


def _check_files(folder: Path, max_bytes: int) -> None:
    """Compare names and sizes of the files with the manifest, signed or not."""
    manifest = bundle.read(folder)
    check_limits(manifest, max_bytes)
    with os.scandir(folder) as entries:
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    stated = {*manifest.files, MANIFEST}
    for what, names in (
        ("Extra", found.keys() - stated - {SIGNATURE}),
        ("Missing", stated - found.keys()),
    ):
        if names:
            raise SignatureError(f"{what} files beside {MANIFEST}: {list_names(sorted(names))}")
    for name, file in manifest.files.items():
        if not stat.S_ISREG(found[name].st_mode):
            raise SignatureError(f"{name!r} is a symlink, a folder or a device")
        check_size(name, found[name].st_size, file)


def _problem(error: Exception) -> str:
    """Describe an error of model-signing without the hashes, which it prints as bytes."""
    text = re.sub(r"Expected .*?Actual .*?\)\\*'", "other content", as_sentence(error))
    text = text.replace("\\'", "'")
    return f"{type(error).__name__}: {text if len(text) <= 500 else text[:500] + '...'}"


def _check_signature_file(signature: Path) -> None:
    try:
        with open_plain(signature) as stream:
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise SignatureError(
            f"The bundle must be signed, but reading its {SIGNATURE} failed with {error}: "
            "sign it with skmode_deploy.signing.sign, or do not require a signature."
        ) from None
    if size > MAX_SIGNATURE_BYTES:
        raise LimitError(
            f"{SIGNATURE} must have at most {MAX_SIGNATURE_BYTES} bytes, got {size}: sign the "
            "bundle again."
        )


def _with_key(configure: Any, parameter: str, path: str | os.PathLike[str]) -> Any:
    """Configure model-signing with a key, or say what is wrong with the key."""
    to_path(path, parameter)
    try:
        return configure()
    except OSError as error:
        raise OSError(
            error.errno,
            f"{parameter} must be a file that can be read, got {str(path)!r}, and to read it gave: "
            f"{os.strerror(error.errno or 0)}. Pass the path of a key.",
        ) from None
    except AttributeError:  # the library reads the curve, which other kinds of keys lack
        problem = "a key of another kind, such as RSA."
    except Exception as error:
        problem = f"{type(error).__name__}: {as_sentence(error)}"
    advice = "as `openssl ec -pubout` writes it, not the private one"
    if parameter == "private_key":
        advice = "with its password if it is encrypted"
    raise ValueError(
        f"{parameter} must be a PEM file of a key on the elliptic curve P-256, P-384 or P-521, and "
        f"reading {str(path)!r} gave {problem} Pass such a key, {advice}."
    )


def _import(module: str) -> Any:
    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        raise ImportError(
            "Signatures need the library model-signing, but importing it failed: "
            f"{error}. Install the extra 'signing' of skmode-deploy (in a checkout: "
            "pip install './deploy[signing]')."
        ) from error
