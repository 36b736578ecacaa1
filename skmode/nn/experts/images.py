"""Experts that read feature maps: convolutions, then a multilayer perceptron."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skmode.nn.activations import make_activation
from skmode.nn.experts.vectors import MLPExperts, StackedLinear

# Of the statistics of batch normalisation, as torch.nn.BatchNorm2d has them.
MOMENTUM, EPSILON = 0.1, 1e-5


class StackedConv(nn.Module):
    """Convolutions of 3 x 3 pixels of several experts, with batch normalisation, stored together.

    They are computed one after the other: on a CPU that is faster than a grouped convolution, and
    than :func:`torch.func.vmap`. Each expert's weights lie in memory as ``torch.channels_last``.

    Parameters
    ----------
    n_experts : int
        Number of convolutions in the stack.
    in_channels, out_channels : int
        Number of channels of the input and of the output.
    stride : int, default=1
        Step of the convolution: 2 halves height and width.

    Notes
    -----
    Shape:

    - Input: one tensor `(n_samples, in_channels, height, width)` per expert
    - Output: the same with `out_channels`
    - `weight`: `(n_experts, out_channels, in_channels, 3, 3)`; `factor` and `bias` of the
      normalisation, and its statistics `mean` and `variance`: `(n_experts, out_channels)`
    """

    mean: Tensor
    variance: Tensor

    def __init__(
        self, n_experts: int, in_channels: int, out_channels: int, stride: int = 1
    ) -> None:
        super().__init__()
        bound = (9 * in_channels) ** -0.5
        last = torch.empty(n_experts, out_channels, 3, 3, in_channels)
        self.weight = nn.Parameter(last.permute(0, 1, 4, 2, 3))
        nn.init.uniform_(self.weight, -bound, bound)
        self.factor = nn.Parameter(torch.ones(n_experts, out_channels))
        self.bias = nn.Parameter(torch.zeros(n_experts, out_channels))
        self.register_buffer("mean", torch.zeros(n_experts, out_channels))
        self.register_buffer("variance", torch.ones(n_experts, out_channels))
        self.stride = stride

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Apply convolution i to maps i; see the class for shapes."""
        # Taken apart at once: the gradient of single slices would be added up in the whole tensor.
        tensors = (self.weight, self.factor, self.bias, self.mean, self.variance)
        parts = zip(maps, *(each.unbind() for each in tensors), strict=True)
        return [self._convolve(*part) for part in parts]

    def forward_one(self, maps: Tensor, expert: int) -> Tensor:
        """Apply one of the convolutions."""
        tensors = (self.weight, self.factor, self.bias, self.mean, self.variance)
        return self._convolve(maps, *(each[expert] for each in tensors))

    def folded(self, expert: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of a plain convolution that predicts as this one does."""
        scale = self.factor[expert] / (self.variance[expert] + EPSILON).sqrt()
        weight = self.weight[expert] * scale.view(-1, 1, 1, 1)
        return weight.detach(), (self.bias[expert] - self.mean[expert] * scale).detach()

    def _convolve(
        self,
        maps: Tensor,
        weight: Tensor,
        factor: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
    ) -> Tensor:
        maps = nn.functional.conv2d(maps, weight, stride=self.stride, padding=1)
        # A single number has no variance.
        from_batch = self.training and maps.numel() > maps.shape[1]
        return nn.functional.batch_norm(
            maps, mean, variance, factor, bias, from_batch, MOMENTUM, EPSILON
        )


class ConvExperts(nn.Module):
    """Convolutional networks of one shape: convolutions, then a multilayer perceptron.

    Parameters
    ----------
    in_shape : tuple of int
        Number of channels, height and width of the feature maps, which all experts share.
    n_experts : int
        Number of experts.
    channels : sequence of int, default=(64, 64)
        Number of channels of each convolution of 3 x 3 pixels, which batch normalisation follows.
        All but the first one halve height and width.
    hidden_layer_sizes : sequence of int, default=(64,)
        Widths of the layers behind them; the last one is the width of the representation.
    activation : str, default="relu"
        Activation after each layer, see :func:`skmode.nn.make_activation`.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit of the perceptron in training.

    Notes
    -----
    Shape:

    - Input: `(n_samples, in_features)`, the flattened maps
    - Output: `(n_samples, n_experts, width)`, a view of a tensor stored expert by expert

    In training, a single map of one pixel is normalised as in evaluation, see :class:`ImageTrunk`.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import ConvExperts
    >>> experts = ConvExperts((48, 7, 7), n_experts=3)
    >>> experts(torch.randn(2, 48 * 7 * 7)).shape
    torch.Size([2, 3, 64])
    >>> experts.forward_one(torch.randn(2, 48 * 7 * 7), expert=1).shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        n_experts: int,
        channels: Sequence[int] = (64, 64),
        hidden_layer_sizes: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_shape = in_shape
        self.n_experts = n_experts
        self.activation = make_activation(activation)
        before, height, width = in_shape
        layers = []
        for i, after in enumerate(channels):
            stride = 1 if i == 0 else 2
            layers.append(StackedConv(n_experts, before, after, stride))
            before, height, width = after, -(-height // stride), -(-width // stride)
        self.convolutions = nn.ModuleList(layers)
        self.perceptrons = MLPExperts(
            before * height * width, n_experts, hidden_layer_sizes, activation, dropout
        )
        self.width = self.perceptrons.width

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate every expert on every row; see the class for shapes."""
        maps = [self._unflatten(x)] * self.n_experts
        for layer in self.convolutions:
            maps = [self.activation(each) for each in layer(maps)]
        flat = torch.stack([each.flatten(1) for each in maps])
        return self.perceptrons.forward_each(flat).transpose(0, 1)

    def forward_one(self, x: Tensor, expert: int) -> Tensor:
        """Evaluate one expert.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, in_features)
            Rows for this expert.
        expert : int
            Which expert, from 0 to ``n_experts - 1``.

        Returns
        -------
        torch.Tensor of shape (n_samples, width)
            The expert's representation of the rows.
        """
        maps = self._unflatten(x)
        for layer in self.convolutions:
            assert isinstance(layer, StackedConv)
            maps = self.activation(layer.forward_one(maps, expert))
        return self.perceptrons.forward_one(maps.flatten(1), expert)

    def expert(self, i: int) -> nn.Module:
        """Copy one expert out, as a module of its own.

        Parameters
        ----------
        i : int
            Which expert, from 0 to ``n_experts - 1``.

        Returns
        -------
        torch.nn.Module
            A sequence of ordinary layers that predicts as the expert does; normalisation is folded
            into the convolutions.

        Examples
        --------
        >>> import torch
        >>> from skmode.nn import ConvExperts
        >>> ConvExperts((48, 7, 7), n_experts=3).expert(1)(torch.randn(2, 48 * 7 * 7)).shape
        torch.Size([2, 64])
        """
        layers: list[nn.Module] = [nn.Unflatten(1, self.in_shape)]
        for stack in self.convolutions:
            assert isinstance(stack, StackedConv)
            weight, bias = stack.folded(i)
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stack.stride, padding=1)
            layers += [_filled(conv, weight, bias), copy.deepcopy(self.activation)]
        layers.append(nn.Flatten())
        for dense in self.perceptrons.layers:
            assert isinstance(dense, StackedLinear)
            weight = dense.weight[i].detach().T
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            layers += [_filled(linear, weight, dense.bias[i, 0]), copy.deepcopy(self.activation)]
        return nn.Sequential(*layers)

    def _unflatten(self, x: Tensor) -> Tensor:
        maps = x.view(len(x), *self.in_shape)
        return maps.contiguous(memory_format=torch.channels_last)


def _filled(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> nn.Module:
    """Give a layer copies of weights."""
    layer.weight = nn.Parameter(weight.clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer
