"""Averages of the weights over the steps of a training."""

from typing import Any

import torch
from skorch.callbacks import Callback
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights(Callback):
    """Train the raw weights; validate, keep and return their exponential moving average.

    The averages stand in the module from the end of an epoch to the start of the next, and once
    training has ended, however it did: as the first of the callbacks, it puts them there before
    the others look. Buffers are the module's own throughout.
    """

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
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        get_ema_multi_avg_fn(decay)(self._averages, self._weights, None)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self._raw = [each.clone() for each in self._weights]
        torch._foreach_copy_(self._weights, self._averages)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        # Whichever weights an interrupt found in the module.
        torch._foreach_copy_(self._weights, self._averages)
