from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError

from skmode.language import DomainRouter, ModularLanguageModel, TeacherNotAheadWarning

# Importing transformers takes seconds.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skmode.language.TeacherNotAheadWarning"),
]

TEXTS = {
    "en": "the cat sat on the mat and the dog sat on the log. ",
    "fr": "le chat est sur la table et le chien est dans la maison. ",
    "py": "def f(x):\n    return x + 1\n\nfor i in range(3):\n    f(i)\n",
}


def make_corpus(domains=("en", "fr"), n=8):
    texts = [TEXTS[domain] * (2 + i % 3) for domain in domains for i in range(n)]
    return texts, [domain for domain in domains for _ in range(n)]


def make_model(**parameters):
    defaults = {
        "student": "tiny",
        "teacher": "tiny",
        "vocab_size": 300,
        "max_length": 16,
        "teacher_steps": 30,
        "warm_start_steps": 5,
        "steps": 10,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "random_state": 0,
    }
    return ModularLanguageModel(**defaults | parameters)


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherNotAheadWarning)
        return make_model(keep_teacher=True).fit(*make_corpus())


@pytest.fixture
def model(fitted):
    return pickle.loads(pickle.dumps(fitted))


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_routes_and_scores(fitted):
    texts, domains = make_corpus()
    assert fitted.domains_ == fitted.classes_.tolist() == ["en", "fr"] == list(fitted.experts_)
    assert fitted.predict(texts).tolist() == domains
    assert fitted.score(texts, domains) == 1
    assert fitted.predict_proba(texts).shape == (16, 2)
    bits = fitted.expert_bits_per_byte(texts)
    assert bits.shape == (16, 2)
    assert (bits[:8, 0] < bits[:8, 1]).all()
    assert (bits[8:, 1] < bits[8:, 0]).all()
    np.testing.assert_allclose(fitted.bits_per_byte(texts), [*bits[:8, 0], *bits[8:, 1]])
    np.testing.assert_allclose(fitted.bits_per_byte(texts, ["fr"] * 16), bits[:, 1])


def test_bits_are_those_of_the_docstring(fitted):
    text = TEXTS["en"] * 3 + "\u00e9"
    tokens = fitted.tokenizer_.encode(text).ids
    end = fitted.tokenizer_.token_to_id("<|endoftext|>")
    assert len(tokens) > 32
    nats = 0.0
    for at in range(0, len(tokens), 16):
        own = tokens[at : at + 16]
        inputs = [tokens[at - 1] if at else end, *own[:-1]]
        logits = fitted.experts_["en"](torch.tensor([inputs])).logits[0]
        nats -= logits.log_softmax(-1)[range(len(own)), own].sum().item()
    expected = nats / np.log(2) / len(text.encode())
    assert fitted.bits_per_byte([text], ["en"])[0] == pytest.approx(expected, rel=1e-5)


def test_history_tells_losses_and_alpha(fitted):
    phases = [record["phase"] for record in fitted.history_]
    assert [phases.count(each) for each in ("teacher", "warm start", "experts")] == [30, 5, 20]
    last = fitted.history_[-1]
    assert last["loss"] == pytest.approx(0.5 * last["ce"] + 0.5 * last["kd"], rel=1e-4)
    assert last["alpha"] == 0.5
    assert fitted.history_[0]["loss"] > fitted.history_[29]["loss"]


def test_same_seed_same_bits(fitted):
    again = clone(fitted).fit(*make_corpus())
    for name in fitted.domains_:
        assert_equal(weights(again.experts_[name]), weights(fitted.experts_[name]))


def test_iterators_and_files(fitted, tmp_path):
    texts, domains = make_corpus()
    again = clone(fitted).fit(iter(texts), iter(domains))
    assert_equal(weights(again.experts_["en"]), weights(fitted.experts_["en"]))
    path = tmp_path / "text.txt"
    path.write_text(texts[0])
    assert fitted.bits_per_byte([path]) == fitted.bits_per_byte(texts[:1])
    assert fitted.bits_per_byte([texts[0].encode()]) == fitted.bits_per_byte(texts[:1])


