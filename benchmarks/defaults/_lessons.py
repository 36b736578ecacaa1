"""Lessons that reach each expert alike: what it learns of a teacher does not depend on the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor

from skmode.nn import gates, task_losses

# The weights of the gate in the present step.
SEEN: dict[str, Tensor] = {}
# Below this weight of the gate an expert's gradient would become large by rounding alone.
LEAST_WEIGHT = 1e-3


@contextmanager
def even_lessons(share: float) -> Iterator[None]:
    """Let each expert learn from the teacher with a weight of (1 - share) g + share / K, not g.

    The gate learns as before.
    """
    with ExitStack() as stack:
        for kind in (gates.DenseGate, gates.SparseGate):
            stack.enter_context(patch.object(kind, "forward", _remember(kind.forward)))
        for loss in (task_losses.CrossEntropy, task_losses.RegressionLoss):
            stack.enter_context(patch.object(loss, "soft_loss", _even(loss.soft_loss, share)))
        yield


def _remember(forward: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: Any, x: Tensor) -> Any:
        found = forward(self, x)
        SEEN["gate"] = found.probabilities.detach()
        return found

    return changed


def _even(soft_loss: Callable[..., Tensor], share: float) -> Callable[..., Tensor]:
    """Scale the experts' gradients, and leave the loss as it is."""

    def changed(self: Any, prediction: Tensor, soft_target: Tensor) -> Tensor:
        each = soft_loss(self, prediction, soft_target)
        gate = SEEN.get("gate")
        if gate is None or each.ndim != 2 or each.shape != gate.shape:
            return each
        ratio = (1 - share) + share / (each.shape[1] * gate.clamp(min=LEAST_WEIGHT))
        kept = each.detach()
        return kept + ratio * (each - kept)

    return changed
