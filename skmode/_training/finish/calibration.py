"""Temperature scaling: fit the confidence of the probabilities to the validation rows."""

import math
from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from skmode._training.evaluation import Evaluated
from skmode._training.rows import Rows
from skmode.nn import MixtureOfExperts

# Standard deviation of the normal prior on the log temperature, whose mean is 0. Without a prior
# calibration did harm on one set (benchmarks/ablations.md).
PRIOR_SPREAD = 0.2
# Largest absolute log temperature.
LIMIT = 1.5


def fit_temperature(
    module: MixtureOfExperts, evaluated: Evaluated, rows: Rows, *, top_expert: bool
) -> float:
    """Find the temperature by which to divide the classes' logits.

    It maximises the posterior density: the likelihood of the rows times a log-normal prior, which
    keeps the temperature near one where rows are few. Guo et al., "On Calibration of Modern Neural
    Networks" (arXiv 1706.04599), section 4.2, describe the method without a prior.
    """
    weight = rows.sample_weight
    if weight is None:
        weight = torch.ones_like(evaluated.gate[:, 0])

    def loss(temperature: float) -> float:
        prediction = calibrated(module, evaluated, temperature, top_expert)
        return float((weight * module.task_loss(prediction, rows.target)).sum())

    return minimize_temperature(loss)


def minimize_temperature(
    loss: Callable[[float], float], spread: float = PRIOR_SPREAD, limit: float = LIMIT
) -> float:
    """Minimise a sum of log losses plus the penalty that belongs to the prior."""

    def cost(log_temperature: float) -> float:
        penalty = 0.5 * (log_temperature / spread) ** 2
        return loss(math.exp(log_temperature)) + penalty

    with torch.inference_mode():
        found = minimize_scalar(cost, bounds=(-limit, limit), method="bounded")
    return math.exp(found.x)


def apply_temperature(module: MixtureOfExperts, temperature: float) -> None:
    """Divide the output layer's weights: it is linear, so this divides the logits."""
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.div_(temperature)


def calibrated(
    module: MixtureOfExperts, evaluated: Evaluated, temperature: float, top_expert: bool
) -> Tensor:
    """Log-probabilities after dividing all logits by the temperature.

    Log-probabilities differ from logits by a constant per row, which the softmax does not see.
    """
    gate, outputs, prediction = evaluated
    if module.mixing == "representation" and not top_expert:
        return module.task_loss.finalize(prediction / temperature)
    each = module.task_loss.finalize(outputs / temperature)
    if top_expert:
        return each[torch.arange(len(gate), device=gate.device), gate.argmax(dim=1)]
    return (gate.log().unsqueeze(2) + each).logsumexp(dim=1)
