"""The file is written when it is complete, or not at all."""

import os

import pytest
from sklearn.preprocessing import StandardScaler

from skmode.inspection import report


def test_the_file_is_replaced_when_it_is_complete(
    wine, wine_mixture, tmp_path, monkeypatch, no_pictures
):
    path = tmp_path / "a.html"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            report(wine_mixture, *wine, path, n_repeats=1)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.html"]
    assert report(wine_mixture, *wine, str(path), n_repeats=1) == path
    assert "<!DOCTYPE html>" in path.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["a.html"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind there")
def test_file_mode_follows_the_umask(wine, wine_mixture, tmp_path, no_pictures):
    (tmp_path / "usual").touch()
    path = report(wine_mixture, *wine, tmp_path / "a.html", n_repeats=1)
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("place", "options", "error", "message"),
    [
        ("no/such/a.html", {}, FileNotFoundError, "must be in a folder that exists, got .*make"),
        (".", {}, IsADirectoryError, "must name a file, got the folder .*add a name"),
        ("a.html", {"margin": -1}, ValueError, "margin must be zero or more, got -1"),
        ("a.html", {"max_samples": 0}, ValueError, "max_samples must be at least 1, got 0"),
        ("a.html", {"tolerance": 1.0}, ValueError, "tolerance is for regression"),
        ("a.html", {"n_repeats": 0}, ValueError, "n_repeats .*at least 1, got 0"),
    ],
)
def test_invalid_input_raises(place, options, error, message, wine, wine_mixture, tmp_path):
    with pytest.raises(error, match=message):
        report(wine_mixture, *wine, tmp_path / place, **options)
    assert os.listdir(tmp_path) == []


def test_an_estimator_without_mixture_raises(wine, tmp_path):
    with pytest.raises(TypeError, match="must be a fitted MoDEClassifier or MoDERegressor"):
        report(StandardScaler().fit(wine[0]), *wine, tmp_path / "a.html")


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_missing_packages_are_named(package, without, tmp_path):
    without(package)
    with pytest.raises(ImportError, match="install skmode with its extra `report`"):
        report(None, None, None, tmp_path / "a.html")  # before any work
    assert os.listdir(tmp_path) == []
