"""Displays of images: what gate and experts look at, and which images an expert gets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode._sklearn import safe_indexing
from skmode.inspection._attention.saliency import ExpertSaliency, expert_saliency, typical_images
from skmode.inspection._evaluation import mixtures
from skmode.inspection._plot.labels import label
from skmode.inspection._plot.style import pyplot

Array = NDArray[Any]

# Inches of one image.
SIZE = 1.5


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
        found = self.saliency
        n_images = len(found.images)
        self.figure_, self.axes_ = _grid(n_images, 3, height=SIZE + 0.3)
        for i, axes in enumerate(self.axes_):
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
        images = [
            encoder.read(safe_indexing(rows, positions)) if len(positions) else np.empty(0)
            for positions in chosen
        ]
        return cls(images, (encoder.height_, encoder.width_)).plot()

    def plot(self) -> TypicalImagesDisplay:
        """Draw a row for each expert.

        Returns
        -------
        display : TypicalImagesDisplay
            Itself.
        """
        n_columns = max(1, *map(len, self.images))
        self.figure_, self.axes_ = _grid(len(self.images), n_columns, height=SIZE)
        for expert, (axes, images) in enumerate(zip(self.axes_, self.images, strict=True)):
            what = "" if len(images) else " (no images)"
            axes[0].set_title(f"expert {expert}{what}", fontsize="small", loc="left")
            for ax, image in zip(axes, images, strict=False):
                show_image(ax, image, self.shape)
        return self


def show_image(ax: Any, image: Array, shape: tuple[int, ...]) -> None:
    """Draw an image of any layout."""
    if image.ndim == 3 and image.shape[:2] != tuple(shape):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    largest = 255 if image.dtype == np.uint8 else 1
    ax.imshow(image, cmap="gray", vmin=0, vmax=largest)


def _grid(n_rows: int, n_columns: int, *, height: float) -> tuple[Any, Array]:
    """Axes without ticks, which images fill."""
    figure, axes = pyplot().subplots(
        n_rows,
        n_columns,
        figsize=(SIZE * n_columns, height * n_rows),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes
