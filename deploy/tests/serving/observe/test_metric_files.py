"""The folder for the counts of several processes, and the leftovers of killed servers."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from skmode_deploy.serving.observe import metric_files

HOLD = """
from skmode_deploy.serving.observe import metric_files

with metric_files.make_folder() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where folders are made, by processes that a test starts as well."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder():
    """A process that has a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def test_the_folder_of_a_running_server_is_kept(holder, temporary):
    theirs = Path(holder.stdout.readline().strip())
    assert theirs.parent == temporary
    with metric_files.make_folder() as ours:
        metric_files.reserve(ours, os.getpid())
        assert theirs.is_dir()
    assert not Path(ours).exists()
    holder.kill()
    holder.wait()
    assert theirs.is_dir()
    with metric_files.make_folder() as ours:
        assert not theirs.exists()
        assert Path(ours).is_dir()


def test_a_file_that_has_no_room_is_not_left_for_readers(temporary, monkeypatch):
    """An empty one could not be read, and with it no metrics at all."""
    seen = []

    def full(descriptor, start, n_bytes):
        seen.extend(path.suffix for path in Path(ours).iterdir() if path.name != metric_files.LOCK)
        raise OSError(errno.ENOSPC, "No space left on device")

    with metric_files.make_folder() as ours:
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="Make room there, or set TMPDIR"):
            metric_files.reserve(ours, os.getpid())
        assert seen == [".partial"]
        assert [path.name for path in Path(ours).iterdir()] == [metric_files.LOCK]


def test_foreign_folders_are_kept(temporary, monkeypatch):
    left = temporary / f"{metric_files.PREFIX}left"
    left.mkdir()
    new = temporary / f"{metric_files.PREFIX}new"  # of a server that starts just now
    new.mkdir()
    (left / metric_files.LOCK).touch()
    with monkeypatch.context() as other:
        other.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
        with metric_files.make_folder():
            assert left.is_dir()
    with metric_files.make_folder():
        assert not left.exists()
        assert new.is_dir()


def test_a_server_starts_without_file_locks(temporary, monkeypatch):
    def fail(file, operation):
        raise OSError("no locks here")

    monkeypatch.setattr(metric_files.fcntl, "flock", fail)
    with metric_files.make_folder() as first, metric_files.make_folder() as second:
        assert Path(first).is_dir()
        assert Path(second).is_dir()
    assert not Path(first).exists()
    assert not Path(second).exists()


def test_two_new_processes_forget_the_dead_ones_at_once(temporary, monkeypatch):
    dead = 2**22 + 1  # beyond any process identifier of Linux: no new process can take it

    def remove_before(path):
        Path(path).unlink()  # as the other process does
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    with metric_files.make_folder() as folder:
        metric_files.reserve(folder, dead)
        gauge = Path(folder, f"gauge_livesum_{dead}.db")
        assert gauge.exists()
        with monkeypatch.context() as other:
            other.setattr(os, "remove", remove_before)
            metric_files.forget_dead(folder)
        assert not gauge.exists()
        assert Path(folder, f"counter_{dead}.db").stat().st_size < metric_files.FILE_BYTES
