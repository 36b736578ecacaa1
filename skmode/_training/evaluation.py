"""Evaluate a network on many rows, block by block, and score its predictions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skmode._training.process.ranks import ranks_of_fit
from skmode._training.rows import Batches, Rows, block_rows
from skmode.nn import CrossEntropy, MixtureOfExperts

# Maps a network and the inputs of some rows to one or more tensors with rows first.
Function = Callable[[MixtureOfExperts, tuple[Tensor, ...]], tuple[Tensor, ...]]


class Evaluated(NamedTuple):
    """Gate weights and predictions for some rows.

    Attributes
    ----------
    gate : torch.Tensor of shape (n_samples, n_experts)
        Weight of each expert.
    outputs : torch.Tensor of shape (n_samples, n_experts, n_outputs)
        Prediction of each expert alone.
    prediction : torch.Tensor of shape (n_samples, n_outputs)
        Prediction of the mixture.
    """

    gate: Tensor
    outputs: Tensor
    prediction: Tensor

    def top(self) -> Tensor:
        """Prediction of each row's top expert."""
        rows = torch.arange(len(self.gate), device=self.gate.device)
        return self.outputs[rows, self.gate.argmax(dim=1)]


class RoutingDifference(NamedTuple):
    """Absolute differences between mixture and top expert, for each output of the network."""

    mean: NDArray[np.float64]
    max: NDArray[np.float64]


def evaluate(
    module: MixtureOfExperts, rows: Rows, function: Function, device: str, dtype: torch.dtype
) -> list[NDArray[Any]]:
    """Apply a function to encoded rows; the module must be on the device already."""
    found: list[NDArray[Any]] = []
    size = block_rows(rows, torch.device(device))
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            block = rows.batch(start, start + size).to(device, dtype)
            # Double precision from here on, so that probabilities sum to one.
            parts = [part.cpu().double().numpy() for part in function(module, block.inputs)]
            if not found:
                # Whole from the start: small arrays that stay between the blocks' activations
                # would keep malloc from using that memory again.
                found = [np.empty((len(rows), *part.shape[1:])) for part in parts]
            for whole, part in zip(found, parts, strict=True):
                whole[start : start + size] = part
    return found


def mixture(module: MixtureOfExperts, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Prediction of all experts together."""
    return (module(*inputs).prediction,)


def top_expert(module: MixtureOfExperts, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Prediction of each row's top expert."""
    return (module.predict_top_expert(*inputs)[0],)


def all_experts(module: MixtureOfExperts, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Prediction of every expert alone."""
    return (module(*inputs, all_experts=True).expert_outputs,)


def gate(module: MixtureOfExperts, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Logarithms of the gate's probabilities."""
    return (module.gate(module.trunk(*inputs)).log_probabilities,)


def to_probabilities(log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponentials, normalised so that they sum to one over the last axis despite rounding."""
    with np.errstate(under="ignore"):
        probabilities = np.exp(log_probabilities)
    normalized: NDArray[np.float64] = probabilities / probabilities.sum(axis=-1, keepdims=True)
    return normalized


def evaluate_experts(module: MixtureOfExperts, rows: Rows) -> Evaluated:
    """Evaluate gate, experts and mixture, and leave the module in evaluation mode."""
    module.eval()
    found: list[Tensor] = []
    start = 0
    with torch.inference_mode():
        for batch in Batches(rows, block_rows(rows, rows.device), shuffle=False):
            output = module(*batch.inputs, all_experts=True)
            parts = output.gate_probabilities, output.expert_outputs, output.prediction
            if not found:  # whole from the start, as in `evaluate`
                found = [part.new_empty(len(rows), *part.shape[1:]) for part in parts]
            for whole, part in zip(found, parts, strict=True):
                whole[start : start + len(batch)] = part
            start += len(batch)
    return Evaluated(*found)


def evaluate_together(module: MixtureOfExperts, rows: Rows) -> Evaluated:
    """Evaluate as `evaluate_experts` does; several ranks share the rows, and get all results."""
    ranks = ranks_of_fit()
    if ranks is None or len(rows) < ranks.world:
        return evaluate_experts(module, rows)
    own = evaluate_experts(module, rows.select(ranks.own_rows(len(rows))))
    return Evaluated(*map(ranks.join, own))


def routing_difference(evaluated: Evaluated, *, classes: bool) -> RoutingDifference:
    """Compare mixture and top expert: values, or probabilities of all classes together."""
    pair = [each.cpu().double().numpy() for each in (evaluated.prediction, evaluated.top())]
    if classes:
        pair = [to_probabilities(each).reshape(-1, 1) for each in pair]
    errors = np.abs(pair[0] - pair[1])
    return RoutingDifference(errors.mean(axis=0), errors.max(axis=0))


def consistency(outputs: Tensor, task_loss: nn.Module) -> Tensor:
    """Agreement of the experts on each row, averaged over pairs; 1 if all predict the same.

    Classes: the share of pairs that predict the same class. Values (in units of the target's
    standard deviation): 1 minus the mean squared difference over twice the target's variance.
    """
    n_experts = outputs.shape[1]
    if n_experts == 1:
        return outputs.new_ones(len(outputs))
    if isinstance(task_loss, CrossEntropy):
        votes = nn.functional.one_hot(outputs.argmax(dim=2), outputs.shape[2]).sum(dim=1)
        agreeing = (votes * (votes - 1)).sum(dim=1).to(outputs.dtype)
        return agreeing / (n_experts * (n_experts - 1))
    # Half the mean squared difference over the pairs is the sample variance.
    return 1 - outputs.var(dim=1, correction=1).mean(dim=1)


def score(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Accuracy, or the coefficient of determination averaged over the outputs."""
    if not target.is_floating_point():
        return weight @ (prediction.argmax(dim=1) == target).to(weight.dtype)
    residual = weight @ (target - prediction).square()
    spread = weight @ (target - weight @ target).square()
    perfect = (residual == 0).to(residual.dtype)
    return torch.where(spread > 0, 1 - residual / spread, perfect).mean()
