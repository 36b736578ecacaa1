"""For all tests and doctests."""

import gc
import os

import pytest


def pytest_collection_modifyitems(items):
    """Begin with the notebooks: one file of few tests that take minutes, else left for the end."""
    items.sort(key=lambda item: "test_notebooks" not in item.nodeid)


def pytest_collection_finish():
    """Spare the garbage collector the modules and tests, which stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def without_fsync():
    """Skip waiting for the disk, which takes longer than a small model's export itself."""
    fsync, os.fsync = os.fsync, lambda descriptor: None
    yield
    os.fsync = fsync


@pytest.fixture(scope="session")
def make_language_model():
    """``make_language_model(*domains, kind="gpt2", common=False)`` makes an untrained model."""
    pytest.importorskip("transformers")
    import types

    import torch
    import transformers

    from skmode.language import DomainRouter
    from skmode.language.tokenizer import train_tokenizer

    lines = {
        "en": "The cat and the dog sat on the mat, and number %d was the best of them.",
        "fr": "Le chat et le chien sont assis sur le tapis, et le %d est le meilleur.",
        "de": "Die Katze und der Hund sitzen auf der Matte, und %d ist die beste Zahl.",
        "C++": "for (int i = 0; i < %d; ++i) { std::cout << i << std::endl; }",
    }
    texts = {name: [line % i for i in range(40)] for name, line in lines.items()}
    tokenizer = train_tokenizer([text for own in texts.values() for text in own], 300)
    sizes = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    llama = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip

    def build(kind, seed):
        torch.manual_seed(seed)
        if kind == "llama":
            config = transformers.LlamaConfig(max_position_embeddings=64, **llama, **sizes)
            return transformers.LlamaForCausalLM(config).eval()
        config = transformers.GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=2, **sizes)
        model = transformers.GPT2LMHeadModel(config).eval()
        with torch.no_grad():  # else one token always has by far the largest logit
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.1)
        return model

    def make(*domains, kind="gpt2", common=False, seed=0):
        seen = [text for name in domains for text in texts[name]]
        labels = [name for name in domains for _ in texts[name]]
        router = DomainRouter(n_buckets=1024, random_state=0).fit(seen, labels)
        return types.SimpleNamespace(
            domains_=list(domains),
            experts_={name: build(kind, seed + i) for i, name in enumerate(domains)},
            common_=build(kind, 100) if common else None,
            tokenizer_=tokenizer,
            router_=router,
            max_length_=64,
            alpha=0.5,
            texts=texts,
        )

    return make


@pytest.fixture(scope="session")
def language_model(make_language_model):
    """An untrained model of three domains, which no test may change."""
    return make_language_model("en", "fr", "C++")


@pytest.fixture(scope="session")
def language_bundle(language_model, tmp_path_factory):
    """The bundle of `language_model`, which no test may change."""
    from skmode.language import export

    folder = tmp_path_factory.mktemp("language") / "lm"
    export(language_model, folder)
    return folder
