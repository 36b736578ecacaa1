"""Tokens in pure Python are those of the package `tokenizers`."""

import json
import pickle
import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from skmode_deploy import Tokenizer
from skmode_deploy.running.inputs.texts import count_tokens, order_tokens, tokenizer
from skmode_deploy.running.inputs.texts.words import PATTERN, word_pattern

EDGES = {
    "empty": "",
    "spaces": "  two  spaces \n\t and\r\n lines   ",
    "contractions": "don't I'LL we've 'tis it's they're I'm he'd 'S ''s",
    "accents": "naïve café Übung e\u0301 Å \u212b K \u1100\u1161\u11a8",
    "marks": "a\u0323\u0307 a\u0307\u0323 \u0301x नमस्ते ก็",
    "new marks": "a\u0345\u08d3\u0334 \U00011935\U00011930 \U00016d67\U00016d67",
    "emoji": "🙂👩‍👩‍👧🏳️‍🌈1️⃣",
    "right to left": "مرحبا بالعالم ١٢٣ \u202bשלום\u202c",  # noqa: RUF001
    "digits": "3.14 ١٢٣ ४५ Ⅷ ½ ² 一二 １２",  # noqa: RUF001
    "white space": "a\t\n\v\f\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000b\xa0c" * 2,
    "control": "a\x00b\x00\x00 \x1c\x1d\x1e\x1f \x7f \u200b\ufeff",
    "case": "ΟΔΟΣ ΣΑΣ İSTANBUL ẞ Ǆ \U00010d50 \u1c89 \U00016ea0",
    "added": "<|endoftext|>a <b>x <b> b<|endoftext|>  <|endoftext",
    "added, in another form": "E\u0301T e\u0301t ÉT éT",
    "planes": "\U0001f600\U00020000\U000323af\U0010ffff\ue000",
}  # fmt: skip

SETTINGS = {
    "plain": {},
    "NFC": {"normalizer": normalizers.NFC()},
    "Lowercase": {"normalizer": normalizers.Lowercase()},
    "both": {"normalizer": normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])},
    "space": {"space": True},
    "Split": {"split": True},
    "Split and space": {"split": True, "space": True},
    "no words": {"words": False},
    "some bytes": {"alphabet": []},
}


