"""Displays of images: what gate and experts look at, and which images an expert gets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode._common.sklearn import safe_indexing
from skmode.inspection._attention.saliency import ExpertSaliency, expert_saliency, typical_images
from skmode.inspection._evaluation import mixtures
from skmode.inspection._plot.labels import label
from skmode.inspection._plot.style import pyplot

Array = NDArray[Any]

# Inches of one image.
SIZE = 1.5
# Inches of one row of an image and its maps, which have titles.
SALIENCY_SIZE = SIZE + 0.3


class ExpertSaliencyDisplay:
    """A few images, each with its route, and what its expert and the gate looked at.

    Pixels that raise the output are red, those that lower it are blue.

    Parameters
    ----------
    saliency : ExpertSaliency
        Result of :func:`skmode.inspection.expert_saliency`.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_samples, 3)
        The images, the maps of their experts, and those of the gate.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skmode.inspection.expert_saliency : Measures what is drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmode import MoDEImageClassifier
    >>> from skmode.inspection import ExpertSaliencyDisplay
    >>> images, y = load_digits().images / 16, load_digits().target
    >>> classifier = MoDEImageClassifier(n_experts=2, max_epochs=2, random_state=0)
    >>> classifier = classifier.fit(images[:300], y[:300])
    >>> ExpertSaliencyDisplay.from_estimator(classifier, images[300:303]).axes_.shape
    (3, 3)
    """

    axes_: Array
    figure_: Any

    def __init__(self, saliency: ExpertSaliency) -> None:
        self.saliency = saliency

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, n_steps: int = 32) -> ExpertSaliencyDisplay:
        """Measure and draw.

        Parameters
        ----------
        estimator : object
            A fitted mixture of images, or a Pipeline or search that ends with one.
        X : array of shape (n_samples, height, width) or with channels, or list of images
            A few images.
        n_steps : int, default=32
            See :func:`skmode.inspection.expert_saliency`.

        Returns
        -------
        display : ExpertSaliencyDisplay
            The picture.
        """
        return cls(expert_saliency(estimator, X, n_steps=n_steps)).plot()

    def plot(self) -> ExpertSaliencyDisplay:
        """Draw a row for each image.

        Returns
        -------
        display : ExpertSaliencyDisplay
            Itself.
        """
        n_images = len(self.saliency.images)
        self.figure_ = _figure(n_images, 3, height=SALIENCY_SIZE)
        self.axes_ = draw_saliency(self.figure_, self.saliency)
        return self


class TypicalImagesDisplay:
    """The images of which the gate is surest, a row for each expert.

    Parameters
    ----------
    images : list of ndarray
        For each expert its images, the surest one first.
    shape : tuple of int
        Height and width of an image.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_experts, n_images)
        The images.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skmode.inspection.typical_images : Finds the images.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmode import MoDEImageClassifier
    >>> from skmode.inspection import TypicalImagesDisplay
    >>> images, y = load_digits().images / 16, load_digits().target
    >>> classifier = MoDEImageClassifier(n_experts=2, max_epochs=2, random_state=0)
    >>> classifier = classifier.fit(images[:300], y[:300])
    >>> TypicalImagesDisplay.from_estimator(classifier, images[300:], n_images=4).axes_.shape
    (2, 4)
    """

    axes_: Array
    figure_: Any

    def __init__(self, images: list[Array], shape: tuple[int, int]) -> None:
        self.images = images
        self.shape = shape

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, n_images: int = 6) -> TypicalImagesDisplay:
        """Find the images and draw them.

        Parameters
        ----------
        estimator : object
            A fitted mixture of images, or a Pipeline or search that ends with one.
        X : array of shape (n_samples, height, width) or with channels, or list of images
            Images.
        n_images : int, default=6
            Images of each expert, at most.

        Returns
        -------
        display : TypicalImagesDisplay
            The picture.
        """
        mixture, rows = mixtures.unwrap(estimator, X)
        encoder = mixture.encoder_
        chosen = typical_images(mixture, rows, n_images)
        return cls(
            [read_images(mixture, rows, each) for each in chosen],
            (encoder.height_, encoder.width_),
        ).plot()

    def plot(self) -> TypicalImagesDisplay:
        """Draw a row for each expert.

        Returns
        -------
        display : TypicalImagesDisplay
            Itself.
        """
        n_columns = max(1, *map(len, self.images))
        self.figure_ = _figure(len(self.images), n_columns, height=SIZE)
        self.axes_ = draw_typical(self.figure_, self.images, self.shape)
        return self


def read_images(mixture: Any, rows: Any, positions: Array) -> Array:
    """Read some of the images, as the model reads them."""
    if not len(positions):
        return np.empty(0)
    read: Array = mixture.encoder_.read(safe_indexing(rows, positions))
    return read


def draw_saliency(figure: Any, found: ExpertSaliency) -> Array:
    """Draw a row for each image: itself, and the maps of its expert and of the gate."""
    grid = _grid(figure, len(found.images), 3)
    for i, axes in enumerate(grid):
        show_image(axes[0], found.images[i], found.experts.shape[1:])
        prediction = np.ravel(found.predictions[i])
        said = (
            label(prediction[0])
            if found.predictions.dtype.kind not in "f"
            else (", ".join(f"{value:.3g}" for value in prediction))
        )
        axes[0].set_title(f"predicted: {said}", fontsize="small")
        maps = (found.experts[i], found.gate[i])
        titles = (f"expert {found.route[i]}", f"gate ({found.gate_weight[i]:.2f})")
        for ax, values, title in zip(axes[1:], maps, titles, strict=True):
            largest = float(np.abs(values).max()) or 1.0
            ax.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
            ax.set_title(title, fontsize="small")
    return grid


def draw_typical(figure: Any, images: list[Array], shape: tuple[int, ...]) -> Array:
    """Draw a row of images for each expert."""
    grid = _grid(figure, len(images), max(1, *map(len, images)))
    for expert, (axes, own) in enumerate(zip(grid, images, strict=True)):
        what = "" if len(own) else " (no images)"
        axes[0].set_title(f"expert {expert}{what}", fontsize="small", loc="left")
        for ax, image in zip(axes, own, strict=False):
            show_image(ax, image, shape)
    return grid


def show_image(ax: Any, image: Array, shape: tuple[int, ...]) -> None:
    """Draw an image of any layout."""
    if image.ndim == 3 and image.shape[:2] != tuple(shape):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    largest = 255 if image.dtype == np.uint8 else 1
    ax.imshow(image, cmap="gray", vmin=0, vmax=largest)


def _figure(n_rows: int, n_columns: int, *, height: float) -> Any:
    size = SIZE * n_columns, height * n_rows
    return pyplot().figure(figsize=size, layout="constrained")


def _grid(figure: Any, n_rows: int, n_columns: int) -> Array:
    """Axes without ticks, which images fill."""
    axes: Array = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    return axes
