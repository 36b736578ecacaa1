"""Mixtures of experts with mutual distillation, as torch modules for use without the estimators."""

import sys

from skmode.nn import auxiliary_losses
from skmode.nn.activations import make_activation
from skmode.nn.auxiliary_losses import distillation_loss, load_balance_loss
from skmode.nn.dropout import Dropout
from skmode.nn.embeddings import PeriodicBiasEmbeddings
from skmode.nn.experts import ConvExperts, MLPExperts, ModuleExperts, StackedLinear
from skmode.nn.gates import DenseGate, GateOutput, SparseGate
from skmode.nn.mixture import (
    LayerLosses,
    MixtureLosses,
    MixtureOfExperts,
    MixtureOutput,
    MoDELayer,
    auxiliary_loss,
)
from skmode.nn.task_losses import CrossEntropy, RegressionLoss
from skmode.nn.trunks import (
    CategoricalEmbeddings,
    IdentityTrunk,
    ImageFeatures,
    ImageNormalization,
    ImageTrunk,
    MixedTrunk,
    RandomFlip,
    RandomShift,
    RobustScaler,
    TabularTrunk,
    TextTrunk,
    TransformerTrunk,
    make_convolutions,
)

__all__ = [
    "CategoricalEmbeddings",
    "ConvExperts",
    "CrossEntropy",
    "DenseGate",
    "Dropout",
    "GateOutput",
    "IdentityTrunk",
    "ImageFeatures",
    "ImageNormalization",
    "ImageTrunk",
    "LayerLosses",
    "MLPExperts",
    "MixedTrunk",
    "MixtureLosses",
    "MixtureOfExperts",
    "MixtureOutput",
    "MoDELayer",
    "ModuleExperts",
    "PeriodicBiasEmbeddings",
    "RandomFlip",
    "RandomShift",
    "RegressionLoss",
    "RobustScaler",
    "SparseGate",
    "StackedLinear",
    "TabularTrunk",
    "TextTrunk",
    "TransformerTrunk",
    "auxiliary_loss",
    "distillation_loss",
    "load_balance_loss",
    "make_activation",
    "make_convolutions",
]

# Both losses had modules of their own in 0.1.0.
for _name in ("balance", "distillation"):
    sys.modules[f"{__name__}.{_name}"] = auxiliary_losses
