"""Bundles of texts: graphs, parts, samples, tables with texts, and what cannot be exported."""

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from skl2onnx import to_onnx
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skmode_deploy
from skmode import MoDEClassifier, MoDETextClassifier, MoDETextRegressor
from skmode.onnx import export
from skmode_deploy.samples import check_samples

QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (8,),
    "token_embedding_size": 8,
    "vocab_size": 400,
    "max_epochs": 3,
    "random_state": 0,
}
TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
WORDS = np.array(["red", "green", "Blue", "sun", "moon", "étoile", "😀", "river", "stone", "cloud"])
texts = [" ".join(rng.choice(WORDS, rng.integers(0, 12))) for _ in range(2_000)]
target = np.array(["warm" if "red" in text or "sun" in text else "cold" for text in texts])
N_TRAIN = 300


def fit(**options):
    return MoDETextClassifier(**QUICK | options).fit(texts[:N_TRAIN], target[:N_TRAIN])


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gate": "sparse"},
        {"mixing": "representation"},
        {"linear_share": 0.5, "hidden_layer_sizes": (8, 6), "gate_hidden_layer_sizes": (5,)},
    ],
    ids=str,
)
def test_predictions_are_those_of_the_estimator(tmp_path, options, routing):
    model = fit(**options).set_params(inference=routing)
    export(model, tmp_path, X=texts[:N_TRAIN], routing=routing)
    predictor = skmode_deploy.load(tmp_path)
    for n_rows in (1, 2, 7, 256, 2_000):
        found = predictor.predict_full(texts[:n_rows])
        expected = model.predict_proba(texts[:n_rows])
        np.testing.assert_allclose(found.probabilities, expected, atol=TOLERANCE, rtol=0)
        np.testing.assert_array_equal(found.value, model.predict(texts[:n_rows]))


def test_values_of_texts(tmp_path):
    lengths = np.array([len(text) for text in texts], float)
    model = MoDETextRegressor(**QUICK, inference="top_expert")
    model.fit(texts[:N_TRAIN], lengths[:N_TRAIN])
    export(model, tmp_path, X=texts[:N_TRAIN])
    found = skmode_deploy.load(tmp_path).predict(texts)
    expected = model.predict(texts)
    np.testing.assert_allclose(np.ravel(found), expected, atol=TOLERANCE * expected.std())


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    model = fit(inference="top_expert")
    export(model, folder)
    return model, folder


def test_graphs_read_tokens_and_use_stock_operators(bundled):
    graph = onnx.load(bundled[1] / "model.onnx")
    assert {each.domain for each in graph.opset_import} == {""}
    kinds = {each.name: each.type.tensor_type.elem_type for each in graph.graph.input}
    assert kinds == {"tokens": onnx.TensorProto.INT64, "counts": onnx.TensorProto.FLOAT}
    written = (bundled[1] / "tokenizer.json").read_text(encoding="utf-8")
    assert written == bundled[0].tokenizer_json_


def test_no_text_gives_no_prediction(bundled):
    session = onnxruntime.InferenceSession(bundled[1] / "model.onnx")
    feeds = {"tokens": np.zeros((0, 1), np.int64), "counts": np.zeros((0, 1), np.float32)}
    assert [len(each) for each in session.run(None, feeds)] == [0] * 4


def test_missing_texts_are_predicted_alike(bundled):
    model, folder = bundled
    some = ["red", None, ""]
    found = skmode_deploy.load(folder).predict_proba(some)
    np.testing.assert_allclose(found, model.predict_proba(some), atol=TOLERANCE)


def test_samples_are_made_up_texts_that_the_bundle_predicts(bundled):
    predictor = skmode_deploy.load(bundled[1])
    check_samples(predictor)
    assert predictor.manifest.input == "text"
    (column,) = predictor.manifest.columns
    assert column.text.n_tokens == bundled[0].encoder_.n_tokens_
    assert (bundled[1] / "samples.json").exists()


@pytest.mark.slow
def test_eight_bit_experts(tmp_path):
    model = fit(inference="top_expert")
    export(model, tmp_path, X=texts[:N_TRAIN], quantize="dynamic", tolerance=0.1)
    found = skmode_deploy.load(tmp_path).predict_proba(texts)
    assert np.abs(found - model.predict_proba(texts)).mean() < 0.1


