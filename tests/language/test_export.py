import hashlib
import os
import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

from skmode.language import ModularLanguageModel, export
from skmode.language._export import experts, parity
from skmode.language._export.router import build_router
from skmode_deploy import bundle, language

# Importing transformers and tracing a model take seconds.
pytestmark = pytest.mark.slow

TEXTS = ["the dog and the cat", "le chien et le chat", "int i = 0;", "x", "日本語", "the cat " * 60]


def hashes(folder):
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in sorted(os.listdir(folder))
    }


def bits_per_byte(model, text, domain, common=None):
    """By torch, text by text, window by window: an end of text, then the tokens."""
    tokens = model.tokenizer_.encode(text, add_special_tokens=False).ids
    read = [0, *tokens[:-1]]
    nats = 0.0
    for a in range(0, len(tokens), model.max_length_):
        rows = torch.tensor([read[a : a + model.max_length_]])
        with torch.no_grad():
            logits = model.experts_[domain](input_ids=rows).logits
            if common is not None:
                logits = (logits + common(input_ids=rows).logits) / 2
        targets = torch.tensor(tokens[a : a + model.max_length_])
        nats += float(torch.nn.functional.cross_entropy(logits[0], targets, reduction="sum"))
    return nats / np.log(2) / len(text.encode())


def test_files(language_bundle, language_model):
    manifest = bundle.verify(language_bundle)
    assert manifest.language.names == ("C++", "en", "fr")
    assert {"router.onnx", "tokenizer.json", "expert_en.onnx", bundle.domain_file("C++")} < (
        manifest.files.keys()
    )
    assert "common.onnx" not in manifest.files
    assert manifest.n_outputs == 300
    assert manifest.language.max_length == 64
    assert "# Language model of 3 domains" in (language_bundle / "README.md").read_text()
    assert language.check_samples(language.load(language_bundle)) == 8


@pytest.mark.parametrize(
    ("alphas", "alpha", "row"),
    [
        (None, 0, None),
        ({}, 0, None),
        ({"en": 0.9, "fr": 0.9}, 0.9, "| 0.9 |"),
        ({"en": "loss_ratio", "fr": "loss_ratio"}, 0, "| `loss_ratio` |"),
        ({"fr": 0.9}, 0, "| no teacher |"),
    ],
)
def test_the_card_tells_of_a_teacher_where_there_was_one(alphas, alpha, row, tmp_path,
                                                         make_language_model):  # fmt: skip
    model = make_language_model("en", "fr")
    model.domain_shares_ = {"fr": 0.9, "en": 0.1}
    if alphas is not None:
        model.domain_alphas_ = alphas
    export(model, tmp_path / "lm")
    manifest = bundle.verify(tmp_path / "lm")
    assert manifest.alpha == alpha
    assert manifest.expert_usage == (0.1, 0.9)
    domains = {each.name: each.alpha for each in manifest.language.domains}
    assert domains == {"en": None, "fr": None} | (alphas or {})
    card = (tmp_path / "lm" / "README.md").read_text()
    assert row in card if row else "alpha" not in card.lower()


@pytest.mark.parametrize(
    ("unknown", "common", "expected"),
    [("best", True, "best"), ("common", True, "common"), ("error", False, "error"),
     ("teacher", False, "best"), ("teacher", True, "common")],
)  # fmt: skip
def test_the_bundle_treats_unknown_domains_as_the_model(unknown, common, expected, tmp_path,
                                                        make_language_model):  # fmt: skip
    model = make_language_model("en", "fr", common=common)
    model.unknown = unknown
    export(model, tmp_path / "lm")
    assert language.load(tmp_path / "lm").unknown == expected
    assert language.load(tmp_path / "lm", unknown="best").unknown == "best"


