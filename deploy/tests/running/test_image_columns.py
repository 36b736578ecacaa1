"""Columns of images in tables: the model says how light both halves of a photo are."""

import io
import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet

import skmode_deploy
from skmode_deploy import bundle
from skmode_deploy.bundle import Manifest
from skmode_deploy.cli import main
from skmode_deploy.samples import check_samples, sample_inputs

PIL = pytest.importorskip("PIL.Image")
N_ROWS = 5
PHOTOS = list(np.random.default_rng(0).integers(256, size=(N_ROWS, 4, 6), dtype=np.uint8))
AGES = np.arange(N_ROWS) * 10.0


def encode(array):
    stream = io.BytesIO()
    PIL.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def table(photos=PHOTOS):
    cells = np.empty(len(photos), object)
    cells[:] = photos
    return pd.DataFrame({"photo": cells, "age": AGES[: len(photos)]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_image_bundle):
    return write_image_bundle(tmp_path_factory.mktemp("photos") / "photos", table=True)


@pytest.fixture(scope="module")
def model(folder):
    return skmode_deploy.load(folder)


@pytest.fixture
def expected():
    lightness = np.array([photo.mean() / 255 for photo in PHOTOS])
    return lightness + 0.001 * AGES


def test_cells_of_any_kind_are_the_same_images(model, expected, tmp_path):
    for i, photo in enumerate(PHOTOS):
        (tmp_path / f"{i}.png").write_bytes(encode(photo))
    coded = [encode(photo) for photo in PHOTOS]
    tables = [
        table(),
        {"photo": PHOTOS, "age": AGES},
        {"photo": np.stack(PHOTOS), "age": AGES},
        table([PIL.fromarray(photo) for photo in PHOTOS]),
        table(coded),
        table([str(tmp_path / f"{i}.png") for i in range(N_ROWS)]),
        pl.DataFrame({"photo": coded, "age": AGES}),
        pa.table({"photo": coded, "age": AGES}),
        pd.concat([table()] * 20, ignore_index=True),
    ]
    for rows in tables:
        found = model.predict_proba(rows)[:, 1]
        assert_allclose(found[:N_ROWS], expected, rtol=1e-5)
    assert_allclose(model.predict_proba(table(PHOTOS[:1]))[:, 1], expected[:1], rtol=1e-5)
    assert model.predict(table([])).shape == (0,)


def test_cells_of_arrays_and_tensors_beside_missing_ones(model, expected):
    torch = pytest.importorskip("torch")
    rows = {"photo": [None, *map(torch.as_tensor, PHOTOS[1:])], "age": AGES}
    known = model.predict_proba(rows)[1:, 1]
    assert_allclose(known, expected[1:], rtol=1e-5)
    arrays = pl.Series(
        [None, *(photo.tolist() for photo in PHOTOS[1:])], dtype=pl.Array(pl.UInt8, (4, 6))
    )
    assert_array_equal(
        model.predict_proba(pl.DataFrame({"photo": arrays, "age": AGES}))[1:, 1], known
    )
    whole = pl.DataFrame({"photo": np.stack(PHOTOS), "age": AGES})
    assert_array_equal(model.predict_proba(whole)[1:, 1], known)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, ""])
def test_a_missing_image_has_the_colour_that_the_manifest_states(model, missing):
    rows = table([PHOTOS[0], missing, PHOTOS[2]])
    plain = table([PHOTOS[0], np.full((4, 6), 200, np.uint8), PHOTOS[2]])
    assert_array_equal(model.predict_proba(rows), model.predict_proba(plain))


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (PHOTOS[0].T, r"Image 1 of column 'photo' must have shape \(4, 6\), got \(6, 4\)"),
        (PHOTOS[0] / 255, "Image 1 of column 'photo' must be of uint8"),
        (b"no image", "Image 1 of column 'photo' must be a PNG or JPEG file"),
        (encode(PHOTOS[0])[:-30], "Image 1 of column 'photo' must be a whole image"),
        (
            PIL.new("CMYK", (6, 4)),
            "Image 1 of column 'photo' must be grey of 8 bits, got mode CMYK",
        ),
        (3, "Image 1 of column 'photo' must be an array, .*, got int"),
    ],
    ids=["size", "type", "file", "cut", "colours", "number"],
)
def test_what_is_no_image_is_refused(model, photo, message):
    with pytest.raises(ValueError, match=message):
        model.predict(table([PHOTOS[0], photo, PHOTOS[1]]))


