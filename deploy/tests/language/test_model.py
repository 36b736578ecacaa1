import json
import pickle
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import skmode_deploy
from skmode_deploy import bundle, language
from skmode_deploy.errors import (
    BundleError,
    FileHashError,
    GraphInterfaceError,
    ManifestError,
    SampleFormatError,
    SampleMismatchError,
    TokenizerError,
)
from skmode_deploy.language.sampling import Sampler

# Importing transformers and tracing a model take seconds.
pytestmark = pytest.mark.slow

PROMPT = "the dog and"


@pytest.fixture(scope="module")
def model(language_bundle):
    return language.load(language_bundle, unknown="best")


@pytest.fixture
def rewrite(language_bundle, tmp_path):
    """Write a copy with other files whose hashes fit, as a forger would."""

    def rewrite(name, change, **fields):
        manifest = bundle.read(language_bundle)
        files = {each: (language_bundle / each).read_bytes() for each in manifest.files}
        files[name] = change(files[name])
        import dataclasses

        manifest = dataclasses.replace(manifest, **fields)
        bundle.write(tmp_path / "changed", manifest, files)
        return tmp_path / "changed"

    return rewrite


def test_domains(model):
    assert model.domains == ["C++", "en", "fr"]
    texts = ["The cat and the dog", "Le chat et le chien", "for (int i = 0; i < 3; ++i) {"]
    assert model.route(texts).tolist() == ["en", "fr", "C++"]
    routing = model.route_full([*texts, "Ωδή στη χαρά"])
    assert routing.domain.tolist() == [1, 2, 0, -1]
    assert routing.probabilities.shape == (4, 3)
    assert model.route([]).shape == model.score([]).shape == (0,)


def test_batches_do_not_change_scores(model):
    texts = ["x", "The cat and the dog " * 30, "Le chat", "for (int i", "The mat"] * 9
    alone = [model.score([text])[0] for text in texts[:5]] * 9
    np.testing.assert_allclose(model.score(texts), alone, rtol=1e-5)


def test_experts_are_loaded_when_needed(language_bundle):
    model = language.load(language_bundle, unknown="best", max_loaded_experts=2)
    assert model.loaded_experts() == []
    for domain in ("en", "fr", "C++"):
        model.score(["x"], domain=domain)
    assert model.loaded_experts() == ["expert_fr.onnx", bundle.domain_file("C++")]


class TestUnknown:
    def test_error(self, language_bundle):
        model = language.load(language_bundle, unknown="error")
        with pytest.raises(ValueError, match="domain of a text must be known, but that of text 1"):
            model.score(["The cat and the dog", "Ωδή στη χαρά"])
        with pytest.raises(ValueError, match='Name the domain, or load the model with unknown="b'):
            model.generate("Ωδή στη χαρά", 3)
        assert model.generate("Ωδή", 3, domain="en")

    def test_common_needs_a_common_expert(self, language_bundle):
        with pytest.raises(ValueError, match="needs a bundle with common.onnx, which this one"):
            language.load(language_bundle, unknown="common")
        with pytest.raises(ValueError, match='unknown must be "best"'):
            language.load(language_bundle, unknown="nearest")

    def test_default(self, language_bundle):
        assert language.load(language_bundle).unknown == "best"


