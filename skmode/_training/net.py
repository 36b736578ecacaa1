"""The skorch net that trains a mixture: batches, losses, steps and pickles."""

import collections
import contextlib
import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer
from skorch.utils import TeeGenerator
from torch import Tensor, nn

from skmode._training.callbacks import Stopping, Watch
from skmode._training.callbacks.checkpoints import Checkpoint
from skmode._training.evaluation import Evaluated
from skmode._training.process.isolation import Generators, Part, do_interrupts_raise, isolated
from skmode._training.process.ranks import Ranks, ranks_of_fit
from skmode._training.process.steps import Part as PartOfRank
from skmode._training.rows import Pass, Rows, Trainable
from skmode.nn import Dropout
from skmode.nn.trunks import Augmentation


class NotFiniteError(ValueError):
    """A loss or a measure became NaN or infinite in training."""


class StepLosses:
    """The losses of an epoch's steps, which stay on the device, and the rows of each step."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin an epoch."""
        self.losses = torch.empty(0)
        self.n_rows: list[int] = []
        # To be called once the steps that a checkpoint holds are passed over.
        self.then: Callable[[], None] | None = None

    def add(self, losses: Tensor, n_rows: int, n_steps: int) -> None:
        """Keep the losses of one of `n_steps` steps."""
        if not self.n_rows:
            # In one block: thousands of small ones between the steps' activations would keep
            # malloc from using that memory again.
            self.losses = losses.new_empty(n_steps, len(losses))
        self.losses[len(self.n_rows)] = losses
        self.n_rows.append(n_rows)

    def means(self) -> list[float]:
        """Average over the rows: the first transfer from the device in an epoch."""
        means: list[float] = np.average(
            self.losses.cpu().double(), axis=0, weights=self.n_rows
        ).tolist()
        return means

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"losses": self.losses, "n_rows": self.n_rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint has kept."""
        self.losses, self.n_rows = state["losses"], state["n_rows"]


class MixtureNet(NeuralNet):
    """skorch's net around a mixture of experts, or another module that computes its own losses.

    It changes skorch in these points: batches come from memory, the module computes its own
    losses, which stay on the device until the epoch ends, a loss that is not finite stops the
    training, and pickles hold no data, no callbacks and (unless `keep_optimizer`) no optimizer.
    """

    # skorch's.
    module_: Any
    device: Any

    # Set while `train_epochs` runs; without them torch's default generators are used.
    _generators: Generators | None = None
    so_far: StepLosses

    def __init__(
        self,
        module: nn.Module,
        *,
        autocast: torch.dtype | None = None,
        keep_optimizer: bool = False,
        **kwargs: Any,
    ) -> None:
        self.autocast = autocast
        self.keep_optimizer = keep_optimizer
        super().__init__(module, criterion=None, train_split=None, **kwargs)

    def initialize_criterion(self) -> "MixtureNet":
        """Do nothing: the mixture computes its own losses."""
        return self

    @property
    def _default_callbacks(self) -> list[Any]:
        return [("epoch_timer", EpochTimer())]

    def train_epochs(
        self,
        train: Trainable,
        epochs: int,
        callbacks: list[tuple[str, Callback]],
        generators: Generators,
        checkpoint: Checkpoint | None = None,
    ) -> bool:
        """Train for some epochs; return whether the user interrupted it.

        With a checkpoint, the training goes on from what it holds.
        """
        self.so_far = StepLosses()
        ranks = ranks_of_fit()
        if ranks is not None:
            generators.part_ways(ranks.rank)
        begun, done = len(self.history), 0
        if checkpoint is not None:
            own = [each[-1] if isinstance(each, tuple) else each for each in callbacks]
            done = checkpoint.begin(self, own, generators)
            begun = checkpoint.begun
            if checkpoint.finished:
                self.module_.eval()
                return False
            callbacks = [("checkpoint", checkpoint), *callbacks]
        self._generators = generators
        self.callbacks = callbacks
        self.initialize_callbacks()
        self._gradients_are_watched = any(
            watches_gradients(callback) for _, callback in self.callbacks_
        )
        self.n_complete = len(self.history)
        keep_freed_memory()
        if "module" not in generators.borrowing:
            self._set_generator(generators.device)
        try:
            self.partial_fit(train, epochs=epochs - done)
        finally:
            self._set_generator(None)
            self._generators = None
            del self.history[self.n_complete :]
            stopped = any(map(has_stopped, (callback for _, callback in self.callbacks_)))
            self.callbacks.clear()  # they hold validation rows
            self.callbacks_.clear()
        for row in self.history:
            row.pop("batches", None)
        self.module_.eval()
        interrupted = len(self.history) - begun < epochs and not stopped
        if not (stopped or self._ran_through) and (ranks is not None or do_interrupts_raise()):
            raise KeyboardInterrupt  # ranks may be in the middle of a step; half a teacher is none
        if checkpoint is not None and (stopped or self._ran_through):
            checkpoint.finish(self)
        return interrupted

    def fit_loop(self, *args: Any, **kwargs: Any) -> "MixtureNet":
        """Run the epochs; a keyboard interrupt leaves it before its end."""
        self._ran_through = False
        super().fit_loop(*args, **kwargs)
        self._ran_through = True
        return self

    def move_to(self, device: str) -> None:
        """Go on with the training on another device."""
        wanted, found = torch.device(device), next(self.module_.parameters()).device
        if self.device != device or found.type != wanted.type:
            self.device = device
            optimizer = vars(self).get("optimizer_")
            self.module_, _ = move(self.module_, optimizer, device)

    def complete_epoch(self) -> None:
        """Keep the present epoch in the history, which drops interrupted and refit epochs."""
        self.n_complete = len(self.history)

    def evaluate_watched(self) -> tuple[Evaluated, Rows] | None:
        """Evaluate gate and experts on the rows that measure each epoch, and return both.

        Callbacks such as :class:`skmode.inspection.GateRecognition` call it in `on_epoch_end`.
        Outside of training it returns None.
        """
        watch = self._watch
        if watch is None:
            return None
        evaluated = watch.evaluate(self.module_)
        self.module_.train()
        return evaluated, watch.rows

    def validation_inputs(self) -> tuple[Tensor, ...] | None:
        """Return what the trunk reads of the validation rows, for `validation_loss` to change.

        Callbacks such as :class:`skmode.inspection.FeatureImportance` call it. Without validation
        rows, and outside of training, it returns None.
        """
        watch = self._watch
        return watch.rows.inputs if watch is not None and watch.held_out else None

    def validation_loss(self, inputs: tuple[Tensor, ...]) -> float:
        """Measure the loss that early stopping monitors, with these inputs of the validation rows.

        It leaves the module in evaluation mode.
        """
        assert self._watch is not None
        return self._watch.loss(self.module_, inputs)

    @property
    def _watch(self) -> Watch | None:
        return next((each for _, each in self.callbacks_ if isinstance(each, Watch)), None)

    @property
    def _checkpoint(self) -> Checkpoint | None:
        return next((each for _, each in self.callbacks_ if isinstance(each, Checkpoint)), None)

    def get_split_datasets(
        self, X: Any, y: Any = None, **fit_params: Any
    ) -> tuple[Trainable, None]:
        """Train on all rows; the callback `Watch` holds the validation rows."""
        return X, None

    def get_iterator(self, dataset: Trainable, training: bool = False) -> Pass:
        """Batches from memory."""
        generator = None if self._generators is None else self._generators.cpu
        return dataset.batches(self.batch_size, shuffle=training, generator=generator)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a method of all callbacks, of which the user's may draw random numbers."""
        with self.borrowing("callbacks"):
            super().notify(method_name, **cb_kwargs)

    def run_single_epoch(
        self,
        iterator: Any,
        training: bool,
        prefix: str,
        step_fn: Callable[..., Any],
        **fit_params: Any,
    ) -> None:
        """Run one pass over the training rows; validation has no iterator and is skipped."""
        if iterator is None:
            return
        self._set_training(True)
        so_far = self.so_far
        batches = iter(iterator)
        if so_far.n_rows:  # the steps that a checkpoint holds
            collections.deque(itertools.islice(batches, len(so_far.n_rows)), maxlen=0)
            if so_far.then is not None:
                so_far.then()
        for batch in batches:
            self.notify("on_batch_begin", batch=batch, training=True)
            step = step_fn(batch, **fit_params)
            so_far.add(step["losses"], len(batch), len(iterator))
            self.notify("on_batch_end", batch=batch, training=True, **step)
        means = so_far.means()
        so_far.clear()
        if not all(map(math.isfinite, means)):
            raise self.not_finite("training loss", means[0])
        for name, value in zip(("train", "task", "distillation", "balance"), means, strict=True):
            self.history.record(f"{name}_loss", value)
        self.history.record("train_batch_count", len(iterator))

    def not_finite(self, what: str, value: float) -> "NotFiniteError":
        """Build the error for a loss or measure that is not finite."""
        return NotFiniteError(
            f"The {what} must stay finite, but in epoch {len(self.history)} it became {value}: "
            f"lower learning_rate (now {self.lr:g}), lower alpha, or look for extreme values in "
            "X and y."
        )

    def train_step_single(self, batch: Rows, **fit_params: Any) -> dict[str, Tensor]:
        """Forward, losses and gradients for one batch."""
        ranks = ranks_of_fit()
        if ranks is not None:
            return self._step_together(ranks, batch)
        with self.borrowing("module"):
            with self._precision(batch.device):
                output = self.module_(*batch.inputs, **batch.targets())
            losses = output.losses
            losses.total.backward()  # users' autograd functions may draw here, too
        # skorch's callbacks take `y_pred`.
        return {
            "loss": losses.total,
            "losses": torch.stack(losses).detach(),
            "y_pred": output.prediction.detach(),
        }

    def _step_together(self, ranks: Ranks, batch: Rows) -> dict[str, Tensor]:
        """Compute the part of this rank; the gradients are those of the whole batch."""
        module = self.module_
        dtype = next(module.parameters()).dtype
        part = PartOfRank(ranks, batch, getattr(module, "rows_axis", 0), dtype)
        with self.borrowing("module"):
            with self._precision(batch.device), part.balanced(module):
                output = module(*part.rows.inputs, **part.rows.targets())
            loss = part.loss(module, output.losses)
            loss.backward()  # type: ignore[no-untyped-call]
        checkpoint = self._checkpoint
        wish = checkpoint is not None and checkpoint.wishes()
        losses, due = part.add_up(module.parameters(), output.losses, wish)
        if checkpoint is not None:
            checkpoint.due = due
        return {"loss": losses[0], "losses": losses, "y_pred": output.prediction.detach()}

    def train_step(self, batch: Rows, **fit_params: Any) -> Any:
        """One optimizer step; unlike skorch's, it passes no closure to the optimizer."""
        self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        if self._gradients_are_watched:
            self.notify(
                "on_grad_computed",
                named_parameters=TeeGenerator(self.get_all_learnable_params()),
                batch=batch,
                training=True,
            )
        with self.borrowing("optimizer"):
            self._step_optimizer(None)
        return step

    def borrowing(self, part: Part) -> contextlib.AbstractContextManager[None]:
        """Give a part of the training torch's default generators, if it may draw from them."""
        generators = self._generators
        return contextlib.nullcontext() if generators is None else generators.default_for(part)

    def _set_generator(self, generator: torch.Generator | None) -> None:
        for module in self.module_.modules():
            if isinstance(module, Dropout | Augmentation):
                module.generator = generator

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)

    def __getstate__(self) -> dict[str, Any]:
        # A shallow copy, because pickling must not change this net.
        bare = object.__new__(type(self))
        state = bare.__dict__
        state.update(self.__dict__, module=None, callbacks=None, callbacks_=[], device="cpu")
        for name in ("_generators", "so_far"):  # a callback of the user may pickle the net
            state.pop(name, None)
        if not self.keep_optimizer:
            state.pop("optimizer_", None)
        if next(self.module_.parameters()).device.type != "cpu":
            # Together, so that the copy of the optimizer trains the copy of the module.
            copied = copy.deepcopy((self.module_, state.get("optimizer_")))
            state["module_"], optimizer = move(*copied, "cpu")
            if optimizer is not None:
                state["optimizer_"] = optimizer
        return dict(NeuralNet.__getstate__(bare))

    def __setstate__(self, state: dict[str, Any]) -> None:
        with isolated():  # tensors made in the caller's inference mode could not train on
            super().__setstate__(state)
        self.__dict__["module"] = self.module_


