"""Files in which several processes count, so that one of them can report the sum."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, multiprocess

from skmode_deploy.serving.observe.metric_definitions import DEFINITIONS

FILE_BYTES = 2**20  # initial size of prometheus_client's files
PREFIX = "skmode-metrics-"
LOCK = "lock"


@contextlib.contextmanager
def make_folder() -> Iterator[str]:
    """Make a folder for the files of a server, and remove those of servers that were killed."""
    _remove_left_over()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        new = Path(folder, "new")
        with open(new, "wb") as file:
            # On file systems without locks, the folder gets no lock file. Then no other server
            # removes it, not even after this one was killed.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
                new.rename(Path(folder, LOCK))  # only now, so that nobody finds it unlocked
            yield folder


def _remove_left_over() -> None:
    """Remove folders whose lock is free: the system frees it when the server's process ends."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # its server runs, or another one is removing it
            if folder.lstat().st_uid != os.getuid():
                continue
            with open(folder / LOCK, "rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def reserve(folder: str | os.PathLike[str], process: int) -> None:
    """Make the files of a process, and reserve their room on the disk.

    prometheus_client maps them into memory: if the disk were full when it first writes to a page,
    the system would kill the process (SIGBUS).
    """
    for kind in _kinds():
        path = Path(folder, f"{kind}_{process}.db")
        # Whoever reads the metrics reads all that end in .db, and could not read an empty file.
        made = path if path.exists() else path.with_suffix(".partial")
        try:
            with open(made, "ab") as file:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            made.rename(path)
        except OSError as error:
            path.with_suffix(".partial").unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"Each process must have {len(_kinds()) * FILE_BYTES} bytes for metrics in "
                f"{folder}, and to reserve them gave: {error.strerror}. Make room there, or "
                "set TMPDIR to another folder",
            ) from None


def release(folder: str | os.PathLike[str], process: int) -> None:
    """Free the room on the disk that the files of a process do not use."""
    for kind in _kinds():
        path = Path(folder, f"{kind}_{process}.db")
        if not path.exists():
            continue
        with open(path, "rb+") as file:
            used = int.from_bytes(file.read(4), "little")  # written there by prometheus_client
            file.truncate(max(used, 8))


def forget_dead(folder: str | os.PathLike[str]) -> None:
    """Drop the gauges of processes that were killed; their counters stay."""
    processes = {path.stem.rpartition("_")[2] for path in Path(folder).glob("*.db")}
    for process in filter(str.isdigit, processes):
        if not Path("/proc", process).exists():
            _remove_gauges(folder, int(process))
            release(folder, int(process))


def _remove_gauges(folder: str | os.PathLike[str], process: int) -> None:
    """Remove the gauges of a process, again wherever another new process was quicker with one."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            multiprocess.mark_process_dead(process, os.fspath(folder))
            return


def _kinds() -> list[str]:
    """List the names with which prometheus_client's files begin."""
    names: dict[type, str] = {Counter: "counter", Histogram: "histogram", Gauge: "gauge"}
    kinds = set()
    for definition in DEFINITIONS.values():
        name, mode = names[definition.kind], definition.options.get("multiprocess_mode")
        kinds.add(name if mode is None else f"{name}_{mode}")
    return sorted(kinds)
