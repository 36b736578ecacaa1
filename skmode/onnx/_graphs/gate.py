"""The gate: scores of the experts, their weights, the top expert."""

from __future__ import annotations

import numpy as np
from torch import nn

from skmode.nn import DenseGate, SparseGate
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.layers import emit_activation, emit_linear


def emit_gate_logits(graph: GraphBuilder, gate: DenseGate, hidden: str) -> str:
    """Score the experts."""
    value = hidden
    for i, layer in enumerate(gate.layers):
        if isinstance(layer, nn.Linear):
            value = emit_linear(graph, layer, value, f"gate/layer_{i}")
        else:
            value = emit_activation(graph, layer, value, f"gate/activation_{i}")
    if gate.temperature == 1.0:
        return value
    temperature = graph.constant(gate.temperature, "gate/temperature", np.float32)
    return graph.add("Div", [value, temperature], "gate/logits")


def emit_top_expert(graph: GraphBuilder, logits: str) -> str:
    """Choose the expert with the largest logit; the first one if several are equal."""
    return graph.add("ArgMax", [logits], "expert", axis=1, keepdims=0)


def emit_gate_probabilities(
    graph: GraphBuilder, gate: DenseGate, logits: str, name: str = "gate/probabilities"
) -> str:
    """Compute the gate weights; a sparse gate gives zero to the experts that it does not choose."""
    if not isinstance(gate, SparseGate) or gate.top_k == gate.n_experts:
        return graph.add("Softmax", [logits], name, axis=1)
    weights, chosen = emit_top_k(graph, gate, logits)
    zeros = graph.add("Sub", [logits, logits], "gate/zeros")
    return graph.add("ScatterElements", [zeros, chosen, weights], name, axis=1)


def emit_top_k(graph: GraphBuilder, gate: SparseGate, logits: str) -> tuple[str, str]:
    """Choose the experts of a sparse gate, the best one first, and compute their weights."""
    # TopK of zero rows crashes some releases of onnxruntime (1.20 among them): add a row.
    extra_row = graph.constant(np.zeros((1, gate.n_experts)), "gate/extra_row", np.float32)
    logits = graph.add("Concat", [logits, extra_row], "gate/logits_and_extra_row", axis=0)
    top_k = graph.constant([gate.top_k], "gate/top_k")
    found = graph.add_many("TopK", [logits, top_k], ["gate/all_scores", "gate/all_chosen"], axis=1)
    start, stop = graph.constant([0], "first_axis"), graph.constant([-1], "before_last")
    scores, chosen = (
        graph.add("Slice", [value, start, stop, start], name)
        for value, name in zip(found, ("gate/scores", "gate/chosen"), strict=True)
    )
    return graph.add("Softmax", [scores], "gate/weights", axis=1), chosen


def emit_gate_probability(graph: GraphBuilder, probabilities: str) -> str:
    """Take the weight of the top expert."""
    axis = graph.constant([1], "gate/axis")
    return graph.add("ReduceMax", [probabilities, axis], "gate_probability", keepdims=0)