def test_names_of_files_are_no_texts(fitted, tmp_path):
    texts, domains = make_corpus()
    path = tmp_path / "text.txt"
    path.write_text(texts[0])
    with pytest.raises(ValueError, match="of 'de' are names of files, such as .*text.txt"):
        clone(fitted).fit([*texts, path, str(path)], [*domains, "de", "de"])
    with pytest.raises(ValueError, match="are names of files"):
        fitted.add_expert("de", [str(path)])
    with pytest.raises(TypeError, match="got dict, of which only the keys would be read"):
        clone(fitted).fit({"en": texts[:8], "fr": texts[8:]}, ["en", "fr"])
    named = [str(path).encode()] * 9
    small = make_model(teacher=None, warm_start_steps=0, steps=1)
    assert small.fit([*texts, *named], [*domains, *["de"] * 9]).domains_ == ["de", "en", "fr"]


def test_pickles_and_clones(fitted, model):
    texts, _ = make_corpus()
    np.testing.assert_array_equal(model.bits_per_byte(texts), fitted.bits_per_byte(texts))
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "experts_")
    with pytest.raises(NotFittedError):
        clone(fitted).predict(texts)


def test_experts_are_independent_of_each_other():
    """PLE: an expert becomes what it would become beside any other."""
    two = make_model(teacher=None, vocab_size=257).fit(*make_corpus())
    assert two.teacher_bits_per_byte_ == {}
    assert two.distilled_ == []
    pointers = [{p.data_ptr() for p in e.parameters()} for e in two.experts_.values()]
    assert not pointers[0] & pointers[1]


def test_jeet_shares_embedding_and_output_layer():
    model = make_model(setup="jeet").fit(*make_corpus())
    first, second = model.experts_.values()
    assert first.get_input_embeddings() is second.get_input_embeddings()
    assert first.lm_head.weight is second.lm_head.weight is first.transformer.wte.weight
    bodies = [expert.transformer.h[0].mlp.c_fc.weight for expert in (first, second)]
    assert not torch.equal(*bodies)
    loaded = pickle.loads(pickle.dumps(model))
    one, two = loaded.experts_.values()
    assert one.lm_head.weight is two.lm_head.weight
    before = weights(first)
    model.add_expert("py", make_corpus(["py"])[0])
    assert_equal(weights(first), before)
    assert model.experts_["py"].lm_head.weight is first.lm_head.weight


def test_moe_ce_is_the_mean_of_both_logits():
    model = make_model(setup="moe_ce", unknown="common").fit(*make_corpus())
    text = "le chat est sur la table"
    tokens = model.tokenizer_.encode(text).ids
    inputs = torch.tensor([[model.tokenizer_.token_to_id("<|endoftext|>"), *tokens[:-1]]])
    logits = (model.experts_["fr"](inputs).logits + model.common_(inputs).logits) / 2
    nats = -logits[0].log_softmax(-1)[range(len(tokens)), tokens].sum().item()
    expected = nats / np.log(2) / len(text)
    assert model.bits_per_byte([text])[0] == pytest.approx(expected, rel=1e-5)
    before = weights(model.common_)
    model.add_expert("py", make_corpus(["py"])[0])
    assert_equal(weights(model.common_), before)
    assert model.generate("le chat", 2)


def test_adding_replacing_removing_leave_the_others(model):
    before = {name: weights(expert) for name, expert in model.experts_.items()}
    python = make_corpus(["py"])[0]
    assert model.add_expert("py", iter(python)).domains_ == ["en", "fr", "py"]
    for name, old in before.items():
        assert_equal(weights(model.experts_[name]), old)
    assert model.route([TEXTS["py"]]).tolist() == ["py"]
    assert model.expert_bits_per_byte(python).argmin(1).tolist() == [2] * 8
    model.replace_expert("en", python)
    assert model.domains_ == ["en", "fr", "py"]
    assert_equal(weights(model.experts_["fr"]), before["fr"])
    assert model.bits_per_byte(python[:1], ["en"]) < 0.8 * model.bits_per_byte(python[:1], ["fr"])
    model.replace_expert("en", python, steps=0)
    assert_equal(weights(model.experts_["en"]), weights(model.base_))
    assert model.remove_expert("py").domains_ == ["en", "fr"] == list(model.experts_)


