"""Columns of images in tables, beside numbers, categories and texts."""

import io
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import (
    FeatureImportance,
    expert_attention,
    feature_importances,
    report,
)

PIL = pytest.importorskip("PIL.Image")
QUICK = {"n_experts": 2, "hidden_layer_sizes": (16,), "max_epochs": 8, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
N_ROWS = 200
target = rng.integers(0, 2, N_ROWS)


def draw(label):
    """A grey image with a bar, which stands or lies."""
    image = rng.integers(0, 80, (8, 8), dtype=np.uint8)
    image[(slice(2, 6), slice(3, 5)) if label else (slice(3, 5), slice(2, 6))] += 120
    return image


def column(cells):
    return pd.Series([*cells], dtype=object)


def encode(image):
    if image is None:
        return None
    stream = io.BytesIO()
    PIL.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


table = pd.DataFrame(
    {
        "size": rng.normal(size=N_ROWS),
        "photo": column(map(draw, target)),
        "kind": rng.choice(["a", "b"], N_ROWS),
    }
)
table.loc[::20, "photo"] = None
table.loc[::17, "size"] = np.nan


def fit(X=table, y=target, **options):
    return MoDEClassifier(**QUICK | {"image_features": ["photo"]} | options).fit(X, y)


@pytest.fixture(scope="module")
def model():
    return fit()


def test_images_are_read_beside_the_other_columns(model):
    kinds = {column.name: column.kind for column in model.encoder_.columns_}
    assert kinds == {"size": "number", "photo": "image", "kind": "category"}
    assert model.score(table, target) > 0.9
    assert model.route(table).shape == (N_ROWS,)
    assert model.expert_predict(table).shape == (N_ROWS, 2)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict_proba(table), model.predict_proba(table))
    assert clone(model).get_params()["image_features"] == ["photo"]
    assert "images: photo" in model._repr_html_()


def test_cells_of_any_kind_are_the_same_images(model, tmp_path):
    expected = model.predict_proba(table)
    coded = [encode(image) for image in table["photo"]]
    paths = ["" if each is None else str(tmp_path / f"{i}.png") for i, each in enumerate(coded)]
    for path, each in zip(paths, coded, strict=True):
        if path:
            (tmp_path / path).write_bytes(each)
    opened = [None if each is None else PIL.fromarray(each) for each in table["photo"]]
    for cells in (coded, paths, opened):
        assert_array_equal(model.predict_proba(table.assign(photo=column(cells))), expected)
    columns = {"size": table["size"].to_numpy(), "photo": coded, "kind": table["kind"].tolist()}
    for other in (pl.DataFrame(columns), pa.table(columns)):
        assert_allclose(model.predict_proba(other), expected, atol=1e-6)


def test_grey_files_fit_arrays_with_one_channel():
    cells = [None if each is None else each[..., None] for each in table["photo"]]
    model = fit(table.assign(photo=column(cells)), max_epochs=1)
    coded = table.assign(photo=column(map(encode, table["photo"])))
    expected = model.predict_proba(table.assign(photo=column(cells)))
    assert_array_equal(model.predict_proba(coded), expected)


def test_arrays_of_polars_keep_their_type(model):
    lists = [None if photo is None else photo.tolist() for photo in table["photo"]]
    arrays = pl.Series("photo", lists, dtype=pl.Array(pl.UInt8, (8, 8)))
    others = {name: table[name].to_numpy() for name in ("size", "kind")}
    frame = pl.DataFrame({"size": others["size"], "photo": arrays, "kind": others["kind"]})
    expected = model.predict_proba(table)
    assert_array_equal(model.predict_proba(frame), expected)
    assert_array_equal(fit(frame).predict_proba(frame), expected)


def test_positions_and_masks_of_arrays_mean_the_same():
    expected = fit(max_epochs=2).predict_proba(table)
    array = table.to_numpy(dtype=object)
    for chosen in ([1], [False, True, False]):
        options = {"image_features": chosen, "categorical_features": [2], "max_epochs": 2}
        assert_allclose(fit(array, **options).predict_proba(array), expected, atol=1e-6)


def test_a_missing_image_is_one_of_the_mean_colour(model):
    mean = round(np.mean([image.mean() for image in table["photo"] if image is not None]))
    plain = column([np.full((8, 8), mean, np.uint8)] * N_ROWS)
    expected = model.predict_proba(table.assign(photo=plain))
    for missing in (None, np.nan, pd.NA, ""):
        found = model.predict_proba(table.assign(photo=column([missing] * N_ROWS)))
        assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"'photo' of image_features .* At least one image must"):
        fit(table.assign(photo=None))


