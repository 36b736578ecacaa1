"""Gates: the weight of each expert for each row."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmode.nn.activations import make_activation


class GateOutput(NamedTuple):
    """Output of a gate for a batch of rows.

    Attributes
    ----------
    probabilities : torch.Tensor of shape (n_samples, n_experts)
        Weight of each expert; every row sums to one. A sparse gate gives exactly zero to the
        experts that it did not choose.
    log_probabilities : torch.Tensor of shape (n_samples, n_experts)
        Logarithms of the weights, computed from the logits.
    logits : torch.Tensor of shape (n_samples, n_experts)
        Scores before the softmax, divided by the temperature.
    active : torch.Tensor of bool of shape (n_samples, n_experts), or None
        Experts that are chosen for a row. None means all of them.
    """

    probabilities: Tensor
    log_probabilities: Tensor
    logits: Tensor
    active: Tensor | None


class DenseGate(nn.Module):
    """Softmax gate: every expert takes part in every row.

    Parameters
    ----------
    in_features : int
        Width of the input.
    n_experts : int
        Number of experts.
    hidden_layer_sizes : sequence of int, default=()
        Widths of the gate's own hidden layers. Empty means a linear gate.
    activation : str, default="relu"
        Activation of the hidden layers, see :func:`skmode.nn.make_activation`.
    temperature : float, default=1.0
        Divides the logits: above 1 the weights are more even, below 1 more concentrated.

    Notes
    -----
    Shape:

    - Input: `(n_samples, in_features)`
    - Output: :class:`GateOutput` of tensors `(n_samples, n_experts)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import DenseGate
    >>> gate = DenseGate(5, n_experts=3)
    >>> gate(torch.randn(2, 5)).probabilities.shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        n_experts: int,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if n_experts < 1:
            raise ValueError(f"n_experts must be at least 1, got {n_experts}: pass 1 or more.")
        if not temperature > 0:
            raise ValueError(
                f"temperature must be above 0, got {temperature}: pass 1.0 to keep the logits."
            )
        layers: list[nn.Module] = []
        for width in hidden_layer_sizes:
            layers += [nn.Linear(in_features, width), make_activation(activation)]
            in_features = width
        layers.append(nn.Linear(in_features, n_experts))
        self.layers = nn.Sequential(*layers)
        self.n_experts = n_experts
        self.temperature = temperature

    def logits(self, x: Tensor) -> Tensor:
        """Compute the scores before the softmax.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, in_features)
            Output of the trunk.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_experts)
            Scores divided by the temperature.
        """
        logits: Tensor = self.layers(x)
        return logits if self.temperature == 1.0 else logits / self.temperature

    def forward(self, x: Tensor) -> GateOutput:
        """Weigh the experts for each row; see the class for shapes."""
        logits = self.logits(x)
        log_probabilities = logits.log_softmax(dim=1)
        return GateOutput(log_probabilities.exp(), log_probabilities, logits, None)


class SparseGate(DenseGate):
    """Top-k gate: the `top_k` experts with the largest logits share a row.

    The weights are the softmax over the chosen experts only, so they sum to one. With ``top_k=1``
    the weight is always 1 and would give the gate no gradient from the task. Training then uses a
    straight-through gradient: the value stays 1, and the gradient is that of the softmax over all
    experts, which the Switch Transformer trains with (arXiv 2101.03961, section 2.1).

    Parameters
    ----------
    in_features : int
        Width of the input.
    n_experts : int
        Number of experts.
    top_k : int, default=2
        Number of experts per row, from 1 to `n_experts`.
    hidden_layer_sizes : sequence of int, default=()
        Widths of the gate's own hidden layers. Empty means a linear gate.
    activation : str, default="relu"
        Activation of the hidden layers, see :func:`skmode.nn.make_activation`.
    temperature : float, default=1.0
        Divides the logits.

    Notes
    -----
    Shape:

    - Input: `(n_samples, in_features)`
    - Output: :class:`GateOutput` of tensors `(n_samples, n_experts)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import SparseGate
    >>> gate = SparseGate(5, n_experts=4, top_k=2)
    >>> gate(torch.randn(3, 5)).active.sum(dim=1)
    tensor([2, 2, 2])
    """

    def __init__(
        self,
        in_features: int,
        n_experts: int,
        top_k: int = 2,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(in_features, n_experts, hidden_layer_sizes, activation, temperature)
        if not 1 <= top_k <= n_experts:
            raise ValueError(
                f"top_k must lie between 1 and n_experts={n_experts}, got {top_k}: "
                "lower top_k or train more experts."
            )
        self.top_k = top_k

    def forward(self, x: Tensor) -> GateOutput:
        """Choose and weigh the experts for each row; see the class for shapes."""
        logits = self.logits(x)
        chosen = logits.topk(self.top_k, dim=1).indices
        active = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, chosen, True)
        if self.top_k == 1 and self.training:
            full = logits.log_softmax(dim=1)
            log_probabilities = (full - full.detach()).masked_fill(~active, -torch.inf)
        else:
            log_probabilities = logits.masked_fill(~active, -torch.inf).log_softmax(dim=1)
        return GateOutput(log_probabilities.exp(), log_probabilities, logits, active)