def assert_facts(model, shares):
    """Facts are of the domains that there are."""
    assert model.domain_shares_ == pytest.approx(shares)
    assert model.domain_texts_.keys() == model.domain_bytes_.keys() == shares.keys()
    scores = {f"{name} bits per byte": model.bits_per_byte_[name] for name in shares}
    assert model.validation_scores_ == scores
    assert model.bits_per_byte_.keys() == shares.keys()
    assert model.teacher_bits_per_byte_.keys() <= shares.keys()
    assert list(model.domain_alphas_) == model.distilled_


def test_facts_are_of_the_domains_that_there_are(model, tmp_path):
    assert_facts(model, {"en": 0.5, "fr": 0.5})
    assert set(model.domain_alphas_.values()) == {0.5}
    path = tmp_path / "py.txt"
    path.write_text(TEXTS["py"] * 9)
    texts = [*make_corpus(["py"])[0], path] * 3
    model.add_expert("py", texts, steps=60)
    assert "py" not in model.distilled_
    model.set_params(alpha="loss_ratio")
    model.replace_expert("py", texts, teacher=model.experts_["py"])
    assert model.domain_alphas_ == {"en": 0.5, "fr": 0.5, "py": "loss_ratio"}
    assert_facts(model, {"en": 8 / 43, "fr": 8 / 43, "py": 27 / 43})
    model.replace_expert("en", make_corpus(["en"], 5)[0])
    assert_facts(model, {"en": 5 / 40, "fr": 8 / 40, "py": 27 / 40})
    assert "en" not in model.teacher_bits_per_byte_
    model.remove_expert("fr")
    assert_facts(model, {"en": 5 / 32, "py": 27 / 32})


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"alpha": "teacher_entropy"}, "teacher_entropy"),
        ({"alpha": 0.9, "schedule": "kd_then_ce"}, "kd_then_ce"),
        ({"alpha": 1}, 1.0),
        ({"distillation": None}, None),
    ],
)
def test_what_weighed_the_teacher_is_told(fitted, parameters, expected):
    model = make_model(
        **parameters, teacher=fitted.teacher_, tokenizer=fitted.tokenizer_, warm_start_steps=0
    ).fit(*make_corpus())
    taught = ["en", "fr"] if expected is not None else []
    assert model.distilled_ == taught
    assert model.domain_alphas_ == dict.fromkeys(taught, expected)


def test_llama_and_models_of_ones_own(fitted):
    llama = make_model(student="llama-tiny", teacher="llama-tiny", steps=2).fit(*make_corpus())
    assert type(llama.base_).__name__ == "LlamaForCausalLM"
    assert llama.generate("le chat", 3) == llama.generate("le chat", 3)
    own = make_model(
        student=fitted.base_.config, teacher=fitted.teacher_, tokenizer=fitted.tokenizer_, steps=1
    ).fit(*make_corpus())
    assert "teacher" not in {record["phase"] for record in own.history_}
    assert own.teacher_bits_per_byte_.keys() == {"en", "fr"}


@pytest.mark.parametrize("setup", ["ple", "moe_ce"])
def test_checkpoints_resume_to_the_same_bits(tmp_path, monkeypatch, setup):
    parameters = {"setup": setup, "alpha": "loss_difference", "teacher_steps": 4, "steps": 6}
    whole = make_model(**parameters).fit(*make_corpus())
    stopping = make_model(**parameters, checkpoint=tmp_path, checkpoint_every=5)
    from skmode.language.training import _Loop

    step, n_steps = _Loop.step, 0

    def stop_at_17(loop, at):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 17:
            raise KeyboardInterrupt
        step(loop, at)

    monkeypatch.setattr(_Loop, "step", stop_at_17)
    with pytest.raises(KeyboardInterrupt):
        stopping.fit(*make_corpus())
    stopping.fit(*make_corpus())
    assert n_steps == 17 + 7  # from the fifth of twelve steps of the experts
    for name in whole.domains_:
        assert_equal(weights(stopping.experts_[name]), weights(whole.experts_[name]))
    assert stopping.history_ == whole.history_


