"""Networks over whole tables: evaluated block by block, in double precision from there on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmode._training.net import BLOCK_ROWS, Rows
from skmode.nn import MixtureOfExperts

# What to compute: from a module, numbers and codes to one tensor or more with rows first.
Function = Callable[[MixtureOfExperts, Tensor, Tensor], tuple[Tensor, ...]]


def evaluate(
    module: MixtureOfExperts, rows: Rows, function: Function, device: str, dtype: torch.dtype
) -> list[NDArray[Any]]:
    """Apply a function to rows in memory; the module is on the device already."""
    blocks = []
    size = BLOCK_ROWS[torch.device(device).type]
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            numbers = rows.numbers[block].to(device, dtype)
            result = function(module, numbers, rows.codes[block].to(device))
            # Double precision from here on, so that probabilities sum to one.
            blocks.append([part.cpu().double().numpy() for part in result])
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def mixture(module: MixtureOfExperts, numbers: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Prediction of all experts together."""
    return (module(numbers, codes).prediction,)


def top_expert(module: MixtureOfExperts, numbers: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Prediction of each row's top expert."""
    return (module.predict_top_expert(numbers, codes)[0],)


def all_experts(module: MixtureOfExperts, numbers: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Prediction of every expert alone."""
    return (module(numbers, codes, all_experts=True).expert_outputs,)


def gate(module: MixtureOfExperts, numbers: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Logarithms of the gate's probabilities."""
    return (module.gate(module.trunk(numbers, codes)).log_probabilities,)


def to_probabilities(log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponentials that sum to one over the last axis, whatever the rounding before."""
    probabilities = np.exp(log_probabilities)
    return probabilities / probabilities.sum(axis=-1, keepdims=True)
