"""A teacher made of two: parts of the mixture and of an ensemble."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from skmode._training.finish.taught import Teacher
from skmode._training.rows import Rows, block_rows
from skmode.nn import CrossEntropy, MixtureOfExperts

# The ensemble's share in the teacher "ensemble": half was better on average than either alone
# (benchmarks/ablations.md).
ENSEMBLE_SHARE = 0.5
# Shares of the ensemble that are tried; the rest is the mixture's.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def predict(teacher: Teacher, rows: Rows) -> Tensor:
    """A teacher's predictions of rows."""
    blocks = rows.batches(block_rows(rows, rows.device), shuffle=False)
    with torch.inference_mode():
        return torch.cat([teacher(block.inputs) for block in blocks])


def choose_share(module: MixtureOfExperts, mixture: Tensor, ensemble: Tensor, rows: Rows) -> float:
    """The ensemble's share in the mean that predicts the held-out rows best."""
    mean = blend_of(module)
    weight = rows.sample_weight

    def loss(share: float) -> float:
        each = module.task_loss(mean(mixture, ensemble, share), rows.target)
        return float((each if weight is None else each * weight).sum())

    with torch.inference_mode():
        return min(SHARES, key=loss)


def blend(module: MixtureOfExperts, mixture: Teacher, ensemble: Teacher, share: float) -> Teacher:
    """Average two teachers, of which the second has this share."""
    mean = blend_of(module)
    return lambda inputs: mean(mixture(inputs), ensemble(inputs), share)


def blend_of(module: MixtureOfExperts) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Weighted mean of two predictions: of probabilities, from and to their logarithms."""

    def of_probabilities(first: Tensor, second: Tensor, share: float) -> Tensor:
        if share in (0, 1):
            return second if share else first
        return torch.logaddexp(first + math.log1p(-share), second + math.log(share))

    return of_probabilities if isinstance(module.task_loss, CrossEntropy) else torch.lerp
