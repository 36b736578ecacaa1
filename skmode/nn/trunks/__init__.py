"""Trunks: the layers in front of the gate and the experts, which both share."""

from skmode.nn.trunks.images import (
    Augmentation,
    ImageFeatures,
    ImageNormalization,
    ImageTrunk,
    RandomFlip,
    RandomShift,
    make_convolutions,
)
from skmode.nn.trunks.mixed import MixedTrunk
from skmode.nn.trunks.tables import (
    SCALE_RATE,
    CategoricalEmbeddings,
    IdentityTrunk,
    RobustScaler,
    TabularTrunk,
)
from skmode.nn.trunks.texts import SMALLEST_NORM, TABLE_RATE, TextTrunk
from skmode.nn.trunks.transformer import TransformerTrunk

__all__ = [
    "SCALE_RATE",
    "SMALLEST_NORM",
    "TABLE_RATE",
    "Augmentation",
    "CategoricalEmbeddings",
    "IdentityTrunk",
    "ImageFeatures",
    "ImageNormalization",
    "ImageTrunk",
    "MixedTrunk",
    "RandomFlip",
    "RandomShift",
    "RobustScaler",
    "TabularTrunk",
    "TextTrunk",
    "TransformerTrunk",
    "make_convolutions",
]
