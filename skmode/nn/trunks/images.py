"""Trunks of images: pixels are normalised, then go through convolutions."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from skmode.nn.activations import make_activation
from skmode.nn.trunks.independence import find_dependence


class ImageNormalization(nn.Module):
    """Turn pixels into floats with a mean of zero and a standard deviation of one per channel.

    Parameters
    ----------
    mean : torch.Tensor of shape (n_channels,)
        Subtracted from each channel, in units of the largest pixel.
    scale : torch.Tensor of shape (n_channels,)
        Divides each channel; positive.
    layout : {"hw", "hwc", "chw"}, default="hw"
        Axes of an image: height, width and, where there are any, channels.

    Notes
    -----
    Shape:

    - Input: `(n_samples, ...)` with the axes of `layout`; uint8, or floats from 0 to 1
    - Output: `(n_samples, n_channels, height, width)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import ImageNormalization
    >>> normalize = ImageNormalization(torch.tensor([0.5]), torch.tensor([0.25]))
    >>> normalize(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    tensor([[[[-2.,  2.]]]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, mean: Tensor, scale: Tensor, layout: Literal["hw", "hwc", "chw"] = "hw"
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("scale", scale.view(-1, 1, 1))
        self.layout = layout

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise the pixels; see the class for shapes."""
        values = pixels.to(self.mean.dtype)
        if not pixels.is_floating_point():
            values = values / 255
        if self.layout == "hw":
            values = values.unsqueeze(1)
        elif self.layout == "hwc":
            values = values.permute(0, 3, 1, 2)
        return (values - self.mean) / self.scale


class Augmentation(nn.Module):
    """Base of modules that change images at random in training, and never in evaluation."""

    generator: torch.Generator | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Change images `(n_samples, n_channels, height, width)`, in training."""
        return self.change(images) if self.training else images

    def change(self, images: Tensor) -> Tensor:
        """Draw a change for each image, and apply it."""
        raise NotImplementedError


class RandomShift(Augmentation):
    """Move each image by a few pixels in training; the pixels of its edges are repeated.

    Parameters
    ----------
    share : float, default=0.07
        The largest shift, as a share of height and width, at least one pixel.

    Notes
    -----
    Shape:

    - Input: `(n_samples, n_channels, height, width)`
    - Output: same as the input

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import RandomShift
    >>> RandomShift()(torch.ones(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, share: float = 0.07) -> None:
        super().__init__()
        self.share = share

    def change(self, images: Tensor) -> Tensor:
        """Move each image.

        Parameters
        ----------
        images : torch.Tensor of shape (n_samples, n_channels, height, width)
            Images.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_channels, height, width)
            The images, each moved by a distance of its own.
        """
        n = len(images)
        rows, columns = (self._positions(n, size, images.device) for size in images.shape[2:])
        each = torch.arange(n, device=images.device).view(-1, 1, 1)
        # Channels come last where several axes are indexed.
        moved = images.permute(0, 2, 3, 1)[each, rows.unsqueeze(2), columns.unsqueeze(1)]
        return moved.permute(0, 3, 1, 2)

    def _positions(self, n: int, size: int, device: torch.device) -> Tensor:
        """Where each pixel along one axis comes from, `(n, size)`."""
        most = max(1, round(self.share * size))
        # Drawn where the images are: numbers from the CPU would make each step wait for a GPU.
        distance = torch.randint(-most, most + 1, (n, 1), generator=self.generator, device=device)
        return (torch.arange(size, device=device) + distance).clamp(0, size - 1)


class RandomFlip(Augmentation):
    """Mirror half of the images in training, left to right.

    Notes
    -----
    Shape:

    - Input: `(n_samples, n_channels, height, width)`
    - Output: same as the input

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import RandomFlip
    >>> RandomFlip()(torch.ones(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    def change(self, images: Tensor) -> Tensor:
        """Mirror each image, or not.

        Parameters
        ----------
        images : torch.Tensor of shape (n_samples, n_channels, height, width)
            Images.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_channels, height, width)
            The images, about half of them mirrored.
        """
        drawn = torch.rand((len(images), 1, 1, 1), generator=self.generator, device=images.device)
        return torch.where(drawn < 0.5, images.flip(3), images)


class ImageTrunk(nn.Module):
    """Turn images into features: normalisation, a change at random in training, a network.

    The features are flat, so that any gate can read them. `out_shape` tells experts with
    convolutions what they were.

    Parameters
    ----------
    normalization : ImageNormalization
        Turns pixels into floats.
    body : torch.nn.Module
        Maps `(n_samples, n_channels, height, width)` to feature maps `(n_samples, channels, height,
        width)`, or to `(n_samples, width)`; in evaluation mode it must treat each image alone.
        :func:`make_convolutions` builds the usual one. If none of its parameters is trainable, it
        stays in evaluation mode.
    image_shape : tuple of int
        Number of channels, height and width of an image.
    augmentation : torch.nn.Module or None, default=None
        Changes images in training, such as :class:`RandomShift`.

    Notes
    -----
    Shape:

    - Input: pixels, as :class:`ImageNormalization` takes them
    - Output: `(n_samples, out_features)`

    In training, a single image goes through the body in evaluation mode if the body cannot take it
    otherwise: torch refuses the statistics of a single number.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import ImageNormalization, ImageTrunk
    >>> normalization = ImageNormalization(torch.tensor([0.5]), torch.tensor([0.25]))
    >>> body = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1)
    >>> trunk = ImageTrunk(normalization, body, (1, 28, 28))
    >>> trunk(torch.zeros(5, 28, 28)).shape, trunk.out_shape
    (torch.Size([5, 1568]), (8, 14, 14))
    """

    def __init__(
        self,
        normalization: ImageNormalization,
        body: nn.Module,
        image_shape: tuple[int, int, int],
        augmentation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.normalization = normalization
        self.augmentation = augmentation
        self.body = body
        self.image_shape = image_shape
        self.out_shape = _shape_of_output(body, image_shape)
        self.out_features = int(torch.Size(self.out_shape).numel())
        self.train()

    @property
    def is_frozen(self) -> bool:
        """Whether the body has parameters, none of which is trained."""
        parameters = list(self.body.parameters())
        return bool(parameters) and not any(each.requires_grad for each in parameters)

    def train(self, mode: bool = True) -> "ImageTrunk":
        """Set the mode; a frozen body keeps to evaluation, or its batch statistics would move.

        Parameters
        ----------
        mode : bool, default=True
            Whether this is training.

        Returns
        -------
        ImageTrunk
            Itself.
        """
        super().train(mode)
        if self.is_frozen:
            self.body.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the features; see the class for shapes."""
        images = self.normalization(pixels)
        if self.augmentation is not None:
            images = self.augmentation(images)
        return self.features(images)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features of normalised images.

        Parameters
        ----------
        images : torch.Tensor of shape (n_samples, n_channels, height, width)
            Images, as :class:`ImageNormalization` returns them.

        Returns
        -------
        torch.Tensor of shape (n_samples, out_features)
            Their features.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            features: Tensor = self.body(images)
        except ValueError:
            if len(images) > 1 or not self.body.training:
                raise
            return self._features_of_one(images)
        return features.flatten(1)

    def _features_of_one(self, images: Tensor) -> Tensor:
        """Compute the features of a single image in training, by the body in evaluation mode."""
        # Of a small one, batch normalisation may get a single number, which has no variance.
        self.body.eval()
        try:
            features: Tensor = self.body(images)
        finally:
            self.body.train()
        return features.flatten(1)


class ImageFeatures(nn.Module):
    """Turn images into a few features: an image trunk, then a linear layer.

    Parameters
    ----------
    trunk : ImageTrunk
        Turns images into flat features.
    out_features : int, default=32
        Number of features that are left.

    Notes
    -----
    Shape:

    - Input: pixels, as :class:`ImageNormalization` takes them
    - Output: `(n_samples, out_features)`

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import ImageFeatures, ImageNormalization, ImageTrunk, make_convolutions
    >>> normalization = ImageNormalization(torch.tensor([0.5]), torch.tensor([0.25]))
    >>> trunk = ImageTrunk(normalization, make_convolutions(1), (1, 28, 28))
    >>> ImageFeatures(trunk)(torch.zeros(5, 28, 28)).shape
    torch.Size([5, 32])
    """

    def __init__(self, trunk: ImageTrunk, out_features: int = 32) -> None:
        super().__init__()
        self.trunk = trunk
        self.projection = nn.Linear(trunk.out_features, out_features)
        self.out_features = out_features

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the features; see the class for shapes."""
        features: Tensor = self.projection(self.trunk(pixels))
        return features


def make_convolutions(
    in_channels: int, channels: Sequence[int] = (16, 32), activation: str = "relu"
) -> nn.Sequential:
    """Build convolutions, each of which halves height and width.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    channels : sequence of int, default=(16, 32)
        Number of channels of each layer's output.
    activation : str, default="relu"
        Activation after each layer, see :func:`skmode.nn.make_activation`.

    Returns
    -------
    torch.nn.Sequential
        Convolutions of 3 x 3 pixels, each with batch normalisation, an activation and the maximum
        of 2 x 2 pixels. The weights have the memory format ``torch.channels_last``, which is the
        faster one on CPUs.

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import make_convolutions
    >>> make_convolutions(1)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 32, 7, 7])
    """
    layers: list[nn.Module] = []
    for width in channels:
        layers.append(nn.Conv2d(in_channels, width, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width), make_activation(activation)]
        # Steps of two pixels would be faster, and lose more accuracy than they save time.
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        in_channels = width
    body = nn.Sequential(*layers)
    return body.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _shape_of_output(body: nn.Module, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of one image's features, found by forward passes of two images and of one."""
    name = type(body).__name__
    body.eval()
    images = torch.linspace(-1, 1, 2 * torch.Size(image_shape).numel()).view(2, *image_shape)
    try:
        with torch.no_grad():
            features = body(images.clone())  # it may change its input
    except Exception as error:
        raise ValueError(
            f"The trunk must map images (n_samples, {', '.join(map(str, image_shape))}) to "
            f"features, but {name} failed with {error}: build it for images of this shape."
        ) from error
    got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or features.ndim not in (2, 4) or len(features) != 2:
        raise ValueError(
            "The trunk must return (n_samples, width) or (n_samples, channels, height, width), got "
            f"{got} from {name} for 2 images: return the features alone."
        )
    if features.dtype != images.dtype:
        raise ValueError(
            f"The trunk must return {images.dtype} for images of this type, got {features.dtype} "
            f"from {name}: leave out what converts them, such as .double()."
        )
    dependence = find_dependence(body, images, features)
    if dependence is not None:
        raise ValueError(
            "The trunk must compute the features of each image from that image alone, got "
            f"{dependence} from {name}: in evaluation use no statistics of the batch (BatchNorm2d "
            "needs track_running_stats=True) and no random numbers."
        )
    return tuple(features.shape[1:])
