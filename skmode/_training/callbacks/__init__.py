"""Callbacks of the training loop: validation, best and averaged weights, learning rate."""

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skmode._common.notebooks.progress import progress_bar
from skmode._training.callbacks.checkpoints import Kept
from skmode._training.evaluation import (
    Evaluated,
    consistency,
    evaluate_experts,
    evaluate_together,
    score,
)
from skmode._training.process.ranks import common, ranks_of_fit
from skmode._training.process.steps import agree_on_weights
from skmode._training.rows import Rows
from skmode.nn import MixtureOfExperts


class Watch(Callback):
    """Measure gate, experts and mixture after each epoch, on validation rows if there are any."""

    def __init__(self, rows: Rows, held_out: bool, monitor_top_expert: bool) -> None:
        self.rows = rows
        self.held_out = held_out
        self.monitor_top_expert = monitor_top_expert

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        measured = self.check(net)
        if ranks_of_fit() is not None:  # their histories are equal, but their clocks are not
            measured["dur"] = common(net.history[-1]["dur"])
        for name, value in measured.items():
            net.history.record(name, value)
        net.complete_epoch()

    def check(self, net: Any) -> dict[str, Any]:
        """Measure, and raise if a value is not finite: the training loss misses the last step."""
        agree_on_weights(net.module_)
        with net.borrowing("module"):
            measured = common(self.measure(net.module_))
        for name, value in measured.items():
            if not np.all(np.isfinite(value)):
                raise net.not_finite(name, value)
        return measured

    def measure(self, module: MixtureOfExperts) -> dict[str, Any]:
        """Gate statistics and, on held-out rows, losses and scores of mixture and top expert."""
        with torch.inference_mode():
            evaluated = evaluate_together(module, self.rows)
            record = self._gate_statistics(module, evaluated.gate, evaluated.outputs)
            if self.held_out:
                record |= self.scores(module, evaluated)
        module.train()
        return record

    def loss(self, module: MixtureOfExperts, inputs: tuple[Tensor, ...]) -> float:
        """Measure the monitored loss with other inputs in the place of the rows' own."""
        with torch.inference_mode():
            rows = Rows(inputs, self.rows.target, self.rows.sample_weight)
            evaluated = evaluate_experts(module, rows)
            return float(self.scores(module, evaluated)["valid_loss"])

    def evaluate(self, module: MixtureOfExperts) -> Evaluated:
        """Evaluate gate, experts and mixture; leaves the module in evaluation mode."""
        return evaluate_experts(module, self.rows)

    def _gate_statistics(
        self, module: MixtureOfExperts, gate: Tensor, outputs: Tensor
    ) -> dict[str, Any]:
        weight = self._weight(gate)
        top = nn.functional.one_hot(gate.argmax(dim=1), module.n_experts).to(gate.dtype)
        entropy = -(weight @ torch.special.xlogy(gate, gate)).sum()
        return {
            "gate_entropy": entropy.item(),
            "expert_usage": (weight @ top).tolist(),
            "consistency": float(weight @ consistency(outputs, module.task_loss)),
        }

    def scores(self, module: MixtureOfExperts, evaluated: Evaluated) -> dict[str, Any]:
        """Losses and scores of mixture and top expert, of which this is the evaluation."""
        weight = self._weight(evaluated.gate)
        target = self.rows.target
        pair = evaluated.prediction, evaluated.top()
        losses = [weight @ module.task_loss(each, target) for each in pair]
        scores = [score(each, target, weight) for each in pair]
        return {
            "valid_loss": losses[self.monitor_top_expert].item(),
            "valid_loss_mixture": losses[0].item(),
            "valid_loss_top_expert": losses[1].item(),
            "valid_score_mixture": scores[0].item(),
            "valid_score_top_expert": scores[1].item(),
        }

    def _weight(self, like: Tensor) -> Tensor:
        weight = self.rows.sample_weight
        if weight is None:
            weight = like.new_ones(len(self.rows))
        return weight / weight.sum()


