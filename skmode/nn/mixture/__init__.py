"""Mixtures of experts: a network for rows of a table, and a layer for networks of one's own."""

from skmode.nn.mixture.layer import LayerLosses, MoDELayer, auxiliary_loss
from skmode.nn.mixture.network import MixtureLosses, MixtureOfExperts, MixtureOutput

__all__ = [
    "LayerLosses",
    "MixtureLosses",
    "MixtureOfExperts",
    "MixtureOutput",
    "MoDELayer",
    "auxiliary_loss",
]
