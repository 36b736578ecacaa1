"""Auxiliary losses between the forward pass that computes them and the loss they are added to."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor


class _Record:
    """The loss of one forward pass."""

    def __init__(self, loss: Tensor) -> None:
        self.loss = loss


class LossRecords:
    """Losses of one layer since they were last taken.

    The graph of a forward pass holds its loss, and this class only a weak reference. So a pass
    whose output is dropped takes its loss along, and copies and pickles contain none.
    """

    def __init__(self) -> None:
        self.taken = False
        self._skipped = False
        self._records: list[weakref.ref[_Record]] = []

    def add(self, loss: Tensor, output: Tensor) -> None:
        """Record the loss of a pass; `output` is what later results of the pass derive from.

        `output` must be no view: changing a view in place may replace its node of the graph.
        """
        if in_backward():
            return  # checkpointing repeats a forward pass whose loss is part of the sum already
        if self.taken:
            self.clear()
        self._skipped = not torch.is_grad_enabled()
        if output.grad_fn is not None:
            record = _Record(loss)
            held: Any = output.grad_fn.metadata  # torch types it as a method
            held["skmode.auxiliary_loss"] = record
            # Without those of dropped passes, which a loop that never asks would collect.
            self._records = [each for each in self._records if each() is not None]
            self._records.append(weakref.ref(record))

    def live(self) -> list[Tensor]:
        """Return the losses of passes whose graphs still exist."""
        records = [reference() for reference in self._records]
        return [record.loss for record in records if record is not None]

    def take(self, *, keep: bool) -> None:
        """Count no loss a second time beside later ones; `keep` returns them if there are none."""
        if not keep:
            self.clear()
        self.taken = True

    @property
    def lacks_gradient(self) -> bool:
        """Whether the last training pass, the only one to count, ran without gradients."""
        return self._skipped and not self.taken and not self.live()

    def clear(self) -> None:
        """Forget everything."""
        self.taken = self._skipped = False
        self._records = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.clear()


def in_backward() -> bool:
    """Whether the code runs inside a backward pass, as what checkpointing repeats does."""
    # No public function tells. Without this one, checkpointed layers would count twice.
    return bool(torch._C._current_graph_task_id() != -1)