def random_text(rng):
    """Draw a text: edge cases, plain words, characters of all planes, white space."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(["", " ", "\n"]).join(rng.choices(list(EDGES.values()), k=3))
    if kind == 1:
        return " ".join(
            "".join(rng.choices("etaoinshrdlu'", k=rng.randint(1, 9))) for _ in range(9)
        )
    if kind == 2:
        highest = rng.choice([0x2FFF, 0xFFFF, 0x10FFFF])
        codes = (rng.randint(0, highest) for _ in range(20))
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    return "".join(rng.choices(EDGES["white space"] + "1'sS.", k=20))


def random_texts(n):
    rng = random.Random(0)
    return [random_text(rng) for _ in range(n)]


def train(*, normalizer=None, space=False, split=False, words=True, alphabet=None):
    library = Library(models.BPE())
    if normalizer is not None:
        library.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=words and not split)
    if split:
        level = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), level])
    library.pre_tokenizer = level
    library.decoder = decoders.ByteLevel()
    if alphabet is None:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
        show_progress=False,
        max_token_length=12,
    )
    library.train_from_iterator(random_texts(300), trainer)
    library.add_tokens(["<b>", "<b>x", "éT"])
    library.add_special_tokens([AddedToken("[x]", normalized=False)])
    return library


@pytest.fixture(scope="module")
def json_text():
    return train().to_str()


def change(json_text, path, value):
    """Return a tokenizer.json with one value changed."""
    document = json.loads(json_text)
    *parents, last = path.split(".")
    part = document
    for name in parents:
        part = part[int(name)] if isinstance(part, list) else part[name]
    part[last] = value
    return json.dumps(document)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_python_gives_the_tokens_of_the_library(setting):
    library = train(**SETTINGS[setting])
    text = library.to_str()
    python = Tokenizer(text, implementation="python")
    texts = [*EDGES.values(), *random_texts(10_000 if setting == "both" else 500)]
    expected = [encoding.ids for encoding in library.encode_batch(texts, add_special_tokens=False)]
    for text, found, tokens in zip(texts, python.encode_batch(texts), expected, strict=True):
        assert found == tokens, ascii(text)
        assert setting != "plain" or python.decode(tokens) == text
    through_library = Tokenizer(library.to_str(), implementation="tokenizers")
    assert through_library.encode_batch(texts) == expected
    assert through_library.encode(texts[3]) == expected[3]
    assert python.n_tokens == library.get_vocab_size(with_added_tokens=True)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gets_the_tokens_of_the_library(tokenizers_of_both, text):
    python, library = tokenizers_of_both
    tokens = python.encode(text)
    assert tokens == library.encode(text)
    assert python.decode(tokens) == text


@pytest.fixture(scope="module")
def tokenizers_of_both():
    text = train().to_str()
    return Tokenizer(text, implementation="python"), Tokenizer(text, implementation="tokenizers")


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_classes_of_all_characters_are_those_of_the_library(step):
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    codes = [code for code in range(0, 0x110000, step) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(codes), 500):
        text = "".join(
            f"a{char}1{char}!{char} \n{char}" for char in map(chr, codes[start : start + 500])
        )
        ends = [end for _, (_, end) in level.pre_tokenize_str(text)]
        assert [found.end() for found in word_pattern().finditer(text)] == ends


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["NFC", "Lowercase"])
def test_all_characters_are_normalized_as_by_the_library(name, step):
    from skmode_deploy.running.inputs.texts.normalizing import normalize

    library = getattr(normalizers, name)()
    for code in range(0, 0x110000, step):
        if not 0xD800 <= code < 0xE000:
            text = f"a\u0345{chr(code)}\u0334"
            assert normalize(text, [name]) == library.normalize_str(text), hex(code)


@pytest.mark.slow
def test_long_words_take_no_quadratic_time(json_text):
    """This ends in time only if twice the length takes about twice the time."""
    python = Tokenizer(json_text, implementation="python")
    texts = [
        "ab" * 50_000,
        "".join(random.Random(0).choices("etaoinshrdlu", k=100_000)),
        " " * 100_000 + "x",
        "\u0301" * 50_000,
        "'" * 100_000,
    ]
    for text in texts:
        tokens = python.encode(text)
        assert python.decode(tokens) == text
        assert tokens == Tokenizer(json_text, implementation="tokenizers").encode(text)


@pytest.mark.parametrize("implementation", ["python", "tokenizers"])
def test_lone_surrogates_are_named(json_text, implementation):
    tokens_of = Tokenizer(json_text, implementation=implementation)
    with pytest.raises(ValueError, match=r"Text 1 must be valid .*'\\ud83d' at position 2: read"):
        tokens_of.encode_batch(["good", "ab\ud83d"])
    with pytest.raises(ValueError, match=r"A text must be valid .*'\\udc80' at position 0"):
        tokens_of.encode(b"\x80".decode("utf-8", "surrogateescape"))
    for bad in (b"bytes", None, 3, np.nan):
        with pytest.raises(TypeError, match="Text 1 must be a string, got"):
            tokens_of.encode_batch(["good", bad])
    with pytest.raises(TypeError, match=r"got a single str: pass \[text\]"):
        tokens_of.encode_batch("good")


def test_the_cache_is_bounded(json_text, monkeypatch):
    monkeypatch.setattr(tokenizer, "MAX_CACHED", 10)
    python = Tokenizer(json_text, implementation="python")
    library = Tokenizer(json_text, implementation="tokenizers")
    texts = random_texts(50)
    assert python.encode_batch(texts) == library.encode_batch(texts)
    python.encode("x" * 1000)
    chunks = python._encoder._chunks
    for cached in (chunks, chunks._words):
        assert 0 < len(cached) <= 10
        assert max(map(len, cached)) <= tokenizer.MAX_CACHED_LENGTH


def test_older_layouts_are_read(json_text):
    document = json.loads(json_text)
    expected = Tokenizer(json_text).encode("the state, don't")
    model = document["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    del model["type"], document["pre_tokenizer"]["use_regex"]
    model["continuing_subword_prefix"] = model["end_of_word_suffix"] = ""
    document["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
    }
    assert Tokenizer(json.dumps(document)).encode("the state, don't") == expected


def test_ignore_merges(json_text):
    """A word that is a token needs no merges to become it."""
    document = json.loads(json_text)
    document["model"]["ignore_merges"] = True
    document["model"]["vocab"]["zqzq"] = 5_000
    text = json.dumps(document)
    found = [
        Tokenizer(text, implementation=name).encode("zqzq") for name in ("python", "tokenizers")
    ]
    assert found == [[5_000], [5_000]]
    assert Tokenizer(text).n_tokens == 5_001


SPLIT = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.type", "WordPiece", "must have the model BPE, got 'WordPiece'"),
        ("model.dropout", 0.1, "option dropout off, got 0.1"),
        ("model.byte_fallback", True, "option byte_fallback off"),
        ("model.end_of_word_suffix", "</w>", "option end_of_word_suffix off"),
        ("model.continuing_subword_prefix", "##", "option continuing_subword_prefix off"),
        ("model.vocab", {"a": -1}, "tokens from 0 up"),
        ("model.vocab", {"a": 1, "b": 1}, "a different number for each token"),
        ("model.vocab", {}, "tokens from 0 up"),
        ("model.merges", [["a", "zzz"]], "without the token 'azzz'"),
        ("model.merges", ["a b c"], "merges of two tokens, got 'a b c'"),
        ("model.merges", None, "a list of merges"),
        ("normalizer", {"type": "NFKC"}, "no normalizers but NFC and Lowercase, got 'NFKC'"),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Strip"}]}, "got 'Strip'"),
        ("pre_tokenizer", {"type": "Whitespace"}, r"got \['Whitespace'\]"),
        ("pre_tokenizer", None, r"got \[\]"),
        (
            "pre_tokenizer",
            {"type": "Sequence", "pretokenizers": [SPLIT, {"type": "ByteLevel"}]},
            "must have the pattern of GPT-2",
        ),
        ("post_processor", {"type": "TemplateProcessing"}, "add no tokens .* 'TemplateProcessing'"),
        ("decoder", {"type": "WordPiece"}, "no decoder but ByteLevel"),
        ("truncation", {"max_length": 3}, "must have no truncation"),
        ("padding", {"strategy": "BatchLongest"}, "must have no padding"),
        ("added_tokens", [{"id": 7, "content": "q", "lstrip": True}], "with lstrip=False"),
        ("added_tokens", [{"id": 7, "content": "<new>"}], "ids of their own, got '<new>' with 7"),
        ("added_tokens", [{"id": "7", "content": "a"}], "a content and an id"),
        ("added_tokens", ["<b>"], "a content and an id"),
        ("added_tokens", 7, "a list of added tokens"),
        ("model", [], 'must be an object with "model"'),
    ],
)  # fmt: skip
def test_other_tokenizers_are_refused_by_name(json_text, path, value, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(change(json_text, path, value))


def test_added_tokens_that_become_equal_are_refused():
    """The library takes either, from one process to the next."""
    library = train(normalizer=normalizers.Lowercase())
    library.add_tokens(["gH", AddedToken("Gh", normalized=False)])
    text = library.to_str()
    assert Tokenizer(text, implementation="python").encode("Gh gh") == library.encode("Gh gh").ids
    library.add_tokens(["gh"])
    with pytest.raises(ValueError, match="normalizers keep apart, got 'gH' and 'gh'"):
        Tokenizer(library.to_str())


def test_an_unknown_token_needs_all_bytes():
    text = train(alphabet=[]).to_str()
    with pytest.raises(ValueError, match="must know all 256 bytes if it has an unk_token"):
        Tokenizer(change(text, "model.unk_token", "<|endoftext|>"))
    text = train().to_str()
    assert Tokenizer(change(text, "model.unk_token", "<|endoftext|>")).encode("a") != []


@pytest.mark.parametrize("text", ["{", "[]", "null", "", "[" * 100_000, '{"model": {"vocab": 1}}'])
def test_what_is_no_tokenizer_is_refused(text):
    with pytest.raises(ValueError, match="A tokenizer must"):
        Tokenizer(text)


def test_parameters_are_checked(json_text, monkeypatch):
    with pytest.raises(TypeError, match="json_text must be the content of a tokenizer.json"):
        Tokenizer(json_text.encode())
    with pytest.raises(ValueError, match="implementation must be"):
        Tokenizer(json_text, implementation="rust")
    with pytest.raises(ValueError, match="Tokens must be among the .* got 99999"):
        Tokenizer(json_text).decode([99_999])
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match="needs the package tokenizers"):
        Tokenizer(json_text, implementation="tokenizers")
    assert Tokenizer(json_text).implementation == "python"


def test_pickles_keep_the_parameters(json_text):
    for implementation in ("python", "tokenizers", "auto"):
        first = Tokenizer(json_text, implementation=implementation)
        second = pickle.loads(pickle.dumps(first))
        assert second.implementation == first.implementation
        assert second.encode("the end") == first.encode("the end")


def test_counts_keep_the_order_of_first_occurrence():
    tokens, counts = count_tokens([[5, 3, 5, 9], [], [2]], max_tokens=2)
    assert_array_equal(tokens, [[5, 3], [0, 0], [2, 0]], strict=True)
    assert_array_equal(counts, np.array([[2, 1], [0, 0], [1, 0]], np.float32), strict=True)
    tokens, counts = count_tokens([], max_tokens=2)
    assert tokens.shape == counts.shape == (0, 1)
    assert count_tokens([[], []], max_tokens=1)[0].shape == (2, 1)
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        count_tokens([[1]], max_tokens=0)


def test_tokens_in_their_order():
    tokens, counts = order_tokens([[5, 3, 5, 9], [], [2]], max_tokens=3)
    assert tokens.tolist() == [[5, 3, 5], [0, 0, 0], [2, 0, 0]]
    assert counts.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert order_tokens([], max_tokens=2)[0].shape == (0, 1)
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        order_tokens([[1]], max_tokens=0)
