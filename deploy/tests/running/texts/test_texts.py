"""Texts as users pass them; the model counts the words good and bad."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmode_deploy
from skmode_deploy import bundle
from skmode_deploy.errors import (
    FileHashError,
    MissingFileError,
    SampleMismatchError,
    TokenizerError,
)
from skmode_deploy.running.inputs.texts import encoding
from skmode_deploy.running.mixture import MixturePredictor
from skmode_deploy.samples import check_samples, draw_rows, read_samples

TEXTS = ["good", "a bad, bad day", "", None, "good bad good"]
LABELS = ["good", "bad", "bad", "bad", "good"]


@pytest.fixture
def predictor(make_text_bundle):
    return skmode_deploy.load(make_text_bundle())


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_predictions(make_text_bundle, strategy):
    predictor = skmode_deploy.load(make_text_bundle(), strategy=strategy)
    prediction = predictor.predict_full(TEXTS)
    assert prediction.value.tolist() == LABELS
    assert prediction.expert.tolist() == [1, 0, 0, 0, 1]
    logits = np.array([1.0, -2.0, 0.0, 0.0, 1.0])
    assert_allclose(prediction.probabilities[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert_array_equal(predictor.predict(TEXTS), prediction.value)
    assert_array_equal(predictor.predict_proba(TEXTS), prediction.probabilities)
    assert_array_equal(predictor.route(TEXTS), prediction.expert)


def test_regression(make_text_bundle):
    for strategy in ("graph", "split"):
        predictor = skmode_deploy.load(
            make_text_bundle(f"{strategy}", task="regression"), strategy=strategy
        )
        assert predictor.predict(TEXTS).tolist() == [1, -2, 0, 0, 1]


@pytest.mark.parametrize(
    "convert",
    [
        tuple,
        lambda texts: np.array(texts, object),
        lambda texts: np.array([text or "" for text in texts]),
        lambda texts: [np.str_(text) if text else np.nan for text in texts],
        lambda texts: [pd.NA if text is None else text for text in texts],
        pd.Series,
        lambda texts: pd.Series(texts, dtype="string"),
        lambda texts: pd.DataFrame({"any name": texts}),
        lambda texts: pl.Series(texts),
        lambda texts: pl.DataFrame({"text": texts}),
        pa.array,
        lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
        lambda texts: pa.table({"text": texts}),
        lambda texts: {"text": texts},
    ],
)
def test_forms(predictor, convert):
    assert predictor.predict(convert(TEXTS)).tolist() == LABELS


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "X must hold at least one text, got none: pass a list"),
        (np.array([]), "at least one text"),
        ("good", r"any number of texts, got a single str: pass a list, \[X\]"),
        (b"good", "got a single bytes"),
        (["good", 3], "Text 1 must be a string, None or NaN, got 3 of type int: convert it"),
        (["good", True], "Text 1 must be a string, None or NaN, got True of type bool"),
        (["good", b"bad"], "got b'bad' of type bytes: decode it, with .decode"),
        (["good", ["bad"]], "Text 1 must be a string"),
        (["good", "a\ud800"], r"Text 1 must be valid Unicode, got .* '\\ud800' at position 1"),
        (["good", "a\0b"], "no null characters, but text 1 has one at position 1: read the file"),
        (["good", "x" * 1001], "at most 1,000 bytes, .* but text 1 has at least 1,001: cut"),
        (["good", "é" * 600], "at most 1,000 bytes, .* but text 1 has 1,200: cut"),
        (np.array([["good", "bad"]]), r"one column, got shape \(1, 2\): pass one column"),
        (pd.DataFrame({"a": ["good"], "b": [1]}), "got a table of 2 columns: select the column"),
        (np.ma.array(["good"], mask=[True]), "must not be a masked array"),
        (3, "must be a list, an array or a column of texts, got int"),
    ],
)
def test_what_is_refused(predictor, texts, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(texts)
    assert predictor.predict(TEXTS).tolist() == LABELS


def test_sizes_at_the_limit(predictor):
    assert predictor.predict(["x" * 1000, "é" * 500]).tolist() == ["bad", "bad"]


def test_a_huge_text_takes_no_memory(predictor):
    text = "good " * 20_000_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="text 1 has at least 100,000,000"):
            predictor.predict(["good", text])
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_max_rows_and_tables_without_rows(make_text_bundle):
    predictor = skmode_deploy.load(make_text_bundle(), max_rows=4)
    with pytest.raises(ValueError, match="at most max_rows=4 texts, got 5: pass them in parts"):
        predictor.predict(TEXTS)
    assert predictor.predict({"text": []}).shape == (0,)


def test_only_the_first_tokens_are_read(predictor):
    """The manifest allows 8 different ones."""
    assert predictor.predict(["a b c d e f good", "a b c d e f g h good"]).tolist() == [
        "good",
        "bad",
    ]


def test_parts_keep_the_order_of_rows(make_text_bundle, monkeypatch):
    folders = [make_text_bundle(), make_text_bundle("table", table=True)]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["good", "bad", "x"], rng.integers(9))) for _ in range(50)]
    rows = [texts, {"age": rng.random(50), "review": texts}]
    for folder, X in zip(folders, rows, strict=True):
        predictor, mixture = (
            skmode_deploy.load(folder),
            MixturePredictor(folder, bundle.read(folder)),
        )
        whole, mixed = predictor.predict_full(X), mixture.predict(X)
        monkeypatch.setattr(encoding, "MAX_CELLS", 8)
        parts = predictor.predict_full(X)
        assert len(list(predictor._inputs.parts(X))) > 5
        for expected, found in zip(whole, parts, strict=True):
            if expected.dtype.kind == "f":
                assert_allclose(found, expected, rtol=1e-6)
            else:
                assert_array_equal(found, expected)
        assert_allclose(mixture.predict(X), mixed, rtol=1e-6)
        monkeypatch.undo()


def test_a_transformer_gets_tokens_in_their_order(make_text_bundle, monkeypatch):
    """Its graph here adds up the vectors of all tokens, and so of the first eight of each text."""
    folder = make_text_bundle("ordered", encoder="transformer")
    assert '"encoder": "transformer"' in (folder / "manifest.json").read_text()
    predictor = skmode_deploy.load(folder)
    tokens = predictor.encode_texts({"text": np.array([["bad bad good"]], object)})["tokens"]
    assert tokens[0].tolist() == [tokens[0, 0], tokens[0, 0], tokens[0, 2]]
    texts = ["bad bad good", "good bad good", "", *["x"] * 40]
    whole = predictor.predict_full(texts)
    assert whole.value[:2].tolist() == ["bad", "good"]
    assert predictor.predict(["bad " * 8 + "good " * 9]).tolist() == ["bad"]
    monkeypatch.setattr(encoding, "MAX_CELLS_IN_ORDER", 8)
    parted = skmode_deploy.load(folder)
    assert len(list(parted._inputs.parts(texts))) > 3
    assert_allclose(parted.predict_full(texts).probabilities, whole.probabilities, rtol=1e-6)
    card = (folder / "README.md").read_text()
    assert "up to 8 in their order" in card
    assert "each with the count 1" in card


def test_one_column_of_two_dimensions(predictor):
    texts = np.array([["good"], ["bad"]], dtype=object)
    assert predictor.predict(texts).tolist() == ["good", "bad"]
    with pytest.raises(ValueError, match="one dimension or one column, got shape"):
        predictor.predict(texts.T)


def test_one_long_text_does_not_pad_all_others(predictor, monkeypatch):
    """The sizes of all runs together are those of the texts, not of the longest one."""
    monkeypatch.setattr(encoding, "MAX_CELLS", 100)
    cells = []
    run = predictor.run
    monkeypatch.setattr(
        predictor,
        "run",
        lambda names, feeds: cells.append(feeds["tokens"].size) or run(names, feeds),
    )
    predictor.predict(["good"] * 500 + ["a b c d e f g h"])
    assert sum(cells) <= 520


def test_the_tokenizer_is_checked(make_text_bundle, tokenizer_json):
    folder = make_text_bundle()
    path = folder / "tokenizer.json"
    path.write_text(tokenizer_json.replace("good", "gooh"))
    for check in (bundle.verify, skmode_deploy.load):
        with pytest.raises(FileHashError, match=r"tokenizer.json must have the sha256"):
            check(folder)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"'tokenizer.json' failed"):
        bundle.verify(folder)


def test_foreign_tokenizers_are_refused(make_text_bundle, tokenizer_json, tmp_path):
    with pytest.raises(TokenizerError, match="at most the 100 tokens that the graph knows, got"):
        skmode_deploy.load(make_text_bundle(n_tokens=100))
    folder = make_text_bundle()
    manifest = bundle.read(folder)
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    for content in (b"\xff", b"[]", tokenizer_json.replace("ByteLevel", "Whitespace").encode()):
        bundle.write(tmp_path / "new", manifest, files | {"tokenizer.json": content})
        with pytest.raises(TokenizerError, match=r"tokenizer.json must be a tokenizer that this"):
            skmode_deploy.load(tmp_path / "new")
    del files["tokenizer.json"]
    bundle.write(tmp_path / "new", manifest, files)
    with pytest.raises(MissingFileError, match=r"one without tokenizer.json: export"):
        bundle.verify(tmp_path / "new")


def test_samples(make_text_bundle, tmp_path):
    """They hold the texts, so that they check the tokenizer, too."""
    folder = make_text_bundle()
    predictor = skmode_deploy.load(folder)
    check_samples(predictor)
    samples = read_samples(folder, predictor.manifest)
    assert samples.inputs["text"].shape == (8, 1)
    manifest = predictor.manifest
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    document = json.loads(files["samples.json"])
    document["inputs"][0]["data"][3] = "good good"
    files["samples.json"] = json.dumps(document).encode()
    bundle.write(tmp_path / "new", manifest, files)
    with pytest.raises(SampleMismatchError, match="of row 3 must be"):
        check_samples(skmode_deploy.load(tmp_path / "new"))
    document["inputs"][0]["data"][3] = "x" * 2000
    files["samples.json"] = json.dumps(document).encode()
    bundle.write(tmp_path / "new", manifest, files)
    with pytest.raises(SampleMismatchError, match="at most 1,000 bytes"):
        check_samples(skmode_deploy.load(tmp_path / "new"))


def test_tables(make_text_bundle):
    predictor = skmode_deploy.load(make_text_bundle(table=True))
    check_samples(predictor)
    table = pd.DataFrame({"review": ["good", "bad", None, None], "age": [0.0, 50, 10, 0]})
    for X in (table, pl.from_pandas(table), pa.Table.from_pandas(table), table.to_dict("list")):
        prediction = predictor.predict_full(X)
        assert prediction.value.tolist() == ["good", "bad", "good", "bad"]
    split = skmode_deploy.load(predictor.path, strategy="split").predict_full(table)
    assert_array_equal(split.probabilities, prediction.probabilities)
    for value, message in [
        ("a\0", "text 1 of column 'review' has one at position 1"),
        ("x" * 2000, "text 1 of column 'review' has at least 2,000"),
        ("\ud800", "Text 1 of column 'review' must be valid Unicode"),
        (3, "Column 'review' must hold strings, got 3 of type int"),
    ]:
        with pytest.raises(ValueError, match=message):
            predictor.predict({"review": ["good", value], "age": [1, 2]})
    with pytest.raises(ValueError, match="none called 'review'"):
        predictor.predict({"age": [1]})


def test_made_up_texts(predictor, make_text_bundle):
    texts = draw_rows(predictor.manifest, 200)
    assert_array_equal(texts, draw_rows(predictor.manifest, 200))
    assert len(set(texts.tolist())) > 190
    assert max(len(text.encode()) for text in texts) <= 1000
    assert not any(text.isascii() for text in texts[:50] if len(text) > 300)
    rows = draw_rows(bundle.read(make_text_bundle("table", table=True)), 3)
    assert list(rows) == ["age", "review"]


def test_pickles_and_forks(predictor):
    copy = pickle.loads(pickle.dumps(predictor))
    assert copy.predict(TEXTS).tolist() == LABELS
    child = os.fork()
    if not child:
        os._exit(0 if predictor.predict(TEXTS).tolist() == LABELS else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_imported_for_others(make_regressor):
    code = (
        "import sys, skmode_deploy; skmode_deploy.load(sys.argv[1]).predict([[1., 2., 3.]]); "
        "assert not {'tokenizers', 'regex', 'PIL'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code, str(make_regressor())], check=True)
