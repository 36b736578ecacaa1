"""Texts as users pass them: what is read, what is refused and with which cure."""

import json
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from skmode._encoding.texts import TextEncoder, check_texts, train_tokenizer

TEXTS = ["A fine film", None, "the film", "", "Fine, fine actors"]
READ = ["A fine film", "", "the film", "", "Fine, fine actors"]


def read(X):
    return check_texts(X, "MoDETextClassifier").tolist()


def encoder(texts=READ, tokenizer=None, lowercase=True, max_tokens=100, vocab_size=300):
    return TextEncoder(tokenizer, vocab_size, lowercase, max_tokens).fit(np.array(texts, object))


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        pd.Series,
        lambda items: pd.Series(items, dtype="string"),
        lambda items: pd.DataFrame({"text": items}),
        lambda items: np.array(items, dtype=object),
        lambda items: np.array(items, dtype=object).reshape(-1, 1),
        lambda items: pl.Series("text", items),
        lambda items: pl.DataFrame({"text": items}),
        lambda items: pa.chunked_array([items]),
        lambda items: pd.Series(items, dtype="category"),
    ],
    ids=[
        "list",
        "tuple",
        "Series",
        "strings",
        "table",
        "array",
        "column",
        "pl",
        "pl table",
        "pa",
        "category",
    ],
)
def test_all_kinds_of_texts_read_alike(wrap):
    assert read(wrap(TEXTS)) == READ


def test_arrays_of_strings_and_nan():
    assert read(np.array(["a", "bc"])) == ["a", "bc"]
    assert read(["a", pd.NaT, Decimal("nan"), np.float32("nan")]) == ["a", "", "", ""]
    assert read(["a", float("nan"), np.nan, pd.NA, np.str_("b")]) == ["a", "", "", "", "b"]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "must hold many texts, got a single str: pass a list of texts"),
        (b"one text", "got a single bytes"),
        ([], "Found array with 0 sample"),
        (np.array([], dtype=object), "Found array with 0 sample"),
        (["a", 3], "must be strings, None or NaN, got 3 of type int at position 1"),
        (["a", 3.5], "got 3.5 of type float at position 1"),
        (["a", b"b"], r"got b'b' of type bytes at position 1: decode it"),
        ([["a"], ["b"]], r"got \['a'\] of type list at position 0"),
        (np.array([["a", "b"]]), r"one text for each row, got shape \(1, 2\)"),
        (np.zeros((3, 4)), r"one text for each row, got shape \(3, 4\)"),
        (["a", "\ud800 alone"], "valid Unicode, got the lone surrogate '.ud800' at position 1"),
        (["a", "é" * 2**22], "at most 4194304 bytes in UTF-8, got 8388608 at position 1: split"),
        (["a", "b\0c"], "no null characters, got one in character 1 of the text at position 1"),
        (np.ma.array(["a", "b"], mask=[False, True]), "must not be a masked array"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "must have one column, got 2"),
    ],
)
def test_what_is_no_text_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        read(X)


@pytest.mark.parametrize("X", [3, {"a"}, (text for text in TEXTS)])
def test_other_containers_are_refused(X):
    with pytest.raises(TypeError, match="must be a list, array, Series or column of texts"):
        read(X)


def test_sparse_matrices_are_refused():
    with pytest.raises(TypeError, match="without a vectorizer"):
        read(scipy.sparse.eye_array(3).tocsr())


def test_all_missing_is_refused():
    with pytest.raises(ValueError, match="At least one text must not be missing, got 2"):
        encoder(["", ""])


def test_bags_hold_distinct_tokens_and_missing_texts_are_padding():
    found = encoder()
    tokens, counts = found.transform(np.array(["fine fine fine film", "", "film"], object))
    assert tokens.dtype == np.int32
    assert counts.dtype == np.float32
    assert counts[0].max() == 3
    assert counts[1].max() == 0
    assert tokens.max() < found.n_tokens_ <= 300
    words = found.token_texts(tokens[0][counts[0] > 0])
    assert "".join(words).replace(" ", "") == "finefilm"


def test_only_the_first_tokens_are_read():
    tokens, counts = encoder(max_tokens=2).transform(np.array(["a b c d", "a b"], object))
    assert tokens.shape == counts.shape == (2, 2)
    assert_array_equal(tokens[0], tokens[1])


def test_case_counts_or_not():
    texts = np.array(["FINE", "fine"], object)
    for lowercase in (True, False):
        tokens, _ = encoder(lowercase=lowercase).transform(texts)
        assert (tokens[0].tolist() == tokens[1].tolist()) == lowercase


def test_training_is_the_same_each_time_and_in_any_order():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 4)) + "é 😀" for _ in range(200)]
    first = train_tokenizer(texts, 320, lowercase=True)
    assert train_tokenizer(texts, 320, lowercase=True) == first
    assert train_tokenizer(texts[::-1], 320, lowercase=True) == first


def test_a_tokenizer_of_the_user(tmp_path):
    import tokenizers

    trained = encoder().tokenizer_json_
    (tmp_path / "tokenizer.json").write_text(trained)
    for given in (
        trained,
        tokenizers.Tokenizer.from_str(trained),
        tmp_path / "tokenizer.json",
        str(tmp_path / "tokenizer.json"),
    ):
        found = encoder(["other words"], given)
        assert json.loads(found.tokenizer_json_) == json.loads(trained)
    with pytest.raises(ValueError, match=r"must be the path of a tokenizer.json.*absent.json"):
        encoder(tokenizer=tmp_path / "absent.json")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["😀 é e\u0301", "null \0 byte", "a" * 100_000])
def test_any_string_has_tokens(text):
    _, counts = encoder([text, "b"]).transform(np.array([text], object))
    assert counts.sum() > 0


def test_pickles_hold_the_tokenizer_once():
    found = encoder()
    found.transform(np.array(["a"], object))
    assert "_opened" not in pickle.loads(pickle.dumps(found)).__dict__
