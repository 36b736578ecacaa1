"""Periodic embeddings of numbers, made fast in training."""

import math
from typing import Any

import rtdl_num_embeddings
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Waves(torch.autograd.Function):
    """Cosines and sines of all products of a column's values with its frequencies.

    The derivative of each is the other, up to the sign, so the backward pass takes them from the
    output; autograd would compute them again. Values run along the last axis, so that each pass
    is contiguous even with few frequencies.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, frequencies: Tensor) -> Tensor:
        angles = frequencies.unsqueeze(2) * values.unsqueeze(1)
        n_columns, n_frequencies, n_values = angles.shape
        waves = angles.new_empty(n_columns, 2 * n_frequencies, n_values)
        torch.cos(angles, out=waves[:, :n_frequencies])
        torch.sin(angles, out=waves[:, n_frequencies:])
        ctx.save_for_backward(values, frequencies, waves)
        return waves

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, frequencies, waves = ctx.saved_tensors
        cosines, sines = waves.chunk(2, dim=1)
        of_cosines, of_sines = gradient.chunk(2, dim=1)
        of_angles = (of_sines * cosines).addcmul_(of_cosines, sines, value=-1)
        of_values = of_frequencies = None
        if ctx.needs_input_grad[0]:
            of_values = torch.bmm(frequencies.unsqueeze(1), of_angles).squeeze(1)
        if ctx.needs_input_grad[1]:
            of_frequencies = torch.bmm(of_angles, values.unsqueeze(2)).squeeze(2)
        return of_values, of_frequencies


class PeriodicEmbeddings(rtdl_num_embeddings.PeriodicEmbeddings):
    """Embed each number by cosines and sines of learned frequencies, a linear layer and ReLU.

    It has the parameters and values of `rtdl_num_embeddings.PeriodicEmbeddings` with
    ``lite=False`` (arXiv 2203.05556, section 3.3), but takes about 0.6 of its time in training.

    Notes
    -----
    Shape:

    - Input: `(n_samples, n_features)`
    - Output: `(n_samples, n_features, embedding_size)`, a view of a tensor stored column by column
    """

    def __init__(
        self, n_features: int, embedding_size: int, n_frequencies: int, frequency_scale: float
    ) -> None:
        super().__init__(
            n_features,
            embedding_size,
            n_frequencies=n_frequencies,
            frequency_init_scale=frequency_scale,
            lite=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed every number; see the class for shapes."""
        frequencies = 2 * math.pi * self.periodic.weight
        waves: Tensor = _Waves.apply(x.T, frequencies)  # type: ignore[no-untyped-call]
        weight, bias = self.linear.weight.transpose(1, 2), self.linear.bias.unsqueeze(2)
        return torch.baddbmm(bias, weight, waves).relu().permute(2, 0, 1)


class PeriodicBiasEmbeddings(nn.Module):
    r"""Embed each number by cosines with learned frequencies and phases, and the number itself.

    RealMLP's "PBLD" embedding (arXiv 2407.04491). Each column has its own frequencies w, phases b
    and linear layer; the cosines :math:`\cos(2 \pi w x + b)` pass through the linear layer, and
    the number itself is appended to the result.

    Parameters
    ----------
    n_features : int
        Number of columns.
    embedding_size : int, default=8
        Width of a number's embedding, including the number itself.
    n_frequencies : int, default=16
        Frequencies per column.
    frequency_scale : float, default=0.1
        Standard deviation of the initial frequencies.

    Notes
    -----
    Shape:

    - Input: `(n_samples, n_features)`
    - Output: `(n_samples, n_features, embedding_size)`, a view of a tensor stored column by column

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import PeriodicBiasEmbeddings
    >>> embed = PeriodicBiasEmbeddings(3)
    >>> numbers = torch.randn(5, 3)
    >>> embed(numbers).shape
    torch.Size([5, 3, 8])
    >>> torch.equal(embed(numbers)[:, :, 7], numbers)
    True
    """

    def __init__(
        self,
        n_features: int,
        embedding_size: int = 8,
        n_frequencies: int = 16,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if embedding_size < 2:
            raise ValueError(
                f"embedding_size must be at least 2, got {embedding_size}: raise it. One entry is "
                "the number itself, the others come from the cosines."
            )
        bound, width = n_frequencies**-0.5, embedding_size - 1
        self.frequency = nn.Parameter(torch.randn(n_features, n_frequencies) * frequency_scale)
        self.phase = nn.Parameter(
            torch.empty(n_features, n_frequencies).uniform_(-math.pi, math.pi)
        )
        self.weight = nn.Parameter(
            torch.empty(n_features, width, n_frequencies).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(n_features, width).uniform_(-bound, bound))

    def get_output_shape(self) -> torch.Size:
        """Shape of the output without its first axis; the modules of `rtdl_num_embeddings` have it.

        Returns
        -------
        torch.Size
            `(n_features, embedding_size)`.
        """
        n_features, width, _ = self.weight.shape
        return torch.Size((n_features, width + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Embed every number; see the class for shapes."""
        # Values run along the last axis, as in `_Waves`. A custom autograd function would gain
        # nothing here: without sines there is no derivative to take from the output.
        values = x.T.unsqueeze(1)
        frequency, phase = self.frequency.unsqueeze(2), self.phase.unsqueeze(2)
        waves = torch.addcmul(phase, frequency, values, value=2 * math.pi).cos()
        embedded = torch.baddbmm(self.bias.unsqueeze(2), self.weight, waves)
        return torch.cat([embedded, values], dim=1).permute(2, 0, 1)