@pytest.mark.slow
def test_options_of_tables_work():
    colour = column(
        None if image is None else np.stack([image] * 3, axis=2) / np.float32(255)
        for image in table["photo"]
    )
    both = table.assign(photo=colour, view=table["photo"])
    options = {"image_features": ["photo", "view"], "gate": "sparse", "max_epochs": 2}
    assert len(fit(both, **options).net_.module_.trunk.images) == 2
    values = MoDERegressor(**QUICK, image_features=["photo"]).fit(table[["photo"]], target * 2.0)
    assert values.score(table[["photo"]], target * 2.0) > 0.5
    teacher = MoDEClassifier(**QUICK | {"max_epochs": 1}, image_features=["photo"])
    taught = fit(max_epochs=2, teacher=teacher, teacher_cv=2)
    assert np.isfinite(taught.predict_proba(table)).all()
    alone = fit(table[["photo"]], max_epochs=1, teacher=teacher, teacher_cv=2)  # no made-up rows
    assert alone.predict(table[["photo"]]).shape == (N_ROWS,)
    search = GridSearchCV(fit(max_epochs=1), {"alpha": [0, 1]}, cv=2).fit(table, target)
    assert search.best_estimator_.encoder_.image_columns[0].name == "photo"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (3, "must hold images. Each image must be an array, .* got int for image 5"),
        (
            np.zeros((8, 9), np.uint8),
            r"one shape, got \(8, 8\) for image 1 and \(8, 9\) for image 5",
        ),
        (np.zeros((8, 8)), "must have one type, got uint8 for image 1 and float64 for image 5"),
        (b"no image", "must be PNG or JPEG, got image 5"),
        (encode(table["photo"][5])[:60], "must be whole images, got image 5"),
        (PIL.new("CMYK", (8, 8)), "got CMYK for image 5: convert it"),
        (PIL.new("L", (9000, 10000)), "must have at most 89,478,485 pixels"),
    ],
    ids=["number", "size", "type", "file", "cut", "colours", "bomb"],
)
def test_what_is_no_image_is_refused(model, cell, message):
    cells = [*table["photo"]]
    cells[5] = cell
    changed = table.assign(photo=column(cells))
    for call in (lambda: fit(changed), lambda: model.predict(changed)):
        with pytest.raises(ValueError, match=f"Column 'photo' of image_features .*{message}"):
            call()


def test_a_missing_file_is_named_with_its_row_and_column(model):
    cells = [*table["photo"]]
    cells[5] = "nowhere.png"
    changed = table.assign(photo=column(cells))
    for call in (lambda: fit(changed), lambda: model.predict(changed)):
        with pytest.raises(FileNotFoundError, match="Column 'photo' .* image 5: .*'nowhere.png'"):
            call()


def test_wrong_choices_are_refused(model):
    with pytest.raises(ValueError, match="image_features names must be columns of a DataFrame"):
        fit(image_features=["absent"])
    with pytest.raises(ValueError, match="The 'image_features' parameter"):
        fit(image_features="photo")
    with pytest.raises(ValueError, match=r"got \{'photo'\} of type set: pass a list"):
        fit(image_features={"photo"})
    for other in ("categorical_features", "text_features"):
        with pytest.raises(ValueError, match=r"got \['photo'\] in both"):
            fit(**{other: ["photo"]})
    with pytest.raises(ValueError, match="or in image_features if it holds images"):
        fit(image_features=None)
    with pytest.raises(ValueError, match=r"images of shape \(8, 8\) .* as training did"):
        model.predict(table.assign(photo=column([np.zeros((8, 9), np.uint8)] * N_ROWS)))


@pytest.mark.parametrize("method", ["permutation", "integrated_gradients"])
def test_attention_by_kind_of_column(model, method):
    attention = expert_attention(model, table, target, method, random_state=0)
    shares = attention.by_kind()
    assert shares.index.tolist() == ["number", "category", "image"]
    # Each photo tells the class. One expert has all rows here, so shuffling moves no gate.
    assert shares.max(axis=1).idxmax() == "image"
    assert (shares.max(axis=1)[["number", "category"]] < 0.5).all()
    assert_allclose(shares.sum()[shares.sum() > 0], 1)
    if method == "integrated_gradients":
        assert attention.completeness_error < 1e-3
    with pytest.raises(ValueError, match="needs the columns of a table"):
        type(attention)(**{**vars(attention), "kinds": None}).by_kind()


@pytest.mark.slow
def test_report_and_importances(model, tmp_path):
    importances = feature_importances(fit(callbacks=[FeatureImportance(random_state=0)]))
    assert importances.argmax() == 1
    path = report(model, table, target, tmp_path / "report.html", n_repeats=1)
    assert "columns of images" in path.read_text(encoding="utf-8")
