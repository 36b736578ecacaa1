"""Load balance: keeping a gate from sending every row to the same expert."""

import torch
from torch import Tensor

from skmode.nn.gates import GateOutput


def load_balance_loss(gate: GateOutput, sample_weight: Tensor | None = None) -> Tensor:
    r"""Load-balance loss of the Switch Transformer (arXiv 2101.03961, equation 4).

    :math:`K \sum_i f_i P_i`, where :math:`f_i` is the share of the assignments that expert i gets
    (the active experts of a sparse gate, the top expert of a dense one; no gradient) and
    :math:`P_i` its mean softmax probability. It is 1 when the experts share the rows evenly and
    K when one expert takes all.

    Parameters
    ----------
    gate : GateOutput
        Output of a gate for a batch.
    sample_weight : torch.Tensor of shape (n_samples,), default=None
        Weight of each row in both shares; only the ratios matter. None means ones.

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
    # Clamped for a batch without any weight, whose loss is 0.
    weight = sample_weight / sample_weight.sum().clamp(min=torch.finfo(sample_weight.dtype).tiny)
    share = weight @ assigned
    probability = weight @ gate.logits.softmax(dim=1)
    return n_experts * (share * probability).sum()
