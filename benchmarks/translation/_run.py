"""One training run: tokens, batches, optimizer, and what is measured on the test pages."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from sacrebleu.metrics import BLEU
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from benchmarks.translation._model import END, PADDING, START, Size, Translator
from benchmarks.translation._texts import Pair, Texts
from skmode.nn import MoDELayer, auxiliary_loss

N_EXPERTS = 4


@dataclass(frozen=True)
class Setting:
    """What is the same in all runs that are compared."""

    steps: int
    size: Size = field(default_factory=Size)
    n_tokens: int = 3_000
    batch_tokens: int = 1_000
    learning_rate: float = 2e-3
    warmup: float = 0.1
    smoothing: float = 0.1
    max_length: int = 64
    balance: float = 0.01


def layer_options(case: str, setting: Setting) -> dict[str, object]:
    """Describe the MoDE layers of a case, such as "top-2, alpha=1" or "dense 2x"."""
    hidden = setting.size.hidden
    if case.startswith("dense"):
        # One expert that always runs, as wide as those that run in a mixture.
        hidden *= int(case.removeprefix("dense ").removesuffix("x"))
        return {"n_experts": 1, "hidden_width": hidden, "gate": "dense", "alpha": 0, "balance": 0}
    top, alpha = case.split(", alpha=")
    top_k = int(top.removeprefix("top-"))
    return {
        "n_experts": N_EXPERTS,
        "hidden_width": hidden,
        "top_k": top_k,
        "alpha": float(alpha),
        "balance": setting.balance,
        # A single expert has nobody to learn from, so all experts of the token are distilled.
        "distill_among": "all" if top_k == 1 else "active",
    }


class Tokens:
    """A byte-level BPE of both languages, and texts as its ids."""

    def __init__(self, pairs: Sequence[Pair], n_tokens: int) -> None:
        self.bpe = ByteLevelBPETokenizer()
        texts = [text for pair in pairs for text in (pair.source, pair.target)]
        self.bpe.train_from_iterator(
            texts,
            vocab_size=n_tokens,
            show_progress=False,
            special_tokens=["<padding>", "<start>", "<end>"],
        )

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return ids, cut off and with an end."""
        return [[*each.ids[: max_length - 1], END] for each in self.bpe.encode_batch(list(texts))]

    def decode(self, found: Tensor) -> list[str]:
        """Return the texts of rows that end with END or padding."""
        rows = [[i for i in row if i not in (PADDING, START, END)] for row in found.tolist()]
        return [self.bpe.decode(row) for row in rows]


def run(case: str, seed: int, texts: Texts, tokens: Tokens, setting: Setting, device: str) -> Any:
    """Train one network and measure it, after top-2 training also with the top expert alone."""
    torch.manual_seed(seed)
    model = Translator(setting.n_tokens, setting.size, layer_options(case, setting)).to(device)
    start, processor = time.perf_counter(), time.process_time()
    losses = train(model, texts.train, tokens, setting, seed, device)
    record = {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_loss": losses,
        "trained": measure(model, texts.test, tokens, setting, device),
    }
    if case.startswith("top-2"):
        for layer in mode_layers(model):
            layer.gate.top_k = 1  # type: ignore[assignment]
        record["top_expert"] = measure(model, texts.test, tokens, setting, device)
    return record


def mode_layers(model: Translator) -> list[MoDELayer]:
    """Return all MoDE layers."""
    return [module for module in model.modules() if isinstance(module, MoDELayer)]


