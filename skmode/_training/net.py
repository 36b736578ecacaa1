"""Training: the skorch net, its batches from memory, its optimizer and seed."""

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer
from skorch.utils import TeeGenerator
from torch import Tensor

from skmode.nn import MixtureOfExperts

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
    takes longer than the training step itself. A single row that is left over joins the last
    batch, for what normalises over a batch needs two.
    """

    def __init__(self, rows: Rows, batch_size: int, shuffle: bool) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle and len(rows) > batch_size

    def __len__(self) -> int:
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        rows = self.rows
        if self.shuffle:
            rows = rows.select(torch.randperm(len(rows)).to(rows.numbers.device))
        starts = [i * self.batch_size for i in range(len(self))]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            yield rows.select(slice(start, end))


def n_batches(n_rows: int, batch_size: int) -> int:
    """How many batches the rows make."""
    full, left = divmod(n_rows, batch_size)
    # One row joins a batch before it, if there is one.
    return full + (left > 1 or (left == 1 and full == 0))


class MixtureNet(NeuralNet):
    """skorch's net around a mixture of experts.

    It adds to skorch: batches from memory, the losses that the mixture itself computes, their
    sums kept on the device until the epoch ends, a stop when the loss is not finite, and pickles
    without data, callbacks or (unless `keep_optimizer`) optimizer state.
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
            watches_gradients(callback) for _, callback in self.callbacks_
        )
        begun = len(self.history)
        keep_freed_memory()
        try:
            self.partial_fit(train, epochs=epochs)
        finally:  # an interrupted epoch is left out; `Watch` records last
            self.history[:] = [row for row in self.history if "consistency" in row]
            stopped = any(
                isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
                for _, callback in self.callbacks_
            )
            self.callbacks.clear()  # they hold validation rows
            self.callbacks_.clear()
        for row in self.history:
            row.pop("batches", None)
        self.module_.eval()
        return len(self.history) - begun < epochs and not stopped

    def evaluate_watched(self) -> tuple[Any, Rows] | None:
        """What gate and experts make of the rows that epochs are measured on, and these rows.

        Callbacks of users call it, such as :class:`skmode.inspection.GateRecognition`, in
        `on_epoch_end`. Outside of a training there are no such rows: None.
        """
        watch = dict(self.callbacks_).get("watch")
        if watch is None:
            return None
        evaluated = watch.evaluate(self.module_)
        self.module_.train()
        return evaluated, watch.rows

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


def watches_gradients(callback: Callback) -> bool:
    """Whether a callback looks at gradients, or changes them."""
    return type(callback).on_grad_computed is not Callback.on_grad_computed


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