def test_accumulated_batches_are_one_step(fitted):
    model = make_model(accumulate=3, batch_size=2, steps=2, schedule="alternating")
    model.fit(*make_corpus())
    experts = [each for each in model.history_ if each["phase"] == "experts"]
    assert [each["step"] for each in experts] == [0, 0, 1, 1]
    assert [each["alpha"] for each in experts] == [0, 0, 1, 1]


@pytest.mark.parametrize("warm_start_steps", [10, 0])
def test_a_teacher_that_is_behind_changes_nothing(warm_start_steps):
    parameters = {"warm_start_steps": warm_start_steps, "steps": 2, "alpha": 0.9}
    with pytest.warns(TeacherNotAheadWarning, match="is learned without it") as caught:
        model = make_model(teacher_steps=0, **parameters).fit(*make_corpus())
    assert [each.filename for each in caught] == [__file__] * 2
    assert model.distilled_ == []
    assert not any("kd" in each for each in model.history_)
    alone = make_model(teacher=None, **parameters).fit(*make_corpus())
    for name in ("en", "fr"):
        assert_equal(weights(model.experts_[name]), weights(alone.experts_[name]))


def test_a_teacher_is_distilled_where_it_is_ahead_of_who_learned_without_it(fitted):
    phases = {}
    for each in fitted.history_:
        phases.setdefault(each["phase"], []).append("kd" in each)
    assert list(phases) == ["teacher", "warm start", "taught warm start", "experts"]
    assert fitted.distilled_ == ["en", "fr"]
    assert not any(phases["warm start"])
    assert all(phases["taught warm start"] + phases["experts"])
    losses = {
        phase: next(each["ce"] for each in fitted.history_ if each["phase"] == phase)
        for phase in ("warm start", "taught warm start")
    }
    # The same weights and the same batches.
    assert losses["warm start"] == losses["taught warm start"]


