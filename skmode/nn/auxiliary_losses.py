"""Auxiliary losses: mutual distillation (arXiv 2402.00893) and load balance."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skmode.nn.gates import GateOutput


class _Spread(torch.autograd.Function):
    """Per row: mean over active experts and features of (e_i - e_bar)^2.

    Autograd would need four passes over the representations forward and four backward. Computed
    as sum_i |e_i|^2 - m |e_bar|^2 the loss needs one pass, and its gradient
    2 (e_i - e_bar) / (m H) another. Rounding may make the difference negative, hence the clamp,
    which the gradient ignores.
    """

    @staticmethod
    def forward(ctx: Any, experts: Tensor, active: Tensor | None) -> Tensor:
        squared = torch.linalg.vector_norm(experts, dim=2).square()
        count: Tensor | int = experts.shape[1]
        if active is None:
            mean = experts.mean(dim=1)
        else:
            squared = squared * active
            count = active.sum(dim=1).clamp(min=1).to(experts.dtype)
            weights = active.to(experts.dtype).unsqueeze(1) / count.view(-1, 1, 1)
            mean = torch.bmm(weights, experts).squeeze(1)
        ctx.count = count
        ctx.save_for_backward(experts, active, mean)
        spread = squared.sum(dim=1) / count - mean.square().sum(dim=1)
        clamped: Tensor = spread.clamp_(min=0)
        return clamped.div_(experts.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        experts, active, mean = ctx.saved_tensors
        scale = (gradient * 2 / (ctx.count * experts.shape[2])).view(-1, 1, 1)
        if active is not None:
            scale = scale * active.unsqueeze(2)
        return torch.addcmul(-scale * mean.unsqueeze(1), experts, scale), None


def distillation_loss(
    representations: Tensor,
    *,
    distillation: Literal["mean", "pairwise"] = "mean",
    active: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""Mutual distillation loss among the experts of each row.

    Let m be the number of active experts of a row, :math:`e_i` the representation by expert i,
    :math:`\bar e` the mean over the active experts, and mse the mean squared error over the
    features of a representation:

    - ``"mean"`` is the paper's piecewise form: 0 for m = 1, mse(e_1, e_2) for m = 2, and
      :math:`\frac1m\sum_i \mathrm{mse}(e_i, \bar e)` for m > 2.
    - ``"pairwise"`` is :math:`\frac1{m(m-1)}\sum_{i\ne j} \mathrm{mse}(e_i, e_j)`, which equals
      :math:`\frac{2m}{m-1}` times the formula for m > 2.

    At m = 2 that formula would give mse(e_1, e_2) / 4, so the paper's form jumps by a factor of 4
    there; the pairwise form does not. Detaching :math:`\bar e` would change nothing: its
    gradient is zero, because deviations from a mean sum to zero.

    Parameters
    ----------
    representations : torch.Tensor of shape (n_samples, n_experts, width)
        Representation of each row by each expert.
    distillation : {"mean", "pairwise"}, default="mean"
        Form of the loss, see above.
    active : torch.Tensor of bool of shape (n_samples, n_experts), default=None
        Experts that take part in a row. None means all.
    sample_weight : torch.Tensor of shape (n_samples,), default=None
        Factor on each row's loss. It is not normalised: weights with a mean of one keep the scale
        of the loss. None means ones.

    Returns
    -------
    torch.Tensor of shape ()
        Mean over the rows. It can be differentiated once only.

    Raises
    ------
    ValueError
        If `distillation` is not one of the two.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893, section 3.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import distillation_loss
    >>> experts = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    >>> distillation_loss(experts)
    tensor(2.)
    """
    if distillation not in ("mean", "pairwise"):
        raise ValueError(
            f'distillation must be "mean" or "pairwise", got {distillation!r}: choose one of these.'
        )
    n_experts = representations.shape[1]
    if representations.dtype in (torch.float16, torch.bfloat16):
        # In half precision a spread that is small beside |e|^2 would be rounded to zero.
        representations = representations.float()
    with torch.autocast(representations.device.type, enabled=False):
        rows: Tensor = _Spread.apply(representations, active)  # type: ignore[no-untyped-call]
    if active is None:
        rows = rows * _factor(n_experts, distillation)
    else:
        rows = rows * _factors(active.sum(dim=1).to(rows.dtype), distillation)
    return (rows if sample_weight is None else rows * sample_weight).mean()


def _factor(count: int, distillation: str) -> float:
    """Factor on the averaged form over `count` active experts."""
    if count < 2:
        return 0.0
    if distillation == "pairwise":
        return 2 * count / (count - 1)
    return 4.0 if count == 2 else 1.0


def _factors(counts: Tensor, distillation: str) -> Tensor:
    """`_factor` of each row, computed where the counts are: a table would have to be copied."""
    if distillation == "pairwise":
        factors = 2 * counts / (counts - 1).clamp(min=1)
    else:
        factors = torch.ones_like(counts).masked_fill(counts == 2, 4.0)
    return factors.masked_fill(counts < 2, 0.0)


def load_balance_loss(
    gate: GateOutput,
    sample_weight: Tensor | None = None,
    *,
    add_up: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""Load-balance loss of the Switch Transformer (arXiv 2101.03961, equation 4).

    :math:`K \sum_i f_i P_i` for K experts, where :math:`f_i` is the share of the rows assigned to
    expert i and :math:`P_i` its mean softmax probability. A sparse gate assigns a row to its
    active experts in equal parts, a dense gate to the top expert. There is no gradient through
    :math:`f_i`. The loss is 1 when the experts share the rows evenly, and K when one expert takes
    all of them.

    Parameters
    ----------
    gate : GateOutput
        Output of a gate for a batch.
    sample_weight : torch.Tensor of shape (n_samples,), default=None
        Weight of each row; only the ratios matter. None means ones.
    add_up : callable, default=None
        Adds up a tensor over the processes that share a batch, and passes on the gradient of the
        sum. The loss is then that of the whole batch, in each process. None means that the rows
        are all there are.

    Returns
    -------
    torch.Tensor of shape ()
        The loss.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import DenseGate, load_balance_loss
    >>> gate = DenseGate(4, n_experts=4)
    >>> with torch.no_grad():
    ...     _ = gate.layers[0].weight.copy_(torch.eye(4) * 100)
    ...     load_balance_loss(gate(torch.eye(4)))
    tensor(1.)
    """
    n_samples, n_experts = gate.logits.shape
    if gate.active is None:
        top = gate.logits.argmax(dim=1, keepdim=True)
        assigned = torch.zeros_like(gate.logits).scatter_(1, top, 1.0)
    else:
        assigned = gate.active.to(gate.logits.dtype)
        assigned = assigned / assigned.sum(dim=1, keepdim=True)
    if sample_weight is None:
        sample_weight = gate.logits.new_ones(n_samples)
    # Clamped so that a batch whose weights are all zero has a loss of 0, not NaN.
    smallest = torch.finfo(sample_weight.dtype).tiny
    if add_up is None:
        weight = sample_weight / sample_weight.sum().clamp(min=smallest)
        share = weight @ assigned
        probability = weight @ gate.logits.softmax(dim=1)
    else:
        sums = torch.stack([sample_weight @ assigned, sample_weight @ gate.logits.softmax(dim=1)])
        share, probability = add_up(sums)
        # Each row's shares sum to one, so the weights need no sum of their own.
        share, probability = (
            each / share.sum().clamp(min=smallest) for each in (share, probability)
        )
    return n_experts * (share * probability).sum()
