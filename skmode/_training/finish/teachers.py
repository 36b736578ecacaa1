"""The teachers of a refit: the mixture as it was before, or an ensemble of single networks."""

import copy
import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skmode._training.building import build_experts, make_net
from skmode._training.callbacks import AveragedWeights, EpochProgress, make_schedule
from skmode._training.finish.calibration import apply_temperature, minimize_temperature
from skmode._training.finish.ensemble import Ensemble
from skmode._training.finish.members import (
    MemberRows,
    MemberWatch,
    evaluate_members,
)
from skmode._training.finish.refit import LOWEST_REFIT_RATE, refit, refit_epochs
from skmode._training.finish.taught import Teacher
from skmode._training.net import MixtureNet, NotFiniteError, clipping
from skmode._training.plan import Plan
from skmode._training.process.isolation import Generators
from skmode._training.process.ranks import common, ranks_of_fit
from skmode._training.process.steps import begin
from skmode._training.rows import n_batches
from skmode.nn import CrossEntropy, MixtureOfExperts

# The share of the epochs that the networks are refitted for: the default of the estimators.
REFIT_FRACTION = 0.3


class Members(NamedTuple):
    """Rows to train, validate and, unless all were trained on, refit each network; on the CPU."""

    train: MemberRows
    held_out: MemberRows
    everything: MemberRows | None

    def to(self, device: str, dtype: torch.dtype) -> "Members":
        """Move the rows to a device, in a precision."""

        def moved(each: MemberRows) -> MemberRows:
            return MemberRows(each.rows.to(device, dtype), each.positions)

        last = None if self.everything is None else moved(self.everything)
        return Members(moved(self.train), moved(self.held_out), last)


def mixture_teacher(module: MixtureOfExperts, temperature: float | None) -> Teacher:
    """The mixture as it is now, calibrated."""
    frozen = copy.deepcopy(module).eval()
    if temperature is not None:
        apply_temperature(frozen, temperature)

    def teach(inputs: tuple[Tensor, ...]) -> Tensor:
        prediction: Tensor = frozen(*inputs).prediction
        return prediction

    return teach


class Trained(NamedTuple):
    """An ensemble that was trained, or None if it did not stay finite.

    `held_out` are its calibrated predictions of the first network's held-out rows, made before the
    refit.
    """

    teacher: Teacher | None
    interrupted: bool
    held_out: Tensor | None = None


def train_ensemble(plan: Plan, members: Members, generators: Generators) -> Trained:
    """Train an ensemble, calibrate it, and refit it with all rows."""
    with generators.building():
        ensemble = build_ensemble(plan, members.train)
        net = make_net(plan, ensemble)
    if (ranks := ranks_of_fit()) is not None:
        begin(ranks, ensemble)
    members = members.to(plan.device, ensemble.head.weight.dtype)
    fraction = REFIT_FRACTION if members.everything is not None else 0.0
    watch = MemberWatch(members.held_out, plan.n_iter_no_change, plan.epochs, fraction)
    steps = plan.epochs * n_batches(members.train.positions.shape[1], plan.batch_size)
    try:
        interrupted = net.train_epochs(
            members.train, plan.epochs, _callbacks(plan, watch, steps), generators
        )
    except NotFiniteError as error:
        warnings.warn(
            f"The teachers of the refit did not stay finite, so it has none. {error}",
            ConvergenceWarning,
            stacklevel=2,
        )
        return Trained(None, False)
    temperatures = None
    prediction = evaluate_members(ensemble, members.held_out)
    if plan.calibrate and isinstance(ensemble.task_loss, CrossEntropy):
        temperatures = _temperatures(ensemble, prediction, members.held_out)
        prediction = ensemble.task_loss.finalize(
            prediction / temperatures.to(prediction).view(-1, 1, 1)
        )
    held_out = ensemble.average(prediction)
    if not interrupted and members.everything is not None:
        interrupted = _refit(plan, net, members.everything, watch, generators)
    if temperatures is not None:  # after the refit, which continues from the weights as trained
        ensemble.divide_logits(temperatures)
    ensemble.eval()
    return Trained(ensemble.teach, interrupted, held_out)


def build_ensemble(plan: Plan, train: MemberRows) -> Ensemble:
    """Networks with new weights; all take the statistics of the inputs from all rows."""
    n_networks = len(train.positions)
    network = dataclasses.replace(plan.network, n_experts=n_networks)
    trunks = [network.make_trunk(train.rows) for _ in range(n_networks)]
    hidden, representation_width = build_experts(network, trunks[0])
    return Ensemble(
        trunks, hidden, representation_width, network.n_outputs, network.make_task_loss()
    )


def _callbacks(plan: Plan, watch: MemberWatch, steps: int) -> list[Any]:
    callbacks: list[Any] = []
    if plan.weight_averaging:
        callbacks.append(("weight_averaging", AveragedWeights(plan.weight_averaging)))
    callbacks += make_schedule(plan.learning_rate_schedule, steps)
    # The user's clipping of gradients may be what keeps the training finite.
    callbacks += clipping(plan.callbacks)
    if plan.show_progress:
        callbacks.append(("progress", EpochProgress(plan.epochs, "teachers")))
    return [*callbacks, ("watch", watch)]  # last, because it may end the training


def _refit(
    plan: Plan,
    net: MixtureNet,
    rows: MemberRows,
    watch: MemberWatch,
    generators: Generators,
) -> bool:
    """Continue with all rows, as a mixture without a teacher does; tell of an interrupt."""
    left = plan.epochs - watch.epochs
    epochs = refit_epochs(REFIT_FRACTION, watch.mean_best_epoch, left)
    if not epochs:
        return False
    rate = max(float(watch.best_rate.mean()), LOWEST_REFIT_RATE * plan.learning_rate)
    callbacks: list[Any] = clipping(plan.callbacks)
    if plan.show_progress:
        callbacks.append(("progress", EpochProgress(epochs, "refit of the teachers")))
    return refit(net, rows, epochs, rate, watch, callbacks, generators)[1]


def _temperatures(ensemble: Ensemble, prediction: Tensor, held_out: MemberRows) -> Tensor:
    """Fit a temperature for each network to its own held-out rows."""
    found = [
        minimize_temperature(functools.partial(_loss_at, ensemble, *each))
        for each in zip(prediction, *held_out.targets(), strict=True)
    ]
    return common(torch.tensor(found))


def _loss_at(
    ensemble: Ensemble, prediction: Tensor, target: Tensor, weight: Tensor, temperature: float
) -> float:
    """Loss of one network after dividing its logits."""
    calibrated = ensemble.task_loss.finalize(prediction / temperature)
    return float((weight * ensemble.task_loss(calibrated, target)).sum())
