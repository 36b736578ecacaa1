"""Training: the skorch net, in-memory batches, what is recorded per epoch."""

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, LRScheduler
from skorch.utils import TeeGenerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from skmode.nn import CrossEntropy, MixtureOfExperts

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

# Rows per block where whole tables are evaluated: what fits a processor's cache, what fills a GPU.
BLOCK_ROWS = {"cpu": 1024, "cuda": 65536}


class NotFiniteError(ValueError):
    """Training left the finite numbers."""


class Rows(NamedTuple):
    """Encoded rows in memory, on the device that trains.

    Attributes
    ----------
    numbers : torch.Tensor of shape (n_samples, n_numeric)
        Number columns; NaN is missing.
    codes : torch.Tensor of int64 of shape (n_samples, n_categorical)
        Codes of the category columns.
    target : torch.Tensor
        Classes `(n_samples,)` or scaled values `(n_samples, n_outputs)`.
    sample_weight : torch.Tensor of shape (n_samples,), or None
        Weights with a mean of one over the training rows. None means all are equal.
    """

    numbers: Tensor
    codes: Tensor
    target: Tensor
    sample_weight: Tensor | None

    def __len__(self) -> int:
        return len(self.numbers)

    def select(self, index: Any) -> "Rows":
        """Take rows by position."""
        weight = self.sample_weight
        return Rows(
            self.numbers[index],
            self.codes[index],
            self.target[index],
            None if weight is None else weight[index],
        )

    def to(self, device: str, dtype: torch.dtype) -> "Rows":
        """Move to a device and give every real part one dtype."""

        target, weight = self.target, self.sample_weight
        return Rows(
            self.numbers.to(device, dtype),
            self.codes.to(device),
            target.to(device, dtype) if target.is_floating_point() else target.to(device),
            None if weight is None else weight.to(device, dtype),
        )


class Batches:
    """Iterate over rows that are in memory already, shuffled anew at each epoch.

    One gather per epoch and column block, then slices: a DataLoader that collates row by row
    takes longer than the training step itself.
    """

    def __init__(self, rows: Rows, batch_size: int, shuffle: bool) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle and len(rows) > batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        rows = self.rows
        if self.shuffle:
            rows = rows.select(torch.randperm(len(rows)).to(rows.numbers.device))
        for start in range(0, len(rows), self.batch_size):
            yield rows.select(slice(start, start + self.batch_size))


