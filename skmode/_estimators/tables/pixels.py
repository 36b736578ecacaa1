"""The trunk that reads images, alone or beside the columns of a table."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from skmode import nn
from skmode._encoding.images import ImageCellEncoder, ImageEncoder
from skmode._estimators.parameters import FULL_BATCH_ROWS
from skmode._training.rows import Rows

Augment = Literal["shift", "flip"]
TrunkModule = torch.nn.Module | Callable[[tuple[int, int, int]], torch.nn.Module]

AUGMENTATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "shift": nn.RandomShift,
    "flip": nn.RandomFlip,
}
# Pixels are summed in float64, so many images and so many of their values together, at most.
BLOCK_IMAGES, BLOCK_VALUES = 1024, 2**20
# With more images there are few epochs, in which a network has not yet learned the images as they
# are, so that shifted ones do not help.
MOST_SHIFTED = 20_000
# Beside the columns of a table: features of an image, and the convolutions before them, which
# halve it at least twice and until no side has more pixels than these.
CELL_WIDTH, CELL_CHANNELS, FEWEST_HALVINGS, CELL_SIDE = 32, (16, 32, 48, 64), 2, 7


def image_augmentation(n_rows: int | None) -> Augment | None:
    """How images are changed at random in training by default; `n_rows` is None if not known."""
    # As for dropout: the result of one batch shall not depend on the order of the images.
    few = n_rows is not None and FULL_BATCH_ROWS < n_rows <= MOST_SHIFTED
    return "shift" if few else None


def make_cell_trunk(
    train: Rows, *, encoder: ImageCellEncoder, augment: Augment | None
) -> nn.ImageFeatures:
    """Build the trunk of a table's column of images, the only input of `train`."""
    side, n_layers = max(encoder.height_, encoder.width_), 0
    while n_layers < FEWEST_HALVINGS or side > CELL_SIDE:
        side, n_layers = -(-side // 2), n_layers + 1
    channels = [CELL_CHANNELS[min(i, len(CELL_CHANNELS) - 1)] for i in range(n_layers)]
    trunk = make_trunk(
        train,
        encoder=encoder,
        channels=channels,
        activation="relu",
        augment=augment,
        trunk_module=None,
    )
    return nn.ImageFeatures(trunk, CELL_WIDTH)


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
    n_block = max(1, min(BLOCK_IMAGES, BLOCK_VALUES // pixels[0].numel()))
    for start in range(0, len(pixels), n_block):
        block = pixels[start : start + n_block].double()
        if not pixels.is_floating_point():
            block = block / 255
        each = torch.stack([block.mean(axes), block.square().mean(axes)]).view(2, len(block), -1)
        weight = torch.ones(len(block), dtype=torch.float64)
        if sample_weight is not None:
            weight = sample_weight[start : start + n_block].double()
        sums += torch.einsum("n,snc->sc", weight, each)
        weights += float(weight.sum())
    mean, square = sums / weights
    variance = (square - mean**2).clamp(min=0)
    # Rounding leaves a channel without contrast with a variance just above zero.
    scale = torch.where(variance > np.finfo(np.float32).eps ** 2, variance.sqrt(), 1.0)
    return mean.float(), scale.float()