class TestGenerate:
    def test_streams_the_same_text(self, model):
        for options in ({}, {"temperature": 1.0, "seed": 4}, {"stop": ["a", "the", "zz"]}):
            text = model.generate(PROMPT, 40, domain="en", **options)
            stream = model.generate(PROMPT, 40, domain="en", stream=True, **options)
            pieces = list(stream)
            assert "".join(pieces) == text
            assert all(pieces)
            assert stream.finish_reason in ("stop", "length")
            assert stream.domain == "en"
            assert 0 < stream.n_tokens <= 40

    def test_seeds(self, model):
        draw = [model.generate(PROMPT, 20, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
        assert draw[0] == draw[1] != draw[2]
        assert model.generate(PROMPT, 20, temperature=1.5, top_k=1, seed=3) == model.generate(
            PROMPT, 20
        )
        assert model.generate(PROMPT, 20, temperature=1.5, top_p=0.0) == model.generate(PROMPT, 20)

    def test_stops_before_the_stop_string(self, model):
        text = model.generate(PROMPT, 30, domain="fr")
        stop = text[len(text) // 2 : len(text) // 2 + 3]
        assert model.generate(PROMPT, 30, domain="fr", stop=stop) == text[: text.index(stop)]

    def test_characters_come_whole(self, model):
        text = model.generate("日本", 12, domain="en", temperature=3.0, seed=0)
        stream = model.generate("日本", 12, domain="en", temperature=3.0, seed=0, stream=True)
        assert "".join(stream) == text
        text.encode()

    def test_cancel_ends_it(self, model):
        stream = model.generate(PROMPT, 40, domain="en", temperature=1.0, seed=0, stream=True)
        next(stream)
        stream.cancel()
        assert list(stream) == []
        assert stream.finish_reason is None

    def test_all_positions(self, model):
        n = len(model.tokenize(PROMPT))
        stream = model.generate(PROMPT, domain="en", temperature=1.0, seed=1, stream=True)
        list(stream)
        assert stream.n_prompt_tokens == n
        assert stream.n_tokens == 64 - n or stream.finish_reason == "stop"

    def test_threads(self, language_bundle):
        model = language.load(language_bundle, unknown="best", max_loaded_experts=1)
        jobs = [(domain, seed) for domain in model.domains for seed in range(4)] * 2

        def write(job):
            return model.generate(PROMPT, 8, domain=job[0], temperature=1.0, seed=job[1])

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(write, jobs)) == list(map(write, jobs))


BAD = [
    ({"prompt": ""}, ValueError, "prompt must have at least one character, got none"),
    ({"prompt": b"x"}, TypeError, "prompt must be a str, got bytes: decode it"),
    ({"prompt": "a\udcff"}, ValueError, "must be Unicode without surrogates.*position 1"),
    ({"prompt": "x y " * 64}, ValueError, "fewer tokens than the model has positions, 64, got"),
    ({"prompt": "x" * 10**7}, ValueError, "prompt must have at most .* bytes, got 10000000"),
    ({"max_tokens": 10**9}, ValueError, "max_tokens must be a whole number from 1 to .*None for"),
    ({"max_tokens": 0}, ValueError, "max_tokens must be a whole number from 1"),
    ({"max_tokens": 2.5}, ValueError, "max_tokens must be a whole number from 1"),
    ({"domain": "es"}, ValueError, "domain must be one of 'C..', 'en', 'fr', got 'es'"),
    ({"temperature": -1}, ValueError, "temperature must be a number from 0 to 100, got -1"),
    ({"temperature": float("nan")}, ValueError, "temperature must be a number"),
    ({"top_k": 0}, ValueError, "top_k must be a whole number from 1"),
    ({"top_p": 1.5}, ValueError, "top_p must be a number from 0 to 1"),
    ({"seed": -1}, ValueError, "seed must be a whole number"),
    ({"stop": 3}, ValueError, "stop must be at most 16 strings that are not empty"),
    ({"stop": ["a", ""]}, ValueError, "stop must be at most 16 strings that are not empty"),
    ({"stop": "x" * 1001}, ValueError, "at most 1000 characters"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change, error, message, model):
    options = {"prompt": PROMPT, "max_tokens": 3} | change
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message):
            model.generate(**options)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_bad_texts(model, language_bundle):
    with pytest.raises(TypeError, match=r"texts must be a list of str.*pass \[text\]"):
        model.score("one text")
    with pytest.raises(ValueError, match="Text 1 must have at least one character"):
        model.route(["a", ""])
    with pytest.raises(ValueError, match="Text 0 must have at most 1048576 bytes"):
        model.score(["x" * 10**7])
    small = language.load(language_bundle, max_text_bytes=3)
    with pytest.raises(ValueError, match="at most 3 bytes, got 6"):
        small.route(["日本"])


def test_scoring_keeps_memory_flat(model):
    model.score(["The cat and the dog. "])
    peaks = []
    for n in (200, 2000):
        tracemalloc.start()
        model.score(["The cat and the dog. " * n], domain="en")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**24


def test_a_bundle_may_be_replaced_while_it_is_used(language_bundle, make_language_model, tmp_path):
    """An expert that is first needed afterwards is still that of the bundle that was opened."""
    from skmode.language import export

    shutil.copytree(language_bundle, tmp_path / "lm")
    model = language.load(tmp_path / "lm")
    expected = language.load(language_bundle).score(["x"], domain="fr")
    export(make_language_model("en", "fr", seed=30), tmp_path / "lm")
    assert model.score(["x"], domain="fr") == expected
    assert language.load(tmp_path / "lm").score(["x"], domain="fr") != expected


def test_pickle(model):
    again = pickle.loads(pickle.dumps(model))
    assert again.generate(PROMPT, 5) == model.generate(PROMPT, 5)
    assert again.unknown == "best"


def test_without_the_package_tokenizers(language_bundle, model, monkeypatch):
    from skmode_deploy.running.inputs.texts import tokenizer

    monkeypatch.setattr(tokenizer, "find_spec", lambda name: None)
    plain = language.load(language_bundle, unknown="best")
    for text in ("The cat's 日本 <|endoftext|> \n\n  dog", "x"):
        assert plain.tokenize(text) == model.tokenize(text)
    assert plain.generate(PROMPT, 12) == model.generate(PROMPT, 12)


class TestKinds:
    def test_rows_are_not_read(self, table_bundle):
        with pytest.raises(ManifestError, match="must hold a language model.*skmode_deploy.load"):
            language.load(table_bundle)

    def test_a_predictor_is_not_made(self, language_bundle):
        with pytest.raises(ManifestError, match="got a language model.*skmode_deploy.language.lo"):
            skmode_deploy.load(language_bundle)


class TestTampering:
    def test_a_changed_file(self, language_bundle, tmp_path):
        shutil.copytree(language_bundle, tmp_path / "lm")
        path = tmp_path / "lm" / "expert_fr.onnx"
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)
        with pytest.raises(FileHashError, match="expert_fr.onnx must have the sha256"):
            language.load(tmp_path / "lm")

    def test_tokens_out_of_range(self, rewrite):
        def change(data):
            document = json.loads(data)
            document["added_tokens"].append(
                document["added_tokens"][0] | {"id": 10**6, "content": "<|x|>"}
            )
            return json.dumps(document).encode()

        with pytest.raises(TokenizerError, match="must have tokens below 300.*got 1000000"):
            language.load(rewrite("tokenizer.json", change))

    @pytest.mark.parametrize(
        "data", [b"", b"{}", b"[1]", b"\xff", b'{"model": {"type": "WordPiece"}}']
    )
    def test_no_tokenizer(self, data, rewrite):
        with pytest.raises(TokenizerError, match="must be a byte-level BPE tokenizer"):
            language.load(rewrite("tokenizer.json", lambda _: data))

    def test_a_wrong_graph(self, rewrite, language_bundle):
        router = (language_bundle / "router.onnx").read_bytes()
        with pytest.raises(GraphInterfaceError, match="expert_en.onnx must have the inputs"):
            language.load(rewrite("expert_en.onnx", lambda _: router))

    def test_logits_that_are_not_finite(self, rewrite):
        def change(data):
            graph = onnx.load_from_string(data)
            for tensor in graph.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.dtype == np.float32 and values.ndim == 2:
                    tensor.CopyFrom(numpy_helper.from_array(values * np.nan, tensor.name))
            return graph.SerializeToString()

        model = language.load(rewrite("expert_en.onnx", change))
        with pytest.raises(
            GraphInterfaceError, match="logits of an expert must be finite, got nan"
        ):
            model.generate(PROMPT, 3, domain="en")
        with pytest.raises(SampleMismatchError, match="bits per byte of expert_en.onnx"):
            language.check_samples(model)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda d: d | {"tokens": [[10**9]] * len(d["texts"])}, SampleFormatError),
            (lambda d: d | {"tokens": [[1]] * len(d["texts"])}, SampleMismatchError),
            (lambda d: d | {"texts": []}, SampleFormatError),
            (lambda d: d | {"extra": 1}, SampleFormatError),
            (lambda d: d | {"bits_per_byte": {}}, SampleFormatError),
            (lambda d: d | {"probabilities": [[1, 0, 0]] * len(d["texts"])}, SampleMismatchError),
            (lambda d: [], SampleFormatError),
        ],
    )
    def test_samples(self, change, error, rewrite):
        folder = rewrite("samples.json", lambda data: json.dumps(change(json.loads(data))).encode())
        model = language.load(folder)
        with pytest.raises(error, match="export the model again"):
            language.check_samples(model)