@pytest.mark.parametrize("last", [38, 45])  # in the taught warm start, and behind it
def test_a_taught_warm_start_resumes_to_the_same_bits(fitted, tmp_path, monkeypatch, last):
    from skmode.language.training import _Loop

    step, n_steps = _Loop.step, 0

    def stop_once(loop, at):
        nonlocal n_steps
        n_steps += 1
        if n_steps == last + 1:
            raise KeyboardInterrupt
        step(loop, at)

    monkeypatch.setattr(_Loop, "step", stop_once)
    stopping = make_model(checkpoint=tmp_path, checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        stopping.fit(*make_corpus())
    stopping.fit(*make_corpus())
    for name in fitted.domains_:
        assert_equal(weights(stopping.experts_[name]), weights(fitted.experts_[name]))
    assert stopping.history_ == fitted.history_


def test_a_teacher_that_knows_one_domain_is_distilled_there_alone(fitted):
    french = make_model(teacher=None, tokenizer=fitted.tokenizer_, warm_start_steps=0, steps=40)
    french.fit(*make_corpus())
    with pytest.warns(TeacherNotAheadWarning, match="in 'en' it has"):
        model = make_model(
            teacher=french.experts_["fr"], tokenizer=fitted.tokenizer_, alpha=0.9, steps=1
        ).fit(*make_corpus())
    assert model.distilled_ == ["fr"]
    alphas = {each["alpha"] for each in model.history_ if each["phase"] == "taught warm start"}
    assert max(alphas) < 0.6


def test_an_added_expert_is_not_taught_by_who_knows_less_than_frequencies(model):
    ignorant = make_model(teacher=None, tokenizer=model.tokenizer_, warm_start_steps=0, steps=0)
    teacher = ignorant.fit(*make_corpus()).base_
    # It starts further behind than the teacher, who knows nothing: it is sure of what is wrong.
    model.base_ = model.experts_["en"]
    with pytest.warns(TeacherNotAheadWarning, match="and the frequencies of tokens alone"):
        model.add_expert("py", make_corpus(["py"])[0], teacher=teacher)
    assert "py" not in model.distilled_


def test_training_that_diverges_is_an_error(model):
    with pytest.raises(
        ValueError, match=r'must stay finite, but in step \d of "warm start" it bec'
    ):
        make_model(teacher=None, learning_rate=1e6).fit(*make_corpus())
    # After its last step no loss tells.
    one = {"warm_start_steps": 0, "steps": 1, "warmup_steps": 0, "learning_rate": 1e30}
    unfitted = make_model(teacher=None, **one)
    with pytest.raises(ValueError, match=r"held-out tokens must stay finite, but in 'en'"):
        unfitted.fit(*make_corpus())
    with pytest.raises(NotFittedError):
        unfitted.predict(["the cat"])
    before = weights(model.experts_["en"])
    model.set_params(learning_rate=1e30)
    with pytest.raises(ValueError, match=r"must stay finite.*lower learning_rate \(now 1e\+30\)"):
        model.replace_expert("en", make_corpus(["py"])[0])
    assert_equal(weights(model.experts_["en"]), before)
    assert model.route([TEXTS["en"]]).tolist() == ["en"]


def test_a_teacher_without_finite_outputs_is_not_ahead(fitted):
    teacher = pickle.loads(pickle.dumps(fitted.teacher_))
    torch.nn.init.constant_(teacher.transformer.ln_f.weight, float("nan"))
    with pytest.warns(TeacherNotAheadWarning, match="'fr' it has nan bits per byte"):
        model = make_model(teacher=teacher, tokenizer=fitted.tokenizer_).fit(*make_corpus())
    assert model.distilled_ == []
    assert np.isfinite(list(model.bits_per_byte_.values())).all()


def test_a_teacher_that_is_left_behind_is_reported():
    with pytest.warns(TeacherNotAheadWarning, match="ended ahead of its teacher"):
        make_model(teacher_steps=16, warm_start_steps=0, steps=60).fit(*make_corpus())


def test_generates(fitted):
    text = fitted.generate("the cat", 8)
    assert text == fitted.generate("the cat", 8)
    assert text in TEXTS["en"] * 9 or text
    drawn = [
        fitted.generate("the", 8, temperature=1.5, top_k=20, top_p=0.9, random_state=i)
        for i in (0, 0, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert fitted.generate("the cat", 8, temperature=1, top_k=1) == text
    assert fitted.generate("the cat", 8, stop=text[2:4]) == text[:2]
    assert len(fitted.tokenizer_.encode(fitted.generate("the cat")).ids) <= 16
    assert fitted.generate("the cat", 2, domain="fr") is not None


def test_cache_changes_no_token(fitted):
    end = fitted.tokenizer_.token_to_id("<|endoftext|>")
    tokens = fitted.tokenizer_.encode("the cat").ids
    written = []
    for _ in range(5):
        logits = fitted.experts_["en"](torch.tensor([[end, *tokens, *written]])).logits
        written.append(int(logits[0, -1].argmax()))
    assert fitted.generate("the cat", 5) == fitted.tokenizer_.decode(written)


def test_unknown_texts_follow_the_policy(model):
    strange = "\u4e2d\u6587\u6587\u672c \u65e5\u672c\u8a9e " * 5
    assert model.predict([strange]).tolist() == [None]
    assert model.route([strange])[0] in model.domains_
    model.unknown = "teacher"
    assert model.route([strange]).tolist() == [None]
    assert model.bits_per_byte([strange]).shape == (1,)
    model.unknown = "error"
    with pytest.raises(ValueError, match="text 0 is unlike en, fr"):
        model.route([strange])
    with pytest.raises(ValueError, match="must be one of en, fr, got None"):
        model.bits_per_byte(["x"], [None])


def test_a_text_may_name_the_end_token(fitted):
    assert fitted.bits_per_byte(["the <|endoftext|> cat"]).shape == (1,)
    assert fitted.generate("the <|endoftext|>", 1) is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.predict([""]), "text 0 is empty"),
        (lambda m: m.bits_per_byte([b"\xff"]), "must be valid UTF-8"),
        (lambda m: m.bits_per_byte(["x"], ["de"]), "must be one of en, fr, got 'de'"),
        (lambda m: m.bits_per_byte(["x", "y"], ["en"]), "got 1 domains for 2 texts"),
        (lambda m: m.generate("", 1), "is empty"),
        (lambda m: m.generate("the cat " * 100, 1), "A prompt must have fewer tokens"),
        (lambda m: m.generate("the cat " * 10**6, 1), "got [0-9]+ or more: pass its last part"),
        (lambda m: m.generate("the", 10**9), "max_tokens must be a whole number from 1 to 14"),
        (lambda m: m.generate("the", 1, domain="de"), "must be one of en, fr, got 'de'"),
        (lambda m: m.generate("the", 1, domain=["en"]), r"must be one of en, fr, got \['en'\]"),
        (lambda m: m.bits_per_byte(["x"], [["en"]]), r"must be one of en, fr, got \['en'\]"),
        (lambda m: m.score([], []), "A score needs texts"),
        (lambda m: m.generate("the", 1, top_p=0), "top_p one above 0"),
        (lambda m: m.generate("the", 1, top_k=0), "top_k must be a whole number"),
        (lambda m: m.add_expert("en", ["x"]), "knows 'en': use replace_expert"),
        (lambda m: m.add_expert("de", []), "needs texts, got none"),
        (lambda m: m.remove_expert("de"), "must be one of en, fr, got 'de'"),
        (lambda m: m.remove_expert(["en"]), r"must be one of en, fr, got \['en'\]"),
        (lambda m: m.replace_expert("de", ["x"]), "or add_expert"),
        (lambda m: m.replace_expert("en", ["x"], steps=-1), "steps must be a whole number"),
    ],
)
def test_errors_of_a_fitted_model(fitted, call, message):
    with pytest.raises(ValueError, match=message):
        call(fitted)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"student": "huge"}, "must be one of tiny, small"),
        ({"student": torch.nn.Linear(2, 2)}, "causal model of transformers"),
        ({"setup": "moe"}, "setup must be one of 'ple'"),
        ({"alpha": 2}, "alpha must be a number from 0 to 1 or one of loss_ratio"),
        ({"alpha": "fixed"}, "alpha must be"),
        ({"unknown": "common"}, "needs a common expert"),
        ({"unknown": "teacher", "teacher": None}, "needs a teacher"),
        ({"steps": 1.5}, "steps must be a whole number of at least 0"),
        ({"temperature": 0}, "temperature must be a number above 0"),
        ({"vocab_size": 100}, "vocab_size must be an integer of at least 257"),
        ({"vocab_size": 300.0}, "vocab_size must be an integer of at least 257"),
        ({"weight_decay": "a"}, "weight_decay must be a number of at least 0, got 'a'"),
        ({"weight_decay": -1}, "weight_decay must be a number of at least 0, got -1"),
        ({"learning_rate": True}, "learning_rate must be a number above 0, got True"),
        ({"device": "gpu"}, "device must be .auto. or a device of torch, .* got 'gpu'"),
        ({"device": None}, "device must be .auto. or a device of torch, .* got None"),
        ({"router": DomainRouter(n_buckets="a")}, "n_buckets must be a power of two"),
    ],
)
def test_errors_of_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_model(**parameters).fit(*make_corpus())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"router": {}}, r"router must be a DomainRouter or None, got \{\}"),
        ({"router": DomainRouter}, "router must be a DomainRouter or None, got <class"),
        (
            {"router": DummyClassifier()},
            "router must be a DomainRouter or None, got DummyClassifier",
        ),
        ({"checkpoint": 5}, "checkpoint must be the path of a folder or None, got 5"),
    ],
)
def test_parameters_of_another_kind(parameters, message):
    with pytest.raises(TypeError, match=message):
        make_model(**parameters).fit([], [])  # before any text is read


