"""Layers: those of an estimator's experts, and mixtures that are layers of other networks."""

from skmode.inspection._layers.probing import LayerProbing, layer_probing
from skmode.inspection._layers.tokens import record_routes, token_routes

__all__ = ["LayerProbing", "layer_probing", "record_routes", "token_routes"]
