"""The part of a rank in a training step: its rows, its loss, and the sum of all gradients.

A step of several ranks is that of one process, up to rounding: each rank has a part of the batch's
rows, and its losses count by the share of rows that it has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from skmode._training.process.ranks import Ranks, ranks_of_fit
from skmode._training.rows import Rows
from skmode.nn import ConvExperts, MoDELayer, ModuleExperts

# Largest difference between the weights of ranks, as a share of the largest weight, that rounding
# on different processors explains.
ROUNDING = 1e-3


class Part:
    """The part of one rank in a batch.

    Attributes
    ----------
    rows : Rows
        Every so many rows of the batch. A rank for which there are none takes one without weight.
    share : float
        The share of the batch's rows.
    """

    def __init__(
        self, ranks: Ranks, batch: Rows, axis: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self._ranks = ranks
        n_rows = batch.target.shape[axis]
        n_own = len(range(ranks.rank, n_rows, ranks.world))
        own = slice(ranks.rank if n_own else 0, None if n_own else 1, ranks.world)
        index = (slice(None),) * axis + (own,)
        self.rows = batch.map(lambda part: part[index])
        self.share = n_own / n_rows
        if not n_own:
            shape = self.rows.target.shape[: axis + 1]
            inputs, target, weight, *taught = self.rows
            none = torch.zeros(shape, dtype=dtype, device=self.rows.device)
            weight = none if weight is None else 0 * weight
            self.rows = Rows(inputs, target, weight, *taught)

    @contextlib.contextmanager
    def balanced(self, module: Any) -> Iterator[None]:
        """Make the load-balance loss that of the whole batch."""

        def add_up(tensor: Tensor) -> Tensor:
            summed: Tensor = _AddUp.apply(tensor, self._ranks)  # type: ignore[no-untyped-call]
            return summed

        module.add_up = add_up
        try:
            yield
        finally:
            del module.add_up

    def loss(self, module: Any, losses: Any) -> Tensor:
        """The loss whose gradients add up to those of the batch's mean."""
        # The load-balance loss is that of the whole batch already.
        balance = getattr(module, "balance", 0.0) * losses.balance
        loss: Tensor = self.share * losses.total + (1 - self.share) * balance
        return loss

    def add_up(
        self, parameters: Iterator[nn.Parameter], losses: Any, wish: bool = False
    ) -> tuple[Tensor, bool]:
        """Add up gradients, in place, and losses over the ranks.

        Returns the batch's losses, and whether a rank has a wish: telling it costs no message.
        """
        trained = [each for each in parameters if each.requires_grad]
        own = self.share * torch.stack(losses).detach().to(trained[0].dtype)
        own = torch.cat([own, own.new_tensor([float(wish)])])
        reached = own.new_tensor([each.grad is not None for each in trained])
        parts = [
            torch.zeros_like(each) if each.grad is None else each.grad.detach() for each in trained
        ]
        flat = torch.cat([part.flatten() for part in [own, reached, *parts]])
        summed = self._ranks.add(flat)
        sizes = [len(own), len(reached), *(part.numel() for part in parts)]
        own, reached, *parts = torch.split(summed, sizes)
        for each, gradient, found in zip(trained, parts, reached.tolist(), strict=True):
            if found:  # else no rank has one, and the optimizer will leave the weight alone
                each.grad = gradient.view_as(each).to(each.dtype)
        return own[:-1], bool(own[-1])


class _AddUp(torch.autograd.Function):
    """Add up over the ranks; the loss is computed on each, so each passes on its own gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
        return ranks.add(tensor.float() if tensor.dtype.itemsize < 4 else tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def begin(ranks: Ranks, module: nn.Module) -> None:
    """Check that a network can be trained by several ranks, and take the weights of rank 0."""
    for each in _modules(module):
        if isinstance(each, nn.modules.batchnorm._BatchNorm | ConvExperts):
            raise ValueError(
                "Networks must treat each row alone to be trained by several ranks, but "
                f"{type(each).__name__} normalizes batches: use torch.nn.LayerNorm or GroupNorm "
                "instead, or train each rank's own model within skmode.fit_alone()."
            )
        if isinstance(each, MoDELayer):
            raise ValueError(
                "Networks with a MoDELayer, such as transformers, cannot be trained by several "
                "ranks yet, because its losses are means over tokens, of which ranks have "
                'different numbers: use text_encoder="bag", or train within skmode.fit_alone().'
            )
    synchronize(ranks, module, check=False)


def _modules(module: nn.Module) -> Iterator[nn.Module]:
    """All modules, also those that experts keep in a stack."""
    for each in module.modules():
        yield each
        if isinstance(each, ModuleExperts) and each.separate is None:
            yield from each.skeleton[0].modules()


def agree_on_weights(module: nn.Module) -> None:
    """Take the weights of rank 0, if several ranks train."""
    ranks = ranks_of_fit()
    if ranks is not None:
        synchronize(ranks, module)


def synchronize(ranks: Ranks, module: nn.Module, *, check: bool = True) -> None:
    """Take the weights of rank 0, from which those of the others may differ by rounding only."""
    state = [each for each in module.state_dict().values() if each.is_floating_point()]
    dtype = torch.promote_types(torch.float32, state[0].dtype)
    own = torch.cat([each.detach().flatten().to("cpu", dtype) for each in state])
    first = ranks.broadcast(own)
    if check:
        _check_weights(ranks, float((own - first).abs().max() / first.abs().max()))
    pieces = torch.split(first, [each.numel() for each in state])
    with torch.no_grad():
        for each, piece in zip(state, pieces, strict=True):
            each.copy_(piece.view_as(each))


def _check_weights(ranks: Ranks, difference: float) -> None:
    for rank, found in enumerate(ranks.all(difference)):
        if found > ROUNDING:  # false for NaN, which training itself reports
            raise RuntimeError(
                "The weights of all ranks must stay the same, but those of rank "
                f"{rank} differ from those of rank 0 by {found:.2g} of the largest: callbacks, "
                "optimizer and expert_module must do the same on each rank, and keep no numbers "
                "of their own rows."
            )