class BestWeights(Callback, Kept):
    """Keep the weights with the lowest `valid_loss`, and restore them when training ends.

    It must come directly after `Watch`: when a callback stops the training, the callbacks behind
    it do not see that epoch, which may be the best one.

    Attributes
    ----------
    loss : float
        The lowest loss.
    epoch : int
        The epoch of this training that reached it, 0 for none.
    passed : int
        Epochs of this training so far.
    rate : float
        The learning rate at the end of that epoch.
    """

    kept: ClassVar[tuple[str, ...]] = ("loss", "epoch", "passed", "rate", "_weights")

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.loss, self.epoch, self.rate = math.inf, 0, net.lr
        self.passed = 0
        self._weights: dict[str, Tensor] | None = None

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.passed += 1
        loss = net.history[-1]["valid_loss"]
        if loss < self.loss:
            self.loss, self.epoch = loss, self.passed
            self.rate = net.optimizer_.param_groups[0]["lr"]
            self._weights = copy.deepcopy(net.module_.state_dict())

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if self._weights is not None:
            net.module_.load_state_dict(self._weights)
            self._weights = None


class Stopping(Callback):
    """Base of our callbacks that end a training, which skorch does not tell from an interrupt."""

    stopped = False

    def stop(self) -> None:
        """End the training, as skorch's EarlyStopping does."""
        self.stopped = True
        raise KeyboardInterrupt


class LeaveForRefit(Stopping):
    """Stop the training while the refit's share of the epochs is still left."""

    def __init__(self, epochs: int, refit_fraction: float, best: BestWeights) -> None:
        self.epochs = epochs
        self.refit_fraction = refit_fraction
        self.best = best

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        # Without the refit's minimum of two epochs, which would be most of a small budget.
        needed = math.ceil(self.refit_fraction * self.best.epoch)
        if self.best.passed + needed >= self.epochs:
            self.stop()


class AveragedWeights(Callback, Kept):
    """Train the raw weights; validate, keep and return their exponential moving average.

    The module holds the averages from the end of an epoch to the start of the next, and after
    training, even if it was interrupted. This must be the first callback, so that the others see
    the averages. Buffers are not averaged.
    """

    kept: ClassVar[tuple[str, ...]] = ("_averages", "_raw", "_steps")

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self._weights = [each.detach() for each in net.module_.parameters() if each.requires_grad]
        self._averages = [each.clone() for each in self._weights]
        self._raw: list[torch.Tensor] | None = None
        self._steps = 0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if self._raw is not None:
            torch._foreach_copy_(self._weights, self._raw)
            self._raw = None

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        self._steps += 1
        # Smaller in the first steps, or the initial weights would stay in the averages for long.
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(self._averages, self._weights, None)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self._raw = [each.clone() for each in self._weights]
        torch._foreach_copy_(self._weights, self._averages)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        # After an interrupt the module may hold the raw weights.
        torch._foreach_copy_(self._weights, self._averages)


class EpochProgress(Callback):
    """A progress bar over the epochs."""

    def __init__(self, epochs: int, what: str = "fit") -> None:
        self.epochs = epochs
        self.what = what

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar = progress_bar(total=self.epochs, desc=self.what, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        last = net.history[-1]
        shown = {name: last[name] for name in ("train_loss", "valid_loss") if name in last}
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()})
        self.bar.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar.close()


def schedule_factor(name: str, step: int, steps: int) -> float:
    """Factor on the learning rate at one of `steps` steps, counted from zero."""
    if name == "constant":
        return 1.0
    warm_up = max(1, min(steps // 20, 100))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(steps - warm_up, 1))))


def make_rate(factor: Callable[[int], float]) -> tuple[str, Callback]:
    """Multiply the learning rate by a function of the step."""
    scheduler = LRScheduler(
        LambdaLR, lr_lambda=factor, last_epoch=-1, step_every="batch", event_name=None
    )
    return "learning_rate_schedule", scheduler


def make_schedule(name: str, steps: int) -> list[tuple[str, Callback]]:
    """Learning-rate schedule over the steps of one call; none for a constant rate."""
    if name == "constant":
        return []
    return [make_rate(lambda step: schedule_factor(name, step, steps))]


def make_early_stopping(patience: int) -> EarlyStopping:
    """Stop when `valid_loss` has not fallen for `patience` epochs; `BestWeights` restores."""
    return EarlyStopping("valid_loss", patience=patience, threshold=0.0, sink=lambda text: None)