def move(
    module: nn.Module, optimizer: torch.optim.Optimizer | None, device: str
) -> tuple[Any, Any]:
    """Move a module to a device, and what an optimizer keeps of its steps."""
    before = list(module.parameters())
    moved = module.to(device)
    if optimizer is not None:
        after = dict(zip(map(id, before), moved.parameters(), strict=True))
        state = optimizer.state_dict()
        for group in optimizer.param_groups:
            group["params"] = [after.get(id(each), each) for each in group["params"]]
        optimizer.load_state_dict(state)  # which puts the state where the weights are
    return moved, optimizer


def keep_freed_memory() -> None:
    """Make glibc keep the memory that a training step frees, for the next step to use.

    By default glibc returns it to the system, and page faults then took a fifth of a step's time
    at 8 experts of width 256. Freeing one large block raises the threshold for doing so
    (mallopt(3), M_TRIM_THRESHOLD). With other allocators this has no effect.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def has_stopped(callback: Callback) -> bool:
    """Whether a callback has ended the training, which skorch does not tell from an interrupt."""
    if isinstance(callback, EarlyStopping):
        return bool(callback.misses_ >= callback.patience)
    return isinstance(callback, Stopping) and callback.stopped


def watches_gradients(callback: Callback) -> bool:
    """Whether a callback reads or changes gradients."""
    return type(callback).on_grad_computed is not Callback.on_grad_computed


def clipping(callbacks: tuple[Any, ...]) -> list[Any]:
    """Those of the user's callbacks, or of pairs of a name and a callback, that see gradients."""
    return [
        each
        for each in callbacks
        if watches_gradients(each[-1] if isinstance(each, tuple) else each)
    ]
