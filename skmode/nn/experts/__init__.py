"""Experts: networks with equal inputs and outputs, evaluated together or one at a time."""

from skmode.nn.experts.images import ConvExperts
from skmode.nn.experts.vectors import MLPExperts, ModuleExperts, StackedLinear

__all__ = ["ConvExperts", "MLPExperts", "ModuleExperts", "StackedLinear"]
