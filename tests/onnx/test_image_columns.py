"""Bundles of tables with columns of images predict as the estimator does."""

import io

import numpy as np
import pandas as pd
import polars as pl
import pytest
from skl2onnx import to_onnx
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import export
from skmode_deploy.samples import check_samples

PIL = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.filterwarnings("ignore:Each expert should get some rows")
TOLERANCE = 1e-5
N_ROWS = 120
rng = np.random.default_rng(0)
target = rng.integers(0, 3, N_ROWS)
QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


def cells(values):
    return pd.Series([*values], dtype=object)


def encode(image):
    stream = io.BytesIO()
    PIL.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


grey = rng.integers(256, size=(N_ROWS, 9, 14), dtype=np.uint8)
colours = rng.random((N_ROWS, 6, 5, 3), dtype=np.float32)
table = pd.DataFrame(
    {
        "view": cells(colours),
        "size": rng.normal(size=N_ROWS),
        "text": [f"some words about {word}" for word in np.array(["sun", "moon", "star"])[target]],
        "photo": cells(grey),
        "kind": rng.choice(["a", "b"], N_ROWS),
    }
)
table.loc[::10, "photo"] = None
IMAGES = ["view", "photo"]


def check(model, folder, rows):
    predictor = skmode_deploy.load(folder)
    for n_rows in (1, 2, 50, len(rows)):
        found = predictor.predict_full(rows[:n_rows])
        if found.probabilities is None:
            expected = model.predict(rows[:n_rows])
            np.testing.assert_allclose(found.value, expected, atol=1e-4)
        else:
            expected = model.predict_proba(rows[:n_rows])
            np.testing.assert_allclose(found.probabilities, expected, atol=TOLERANCE)
    check_samples(predictor)
    assert predictor.manifest.files.keys() >= {"samples.json"}
    return predictor


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
def test_all_kinds_of_columns(tmp_path, routing):
    options = {"text_features": ["text"], "image_features": IMAGES, "inference": routing}
    model = MoDEClassifier(**QUICK, **options).fit(table, target)
    export(model, tmp_path, X=table, routing=routing)
    predictor = check(model, tmp_path, table)
    kinds = {column.name: column.kind for column in predictor.manifest.columns}
    assert kinds["view"] == kinds["photo"] == "image"
    assert [column.has_missing for column in predictor.manifest.image_columns] == [False, True]
    without = table.assign(view=None)
    expected = model.predict_proba(without)
    np.testing.assert_allclose(predictor.predict_proba(without), expected, atol=TOLERANCE)
    split = skmode_deploy.load(tmp_path, strategy="split") if routing == "top_expert" else predictor
    np.testing.assert_allclose(
        split.predict_proba(table), model.predict_proba(table), atol=TOLERANCE
    )


@pytest.mark.parametrize("names", [["one", "features"], ["columns/numbers", "label"]])
def test_columns_may_have_any_name(tmp_path, names):
    rows = table[["size", "kind", "text"]].assign(
        **{names[0]: table["photo"], names[1]: cells(grey)}
    )
    options = {"text_features": ["text"], "image_features": names, "inference": "top_expert"}
    model = MoDEClassifier(**QUICK, **options).fit(rows, target)
    export(model, tmp_path)
    check(model, tmp_path, rows)


def test_values_of_images_alone_and_arrays(tmp_path):
    for rows in (table[["photo"]], table[["size", "photo"]].to_numpy(dtype=object)):
        chosen = ["photo"] if isinstance(rows, pd.DataFrame) else [1]
        model = MoDERegressor(**QUICK, image_features=chosen, inference="top_expert")
        model.fit(rows, target * 1.0)
        export(model, tmp_path / "bundle", X=rows)
        check(model, tmp_path / "bundle", rows)


def test_tables_of_other_libraries(tmp_path):
    rows = pl.DataFrame({"size": table["size"].to_numpy(), "photo": [*map(encode, grey)]})
    model = MoDEClassifier(**QUICK, image_features=["photo"], inference="top_expert")
    export(model.fit(rows, target), tmp_path, X=rows)
    check(model, tmp_path, rows)


@pytest.mark.slow
def test_eight_bit_experts(tmp_path):
    model = MoDEClassifier(**QUICK, image_features=["photo"], inference="top_expert")
    rows = table[["size", "photo"]]
    export(model.fit(rows, target), tmp_path, X=rows, quantize="dynamic", tolerance=0.2)
    found = skmode_deploy.load(tmp_path).predict_proba(rows)
    assert np.abs(found - model.predict_proba(rows)).mean() < 0.1


def test_what_cannot_be_exported(tmp_path):
    rows = table[["size", "photo"]]
    model = MoDEClassifier(**QUICK, image_features=["photo"]).fit(rows, target)
    with pytest.raises(TypeError, match="columns of images must be exported without steps"):
        export(make_pipeline(FunctionTransformer(), model), tmp_path / "new", X=rows)
    with pytest.raises(TypeError, match=r"without texts and images.*skmode.onnx.export"):
        to_onnx(model, rows[:2])
