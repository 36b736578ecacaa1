"""A text token by token."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import torch
from torch import nn


@torch.no_grad()
def next_tokens(
    models: Sequence[nn.Module],
    tokens: list[int],
    device: torch.device,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float,
    generator: torch.Generator,
) -> Iterator[int]:
    """Yield tokens that follow, by the mean logits of models, each with a cache of its own."""
    caches: list[object] = [None] * len(models)
    for model in models:
        model.to(device).eval()
    inputs = torch.tensor([tokens], device=device)
    while True:
        logits = []
        for i, model in enumerate(models):
            output = model(input_ids=inputs, use_cache=True, **{_name_of_cache(model): caches[i]})
            caches[i] = output[_name_of_cache(model)]
            logits.append(output.logits[0, -1].float().cpu())
        token = choose(torch.stack(logits).mean(0), temperature, top_k, top_p, generator)
        yield token
        inputs = torch.tensor([[token]], device=device)


def _name_of_cache(model: nn.Module) -> str:
    """Return what the model's release of transformers calls the cache."""
    known = inspect.signature(model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def choose(
    logits: torch.Tensor,
    temperature: float,
    top_k: int | None,
    top_p: float,
    generator: torch.Generator,
) -> int:
    """Return the likeliest token at temperature 0, else a random one of those that are allowed."""
    if temperature == 0:
        return int(logits.argmax())
    values, tokens = torch.sort(logits, descending=True, stable=True)
    values, tokens = values[:top_k], tokens[:top_k]
    # The largest is subtracted first, or tiny temperatures would make infinities of all.
    proba = ((values - values[0]).double() / temperature).softmax(0).float()
    # A token is allowed while those before it have less than top_p.
    allowed = proba.cumsum(0) - proba < top_p
    allowed[0] = True  # also where top_p is 0 in float32
    proba = proba * allowed
    return int(tokens[torch.multinomial(proba, 1, generator=generator)])
