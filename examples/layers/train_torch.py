"""A MoDE layer in a training loop of plain torch.

    python train_torch.py [--steps 200]

Sequences of two made-up languages are told apart by the order of their tokens. At the end, the
table shows which expert works for which language.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import nn

import skmode.nn
from skmode.inspection import token_routes


class Classifier(nn.Module):
    """A transformer block whose feed-forward layer is a mixture of experts."""

    def __init__(self, n_tokens: int = 50, width: int = 32, n_classes: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width, padding_idx=0)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, num_heads=4, batch_first=True)
        self.experts = skmode.nn.MoDELayer(width, n_experts=4, top_k=2, alpha=0.1)
        self.head = nn.Linear(width, n_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        padding = tokens == 0
        x = self.embedding(tokens)
        x = x + self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        x = x + self.experts(self.norm(x), padding_mask=padding)
        return self.head(x.masked_fill(padding.unsqueeze(2), 0).sum(dim=1))


def make_batch(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sequences of different lengths: each token is 1 or 7 after the one before."""
    language = torch.randint(2, (n,), generator=generator)
    start = torch.randint(49, (n, 1), generator=generator)
    tokens = (start + torch.arange(12) * torch.tensor([1, 7])[language, None]) % 49 + 1
    length = torch.randint(4, 13, (n, 1), generator=generator)
    return tokens.masked_fill(torch.arange(12) >= length, 0), language


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print the routes, and return the accuracy on new sequences."""
    parser = argparse.ArgumentParser(description="Train a MoDE layer with plain torch.")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(args.steps):
        tokens, language = make_batch(64, generator)
        loss = nn.functional.cross_entropy(model(tokens), language)
        loss = loss + skmode.nn.auxiliary_loss(model)  # the one line
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    tokens, language = make_batch(500, generator)
    print(token_routes(model, [tokens], groups=[language]).round(3).to_string(index=False))
    with torch.no_grad():
        accuracy = (model.eval()(tokens).argmax(dim=1) == language).float().mean().item()
    print(f"accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