@pytest.mark.parametrize("kind", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_the_graph_gives_the_models_logits(kind, make_language_model):
    """In any chunks, within 1e-5; experts of one architecture share a trace, and stay exact."""
    model = make_language_model("en", "fr", kind=kind, seed=7)
    traces = len(experts._traces)
    for name, expert in model.experts_.items():
        graph = experts.convert_expert(expert, name)
        session = parity.open_session(experts.serialize(graph, name), name)
        assert parity.find_difference(session, expert, 64) < 1e-5
        tensors = {tensor.name for tensor in graph.graph.initializer}
        assert not [node for node in graph.graph.node if node.metadata_props]
        assert tensors & {f"model.{key}" for key in expert.state_dict()}
    assert len(experts._traces) <= traces + 1


def test_other_weights_are_noticed(language_model):
    graph = experts.convert_expert(language_model.experts_["en"], "expert_en.onnx")
    session = parity.open_session(experts.serialize(graph, "e"), "e")
    assert parity.find_difference(session, language_model.experts_["fr"], 64) > 1e-3


@pytest.mark.parametrize(
    "options",
    [{}, {"method": "logistic"}, {"abstain": "probability"}, {"abstain": None}],
)
def test_the_router_is_exact(options, language_model):
    router = type(language_model.router_)(n_buckets=1024, random_state=0, **options)
    texts = [text for own in language_model.texts.values() for text in own]
    router.fit(texts, [name for name, own in language_model.texts.items() for _ in own])
    session = parity.open_session(build_router(router).SerializeToString(), "router.onnx")
    contents = [text.encode() for text in [*TEXTS, "ab", "abc"]]
    padded = np.zeros((len(contents), max(map(len, contents))), np.uint8)
    for row, content in zip(padded, contents, strict=True):
        row[: len(content)] = np.frombuffer(content, np.uint8)
    lengths = np.array([len(content) for content in contents])
    outputs = session.run(None, {"bytes": padded, "lengths": lengths})
    assert_allclose(outputs[0], router.predict_proba(contents), atol=1e-6)
    assert (outputs[1] == router.predict_proba(contents).argmax(1)).all()
    assert_allclose(outputs[2], router.confidence(contents), rtol=1e-9)


def test_scores_and_routes_are_those_of_torch(language_bundle, language_model):
    model = language.load(language_bundle, unknown="best")
    assert model.route(TEXTS).tolist() == language_model.router_.predict(TEXTS).tolist()
    for domain in model.domains:
        expected = [bits_per_byte(language_model, text, domain) for text in TEXTS]
        assert_allclose(model.score(TEXTS, domain=domain), expected, rtol=1e-5)
    best = language_model.router_.predict_proba(TEXTS).argmax(1)
    expected = [
        bits_per_byte(language_model, text, model.domains[i])
        for text, i in zip(TEXTS, best, strict=True)
    ]
    assert_allclose(model.score(TEXTS), expected, rtol=1e-5)


def test_greedy_is_transformers_greedy(language_bundle, language_model):
    model = language.load(language_bundle)
    for domain in model.domains:
        expert = language_model.experts_[domain]
        tokens = language_model.tokenizer_.encode("the dog and", add_special_tokens=False).ids
        prompt = torch.tensor([[0, *tokens]])
        written = expert.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30,
            do_sample=False, pad_token_id=0,
        )[0, prompt.shape[1] :].tolist()  # fmt: skip
        text = language_model.tokenizer_.decode([token for token in written if token])
        assert model.generate("the dog and", 30, domain=domain) == text


def test_a_common_expert(make_language_model, tmp_path):
    """The mean of both logits; alone where the domain is unknown."""
    own = make_language_model("en", "fr", common=True)
    export(own, tmp_path / "b")
    model = language.load(tmp_path / "b")
    assert model.unknown == "common"
    expected = [bits_per_byte(own, text, "en", own.common_) for text in TEXTS]
    assert_allclose(model.score(TEXTS, domain="en"), expected, rtol=1e-5)
    unknown = "Ωδή στη χαρά"
    assert model.route([unknown])[0] is None
    own.experts_["none"] = own.common_
    assert_allclose(model.score([unknown]), [bits_per_byte(own, unknown, "none")], rtol=1e-5)
    generation = model.generate(unknown, 3, stream=True)
    assert generation.domain is None
    assert len(list(generation)) <= 3


