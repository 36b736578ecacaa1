"""Fidelity: how a teacher whose predictions the rows carry compares with the mixture it taught."""

from typing import NamedTuple

import torch
from torch import Tensor

from skmode._training.evaluation import Evaluated, score
from skmode._training.finish.calibration import calibrated
from skmode._training.plan import TaskLoss
from skmode._training.rows import Rows
from skmode.nn import CrossEntropy, MixtureOfExperts, RegressionLoss


class Fidelity(NamedTuple):
    """Losses and scores on the validation rows, by who predicts: "teacher", "mixture" and so on.

    `errors` holds the losses' standard errors, `training_loss` the teacher's on the other rows.
    """

    losses: dict[str, float]
    scores: dict[str, float]
    errors: dict[str, float]
    training_loss: float


def measure_fidelity(
    module: MixtureOfExperts,
    evaluated: Evaluated,
    train: Rows,
    valid: Rows,
    temperature: float | None,
) -> Fidelity | None:
    """Compare teacher, mixture, top expert and a constant; None if the teacher did not predict."""
    if valid.soft_target is None or train.soft_target is None:
        return None
    with torch.inference_mode():
        if temperature is None:
            mixture = evaluated.prediction
            rows = torch.arange(len(mixture), device=mixture.device)
            top_expert = evaluated.outputs[rows, evaluated.gate.argmax(dim=1)]
        else:
            mixture = calibrated(module, evaluated, temperature, False)
            top_expert = calibrated(module, evaluated, temperature, True)
        predictions = {
            "teacher": valid.soft_target,
            "mixture": mixture,
            "top_expert": top_expert,
            "constant": _constant(module.task_loss, train, valid),
        }
        weight = _shares(valid)
        losses = {name: module.task_loss(each, valid.target) for name, each in predictions.items()}
        means = {name: float(weight @ each) for name, each in losses.items()}
        errors = {name: standard_error(each, weight) for name, each in losses.items()}
        scores = {
            name: float(score(each, valid.target, weight)) for name, each in predictions.items()
        }
        assert train.soft_weight is not None
        taught = _shares(train) * (train.soft_weight > 0)
        each = module.task_loss(train.soft_target, train.target)
        training_loss = float(taught @ each / taught.sum()) if taught.any() else float("nan")
    return Fidelity(means, scores, errors, training_loss)


def standard_error(values: Tensor, shares: Tensor) -> float:
    """Standard error of the mean of values whose weights, the shares, sum to one."""
    return float((shares.square() @ (values - shares @ values).square()).sqrt())


def unexplained(task_loss: TaskLoss, rows: Rows) -> float:
    """Loss of a teacher that did not see the rows, as a share of that of a constant prediction.

    It is small where the target is nearly free of noise, for there a good teacher comes close to
    it. The constant is the mean of the targets, or the shares of the classes. Nan if the teacher
    predicted none of the rows, or if all targets are equal.
    """
    assert rows.soft_target is not None
    assert rows.soft_weight is not None
    with torch.inference_mode():
        weight = _shares(rows) * (rows.soft_weight > 0)
        teacher = weight @ task_loss(rows.soft_target, rows.target)
        constant = weight @ task_loss(_constant(task_loss, rows, rows), rows.target)
    return float(teacher / constant)


def _constant(task_loss: TaskLoss, train: Rows, like: Rows) -> Tensor:
    """The best constant for the training rows: the class shares, or the mean, median and so on."""
    assert like.soft_target is not None
    if isinstance(task_loss, CrossEntropy):
        n_classes = like.soft_target.shape[1]
        counts = torch.bincount(train.target, weights=_shares(train), minlength=n_classes)
        # A class without a training row must not make the loss infinite.
        mean = (counts + 1 / len(train)).log()
        mean = mean - mean.logsumexp(dim=0)
    elif isinstance(task_loss, RegressionLoss) and task_loss.loss != "squared_error":
        mean = _best_values(task_loss, train.target, _shares(train))
    else:
        mean = _shares(train) @ train.target
    return mean.to(like.soft_target).expand_as(like.soft_target)


def _best_values(task_loss: RegressionLoss, target: Tensor, weight: Tensor) -> Tensor:
    """Minimise the loss of a constant for each output, which is convex, by thirds."""

    def costs(values: Tensor) -> Tensor:
        each = [
            weight @ task_loss(value.expand(len(target), 1), column[:, None])
            for value, column in zip(values, target.T, strict=True)
        ]
        return torch.stack(each)

    target, weight = target.double(), weight.double()
    low, high = target.min(dim=0).values, target.max(dim=0).values
    for _ in range(60):
        third = (high - low) / 3
        rises = costs(low + third) <= costs(high - third)
        low, high = torch.where(rises, low, low + third), torch.where(rises, high - third, high)
    return (low + high) / 2


def _shares(rows: Rows) -> Tensor:
    weight = rows.sample_weight
    if weight is None:
        weight = torch.ones(len(rows), device=rows.device, dtype=_dtype(rows))
    return weight / weight.sum()


def _dtype(rows: Rows) -> torch.dtype:
    assert rows.soft_target is not None
    return rows.soft_target.dtype
