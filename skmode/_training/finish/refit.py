"""The refit: after early stopping, continue from the best weights with all rows."""

import copy
import math
import warnings
from typing import Any, ClassVar, Protocol

from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skmode._training.callbacks import make_rate
from skmode._training.callbacks.checkpoints import Checkpoint, Kept
from skmode._training.net import MixtureNet, NotFiniteError
from skmode._training.process.isolation import Generators
from skmode._training.rows import Trainable

# The refit starts at least at this fraction of the peak learning rate.
LOWEST_REFIT_RATE = 0.2


class WorseError(NotFiniteError):
    """A refit made the predictions of the watched rows far worse."""


class Checks(Protocol):
    """What `refit` needs to know that it ended well."""

    def check(self, net: MixtureNet) -> Any:
        """Raise if a result on the watched rows is not finite."""


def refit_epochs(fraction: float, best_epoch: float, left: int) -> int:
    """Epochs of the refit: a fraction of those up to the best one, at least two, at most `left`."""
    return min(left, max(2, math.ceil(fraction * best_epoch))) if fraction else 0


def refit(
    net: MixtureNet,
    rows: Trainable,
    epochs: int,
    rate: float,
    watch: Checks,
    callbacks: list[Any],
    generators: Generators,
    checkpoint: Checkpoint | None = None,
) -> tuple[int, bool]:
    """Train on all rows while the learning rate falls to zero.

    Returns the number of epochs, 0 if the refit was undone, and whether the user interrupted it.
    """
    best = copy.deepcopy(net.module_.state_dict())
    steps = epochs * len(rows.batches(net.batch_size, shuffle=True))
    for group in net.optimizer_.param_groups:
        group["lr"] = group["initial_lr"] = rate
    end = _LastEpoch(epochs, watch)
    # `Watch` is not among the callbacks, so the history does not keep these epochs.
    callbacks = [make_rate(lambda step: 1 - step / steps), *callbacks, ("end", end)]
    failed = False
    try:
        net.train_epochs(rows, epochs, callbacks, generators, checkpoint)
    except NotFiniteError as error:
        failed = True
        what = "made the network worse" if isinstance(error, WorseError) else "did not stay finite"
        warnings.warn(
            f"The refit {what}, so the best weights before it are kept. {error}",
            ConvergenceWarning,
            stacklevel=2,
        )
        net.initialize_optimizer()  # its moments are not finite either
    if end.reached:
        return epochs, False
    net.module_.load_state_dict(best)
    net.module_.eval()
    return 0, not failed


class _LastEpoch(Callback, Kept):
    """Record whether the last epoch was reached, with finite results on the watched rows."""

    kept: ClassVar[tuple[str, ...]] = ("passed",)

    def __init__(self, epochs: int, watch: Checks) -> None:
        self.epochs = epochs
        self.watch = watch
        self.passed = 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self.passed + 1 == self.epochs:
            self.watch.check(net)
        self.passed += 1  # after the check, so that an epoch that is not finite does not count

    @property
    def reached(self) -> bool:
        return self.passed == self.epochs