class TestOnly:
    def test_one_expert_is_replaced(self, language_bundle, language_model, make_language_model,
                                    tmp_path):  # fmt: skip
        shutil.copytree(language_bundle, tmp_path / "lm" / "1")
        other = make_language_model("en", "fr", "C++", seed=50)
        changed = type(language_model)(**vars(language_model))
        changed.experts_ = {**language_model.experts_, "fr": other.experts_["fr"]}
        export(changed, tmp_path / "lm" / "2", only=["fr"], base=tmp_path / "lm" / "1")
        before, after = hashes(tmp_path / "lm" / "1"), hashes(tmp_path / "lm" / "2")
        differs = {name for name in before if before[name] != after[name]}
        assert before == hashes(language_bundle)  # the base stays as it is
        assert "expert_fr.onnx" in differs
        assert differs <= {"expert_fr.onnx", "manifest.json", "README.md", "samples.json"}
        model = language.load(tmp_path / "lm" / "2")
        expected = bits_per_byte(changed, TEXTS[1], "fr")
        assert_allclose(model.score([TEXTS[1]], domain="fr"), [expected], rtol=1e-5)

    def test_an_expert_that_was_replaced_meanwhile_is_refused(
        self, language_bundle, language_model, make_language_model, tmp_path
    ):
        other = make_language_model("en", "fr", "C++", seed=50)
        changed = type(language_model)(**vars(language_model))
        changed.experts_ = {**language_model.experts_, "fr": other.experts_["fr"]}
        before = hashes(language_bundle)
        with pytest.raises(ValueError, match="but expert_fr.onnx of the model is another one"):
            export(changed, tmp_path / "2", only=["en"], base=language_bundle)
        assert not (tmp_path / "2").exists()
        assert hashes(language_bundle) == before

    def test_rollback(self, language_bundle, language_model, tmp_path):
        from skmode_deploy.serving.models.rollback import rollback

        shutil.copytree(language_bundle, tmp_path / "lm" / "1")
        export(language_model, tmp_path / "lm" / "2", only=["en"], base=tmp_path / "lm" / "1")
        assert rollback(tmp_path, "lm") == (2, 1)
        assert (tmp_path / "lm" / "current").read_text() == "1\n"

    def test_a_domain_is_added_in_place(self, language_bundle, language_model,
                                        make_language_model, tmp_path):  # fmt: skip
        shutil.copytree(language_bundle, tmp_path / "lm")
        before = hashes(tmp_path / "lm")
        grown = type(language_model)(**vars(language_model))
        router = language_model.router_
        grown.router_ = type(router)(**router.get_params())
        grown.router_.__dict__.update(router.__dict__)
        grown.router_.add_domain("de", language_model.texts["de"])
        grown.experts_ = {**language_model.experts_,
                          "de": make_language_model("en", "de").experts_["de"]}  # fmt: skip
        export(grown, tmp_path / "lm", only=["de"])
        after = hashes(tmp_path / "lm")
        kept = ["expert_en.onnx", "expert_fr.onnx", bundle.domain_file("C++"), "tokenizer.json"]
        assert [after[name] for name in kept] == [before[name] for name in kept]
        model = language.load(tmp_path / "lm")
        assert model.domains == ["C++", "en", "fr", "de"]
        assert model.route(language_model.texts["de"][:3]).tolist() == ["de"] * 3

    @pytest.mark.parametrize(
        ("only", "error", "message"),
        [
            (["es"], ValueError, "only must be domains of the model"),
            ([], ValueError, "only must be domains of the model"),
            ("en", TypeError, r"only must be a list of domains, got 'en': pass \['en'\]"),
        ],
    )
    def test_refused(self, only, error, message, language_bundle, language_model):
        with pytest.raises(error, match=message):
            export(language_model, language_bundle, only=only)

    def test_another_export_meanwhile_is_not_undone(
        self, language_bundle, language_model, tmp_path, monkeypatch
    ):
        import skmode.language._export.export as module

        shutil.copytree(language_bundle, tmp_path / "lm")
        check = module.check_samples

        def export_meanwhile(model):
            monkeypatch.setattr(module, "check_samples", check)
            export(language_model, tmp_path / "lm", only=["en"], notes="faster")
            return check(model)

        monkeypatch.setattr(module, "check_samples", export_meanwhile)
        with pytest.raises(ValueError, match="was replaced meanwhile: export again"):
            export(language_model, tmp_path / "lm", only=["fr"])
        assert language.load(tmp_path / "lm").manifest.notes == "faster"

    def test_an_iterator_of_domains_is_read_once(
        self, language_bundle, language_model, make_language_model, tmp_path
    ):
        changed = type(language_model)(**vars(language_model))
        french = make_language_model("en", "fr", seed=50).experts_["fr"]
        changed.experts_ = {**language_model.experts_, "fr": french}
        export(changed, tmp_path / "lm", only=iter(["fr"]), base=language_bundle)
        after, before = hashes(tmp_path / "lm"), hashes(language_bundle)
        assert after["expert_fr.onnx"] != before["expert_fr.onnx"]

    def test_another_tokenizer_or_domain_is_refused(self, language_bundle, make_language_model):
        smaller = make_language_model("en", "fr")
        with pytest.raises(ValueError, match=r"no domains but those of the model.*got \['C..'\]"):
            export(smaller, language_bundle, only=["fr"])
        larger = make_language_model("en", "fr", "C++", "de")
        with pytest.raises(ValueError, match="got one without .'de'"):
            export(larger, language_bundle, only=["fr"])
        larger.max_length_ = 32
        with pytest.raises(ValueError, match="max_length, tokens and common expert"):
            export(larger, language_bundle, only=["de"])


