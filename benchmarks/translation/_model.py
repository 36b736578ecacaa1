"""A small encoder-decoder whose feed-forward layers are MoDE layers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmode.nn import MoDELayer

# Ids of the tokenizer's special tokens.
PADDING, START, END = 0, 1, 2


@dataclass(frozen=True)
class Size:
    """Size of the network; `hidden` is that of one expert."""

    width: int = 128
    heads: int = 4
    layers: int = 2
    hidden: int = 256
    dropout: float = 0.1


class Attention(nn.Module):
    """Attention with several heads, of `x` to `memory`."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.query = nn.Linear(size.width, size.width)
        self.key_value = nn.Linear(size.width, 2 * size.width)
        self.output = nn.Linear(size.width, size.width)

    def forward(self, x: Tensor, memory: Tensor, padding: Tensor | None, causal: bool) -> Tensor:
        """Attend; `padding` (n, length) is True where memory is padding."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.key_value(memory).chunk(2, dim=-1)
        )
        mask = None if padding is None else ~padding[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One layer of the encoder, or of the decoder, which attends to the encoder's output too."""

    def __init__(self, size: Size, feed_forward: MoDELayer, *, decodes: bool) -> None:
        super().__init__()
        self.own = Attention(size)
        self.cross = Attention(size) if decodes else None
        self.feed_forward = feed_forward
        self.norms = nn.ModuleList([nn.LayerNorm(size.width) for _ in range(3 if decodes else 2)])
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self, x: Tensor, padding: Tensor, memory: Tensor | None, memory_padding: Tensor | None
    ) -> Tensor:
        """Add what attention and experts make of each token."""
        hidden = self.norms[0](x)
        # What follows the end of a text is padding, so a causal mask hides it from the text.
        own_padding = None if self.cross is not None else padding
        x = x + self.dropout(self.own(hidden, hidden, own_padding, self.cross is not None))
        if self.cross is not None:
            assert memory is not None
            x = x + self.dropout(self.cross(self.norms[1](x), memory, memory_padding, False))
        return x + self.dropout(self.feed_forward(self.norms[-1](x), padding))


class Translator(nn.Module):
    """Encoder and decoder with one table of embeddings for both languages and for the output.

    `layer` describes the :class:`MoDELayer` of each block, except its widths.
    """

    def __init__(self, n_tokens: int, size: Size, layer: dict[str, object]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, size.width)
        nn.init.normal_(self.embedding.weight, std=size.width**-0.5)
        self.dropout = nn.Dropout(size.dropout)

        def blocks(decodes: bool) -> nn.ModuleList:
            return nn.ModuleList(
                [
                    Block(size, MoDELayer(size.width, **layer), decodes=decodes)  # type: ignore[arg-type]
                    for _ in range(size.layers)
                ]
            )

        self.encoder, self.decoder = blocks(False), blocks(True)
        self.norms = nn.ModuleList([nn.LayerNorm(size.width) for _ in range(2)])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the logits of the token after each one of `target`, (n, length, n_tokens)."""
        return self.decode(target, self.encode(source), source == PADDING)

    def encode(self, source: Tensor) -> Tensor:
        """Return the encoder's output, (n, length, width)."""
        padding = source == PADDING
        x = self.embed(source)
        for block in self.encoder:
            x = block(x, padding, None, None)
        return self.norms[0](x)  # type: ignore[no-any-return]

    def decode(self, target: Tensor, memory: Tensor, memory_padding: Tensor) -> Tensor:
        """Return the logits after each token of `target`."""
        padding = target == PADDING
        x = self.embed(target)
        for block in self.decoder:
            x = block(x, padding, memory, memory_padding)
        return F.linear(self.norms[1](x), self.embedding.weight)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return scaled embeddings plus positions."""
        width = self.embedding.embedding_dim
        x = self.embedding(tokens) * math.sqrt(width)
        return self.dropout(x + positions(tokens.shape[1], width, x.device))  # type: ignore[no-any-return]

    @torch.no_grad()
    def translate(self, source: Tensor, max_length: int) -> Tensor:
        """Translate by the most likely token at each step, (n, max_length) with padding."""
        memory, padding = self.encode(source), source == PADDING
        found = source.new_full((len(source), max_length + 1), PADDING)
        found[:, 0] = START
        open_ = torch.arange(len(source), device=source.device)
        for i in range(max_length):
            logits = self.decode(found[open_, : i + 1], memory[open_], padding[open_])[:, -1]
            logits[:, [PADDING, START]] = -torch.inf
            token = logits.argmax(dim=1)
            found[open_, i + 1] = token
            open_ = open_[token != END]
            if not len(open_):
                break
        return found[:, 1:]


def positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the positions, (length, width)."""
    position = torch.arange(length, device=device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000) / width))
    return torch.cat([(position * rate).sin(), (position * rate).cos()], dim=1)
