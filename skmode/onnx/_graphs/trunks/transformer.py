"""The trunk of texts with a transformer: each token is computed by its own experts alone."""

from __future__ import annotations

import numpy as np
from torch import nn

from skmode.nn import MoDELayer, SparseGate, TransformerTrunk
from skmode.nn.trunks.transformer import TransformerBlock
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.build import build_experts
from skmode.onnx._graphs.experts.routing import emit_chosen_experts
from skmode.onnx._graphs.experts.stored import StoredExperts
from skmode.onnx._graphs.gate import emit_gate_logits, emit_top_k
from skmode.onnx._graphs.layers import to_float32
from skmode.onnx._graphs.trunks.texts import (
    emit_token_vectors,
    emit_token_weights,
    emit_weighted_sum,
)

# Added to the scores of padding; infinity would make a text without tokens NaN.
_NEVER = -1e9


def emit_transformer_trunk(
    graph: GraphBuilder, trunk: TransformerTrunk, tokens: str, counts: str
) -> str:
    """Compute the features of texts whose tokens are in their order."""
    weights = emit_token_weights(graph, trunk, tokens, counts, "trunk")
    value = emit_token_vectors(graph, trunk, tokens, "trunk")
    positions = graph.add_weight(to_float32(trunk.positions), "trunk/positions")
    shape = graph.add("Shape", [tokens], "trunk/length", start=1, end=2)
    begin = graph.constant([0], "first_axis")
    positions = graph.add("Slice", [positions, begin, shape, begin], "trunk/own_positions")
    bias = _emit_bias(graph, counts)
    for i, block in enumerate(trunk.blocks):
        assert isinstance(block, TransformerBlock)
        value = _emit_block(graph, block, value, positions, bias, f"block_{i}")
    return emit_weighted_sum(graph, trunk, weights, value, "trunk")


def _emit_bias(graph: GraphBuilder, counts: str) -> str:
    """What is added to scores of attention: nothing for tokens, very little for padding."""
    zero = graph.constant(0, "zero", np.float32)
    known = graph.add("Greater", [counts, zero], "trunk/known")
    never = graph.constant(_NEVER, "never", np.float32)
    bias = graph.add("Where", [known, zero, never], "trunk/bias")
    return graph.add("Unsqueeze", [bias, graph.constant([1, 2], "axes")], "trunk/all_bias")


def _emit_block(
    graph: GraphBuilder,
    block: TransformerBlock,
    value: str,
    positions: str,
    bias: str,
    name: str,
) -> str:
    normed = _emit_norm(graph, block.attention_norm, value, f"{name}/attention_norm")
    normed = graph.add("Add", [normed, positions], f"{name}/placed")
    attended = _emit_attention(graph, block.attention, normed, bias, f"{name}/attention")
    value = graph.add("Add", [value, attended], f"{name}/attended")
    normed = _emit_norm(graph, block.experts_norm, value, f"{name}/experts_norm")
    computed = _emit_layer(graph, block.experts, normed, f"{name}/experts")
    return graph.add("Add", [value, computed], f"{name}/computed")


def _emit_norm(graph: GraphBuilder, norm: nn.LayerNorm, value: str, name: str) -> str:
    scale = graph.add_weight(to_float32(norm.weight), f"{name}/scale")
    bias = graph.add_weight(to_float32(norm.bias), f"{name}/bias")
    inputs = [value, scale, bias]
    return graph.add("LayerNormalization", inputs, name, axis=-1, epsilon=norm.eps)


def _emit_attention(
    graph: GraphBuilder, attention: nn.MultiheadAttention, value: str, bias: str, name: str
) -> str:
    """Compute torch's attention among the tokens of a text, `(n, length, width)`."""
    n_heads, size = attention.num_heads, attention.head_dim
    assert attention.in_proj_weight is not None
    assert attention.in_proj_bias is not None
    weights = to_float32(attention.in_proj_weight).reshape(3, n_heads * size, -1)
    biases = to_float32(attention.in_proj_bias).reshape(3, -1)
    # Queries are scaled by their weights.
    scale = np.array([size**-0.5, 1, 1], np.float32)
    heads = [
        _emit_heads(graph, value, weights[i] * scale[i], biases[i] * scale[i], n_heads, part)
        for i, part in enumerate((f"{name}/query", f"{name}/key", f"{name}/value"))
    ]
    keys = graph.add("Transpose", [heads[1]], f"{name}/keys", perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", [heads[0], keys], f"{name}/scores")
    scores = graph.add("Add", [scores, bias], f"{name}/known_scores")
    shares = graph.add("Softmax", [scores], f"{name}/shares", axis=-1)
    found = graph.add("MatMul", [shares, heads[2]], f"{name}/found")
    found = graph.add("Transpose", [found], f"{name}/by_token", perm=[0, 2, 1, 3])
    shape = graph.constant([0, 0, n_heads * size], f"{name}/shape")
    found = graph.add("Reshape", [found, shape], f"{name}/joined")
    out = attention.out_proj
    return _emit_product(graph, found, to_float32(out.weight), to_float32(out.bias), name)


def _emit_heads(
    graph: GraphBuilder,
    value: str,
    weight: np.ndarray,
    bias: np.ndarray,
    n_heads: int,
    name: str,
) -> str:
    """Project tokens, and part the result by head: `(n, heads, length, size)`."""
    value = _emit_product(graph, value, weight, bias, name)
    shape = graph.constant([0, 0, n_heads, len(bias) // n_heads], f"{name}/shape")
    value = graph.add("Reshape", [value, shape], f"{name}/by_head")
    return graph.add("Transpose", [value], f"{name}/heads", perm=[0, 2, 1, 3])


def _emit_product(
    graph: GraphBuilder, value: str, weight: np.ndarray, bias: np.ndarray, name: str
) -> str:
    """Apply a linear layer to each token; Gemm takes two axes only."""
    product = graph.add_weight(weight.T, f"{name}/weight")
    value = graph.add("MatMul", [value, product], f"{name}/product")
    return graph.add("Add", [value, graph.add_weight(bias, f"{name}/bias")], name)


def _emit_layer(graph: GraphBuilder, layer: MoDELayer, value: str, name: str) -> str:
    """Compute each token by the experts that its gate chooses, padding too: nobody reads it."""
    gate, width = layer.gate, layer.width
    assert isinstance(gate, SparseGate)
    shape = graph.add("Shape", [value], f"{name}/shape")
    flat = graph.constant([-1, width], f"{name}/flat_shape")
    tokens = graph.add("Reshape", [value, flat], f"{name}/tokens")
    weights, chosen = emit_top_k(graph, gate, emit_gate_logits(graph, gate, tokens))
    choice = graph.add("Reshape", [chosen, graph.constant([-1], "any_shape")], f"{name}/choice")
    experts = StoredExperts(graph, build_experts(layer.experts, width))
    values = emit_chosen_experts(
        graph, experts, tokens, choice, lambda branch, found, where: found, width, gate.top_k
    )
    by_token = graph.constant([-1, gate.top_k, width], f"{name}/by_token_shape")
    values = graph.add("Reshape", [values, by_token], f"{name}/by_token")
    row = graph.add("Unsqueeze", [weights, graph.constant([1], "middle_axis")], f"{name}/weights")
    mixed = graph.add("MatMul", [row, values], f"{name}/mixed")
    return graph.add("Reshape", [mixed, shape], name)