def test_8_bits_state_their_loss(language_model, tmp_path, language_bundle):
    texts = {"en": language_model.texts["en"]}
    export(language_model, tmp_path / "b", only=["en", "fr"], base=language_bundle,
           quantize="dynamic", texts=texts)  # fmt: skip
    model = language.load(tmp_path / "b")
    assert model.manifest.quantization == "dynamic"
    losses = {each.name: each.quantization_loss for each in model.manifest.language.domains}
    assert losses["C++"] is None
    sizes = {name: file.size for name, file in model.manifest.files.items()}
    assert sizes["expert_en.onnx"] < 0.7 * sizes[bundle.domain_file("C++")]
    plain = language.load(language_bundle)
    n_bytes = [len(text.encode()) for text in texts["en"]]
    lost = model.score(texts["en"], domain="en") - plain.score(texts["en"], domain="en")
    assert losses["en"] == pytest.approx(np.average(lost, weights=n_bytes), abs=1e-4)
    assert abs(losses["fr"]) < 0.2
    assert "8 bits" in (tmp_path / "b" / "README.md").read_text()


def test_same_bytes(language_model, language_bundle, tmp_path):
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    try:
        export(language_model, tmp_path / "a")
        export(language_model, tmp_path / "b")
    finally:
        del os.environ["SOURCE_DATE_EPOCH"]
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    experts_of = {name: h for name, h in hashes(tmp_path / "a").items() if name.endswith(".onnx")}
    assert experts_of.items() <= hashes(language_bundle).items()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"es": ["a"]}, "texts must be of domains of the model, .*, got 'es'"),
        ({"fr": []}, "strings that are not empty for each domain, got others for 'fr'"),
        ({"fr": ["a", ""]}, "strings that are not empty"),
        ({"fr": [b"a"]}, "strings that are not empty"),
    ],
)
def test_texts_to_measure_on_are_checked(texts, message, language_model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(language_model, tmp_path / "lm", quantize="dynamic", texts=texts)


def test_signed(language_bundle, tmp_path):
    pytest.importorskip("model_signing")
    import subprocess

    from skmode_deploy import signing

    shutil.copytree(language_bundle, tmp_path / "lm")
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout",
                    "-out", key], check=True)  # fmt: skip
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", public], check=True)
    signing.sign(tmp_path / "lm", key)
    assert language.load(tmp_path / "lm", require_signature=public).domains[0] == "C++"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"quantize": "static"}, ValueError, 'quantize must be None or "dynamic"'),
        ({"notes": 3}, TypeError, "notes must be a str"),
        ({"base": "elsewhere"}, ValueError, "base needs only"),
        ({"texts": ["a"]}, TypeError, "texts must be lists of texts by domain"),
    ],
)
def test_bad_options(change, error, message, language_model, tmp_path):
    with pytest.raises(error, match=message):
        export(language_model, tmp_path / "b", **change)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("model", [ModularLanguageModel(), ModularLanguageModel, 3])
def test_not_fitted(model, tmp_path):
    with pytest.raises(NotFittedError, match="must be a fitted ModularLanguageModel"):
        export(model, tmp_path / "b")