def test_what_cannot_be_exported(tmp_path, bundled):
    model = bundled[0]
    pipeline = make_pipeline(FunctionTransformer(list), model)
    with pytest.raises(TypeError, match="A model of texts must be exported without steps"):
        export(pipeline, tmp_path / "new", X=texts)
    with pytest.raises(TypeError, match=r"tables without texts.*skmode.onnx.export"):
        to_onnx(model, np.array(texts[:2])[:, None])


@pytest.mark.slow
def test_tables_with_texts(tmp_path):
    table = pd.DataFrame(
        {
            "size": rng.normal(size=2_000),
            "kind": rng.choice(["a", "b"], 2_000),
            "my remarks": [f"this is a text about {text}" for text in texts],
        }
    )
    table.loc[::50, "my remarks"] = None
    options = {name: QUICK[name] for name in ("n_experts", "hidden_layer_sizes", "max_epochs")}
    model = MoDEClassifier(**options, text_features=["my remarks"], random_state=0)
    model.fit(table[:N_TRAIN], target[:N_TRAIN]).set_params(inference="top_expert")
    export(model, tmp_path, X=table[:N_TRAIN])
    predictor = skmode_deploy.load(tmp_path)
    check_samples(predictor)
    for n_rows in (1, 2, 7, 256, 2_000):
        found = predictor.predict_full(table[:n_rows])
        expected = model.predict_proba(table[:n_rows])
        np.testing.assert_allclose(found.probabilities, expected, atol=TOLERANCE, rtol=0)
        np.testing.assert_array_equal(found.value, model.predict(table[:n_rows]))
    assert (tmp_path / "tokenizer_0.json").exists()
    with pytest.raises(TypeError, match="columns of texts must be exported without steps"):
        export(make_pipeline(FunctionTransformer(), model), tmp_path / "new", X=table)


@pytest.mark.parametrize("order", [("text", "size", "kind"), ("size", "text", "kind", "note")])
def test_columns_of_texts_may_stand_anywhere(tmp_path, order):
    rows = 80
    table = pd.DataFrame(
        {
            "size": rng.normal(size=rows),
            "kind": rng.choice(["a", "b"], rows),
            "text": texts[:rows],
            "note": texts[rows : 2 * rows],
        }
    )[list(order)]
    asked = [name for name in ("text", "note") if name in order]
    model = MoDEClassifier(
        n_experts=2, max_epochs=2, text_features=asked, inference="top_expert", random_state=0
    ).fit(table, target[:rows])
    export(model, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    check_samples(predictor)
    expected = model.predict_proba(table)
    np.testing.assert_allclose(predictor.predict_proba(table), expected, atol=TOLERANCE, rtol=0)
    # Texts of the columns differ in length, one row at a time and in batches.
    table[asked[-1]] = [
        f"{text} {text} once more" * (i % 3) for i, text in enumerate(table[asked[-1]])
    ]
    expected = model.predict_proba(table)
    for part in (slice(None), slice(1), slice(1, 3)):
        found = predictor.predict_proba(table[part])
        np.testing.assert_allclose(found, expected[part], atol=TOLERANCE, rtol=0)
    shuffled = table[list(order)[::-1]]
    np.testing.assert_allclose(predictor.predict_proba(shuffled), expected, atol=TOLERANCE, rtol=0)


def test_other_columns_may_have_the_names_of_tokens(tmp_path):
    rows = 60
    table = pd.DataFrame({"text": texts[:rows], "tokens_text": texts[rows : 2 * rows]})
    table["counts_text_2"], table["text_3"] = rng.normal(size=(2, rows))
    model = MoDEClassifier(
        n_experts=2,
        max_epochs=2,
        text_features=["text", "tokens_text"],
        inference="top_expert",
        random_state=0,
    ).fit(table, target[:rows])
    export(model, tmp_path)
    found = skmode_deploy.load(tmp_path).predict_proba(table)
    np.testing.assert_allclose(found, model.predict_proba(table), atol=TOLERANCE, rtol=0)
