"""Speed of a language model's bundle: with cache against without, and against torch.

    python -m benchmarks.language.serving [--turns 7]

The expert is GPT-2 of 2 layers of 128 with untrained weights, which write no worse for speed. All
contenders write the same 100 tokens behind the same prompt, one after the other in turns, on one
thread of one process. Seconds are processor seconds. It writes results/language_serving.json, and
returns 1 if a bar is missed: onnxruntime with cache at least 5 times as fast as without, and 3
times as fast as torch's eager `generate`; 30 ms to the first token behind a prompt of 100.
"""

import argparse
import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

from skmode.language import DomainRouter, export
from skmode.language.tokenizer import train_tokenizer
from skmode_deploy import language
from skmode_deploy.bundle import domain_file

RESULTS = Path(__file__).parents[1] / "results" / "language_serving.json"
N_TOKENS, PROMPT_TOKENS, LONG_PROMPT_TOKENS = 100, 20, 100
VOCABULARY, POSITIONS = 2048, 256
BARS = {"with_cache_over_without": 5.0, "over_torch": 3.0, "first_token_ms": 30.0}


def make_model() -> Any:
    """Make an untrained model of two domains out of the texts of Python itself."""
    texts = {
        "code": [inspect.getsource(module) for module in (argparse, inspect, statistics)],
        "prose": [each for each in (argparse.__doc__, inspect.__doc__, time.__doc__) if each] * 3,
    }
    flat = [(text, name) for name, own in texts.items() for text in own]
    tokenizer = train_tokenizer([text for text, _ in flat], VOCABULARY)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=128, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    experts = {name: transformers.GPT2LMHeadModel(config).eval() for name in texts}
    with torch.no_grad():
        for expert in experts.values():
            for weight in expert.parameters():  # else one token has by far the largest logit
                weight.add_(torch.randn_like(weight), alpha=0.05)
    return SimpleNamespace(
        domains_=list(texts), experts_=experts, common_=None, tokenizer_=tokenizer,
        router_=DomainRouter(random_state=0).fit(*zip(*flat, strict=True)), max_length_=POSITIONS,
        alpha=0.0, text=texts["code"][0],
    )  # fmt: skip


def cut_prompt(model: language.LanguageModel, text: str, n_tokens: int) -> str:
    """Return the beginning of a text that has a number of tokens."""
    for end in range(n_tokens, len(text)):
        if len(model.tokenize(text[:end])) == n_tokens:
            return text[:end]
    raise ValueError(f"The text must have a beginning of {n_tokens} tokens, and has none.")


def write_without_cache(session: Any, tokens: list[int]) -> list[int]:
    """Write greedily; each step reads the whole text."""
    layers, two, _, heads, _, width = session.get_inputs()[1].shape
    past = np.zeros((layers, two, 1, heads, 0, width), np.float32)
    written = list(tokens)
    for _ in range(N_TOKENS):
        feeds = {"tokens": np.array([written], np.int64), "past": past}
        written.append(int(session.run(["logits"], feeds)[0][0, -1].argmax()))
    return written[len(tokens) :]


def write_by_torch(expert: Any, tokens: list[int]) -> list[int]:
    """Write greedily with the `generate` of transformers, eager and with its cache."""
    prompt = torch.tensor([tokens])
    with torch.no_grad():
        written = expert.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=N_TOKENS,
            min_new_tokens=N_TOKENS, do_sample=False, use_cache=True, pad_token_id=0,
        )  # fmt: skip
    rest: list[int] = written[0, len(tokens) :].tolist()
    return rest


def measure(contenders: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Return the median processor seconds of each, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(own) for name, own in seconds.items()}


def main() -> int:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure the speed of a language model's bundle.")
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    source = make_model()
    with tempfile.TemporaryDirectory() as folder:
        export(source, folder)
        model = language.load(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = Path(folder) / domain_file("code")
        session = onnxruntime.InferenceSession(path, options)
        prompt = cut_prompt(model, source.text, PROMPT_TOKENS)
        long = cut_prompt(model, source.text, LONG_PROMPT_TOKENS)
        tokens = [0, *model.tokenize(prompt)]
        plain = write_without_cache(session, tokens)
        by_torch = write_by_torch(source.experts_["code"], tokens)
        if plain != by_torch or 0 in plain:
            raise RuntimeError("All contenders must write the same tokens, and they do not.")
        if model.generate(prompt, N_TOKENS, domain="code") != source.tokenizer_.decode(plain):
            raise RuntimeError("The bundle must write the tokens of torch, and it does not.")
        seconds = measure(
            {
                "onnxruntime with cache": lambda: model.generate(prompt, N_TOKENS, domain="code"),
                "onnxruntime without cache": lambda: write_without_cache(session, tokens),
                "torch, eager generate": lambda: write_by_torch(source.experts_["code"], tokens),
                "first token of 100": lambda: model.generate(long, 1, domain="code"),
                "first token of 100, routed": lambda: model.generate(long, 1),
            },
            turns,
        )
    own = seconds["onnxruntime with cache"]
    results = {
        "with_cache_over_without": seconds["onnxruntime without cache"] / own,
        "over_torch": seconds["torch, eager generate"] / own,
        "first_token_ms": 1000 * seconds["first token of 100"],
        "first_token_routed_ms": 1000 * seconds["first token of 100, routed"],
        "tokens_per_second": {
            name: N_TOKENS / taken for name, taken in seconds.items() if "first" not in name
        },
        "bars": BARS,
        "versions": {
            "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    met = [
        results["with_cache_over_without"] >= BARS["with_cache_over_without"],
        results["over_torch"] >= BARS["over_torch"],
        max(results["first_token_ms"], results["first_token_routed_ms"]) <= BARS["first_token_ms"],
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