class MixtureNet(NeuralNet):
    """skorch's net around a mixture of experts.

    It adds to skorch: batches from memory, the losses that the mixture itself computes, their
    sums kept on the device until the epoch ends, a stop when the loss is not finite, and pickles
    without data, callbacks or (unless `keep_optimizer`) optimizer state.

    Parameters
    ----------
    module : MixtureOfExperts
        What to train; kept as `module_`.
    autocast : torch.dtype or None, default=None
        Lower precision for the products in training.
    keep_optimizer : bool, default=False
        Whether a pickle holds the optimizer state.
    **kwargs : dict
        Passed to :class:`skorch.NeuralNet`.
    """

    def __init__(
        self,
        module: MixtureOfExperts,
        *,
        autocast: torch.dtype | None = None,
        keep_optimizer: bool = False,
        **kwargs: Any,
    ) -> None:
        self.autocast = autocast
        self.keep_optimizer = keep_optimizer
        super().__init__(module, criterion=None, train_split=None, **kwargs)

    def initialize_criterion(self) -> "MixtureNet":
        """The mixture computes its own losses: there is no criterion."""
        return self

    @property
    def _default_callbacks(self) -> list[Any]:
        return [("epoch_timer", EpochTimer())]

    def train_epochs(self, train: Rows, epochs: int, callbacks: list[tuple[str, Callback]]) -> bool:
        """Train for some epochs; return whether the user interrupted it."""
        self.callbacks = callbacks
        self.initialize_callbacks()
        self._gradients_are_watched = any(
            type(callback).on_grad_computed is not Callback.on_grad_computed
            for _, callback in self.callbacks_
        )
        begun = len(self.history)
        keep_freed_memory()
        try:
            self.partial_fit(train, epochs=epochs)
        finally:  # an interrupted epoch is left out; `Watch` records last
            self.history[:] = [row for row in self.history if "consistency" in row]
        for row in self.history:
            row.pop("batches", None)
        self.module_.eval()
        stopped = any(
            isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
            for _, callback in self.callbacks_
        )
        self.callbacks.clear()  # they hold validation rows
        self.callbacks_.clear()
        return len(self.history) - begun < epochs and not stopped

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Rows, None]:
        """All rows are for training; the callback `Watch` holds the validation rows."""
        return X, None

    def get_iterator(self, dataset: Rows, training: bool = False) -> Batches:
        """Batches from memory."""
        return Batches(dataset, self.batch_size, shuffle=training)

    def run_single_epoch(
        self,
        iterator: Any,
        training: bool,
        prefix: str,
        step_fn: Callable[..., Any],
        **fit_params: Any,
    ) -> None:
        """One pass over the training rows; nothing for validation, which has no iterator."""
        if iterator is None:
            return
        self._set_training(True)
        losses, n_rows = [], []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=True)
            step = step_fn(batch, **fit_params)
            losses.append(step["losses"])
            n_rows.append(len(batch))
            self.notify("on_batch_end", batch=batch, training=True, **step)
        # Only here does the device have to be waited for.
        means = np.average(torch.stack(losses).cpu().double(), axis=0, weights=n_rows).tolist()
        if not all(map(math.isfinite, means)):
            raise self.not_finite("training loss", means[0])
        for name, value in zip(("train", "task", "distillation", "balance"), means, strict=True):
            self.history.record(f"{name}_loss", value)
        self.history.record("train_batch_count", len(iterator))

    def not_finite(self, what: str, value: float) -> "NotFiniteError":
        """The error to raise where training went astray."""
        return NotFiniteError(
            f"The {what} must stay finite, and in epoch {len(self.history)} it became {value}: "
            f"lower learning_rate (now {self.lr:g}), lower alpha, or look for extreme values in "
            "X and y."
        )

    def train_step_single(self, batch: Rows, **fit_params: Any) -> dict[str, Tensor]:
        """Forward, losses and gradients for one batch."""
        with self._precision(batch.numbers.device):
            output = self.module_(*batch)
        losses = output.losses
        losses.total.backward()
        # skorch's callbacks take `y_pred`.
        return {
            "loss": losses.total,
            "losses": torch.stack(losses).detach(),
            "y_pred": output.prediction.detach(),
        }

    def train_step(self, batch: Rows, **fit_params: Any) -> Any:
        """One optimizer step, as skorch's, without its closure."""
        self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        if self._gradients_are_watched:
            self.notify(
                "on_grad_computed",
                named_parameters=TeeGenerator(self.get_all_learnable_params()),
                batch=batch,
                training=True,
            )
        self._step_optimizer(None)
        return step

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)

    def __getstate__(self) -> dict[str, Any]:
        bare = object.__new__(type(self))
        state = bare.__dict__
        state.update(self.__dict__, module=None, callbacks=None, callbacks_=[], device="cpu")
        if next(self.module_.parameters()).device.type != "cpu":
            state["module_"] = copy.deepcopy(self.module_).to("cpu")
        if not self.keep_optimizer:
            state.pop("optimizer_", None)
        return dict(NeuralNet.__getstate__(bare))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__["module"] = self.module_


def keep_freed_memory() -> None:
    """Have glibc keep what a training step frees, which the next one asks for again.

    It hands memory back to the system as soon as some is free on top, until a larger block has
    been freed once (mallopt(3), M_TRIM_THRESHOLD); the page faults of the next step then took a
    fifth of its time at 8 experts of width 256. Elsewhere this does nothing.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


class Evaluated(NamedTuple):
    """What a mixture makes of some rows.

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


