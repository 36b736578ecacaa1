import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skmode_deploy import bundle, load
from skmode_deploy.running.random_rows import draw_columns, draw_rows


@pytest.fixture
def manifest(table_bundle):
    return bundle.read(table_bundle)


def test_rows_agree_with_the_manifest(manifest):
    rows = draw_rows(manifest, 1000)
    assert 3 <= rows["age"].min() < 10
    assert 70 < rows["age"].max() <= 80
    assert set(rows["city"]) == {"Bern", "Köln"}
    assert set(rows["plan"]) == {1.0, 2.0}
    for name, values in draw_rows(manifest, 1000).items():
        assert_array_equal(values, rows[name])
    assert not np.array_equal(draw_rows(manifest, 1000, seed=1)["age"], rows["age"])


def test_rows_of_an_array_without_ranges(make_regressor):
    rows = draw_rows(bundle.read(make_regressor()), 50)
    assert rows.shape == (50, 3)
    assert rows.dtype == np.float32
    assert ((rows >= 0) & (rows <= 1)).all()


def test_missing_values_where_training_had_some(manifest):
    age, city, plan = draw_columns(manifest, 1000, missing=True)
    assert not np.isnan(age).any()
    assert not np.isnan(plan).any()
    assert 100 < (city == "").sum() < 200
    columns = (dataclasses.replace(manifest.columns[0], has_missing=True), *manifest.columns[1:])
    age, city, _ = draw_columns(dataclasses.replace(manifest, columns=columns), 1000, missing=True)
    assert 100 < np.isnan(age).sum() < 200
    assert (np.isnan(age) & (city == "")).any()  # each by itself
    assert (np.isnan(age) & (city != "")).any()


def test_categories_that_training_did_not_see(manifest):
    _, city, plan = draw_columns(manifest, 32, unseen=True)
    assert np.flatnonzero(city == "unseen").tolist() == [0, 16]
    assert np.flatnonzero(plan == 5.0).tolist() == [8, 24]


@pytest.mark.parametrize(("dtype", "known", "expected"), [
    ("string", ("unseen", "unseen_"), {"unseen", "unseen_", "unseen__"}),
    ("float64", (-7.0, -9.0), {-7.0, -9.0, 19.0}),
    ("float32", (2.0**24,), {2.0**24, 2.0**25}),
    ("int64", (), {0, 1}),
    ("int64", (2**62,), {2**62}),  # no room for another one
    ("float64", (1.5e308,), {1.5e308}),
])  # fmt: skip
def test_an_unseen_category_is_unknown(dtype, known, expected, manifest):
    column = bundle.Column("c", "c", "category", dtype, known)
    manifest = dataclasses.replace(manifest, columns=(column,))
    (values,) = draw_columns(manifest, 100, unseen=True)
    assert set(values.tolist()) == expected


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("layout", "channels"), [("hw", 1), ("hwc", 3), ("chw", 3)])
def test_images(make_image_bundle, layout, channels, dtype):
    """Patterns that differ, in the layout and type of the graph."""
    predictor = load(make_image_bundle(layout, dtype, channels))
    images = draw_rows(predictor.manifest, 50)
    assert images.shape == (50, *predictor.manifest.image.shape)
    assert images.dtype == dtype
    assert images.min() >= 0
    assert 0.9 < images.max() / (255 if dtype == "uint8" else 1) <= 1
    assert len(np.unique(images.reshape(50, -1), axis=0)) == 50
    assert np.array_equal(images, draw_rows(predictor.manifest, 50))
    assert set(predictor.route(images)) == {0, 1}
