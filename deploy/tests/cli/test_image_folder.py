"""From a folder of images to a table."""

import csv
import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import skmode_deploy
from skmode_deploy.cli import main

PIL = pytest.importorskip("PIL.Image")


@pytest.fixture
def run(capsys):
    """Run the command line in this process."""

    def run(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def folder(tmp_path):
    """Five images, one of them in a folder of its own, and what is none."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for name in ("b.png", "a.PNG", "c, d.jpg", "more/a.jpeg", "é.png", ".thumbnails/x.png"):
        pixels = rng.integers(256, size=(4, 6), dtype=np.uint8)
        PIL.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("none")
    return folder


NAMES = ["a.PNG", "b.png", "c, d.jpg", "é.png", "more/a.jpeg"]


@pytest.mark.parametrize("chunk", [8192, 2])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_csv(make_image_bundle, folder, run, tmp_path, dtype, chunk):
    bundle = make_image_bundle(dtype=dtype)
    target = tmp_path / "scores.csv"
    code, out, err = run("predict", bundle, folder, target, "--chunk-rows", chunk)
    assert (code, out) == (0, "")
    assert "left out files not called .png, .jpg, .jpeg: 1, such as 'notes.txt'" in err
    with target.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["file", "prediction", "probability_dark", "probability_light", "expert",
                      "gate_probability"]  # fmt: skip
    assert [row[0] for row in rows] == NAMES
    expected = skmode_deploy.load(bundle).predict_full([folder / name for name in NAMES])
    assert [row[1] for row in rows] == expected.value.tolist()
    assert_allclose([float(row[3]) for row in rows], expected.probabilities[:, 1], rtol=1e-6)
    assert [int(row[4]) for row in rows] == expected.expert.tolist()


def test_other_outputs(make_image_bundle, folder, run, tmp_path):
    bundle = make_image_bundle(task="regression")
    code, out, _ = run("predict", bundle, folder, "-", "--progress", "--delimiter", ";")
    assert code == 0
    assert out.splitlines()[0] == "file;prediction;expert;gate_probability"
    assert run("predict", bundle, folder, tmp_path / "x.parquet", "--strategy", "split")[0] == 0
    assert pd.read_parquet(tmp_path / "x.parquet")["file"].tolist() == NAMES


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("c, d.jpg", lambda data: data[:-40], "'.*c, d.jpg', must be a .* but .*runcated"),
        ("b.png", lambda data: b"", "'.*b.png', must be a PNG or JPEG file, got what is neither"),
    ],
)
def test_bad_file(make_image_bundle, folder, run, tmp_path, name, change, message):
    """The message names the file, and the old output stays."""
    target = tmp_path / "scores.csv"
    target.write_text("old")
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    code, _, err = run("predict", make_image_bundle(), folder, target, "--chunk-rows", 1)
    assert code == 3
    assert re.search(message, err)
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.glob("*")) == ["images", "photos", "scores.csv"]


def test_other_size(make_image_bundle, folder, run, tmp_path):
    PIL.new("L", (7, 4)).save(folder / "b.png")
    code, _, err = run("predict", make_image_bundle(), folder, tmp_path / "scores.csv")
    assert code == 3
    assert "b.png', must have height 4 and width 6, got 4 and 7: resize or crop it" in err
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_folders(make_image_bundle, folder, run, tmp_path):
    """They are left out, because one may lead back to its own folder; the command says so."""
    (folder / "again").symlink_to(folder, target_is_directory=True)
    code, out, err = run("predict", make_image_bundle(), folder, "-")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(NAMES)
    assert "left out links to folders: 1, such as 'again'" in err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_strange_files(make_image_bundle, folder, run, tmp_path):
    bundle, target = make_image_bundle(), tmp_path / "scores.csv"
    os.mkfifo(folder / "pipe.png")
    code, _, err = run("predict", bundle, folder, target)
    assert code == 3
    assert "An image must be a file, got" in err
    (folder / "pipe.png").unlink()
    os.rename(os.fsencode(folder / "b.png"), os.fsencode(folder) + b"/\xff.png")
    code, _, err = run("predict", bundle, folder, target)
    assert code == 3
    assert "must be text that UTF-8 can encode" in err


def test_usage(make_image_bundle, table_bundle, folder, run, tmp_path):
    images, target = make_image_bundle(), tmp_path / "scores.csv"
    empty = tmp_path / "empty"
    empty.mkdir()
    rows = tmp_path / "rows.csv"
    rows.write_text("image\na.png\n")
    for code, message, *arguments in (
        (3, "INPUT must be a folder with .png, .jpg, .jpeg files", images, empty, target),
        (2, "INPUT must be a folder of images, because the model reads", images, rows, target),
        (
            2,
            "must be a folder of images or a table, got the image",
            images,
            folder / NAMES[0],
            target,
        ),
        (
            2,
            "INPUT must be a file, because the model reads no images",
            table_bundle,
            folder,
            target,
        ),
        (2, "OUTPUT must be called .csv", images, folder, tmp_path / "scores.txt"),
        (2, "--keep and --no-header are for tables", images, folder, target, "--keep", "id"),
    ):
        found, _, err = run("predict", *arguments)
        assert found == code
        assert message in err
        assert not target.exists()


def test_describe_and_verify(make_image_bundle, run):
    bundle = make_image_bundle("hwc", channels=3)
    code, out, _ = run("inspect", bundle)
    assert code == 0
    assert "images      height 4, width 6, RGB\n" in out
    assert "input       image, uint8 (n, h, w, c)\n" in out
    assert "columns" not in out
    code, out, _ = run("verify", bundle)
    assert code == 0
    assert "4 sample rows match the export's predictions" in out
    code, out, _ = run("benchmark", bundle, "--rows", 3, "--seconds", 0.01)
    assert code == 0
    assert len(out.splitlines()) == 2