def train(
    model: Translator,
    pairs: Sequence[Pair],
    tokens: Tokens,
    setting: Setting,
    seed: int,
    device: str,
) -> dict[str, float]:
    """Train for a number of steps; the rate rises in the first ones and then falls to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), setting.learning_rate, (0.9, 0.98))
    warmup = max(1, round(setting.warmup * setting.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / warmup, (setting.steps - step) / (setting.steps - warmup + 1)
        ),
    )
    sums: dict[str, float] = defaultdict(float)
    batches = endless(pairs, tokens, setting, seed)
    for step in range(setting.steps):
        source, target = (part.to(device) for part in next(batches))
        loss = token_loss(model, source, target, setting.smoothing)
        total = loss + auxiliary_loss(model)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step >= int(0.9 * setting.steps):
            add_losses(sums, model, loss)
    return {name: round(value / sums["n"], 5) for name, value in sums.items() if name != "n"}


def add_losses(sums: dict[str, float], model: Translator, loss: Tensor) -> None:
    """Add up the parts of the loss, those of the layers as their mean."""
    sums["n"] += 1
    sums["task"] += loss.item()
    parts = [layer.losses for layer in mode_layers(model) if layer.losses is not None]
    for name in ("distillation", "load_balance") if parts else ():
        sums[name] += sum(getattr(part, name).item() for part in parts) / len(parts)


def token_loss(
    model: Translator,
    source: Tensor,
    target: Tensor,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the tokens of `target`, each after those before it."""
    shifted = F.pad(target, (1, 0), value=START)[:, :-1]
    # The end of a shorter text is followed by padding, which no loss counts.
    logits = model(source, shifted.masked_fill(target == PADDING, PADDING))
    return F.cross_entropy(
        logits.transpose(1, 2),
        target,
        ignore_index=PADDING,
        label_smoothing=smoothing,
        reduction=reduction,
    )


def endless(
    pairs: Sequence[Pair], tokens: Tokens, setting: Setting, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of texts of similar length in an order that the seed tells, epoch by epoch."""
    source = tokens.encode([pair.source for pair in pairs], setting.max_length)
    target = tokens.encode([pair.target for pair in pairs], setting.max_length)
    draw = random.Random(seed)
    while True:
        lengths = [len(s) + len(t) + 4 * draw.random() for s, t in zip(source, target, strict=True)]
        order = sorted(range(len(pairs)), key=lengths.__getitem__)
        batches = list(split(order, [len(t) for t in target], setting.batch_tokens))
        draw.shuffle(batches)
        for batch in batches:
            yield pad([source[i] for i in batch]), pad([target[i] for i in batch])


def split(order: Sequence[int], lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Cut an order into batches of at most `limit` tokens with padding, or of one text."""
    batch: list[int] = []
    longest = 0
    for i in order:
        longest = max(longest, lengths[i])
        if batch and longest * (len(batch) + 1) > limit:
            yield batch
            batch, longest = [], lengths[i]
        batch.append(i)
    if batch:
        yield batch


def pad(rows: Sequence[list[int]]) -> Tensor:
    """Make one tensor of rows of different lengths."""
    return pad_sequence([torch.tensor(row) for row in rows], True, PADDING)


def measure(
    model: Translator, pairs: Sequence[Pair], tokens: Tokens, setting: Setting, device: str
) -> dict[str, Any]:
    """Return the loss of a token, BLEU, its counts by page, and tokens per expert."""
    model.eval()
    source = tokens.encode([pair.source for pair in pairs], setting.max_length)
    target = tokens.encode([pair.target for pair in pairs], setting.max_length)
    order = sorted(range(len(pairs)), key=lambda i: len(source[i]))
    loss, found = 0.0, [""] * len(pairs)
    with torch.no_grad():
        for start in range(0, len(order), 100):
            batch = order[start : start + 100]
            texts = pad([source[i] for i in batch]).to(device)
            wanted = pad([target[i] for i in batch]).to(device)
            loss += token_loss(model, texts, wanted, reduction="sum").item()
            longest = min(setting.max_length, texts.shape[1] + 10)
            for i, text in zip(batch, tokens.decode(model.translate(texts, longest)), strict=True):
                found[i] = text
    model.train()
    metric = BLEU()
    bleu = metric.corpus_score(found, [[pair.target for pair in pairs]])
    return {
        "loss": round(loss / sum(map(len, target)), 4),
        "bleu": round(bleu.score, 2),
        "signature": str(metric.get_signature()),
        "pages": page_counts(found, pairs),
        "examples": [
            [pairs[i].source, found[i]] for i in range(0, len(pairs), len(pairs) // 3 + 1)
        ],
    }


def page_counts(found: Sequence[str], pairs: Sequence[Pair]) -> list[list[int]]:
    """Return for each page what BLEU counts: matches and n-grams of 1 to 4, and both lengths."""
    metric = BLEU(effective_order=True)
    pages: dict[str, list[int]] = {}
    for text, pair in zip(found, pairs, strict=True):
        score = metric.sentence_score(text, [pair.target])
        counts = [*score.counts, *score.totals, score.sys_len, score.ref_len]
        old = pages.get(pair.page, [0] * len(counts))
        pages[pair.page] = [a + b for a, b in zip(old, counts, strict=True)]
    return list(pages.values())
