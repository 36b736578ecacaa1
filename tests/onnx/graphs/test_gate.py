import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto

from skmode import nn as mode
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.gate import (
    emit_gate_logits,
    emit_gate_probabilities,
    emit_gate_probability,
    emit_top_expert,
)

WIDTH, N_EXPERTS = 5, 6


@pytest.mark.parametrize("top_k", [None, 1, 2, N_EXPERTS])
def test_gates(top_k):
    rows = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)
    torch.manual_seed(0)
    gate = (
        mode.DenseGate(WIDTH, N_EXPERTS, (4,), "tanh", 0.5)
        if top_k is None
        else mode.SparseGate(WIDTH, N_EXPERTS, top_k, (4,), "tanh", 0.5)
    ).eval()
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    logits = emit_gate_logits(graph, gate, x)
    weights = emit_gate_probabilities(graph, gate, logits)
    graph.add_output(weights, TensorProto.FLOAT, ["n", N_EXPERTS])
    graph.add_output(emit_top_expert(graph, logits), TensorProto.INT64, ["n"])
    graph.add_output(emit_gate_probability(graph, weights), TensorProto.FLOAT, ["n"])
    data = graph.to_model("example", {}).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    probabilities, expert, probability = session.run(None, {"x": rows})
    with torch.no_grad():
        expected = gate(torch.as_tensor(rows))
    assert_allclose(probabilities, expected.probabilities, rtol=0, atol=1e-6)
    assert_array_equal(probabilities > 0, expected.probabilities > 0)
    assert_array_equal(expert, expected.logits.argmax(dim=1))
    assert_array_equal(probability, probabilities.max(axis=1))
