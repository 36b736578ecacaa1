"""The routes through the graph on their own; parity with estimators is in test_export.py."""

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto

from skmode import nn as mode
from skmode.nn.activations import ACTIVATIONS
from skmode.onnx._builder import GraphBuilder
from skmode.onnx._mixture import (
    Head,
    emit_activation,
    emit_active_mixture,
    emit_dense_mixture,
    emit_gate_logits,
    emit_gate_probabilities,
    emit_top_expert,
    emit_top_expert_outputs,
)

WIDTH, N_EXPERTS, N_CLASSES = 5, 6, 4


def make_mixture(gate, mixing="likelihood"):
    torch.manual_seed(0)
    mixture = mode.MixtureOfExperts(
        mode.IdentityTrunk(WIDTH),
        gate,
        mode.MLPExperts(WIDTH, N_EXPERTS, (7, 3)),
        torch.nn.Linear(3, N_CLASSES),
        mode.CrossEntropy(),
        mixing=mixing,
    )
    return mixture.eval()


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


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, rows):
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    module = mode.make_activation(name)
    y = graph.add("Identity", [emit_activation(graph, module, x, "activation")], "y")
    (result,) = run(graph, [(y, TensorProto.FLOAT, ["n", WIDTH])], rows)
    assert_allclose(result, module(torch.as_tensor(rows)).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("top_k", [None, 1, 2, N_EXPERTS])
def test_gates(top_k, rows):
    torch.manual_seed(0)
    gate = (
        mode.DenseGate(WIDTH, N_EXPERTS, (4,), "tanh", 0.5)
        if top_k is None
        else mode.SparseGate(WIDTH, N_EXPERTS, top_k, (4,), "tanh", 0.5)
    ).eval()
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    logits = emit_gate_logits(graph, gate, x)
    outputs = [
        (emit_gate_probabilities(graph, gate, logits), TensorProto.FLOAT, ["n", N_EXPERTS]),
        (emit_top_expert(graph, logits), TensorProto.INT64, ["n"]),
    ]
    probabilities, expert = run(graph, outputs, rows)
    with torch.no_grad():
        expected = gate(torch.as_tensor(rows))
    assert_allclose(probabilities, expected.probabilities, rtol=0, atol=1e-6)
    assert_array_equal(probabilities > 0, expected.probabilities > 0)
    assert_array_equal(expert, expected.logits.argmax(dim=1))


@pytest.mark.parametrize("n_rows", [0, 1, 2, 9])
def test_top_expert(n_rows, rows):
    mixture = make_mixture(mode.DenseGate(WIDTH, N_EXPERTS))
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    expert = emit_top_expert(graph, emit_gate_logits(graph, mixture.gate, x))
    head = Head(graph, mixture)
    value = emit_top_expert_outputs(graph, mixture, head, x, expert)
    value = head.to_answer(graph, value, "answer")
    outputs = [(value, TensorProto.FLOAT, ["n", N_CLASSES]), (expert, TensorProto.INT64, ["n"])]
    result = run(graph, outputs, rows[:n_rows])
    with torch.no_grad():
        expected = mixture.predict_top_expert(torch.as_tensor(rows[:n_rows]))
    assert_allclose(result[0], expected[0].exp(), rtol=0, atol=1e-6)
    assert_array_equal(result[1], expected[1])


@pytest.mark.parametrize("n_rows", [0, 1, 9])
@pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
@pytest.mark.parametrize("sparse", [False, True])
def test_mixtures(sparse, mixing, n_rows, rows):
    torch.manual_seed(1)
    gate = mode.SparseGate(WIDTH, N_EXPERTS, 3) if sparse else mode.DenseGate(WIDTH, N_EXPERTS)
    mixture = make_mixture(gate, mixing)
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    weights = emit_gate_probabilities(graph, gate, emit_gate_logits(graph, gate, x))
    emit = emit_active_mixture if sparse else emit_dense_mixture
    value = emit(graph, mixture, Head(graph, mixture), x, weights, "probabilities")
    (result,) = run(graph, [(value, TensorProto.FLOAT, ["n", N_CLASSES])], rows[:n_rows])
    with torch.no_grad():
        expected = mixture(torch.as_tensor(rows[:n_rows])).prediction.exp()
    assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_experts_without_rows_are_not_computed():
    """Weights that are not finite stay unread where no row chose their expert."""
    mixture = make_mixture(mode.DenseGate(WIDTH, N_EXPERTS))
    with torch.no_grad():
        mixture.gate.layers[-1].bias[2] += 1e4
        for layer in mixture.experts.layers:
            layer.weight[:2] = torch.nan
            layer.weight[3:] = torch.nan
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    expert = emit_top_expert(graph, emit_gate_logits(graph, mixture.gate, x))
    value = emit_top_expert_outputs(graph, mixture, Head(graph, mixture), x, expert)
    (result,) = run(
        graph, [(value, TensorProto.FLOAT, ["n", N_CLASSES])], np.ones((50, WIDTH), np.float32)
    )
    assert np.isfinite(result).all()