@pytest.mark.parametrize("teacher", ["small", 3])
def test_an_untrained_teacher_is_refused(model, teacher):
    for call in (
        lambda: model.add_expert("py", make_corpus(["py"])[0], teacher=teacher),
        lambda: model.add_expert("py", [], teacher=model.base_.config),
        lambda: model.replace_expert("en", [], teacher=teacher),
    ):
        with pytest.raises(TypeError, match="teacher of one domain must be a trained model"):
            call()
    assert model.add_expert("py", make_corpus(["py"])[0], teacher=model.teacher_)


def test_numpys_numbers_are_numbers(fitted, tmp_path):
    numbers = {
        name: (np.float64 if isinstance(value, float) else np.int64)(value)
        for name, value in fitted.get_params(deep=False).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert len(numbers) > 10
    router = DomainRouter(n_buckets=np.int64(65536), max_bytes=np.int64(4096))
    own = clone(fitted).set_params(**numbers, router=router, checkpoint=tmp_path)
    for _ in range(2):
        own.fit(*make_corpus())
        assert_equal(weights(own.experts_["en"]), weights(fitted.experts_["en"]))
    own.base_.save_pretrained(tmp_path / "base")
    assert own.history_ == fitted.history_
    assert own.generate("the", np.int64(2)) == fitted.generate("the", 2)


@pytest.mark.skipif(
    torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="the processor has bfloat16"
)
def test_bf16_is_refused_without_instructions():
    with pytest.raises(ValueError, match="needs a processor with bfloat16 instructions"):
        make_model(precision="bf16").fit(*make_corpus())


def test_the_rate_stays_high_in_the_warm_start_alone(model):
    rates = {
        phase: [each["learning_rate"] for each in model.history_ if each["phase"] == phase]
        for phase in ("warm start", "experts")
    }
    assert rates["warm start"][-1] == max(rates["warm start"])
    assert rates["experts"][-1] < max(rates["experts"]) / 2


def test_auto_takes_bf16_only_where_it_is_fast(monkeypatch):
    from skmode.language.model.checks import uses_bf16

    device = torch.device("cpu")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for has_amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_amx: has)
        assert uses_bf16("auto", device) is has_amx
        assert uses_bf16("bf16", device)
        assert not uses_bf16("float32", device)


