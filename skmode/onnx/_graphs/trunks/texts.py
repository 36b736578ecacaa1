"""The trunk of texts: tokens are weighed by TF-IDF, and their vectors are added up."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from skmode.nn import TextTrunk
from skmode.nn.trunks import SMALLEST_NORM
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.layers import to_float32

TEXT_INPUTS = "tokens", "counts"


def emit_text_inputs(
    graph: GraphBuilder, names: tuple[str, str], length: str = "length"
) -> tuple[str, str]:
    """Declare the inputs of one text: its distinct tokens, and how often each occurs."""
    tokens = graph.add_input(names[0], TensorProto.INT64, ["n", length])
    counts = graph.add_input(names[1], TensorProto.FLOAT, ["n", length])
    return tokens, counts


def emit_text_trunk(
    graph: GraphBuilder, trunk: TextTrunk, tokens: str, counts: str, name: str = "trunk"
) -> str:
    """Compute the features of texts."""
    weights = emit_token_weights(graph, trunk, tokens, counts, name)
    vectors = emit_token_vectors(graph, trunk, tokens, name)
    return emit_weighted_sum(graph, trunk, weights, vectors, name)


def emit_token_vectors(graph: GraphBuilder, trunk: TextTrunk, tokens: str, name: str) -> str:
    """Look up the vectors of tokens."""
    table = graph.add_weight(to_float32(trunk.vectors), f"{name}/vectors")
    return graph.add("Gather", [table, tokens], f"{name}/token_vectors", axis=0)


def emit_weighted_sum(
    graph: GraphBuilder, trunk: TextTrunk, weights: str, vectors: str, name: str
) -> str:
    """Add up the vectors of each text."""
    row = graph.add("Unsqueeze", [weights, graph.constant([1], "middle_axis")], f"{name}/row")
    summed = graph.add("MatMul", [row, vectors], f"{name}/sum")
    flat = graph.constant([0, trunk.out_features], f"{name}/shape")
    return graph.add("Reshape", [summed, flat], f"{name}/features")


def emit_token_weights(
    graph: GraphBuilder, trunk: TextTrunk, tokens: str, counts: str, name: str
) -> str:
    """Weigh the tokens of each text; padding weighs nothing."""
    idf = graph.add_weight(to_float32(trunk.idf), f"{name}/idf")
    one = graph.constant(1, "one", np.float32)
    zero = graph.constant(0, "zero", np.float32)
    times = graph.add("Log", [graph.add("Max", [counts, one], f"{name}/counts")], f"{name}/log")
    times = graph.add("Add", [times, one], f"{name}/times")
    weights = graph.add("Gather", [idf, tokens], f"{name}/token_idf", axis=0)
    weights = graph.add("Mul", [times, weights], f"{name}/weights")
    is_token = graph.add("Greater", [counts, zero], f"{name}/is_token")
    weights = graph.add("Where", [is_token, weights, zero], f"{name}/known_weights")
    axis = graph.constant([1], "middle_axis")
    norm = graph.add("ReduceL2", [weights, axis], f"{name}/norm", keepdims=1)
    smallest = graph.constant(SMALLEST_NORM, "smallest_norm", np.float32)
    norm = graph.add("Max", [norm, smallest], f"{name}/positive_norm")
    return graph.add("Div", [weights, norm], f"{name}/unit_weights")
