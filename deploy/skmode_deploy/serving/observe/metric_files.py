"""The files in which several processes count, so that one of them can say the sum of all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, multiprocess

from skmode_deploy.serving.observe.metrics import _DESCRIPTIONS

FILE_BYTES = 2**20  # as many as prometheus_client begins with
PREFIX = "skmode-metrics-"
LOCK = "lock"


@contextlib.contextmanager
def make_folder() -> Iterator[str]:
    """Make a folder for the files of a server, and remove those of servers that were killed."""
    _remove_left()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        new = Path(folder, "new")
        with open(new, "wb") as file:
            # Where there are no locks the folder stays if we are killed, as there is none to find.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
                new.rename(Path(folder, LOCK))  # only now, so that it is never found unlocked
            yield folder


def _remove_left() -> None:
    """Remove folders whose server is gone: the system frees a lock with the process that has it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it goes just now, or its server runs
            if folder.lstat().st_uid != os.getuid():
                continue
            with open(folder / LOCK, "rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def reserve(folder: str | os.PathLike[str], process: int) -> None:
    """Make the files of a process, with all of their room on the disk.

    prometheus_client maps them into memory. If the disk were full when it first writes to a page,
    the process would be killed (SIGBUS).
    """
    for kind in _kinds():
        with open(Path(folder, f"{kind}_{process}.db"), "ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"Each process must have {len(_kinds()) * FILE_BYTES} bytes for metrics in "
                    f"{folder}, and to reserve them gave: {error.strerror}. Make room there, or "
                    "set TMPDIR to another folder",
                ) from None


def release(folder: str | os.PathLike[str], process: int) -> None:
    """Give the unused room of all files of a process back."""
    for kind in _kinds():
        path = Path(folder, f"{kind}_{process}.db")
        if not path.exists():
            continue
        with open(path, "rb+") as file:
            used = int.from_bytes(file.read(4), "little")
            file.truncate(max(used, 8))


def forget_dead(folder: str | os.PathLike[str]) -> None:
    """Forget the gauges of processes that ended without a word; what they counted stays."""
    processes = {path.stem.rpartition("_")[2] for path in Path(folder).glob("*.db")}
    for process in filter(str.isdigit, processes):
        if not Path("/proc", process).exists():
            multiprocess.mark_process_dead(int(process), os.fspath(folder))
            release(folder, int(process))


def _kinds() -> list[str]:
    """How prometheus_client calls the files."""
    names: dict[type, str] = {Counter: "counter", Histogram: "histogram", Gauge: "gauge"}
    kinds = set()
    for kind, _, _, options in _DESCRIPTIONS.values():
        mode = options.get("multiprocess_mode")
        kinds.add(names[kind] if mode is None else f"{names[kind]}_{mode}")
    return sorted(kinds)
