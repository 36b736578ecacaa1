"""Muon (arXiv 2604.15297) for the experts' hidden layers, and AdamW for all other weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOMENTUM, STEPS = 0.95, 3
COEFFICIENTS = 3.4445, -4.7750, 2.0315
# Narrower weights are those of embeddings and biases.
NARROWEST = 32


class Muon(torch.optim.AdamW):
    """Steps along orthogonalised momentum: all directions of a layer's weights move alike."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move hidden weights, whose gradients AdamW then does not see, and the others."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim == 3 and min(weight.shape[1:]) >= NARROWEST:
                    self._move(weight, group["lr"], group["weight_decay"])
        return super().step(closure)

    def _move(self, weight: Tensor, rate: float, decay: float) -> None:
        gradient, weight.grad = weight.grad, None
        assert gradient is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        direction = orthogonalize(gradient + MOMENTUM * momentum)
        weight.mul_(1 - rate * decay)
        weight.sub_(direction, alpha=0.2 * max(weight.shape[1:]) ** 0.5 * rate)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix near one, by Newton-Schulz steps."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