class Watch(Callback):
    """Record after each epoch how mixture and gate do on the validation rows.

    Parameters
    ----------
    rows : Rows
        Validation rows, or a part of the training rows where nothing is held out.
    held_out : bool
        Whether `rows` are validation rows; only then are losses and scores recorded.
    monitor_top_expert : bool
        Whether `valid_loss` is that of the top expert instead of the mixture.
    """

    def __init__(self, rows: Rows, held_out: bool, monitor_top_expert: bool) -> None:
        self.rows = rows
        self.held_out = held_out
        self.monitor_top_expert = monitor_top_expert

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        for name, value in self.check(net).items():
            net.history.record(name, value)

    def check(self, net: Any) -> dict[str, Any]:
        """Measure; the last step of an epoch has no training loss that would tell of it."""
        measured = self.measure(net.module_)
        for name, value in measured.items():
            if not np.all(np.isfinite(value)):
                raise net.not_finite(name, value)
        return measured

    def measure(self, module: MixtureOfExperts) -> dict[str, Any]:
        """Gate statistics and, on held-out rows, losses and scores of mixture and top expert."""
        with torch.inference_mode():
            evaluated = self.evaluate(module)
            record = self._gate_statistics(module, evaluated.gate, evaluated.outputs)
            if self.held_out:
                record |= self._scores(module, *evaluated)
        module.train()
        return record

    def evaluate(self, module: MixtureOfExperts) -> Evaluated:
        """What gate and experts make of the rows; leaves the module in evaluation mode."""
        module.eval()
        with torch.inference_mode():
            blocks = [
                module(batch.numbers, batch.codes, all_experts=True)
                for batch in Batches(
                    self.rows, BLOCK_ROWS[self.rows.numbers.device.type], shuffle=False
                )
            ]
            return Evaluated(
                torch.cat([block.gate_probabilities for block in blocks]),
                torch.cat([block.expert_outputs for block in blocks]),
                torch.cat([block.prediction for block in blocks]),
            )

    def _gate_statistics(
        self, module: MixtureOfExperts, gate: Tensor, outputs: Tensor
    ) -> dict[str, Any]:
        weight = self._weight(gate)
        top = nn.functional.one_hot(gate.argmax(dim=1), module.n_experts).to(gate.dtype)
        entropy = -(weight @ torch.special.xlogy(gate, gate)).sum()
        return {
            "gate_entropy": entropy.item(),
            "expert_usage": (weight @ top).tolist(),
            "consistency": float(weight @ _consistency(outputs, module.task_loss)),
        }

    def _scores(
        self, module: MixtureOfExperts, gate: Tensor, outputs: Tensor, prediction: Tensor
    ) -> dict[str, Any]:
        weight = self._weight(gate)
        target = self.rows.target
        top = outputs[torch.arange(len(gate), device=gate.device), gate.argmax(dim=1)]
        losses = [weight @ module.task_loss(each, target) for each in (prediction, top)]
        scores = [_score(each, target, weight) for each in (prediction, top)]
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


class EpochProgress(Callback):
    """A progress bar over the epochs."""

    def __init__(self, epochs: int, what: str = "fit") -> None:
        self.epochs = epochs
        self.what = what

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar = tqdm(total=self.epochs, desc=self.what, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        last = net.history[-1]
        shown = {name: last[name] for name in ("train_loss", "valid_loss") if name in last}
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()})
        self.bar.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar.close()


def schedule_factor(name: str, step: int, steps: int) -> float:
    """What a schedule makes of the learning rate at one of `steps` steps, counted from zero."""
    if name == "constant":
        return 1.0
    warm_up = max(1, min(steps // 20, 100))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(steps - warm_up, 1))))


def make_rate(factor: Callable[[int], float]) -> tuple[str, Callback]:
    """Have the learning rate follow a function of the step."""
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
    """Stop when `valid_loss` has not fallen for `patience` epochs and go back to the best."""
    return EarlyStopping(
        "valid_loss", patience=patience, threshold=0.0, sink=lambda text: None, load_best=True
    )


def optimizer_options(optimizer: str | Callable[..., Any], weight_decay: float) -> dict[str, Any]:
    """Options of :class:`skorch.NeuralNet` that choose the optimizer."""
    if not isinstance(optimizer, str):
        if optimizer is torch.optim.LBFGS:
            raise ValueError(
                "The optimizer must step once per gradient, got LBFGS, which evaluates the loss "
                'anew: use "adamw", "adam", "sgd" or another class of torch.optim.'
            )
        options: dict[str, Any] = {"optimizer": optimizer}
        if "weight_decay" in inspect.signature(optimizer).parameters:
            options["optimizer__weight_decay"] = weight_decay
        return options
    options = {"optimizer": OPTIMIZERS[optimizer], "optimizer__weight_decay": weight_decay}
    if optimizer == "sgd":
        options["optimizer__momentum"] = 0.9
    return options | {"optimizer__fused": True}


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch inside the block and leave its global random state as it was."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device != "cpu" else []):
        torch.manual_seed(seed)
        yield


def _consistency(outputs: Tensor, task_loss: nn.Module) -> Tensor:
    """Per row: agreement over the pairs of experts, 1 where all of them predict the same.

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


def _score(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Accuracy, or the coefficient of determination averaged over the outputs."""
    if not target.is_floating_point():
        return weight @ (prediction.argmax(dim=1) == target).to(weight.dtype)
    residual = weight @ (target - prediction).square()
    spread = weight @ (target - weight @ target).square()
    perfect = torch.where(residual == 0, 1.0, 0.0)
    return torch.where(spread > 0, 1 - residual / spread, perfect).mean()
