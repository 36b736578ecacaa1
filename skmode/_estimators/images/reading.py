"""Reading the rows of an estimator of images."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from skmode._common.sklearn import Interval, StrOptions
from skmode._encoding.images import Channels, ImageEncoder, check_images
from skmode._estimators.base import BaseMoDE
from skmode._estimators.parameters import REFIT_FRACTION, Auto, resolve_layers
from skmode._estimators.tables.pixels import (
    AUGMENTATIONS,
    Augment,
    TrunkModule,
    image_augmentation,
    make_trunk,
)
from skmode._training.plan import MakeTrunk, Network, Plan
from skmode._training.process.isolation import isolated
from skmode._training.trainer import Data

# Parameters of the table estimators that images have no use for.
TABLES_ONLY = (
    "numeric_embedding",
    "categorical_features",
    "text_features",
    "image_features",
    "synthetic_rows",
)
LAYERS: list[Any] = ["array-like", Interval(Integral, 1, None, closed="left")]
CONSTRAINTS: dict[str, list[Any]] = {
    "channels": [StrOptions({"last", "first"})],
    "trunk_channels": LAYERS,
    "expert_channels": LAYERS,
    "trunk_module": [callable, None],
    "augment": [StrOptions({"auto", *AUGMENTATIONS}), None],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
}
# max_epochs="auto": this over the square root of the number of images, within these bounds.
EPOCHS_OF_ONE, FEWEST_EPOCHS, MOST_EPOCHS = 1400, 5, 60
# With larger batches the few steps of a small set do not suffice.
LARGEST_BATCH = 128


def constraints_of(tables: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Constraints on the parameters of an estimator of images, given those of its relative."""
    kept = {name: each for name, each in tables.items() if name not in TABLES_ONLY}
    return kept | CONSTRAINTS


class ReadsImages(BaseMoDE):
    """An estimator whose rows are images."""

    _largest_batch: ClassVar[int] = LARGEST_BATCH
    # No rows are made up for a teacher: parts of two images make no third.
    synthetic_rows: float = 0.0

    channels: Channels
    trunk_channels: int | Sequence[int]
    expert_channels: int | Sequence[int]
    trunk_module: TrunkModule | None
    augment: Augment | Auto | None

    image_shape_: tuple[int, ...]

    _reads_datasets: ClassVar[bool] = False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = False
        tags.input_tags.categorical = False
        tags.input_tags.sparse = False
        return tags

    def _begin_reading(self, X: Any, y: Any, *, reset: bool) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )

    def _check_input(self, X: Any, *, reset: bool) -> NDArray[Any]:
        name = type(self).__name__
        if reset:
            return check_images(X, self.channels, name)
        encoder: ImageEncoder = self.encoder_
        return encoder.read_checked(X, name)  # `channels` may have been set since

    def _fit_encoder(self, X: NDArray[Any], sample_weight: NDArray[np.float64]) -> None:
        self.encoder_ = ImageEncoder(self.channels).fit(X)
        self.image_shape_ = self.encoder_.shape_

    def _encode_inputs(self, X: NDArray[Any]) -> tuple[Any, ...]:
        pixels = self.encoder_.transform(X)
        if not (pixels.flags.writeable and pixels.flags.c_contiguous):
            pixels = pixels.copy(order="C")  # torch has no tensors that cannot be written to
        with isolated():
            return (torch.as_tensor(pixels),)

    def _resolve_augment(self, n_rows: int | None) -> Augment | None:
        return image_augmentation(n_rows) if self.augment == "auto" else self.augment

    def _linear_shares(self) -> tuple[float, ...]:
        return ()

    def _trunk_maker(self, n_rows: int | None) -> MakeTrunk:
        return functools.partial(
            make_trunk,
            encoder=self.encoder_,
            channels=resolve_layers(self.trunk_channels),
            activation=self.activation,
            augment=self._resolve_augment(n_rows),
            trunk_module=self.trunk_module,
        )

    def _make_network(self, batch_size: int, n_rows: int | None) -> Network:
        network = super()._make_network(batch_size, n_rows)
        return network.with_images(
            resolve_layers(self.expert_channels), custom_trunk=self.trunk_module is not None
        )

    def _hidden_numbers(self) -> int:
        pixels: int = math.prod(
            self.image_shape_[:2] if self.channels == "last" else self.image_shape_[-2:]
        )
        # The trunk's layers halve both axes, and so do all layers of an expert but the first. What
        # a trunk of the user's does is not known yet: it may leave the experts all pixels.
        n_halvings = len(resolve_layers(self.trunk_channels)) if self.trunk_module is None else 0
        maps = max(1, pixels // 4**n_halvings)
        per_expert: int = sum(
            width * maps // 4**i for i, width in enumerate(resolve_layers(self.expert_channels))
        )
        return super()._hidden_numbers() + self.n_experts * per_expert

    def _make_plan(self, data: Data, *given: Any, **options: Any) -> Plan:
        plan = super()._make_plan(data, *given, **options)
        plain = plan.refit_fraction
        if data.further is not None or plan.teacher not in (None, "rows"):
            # `refit_fraction` means the taught refit, for which the training leaves no epochs.
            plain = min(plain, REFIT_FRACTION)
        return replace(plan, refit_fraction=plain, taught_refit_apart=True)

    def _resolve_epochs(self, epochs: Any, n_rows: int) -> int:
        if epochs != "auto":
            return int(epochs)
        return int(np.clip(math.ceil(EPOCHS_OF_ONE / n_rows**0.5), FEWEST_EPOCHS, MOST_EPOCHS))
