"""The trunk that reads images."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from skmode import nn
from skmode._encoding.images import ImageEncoder
from skmode._training.rows import Rows

Augment = Literal["shift", "flip"]
TrunkModule = torch.nn.Module | Callable[[tuple[int, int, int]], torch.nn.Module]

AUGMENTATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "shift": nn.RandomShift,
    "flip": nn.RandomFlip,
}
# Images whose pixels are summed together.
BLOCK = 1024


def make_trunk(
    train: Rows,
    *,
    encoder: ImageEncoder,
    channels: Sequence[int],
    activation: str,
    augment: Augment | None,
    trunk_module: TrunkModule | None,
) -> nn.ImageTrunk:
    """Build the trunk: the means and scales of the channels come from the training rows."""
    shape = encoder.n_channels_, encoder.height_, encoder.width_
    mean, scale = _statistics(train.inputs[0], train.sample_weight, encoder)
    body = (
        nn.make_convolutions(shape[0], channels, activation)
        if trunk_module is None
        else _make_custom(trunk_module, shape)
    )
    return nn.ImageTrunk(
        nn.ImageNormalization(mean, scale, encoder.layout_),
        body,
        shape,
        None if augment is None else AUGMENTATIONS[augment](),
    )


def _make_custom(trunk_module: Any, shape: tuple[int, int, int]) -> torch.nn.Module:
    """Copy the user's module, or let the user's function make one."""
    if isinstance(trunk_module, torch.nn.Module):
        module = copy.deepcopy(trunk_module)
    else:
        try:
            module = trunk_module(shape)
        except TypeError as error:
            raise TypeError(
                "trunk_module must be a torch.nn.Module, or take one argument, in_shape (here "
                f"{shape}), but the call failed with {error}: bind other arguments with "
                "functools.partial."
            ) from error
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                f"trunk_module must return a torch.nn.Module, got {type(module).__name__}: return "
                "an instance of torch.nn.Module."
            )
    return module.to("cpu", torch.float32)


def _statistics(
    pixels: Tensor, sample_weight: Tensor | None, encoder: ImageEncoder
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, in units of the largest pixel."""
    axes = [1 + encoder.layout_.index(axis) for axis in "hw"]
    sums = torch.zeros(2, encoder.n_channels_, dtype=torch.float64)
    weights = 0.0
    for start in range(0, len(pixels), BLOCK):
        block = pixels[start : start + BLOCK].double()
        if not pixels.is_floating_point():
            block = block / 255
        each = torch.stack([block.mean(axes), block.square().mean(axes)]).view(2, len(block), -1)
        weight = torch.ones(len(block), dtype=torch.float64)
        if sample_weight is not None:
            weight = sample_weight[start : start + BLOCK].double()
        sums += torch.einsum("n,snc->sc", weight, each)
        weights += float(weight.sum())
    mean, square = sums / weights
    variance = (square - mean**2).clamp(min=0)
    # Rounding leaves a channel without contrast with a variance just above zero.
    scale = torch.where(variance > np.finfo(np.float32).eps ** 2, variance.sqrt(), 1.0)
    return mean.float(), scale.float()