def test_tokenizer_must_lose_no_byte():
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match="must be byte-level BPE"):
        make_model(tokenizer=Tokenizer(models.WordLevel({"a": 0}, "a"))).fit(*make_corpus())
    with pytest.raises(TypeError, match=r"must be a tokenizers\.Tokenizer"):
        make_model(tokenizer=3).fit(*make_corpus())


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-310}, {"temperature": 1e-45}, {"temperature": 1, "top_p": 1e-320}],
)
def test_tiny_temperatures_take_the_likeliest_tokens(model, options):
    expected = model.generate("the cat", 4)
    assert model.generate("the cat", 4, random_state=0, **options) == expected


def test_score_needs_a_domain_for_each_text(model):
    texts, domains = make_corpus()
    with pytest.raises(ValueError, match="got 1 domains for 16 texts"):
        model.score(texts, domains[:1])
    assert model.score(iter(texts), iter(domains)) == 1


@pytest.mark.parametrize(
    ("domains", "message"),
    [(("en", "EN"), "differ even if case is ignored.*'en' and 'EN'"),
     (("en", "f\nr"), "must be printable"), (("en", "x" * 101), "at most 100 characters")],
)  # fmt: skip
def test_names_that_no_bundle_can_have_are_refused_at_once(domains, message, model):
    texts, _ = make_corpus()
    with pytest.raises(ValueError, match=message):
        make_model().fit(texts[:2], domains)
    with pytest.raises(ValueError, match=message):
        model.add_expert(domains[1], texts[:1])
    assert model.domains_ == ["en", "fr"]


@pytest.mark.parametrize("stop", [3, None, [3], b"a"])
def test_stop_strings_must_be_strings(model, stop):
    with pytest.raises(TypeError, match="stop must be a str or several"):
        model.generate("the cat", 2, stop=stop)


