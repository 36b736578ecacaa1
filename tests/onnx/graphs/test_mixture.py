"""The graphs of the mixings; test_export.py compares whole models with estimators."""

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto

from skmode import nn as mode
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.build import build_experts
from skmode.onnx._graphs.experts.stored import StoredExperts
from skmode.onnx._graphs.gate import emit_gate_logits, emit_gate_probabilities, emit_top_expert
from skmode.onnx._graphs.mixture import (
    Head,
    emit_active_mixture,
    emit_dense_mixture,
    emit_top_expert_outputs,
)

WIDTH, N_CLASSES = 5, 4


def make_mixture(gate, mixing="likelihood"):
    torch.manual_seed(0)
    mixture = mode.MixtureOfExperts(
        mode.IdentityTrunk(WIDTH),
        gate,
        mode.MLPExperts(WIDTH, gate.n_experts, (7, 3)),
        torch.nn.Linear(3, N_CLASSES),
        mode.CrossEntropy(),
        mixing=mixing,
    )
    return mixture.eval()


def begin(mixture):
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    experts = StoredExperts(graph, build_experts(mixture.experts, WIDTH))
    logits = emit_gate_logits(graph, mixture.gate, x)
    return graph, x, experts, logits


@pytest.fixture(autouse=True)
def keep_random_state():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)


def run(graph, outputs, rows):
    for value, dtype, shape in outputs:
        graph.add_output(value, dtype, shape)
    session = onnxruntime.InferenceSession(
        graph.to_model("example", {}).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": rows})


@pytest.mark.parametrize("n_experts", [1, 2, 6, 9, 70])
@pytest.mark.parametrize("n_rows", [0, 1, 2, 9])
def test_top_expert(n_rows, n_experts, rows):
    mixture = make_mixture(mode.DenseGate(WIDTH, n_experts))
    graph, x, experts, logits = begin(mixture)
    expert = emit_top_expert(graph, logits)
    head = Head(graph, mixture)
    value = emit_top_expert_outputs(graph, experts, head, x, expert)
    value = head.activate(graph, value, "answer")
    outputs = [(value, TensorProto.FLOAT, ["n", N_CLASSES]), (expert, TensorProto.INT64, ["n"])]
    result = run(graph, outputs, rows[:n_rows])
    with torch.no_grad():
        expected = mixture.predict_top_expert(torch.as_tensor(rows[:n_rows]))
    assert_allclose(result[0], expected[0].exp(), rtol=0, atol=1e-6)
    assert_array_equal(result[1], expected[1])


@pytest.mark.parametrize("n_rows", [0, 1, 9])
@pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
@pytest.mark.parametrize(("top_k", "n_experts"), [(None, 6), (3, 6), (2, 20)])
def test_mixtures(top_k, n_experts, mixing, n_rows, rows):
    torch.manual_seed(1)
    gate = mode.SparseGate(WIDTH, n_experts, top_k) if top_k else mode.DenseGate(WIDTH, n_experts)
    mixture = make_mixture(gate, mixing)
    graph, x, experts, logits = begin(mixture)
    weights = logits if top_k else emit_gate_probabilities(graph, gate, logits)
    emit = emit_active_mixture if top_k else emit_dense_mixture
    value = emit(graph, mixture, experts, Head(graph, mixture), x, weights, "probabilities")
    (result,) = run(graph, [(value, TensorProto.FLOAT, ["n", N_CLASSES])], rows[:n_rows])
    with torch.no_grad():
        expected = mixture(torch.as_tensor(rows[:n_rows])).prediction.exp()
    assert_allclose(result, expected, rtol=0, atol=1e-6)