def test_columns_must_be_of_one_length(model):
    with pytest.raises(ValueError, match="All columns must have the same number of rows"):
        model.predict({"photo": PHOTOS, "age": AGES[:3]})


def test_manifest_and_samples(folder, model):
    manifest = model.manifest
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    jsonschema = pytest.importorskip("jsonschema")
    schema = resources.files("skmode_deploy").joinpath("manifest.schema.json").read_text()
    jsonschema.validate(json.loads(text), json.loads(schema))
    assert manifest.n_pixel_values == 24
    check_samples(model)
    assert sample_inputs(manifest, table())["photo"].shape == (N_ROWS, 4, 6)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "'photo': np.zeros((1, 4, 6), dtype=np.uint8)," in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float32"}, r"columns\[1\].dtype in manifest.json must be that of its image"),
        (
            {"image": None},
            r"columns\[1\].image in manifest.json must be present if",
        ),
        ({"kind": "number"}, r"columns\[1\].image in manifest.json must be present if"),
        (
            {"missing": (300.0,)},
            r"columns\[1\].image.missing .* must be numbers of dtype from 0 to",
        ),
        ({"missing": (1.5,)}, r"columns\[1\].image.missing .* must be numbers of dtype from 0 to"),
        ({"missing": (1.0, 2.0)}, r"columns\[1\].image.missing .* must be of length channels, 1"),
        ({"channels": 3}, r"columns\[1\].image.channels .* must be 1 if layout is 'hw'"),
    ],
)
def test_manifests_that_contradict_themselves(model, change, message):
    age, photo = model.manifest.columns
    in_image = {name: change[name] for name in ("missing", "channels") if name in change}
    image = replace(photo.image, **in_image) if in_image else photo.image
    others = {name: value for name, value in change.items() if name not in in_image}
    photo = replace(photo, **{"image": image, **others})
    with pytest.raises(bundle.BundleError, match=message):
        Manifest.from_json(replace(model.manifest, columns=(age, photo)).to_json())


def test_command_line(folder, expected, tmp_path, capsys):
    paths = [str(tmp_path / f"{i}.png") for i in range(N_ROWS)]
    for path, photo in zip(paths, PHOTOS, strict=True):
        PIL.fromarray(photo).save(path)
    table([*paths[:4], ""]).to_csv(tmp_path / "rows.csv", index=False)
    coded = [*map(encode, PHOTOS[:4]), None]
    parquet.write_table(pa.table({"photo": coded, "age": AGES}), tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        out = tmp_path / f"out_{name}.csv"
        assert main(["predict", str(folder), str(tmp_path / name), str(out)]) == 0
        found = pd.read_csv(out)["probability_light"]
        assert_allclose(found[:4], expected[:4], rtol=1e-5)
        assert_allclose(found[4], 200 / 255 + 0.04, rtol=1e-5)
    table(["absent.png"]).to_csv(tmp_path / "rows.csv", index=False)
    assert main(["predict", str(folder), str(tmp_path / "rows.csv"), str(out)]) != 0
    assert "absent.png" in capsys.readouterr().err
    assert main(["inspect", str(folder)]) == 0
    assert "height 4, width 6, grey; may be missing" in capsys.readouterr().out
    assert main(["verify", str(folder)]) == 0
    assert main(["benchmark", str(folder), "--rows", "2", "--seconds", "0.01"]) == 0


def test_many_images_are_computed_in_parts(model, expected, monkeypatch):
    monkeypatch.setattr("skmode_deploy.running.inputs.reader.MAX_PIXEL_VALUES", 50)  # two photos
    heights, run = [], model.run

    def watched(outputs, feeds):
        heights.append({len(values) for values in feeds.values()})
        return run(outputs, feeds)

    monkeypatch.setattr(model, "run", watched)
    assert_allclose(model.predict_proba(table())[:, 1], expected, rtol=1e-5)
    assert heights == [{2}, {2}, {1}]