@pytest.mark.parametrize(
    "options", [{"temperature": None}, {"temperature": "1"}, {"top_p": None}, {"temperature": True}]
)
def test_what_tokens_are_drawn_with_must_be_numbers(model, options):
    with pytest.raises(ValueError, match="temperature must be a number of at least 0, top_p one"):
        model.generate("the cat", 2, **options)


@pytest.mark.parametrize("rate", [1e9, "abc"])
def test_a_fit_that_fails_leaves_the_former_model(model, rate):
    texts = make_corpus()[0]
    before = model.bits_per_byte(texts)
    model.set_params(learning_rate=rate, teacher=None)
    with pytest.raises(ValueError, match="learning_rate"):
        model.fit([text[::-1] for text in texts], ["a"] * 8 + ["b"] * 8)
    assert model.domains_ == ["en", "fr"]
    np.testing.assert_array_equal(model.bits_per_byte(texts), before)


def test_a_first_fit_that_fails_leaves_nothing():
    model = make_model(teacher=None, learning_rate=1e9)
    with pytest.raises(ValueError, match="lower learning_rate"):
        model.fit(*make_corpus())
    with pytest.raises(NotFittedError):
        model.predict(["the cat"])


@pytest.mark.parametrize("changed", [{"max_length": 99}, {"max_length": 4}, {"setup": "jeet"}])
def test_an_added_expert_is_made_as_the_others(model, changed):
    expected = pickle.loads(pickle.dumps(model)).add_expert("py", make_corpus(["py"])[0])
    model.set_params(**changed).add_expert("py", make_corpus(["py"])[0])
    assert_equal(weights(model.experts_["py"]), weights(expected.experts_["py"]))
    assert model.bits_per_byte_ == expected.bits_per_byte_


def test_scores_of_moe_ce_are_without_dropout():
    from transformers import GPT2Config

    config = GPT2Config(n_positions=16, n_embd=32, n_layer=2, n_head=2, embd_pdrop=0.5)
    model = make_model(student=config, teacher=None, setup="moe_ce", steps=1)
    model.fit(*make_corpus())
    assert not model.common_.training
    stated = dict(model.bits_per_byte_)
    # With no step the expert of English is scored anew; the common expert stays as it is.
    again = make_model(student=config, teacher=None, setup="moe_ce", steps=1, random_state=0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert again.fit(*make_corpus()).bits_per_byte_ == stated


def test_domains_are_sorted_but_trained_in_the_order_of_the_texts(fitted):
    texts, domains = make_corpus()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherNotAheadWarning)
        model = make_model().fit(texts, ["z" if name == "en" else "fr" for name in domains])
    assert model.domains_ == model.classes_.tolist() == ["fr", "z"] == list(model.experts_)
    assert_equal(weights(model.experts_["z"]), weights(fitted.experts_["en"]))
    assert model.predict_proba(texts).argmax(1).tolist() == [1] * 8 + [0] * 8


def test_what_an_unknown_text_lacks_is_said(model):
    model.set_params(unknown="teacher")
    model.teacher_ = None
    with pytest.raises(ValueError, match="unknown='teacher' that needs a teacher, kept by fit"):
        model.bits_per_byte(["the cat"], [None])


def test_a_tokenizer_must_keep_capital_letters(fitted):
    from tokenizers import Tokenizer, normalizers

    tokenizer = Tokenizer.from_str(fitted.tokenizer_.to_str())
    tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ValueError, match="tokenizer must be byte-level BPE"):
        make_model(tokenizer=tokenizer).fit(*make_corpus())


def test_special_tokens_of_the_user_are_written_as_by_a_bundle(model):
    number = model.tokenizer_.add_special_tokens(["<|pad|>"])
    assert number == 1
    pad = model.tokenizer_.token_to_id("<|pad|>")
    letter = model.tokenizer_.token_to_id("a")
    assert model._write([pad, letter], []) == "<|pad|>a"
    assert model._write([pad, letter], ["d|"]) == "<|pa"