class TestSampler:
    LOGITS = np.log(np.array([0.05, 0.5, 0.3, 0.15], np.float32))

    def draw(self, **options):
        options = {"temperature": 1.0, "top_k": None, "top_p": None, "seed": 0} | options
        sampler = Sampler(**options)
        drawn = [sampler.choose(self.LOGITS) for _ in range(4000)]
        return np.bincount(drawn, minlength=4) / 4000

    def test_frequencies(self):
        np.testing.assert_allclose(self.draw(), [0.05, 0.5, 0.3, 0.15], atol=0.03)
        flat = np.sqrt([0.05, 0.5, 0.3, 0.15])
        np.testing.assert_allclose(self.draw(temperature=2.0), flat / flat.sum(), atol=0.03)
        np.testing.assert_allclose(self.draw(top_k=2), [0, 0.625, 0.375, 0], atol=0.03)
        np.testing.assert_allclose(self.draw(top_p=0.79), [0, 0.625, 0.375, 0], atol=0.03)
        for options in ({"temperature": 1e-310}, {"temperature": 1e-45}, {"top_p": 1e-320}):
            assert self.draw(**options).tolist() == [0, 1, 0, 0]
        assert self.draw(top_p=0.4).tolist() == self.draw(temperature=0).tolist() == [0, 1, 0, 0]


def test_errors_are_of_bundles():
    assert issubclass(TokenizerError, BundleError)
