"""Which pixels gate and experts look at, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skmode.inspection._attention.gradients import (
    Attributions,
    completeness_error,
    integrate,
    scalar_functions,
    unit_and_scale,
    warn_of_errors,
)
from skmode.inspection._attention.regions import Regions
from skmode.inspection._evaluation import mixtures

Array = NDArray[Any]

# Images that are differentiated at once.
BLOCK_IMAGES = 128


@dataclass(frozen=True, repr=False, eq=False)
class ExpertSaliency:
    """Result of :func:`expert_saliency`.

    Attributes
    ----------
    images : ndarray of shape (n_samples, height, width) or with channels
        The images, as the model reads them.
    route : ndarray of int64 of shape (n_samples,)
        The top expert of each image.
    gate_weight : ndarray of float64 of shape (n_samples,)
        Its gate weight.
    predictions : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        What the top expert predicts alone.
    experts : ndarray of float64 of shape (n_samples, height, width)
        What each pixel adds to the output of the top expert, summed over channels.
    gate : ndarray of float64 of shape (n_samples, height, width)
        What each pixel adds to the gate's weight of that expert; with a sparse gate, in the softmax
        over all experts.
    n_experts : int
        Number of experts.
    unit : str
        Unit of `experts`.
    completeness_error : float
        The attributions of an image should sum to the expert's output minus its output for the
        baseline. This is the largest error of that sum over the images, in `unit`.
    gate_completeness_error : float
        The same for the gate's weight.
    """

    images: Array
    route: Array
    gate_weight: Array
    predictions: Array
    experts: Array
    gate: Array
    n_experts: int
    unit: str
    completeness_error: float
    gate_completeness_error: float

    def __repr__(self) -> str:
        counts = np.bincount(self.route, minlength=self.n_experts).tolist()
        return f"<ExpertSaliency of {len(self.images)} images, per expert: {counts}>"

    def by_expert(self) -> Array:
        """Average the absolute attributions over the images of each expert.

        Returns
        -------
        maps : ndarray of float64 of shape (n_experts, height, width)
            Where each expert looks; missing for an expert without images.
        """
        maps = np.full((self.n_experts, *self.experts.shape[1:]), np.nan)
        for expert in np.unique(self.route):
            maps[expert] = np.abs(self.experts[self.route == expert]).mean(axis=0)
        return maps


def expert_saliency(estimator: Any, X: Any, *, n_steps: int = 32) -> ExpertSaliency:
    """Find the pixels that the top expert of each image and the gate look at.

    The gradients of an output are integrated along the straight line from a baseline to the image
    (integrated gradients). The baseline has the mean of the training images in each channel. The
    output of an expert is the probability of the class that it predicts, or the value that it
    predicts; that of the gate is the weight of the expert that it chooses (with a sparse gate, in
    the softmax over all experts). The attributions of an image sum to its output minus that of the
    baseline, up to an error that shrinks with `n_steps`.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEImageClassifier` or :class:`skmode.MoDEImageRegressor`, or a
        Pipeline or search that ends with one.
    X : array of shape (n_samples, height, width) or with channels, or list of images
        Images, preferably unseen in training.
    n_steps : int, default=32
        Points on the line from the baseline (Gauss-Legendre quadrature).

    Returns
    -------
    saliency : ExpertSaliency
        A map for each image, for its top expert and for the gate.

    Raises
    ------
    TypeError
        If there is no mixture of images in `estimator`, or its trunk has no gradients.

    Warns
    -----
    UserWarning
        If a completeness error is above 0.05: of a probability, of a gate's weight, or of a
        standard deviation of the target.

    See Also
    --------
    skmode.inspection.ExpertSaliencyDisplay : A picture of it.
    skmode.inspection.expert_attention : The same by regions, on average over many images.

    References
    ----------
    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmode import MoDEImageClassifier
    >>> from skmode.inspection import expert_saliency
    >>> images, y = load_digits().images / 16, load_digits().target
    >>> classifier = MoDEImageClassifier(n_experts=2, max_epochs=2, random_state=0)
    >>> saliency = expert_saliency(classifier.fit(images[:300], y[:300]), images[300:308])
    >>> saliency.experts.shape, saliency.by_expert().shape
    ((8, 8, 8), (2, 8, 8))
    """
    _check_whole("n_steps", n_steps)
    mixture, rows = mixtures.unwrap(estimator, X)
    if not mixtures.reads_images(mixture):
        raise TypeError(
            "Saliency maps are for models of images, got "
            f"{type(mixture).__name__}: use expert_attention."
        )
    saliency = measure_saliency(mixture, mixture.encoder_.read(rows), n_steps)
    unit, scale = unit_and_scale(mixture)
    errors = saliency.completeness_error, saliency.gate_completeness_error
    warn_of_errors(*errors, unit, scale, n_steps, stacklevel=3)
    return saliency


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}: correct it.")


def measure_saliency(mixture: Any, images: Array, n_steps: int) -> ExpertSaliency:
    """Attribute the outputs of gate and top expert to pixels."""
    if not has_gradients(mixture, images[:1]):
        network: Any = mixtures.find_network(mixture)
        raise TypeError(
            "The trunk must have gradients with respect to the pixels, got "
            f"{type(network.trunk.body).__name__} without: freeze it by requires_grad_(False), not "
            'by torch.no_grad in its forward, or use expert_attention with method="permutation".'
        )
    gate = np.asarray(mixture.gate_proba(images))
    route = gate.argmax(axis=1)
    alone = np.asarray(mixture.expert_predict(images))[np.arange(len(images)), route]
    module: Any = mixtures.find_network(mixture)
    device = module.head.weight.device.type
    blocks = [slice(i, i + BLOCK_IMAGES) for i in range(0, len(images), BLOCK_IMAGES)]
    # Whatever modes the caller has set.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        found = [
            list(_attribute(mixture, module, images[one], route[one], n_steps)) for one in blocks
        ]
    (of_experts, experts_error), (of_gate, gate_error) = (
        [np.concatenate([block[part][i] for block in found]) for i in range(2)] for part in range(2)
    )
    return ExpertSaliency(
        images,
        route,
        gate.max(axis=1),
        alone,
        of_experts,
        of_gate,
        gate.shape[1],
        unit_and_scale(mixture)[0],
        float(experts_error.max()),
        float(gate_error.max()),
    )


def has_gradients(mixture: Any, images: Array) -> bool:
    """Whether the features depend on the pixels for torch; a trunk of the user may cut them off."""
    network: Any = mixtures.find_network(mixture)
    trunk = network.trunk
    with torch.inference_mode(False), torch.enable_grad():
        pixels = torch.tensor(images, device=trunk.normalization.mean.device)
        rows = trunk.normalization(pixels).requires_grad_()
        features = trunk.features(rows.clone())
        if not features.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(features.sum(), rows, allow_unused=True)
    return gradient is not None


def attribute_regions(mixture: Any, X: Any, n_steps: int) -> tuple[Attributions, list[str]]:
    """Attribute outputs to the regions of images, and name these."""
    saliency = measure_saliency(mixture, mixture.encoder_.read(X), n_steps)
    regions = Regions(mixture.encoder_)
    n_images = len(saliency.images)
    attributions = Attributions(
        regions.pool(saliency.experts),
        regions.pool(saliency.gate),
        saliency.route,
        np.full(n_images, saliency.completeness_error),
        np.full(n_images, saliency.gate_completeness_error),
    )
    return attributions, regions.names


def _attribute(
    mixture: Any, module: Any, images: Array, route: Array, n_steps: int
) -> Iterator[tuple[Array, Array]]:
    """Yield maps and errors of some images: for their top experts, then for the gate."""
    trunk, weight = module.trunk, module.head.weight
    with torch.no_grad():
        pixels = torch.tensor(images, device=weight.device)
        rows = trunk.normalization(pixels)
        features = trunk.features(rows.clone())
    baseline = torch.zeros_like(rows[:1])
    chosen = torch.as_tensor(route, device=weight.device)
    for function in scalar_functions(mixture, module, features, chosen):

        def of_images(at: torch.Tensor, function: Any = function) -> torch.Tensor:
            # A copy: a trunk of the user may change its input in place.
            return function(trunk.features(at.clone()))  # type: ignore[no-any-return]

        attributions = integrate(of_images, rows, baseline, n_steps)
        error = completeness_error(of_images, rows, baseline, attributions.flatten(1))
        yield attributions.sum(dim=1).double().cpu().numpy(), error


def typical_images(estimator: Any, X: Any, n_images: int = 6) -> list[Array]:
    """Find the images of which the gate is surest, for each expert.

    Parameters
    ----------
    estimator : object
        A fitted mixture, or a Pipeline or search that ends with one.
    X : array of shape (n_samples, height, width) or with channels, or list of images
        Images.
    n_images : int, default=6
        Images of each expert, at most.

    Returns
    -------
    positions : list of ndarray of int64
        For each expert the positions in `X` of the images with its largest gate weights, among
        those that the gate sends to it; the surest one first.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`.
    ValueError
        If `n_images` is not a whole number of at least 1.

    See Also
    --------
    skmode.inspection.TypicalImagesDisplay : A picture of them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmode import MoDEImageClassifier
    >>> from skmode.inspection import typical_images
    >>> images, y = load_digits().images / 16, load_digits().target
    >>> classifier = MoDEImageClassifier(n_experts=2, max_epochs=2, random_state=0)
    >>> positions = typical_images(classifier.fit(images[:300], y[:300]), images[300:])
    >>> len(positions)
    2
    """
    _check_whole("n_images", n_images)
    return mixtures.typical_rows(estimator, X, n_images)
