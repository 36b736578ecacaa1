"""Which experts a graph computes, and at which rows."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.build import INPUT, OUTPUT
from skmode.onnx._graphs.experts.routing import GROUP_SIZE, emit_chosen_experts
from skmode.onnx._graphs.experts.stored import StoredExperts


def make_adder(number, operator="Add"):
    """An expert that adds its number to each row."""
    graph = GraphBuilder()
    x = graph.add_input(INPUT, TensorProto.FLOAT, ["n", 2])
    weight = graph.add_weight(np.float32(number), "number")
    graph.add(operator, [x, weight], OUTPUT)
    graph.add_output(OUTPUT, TensorProto.FLOAT, ["n", 2])
    return graph.to_model("expert", {}).graph


def route(experts, choices_per_row=1):
    """A session of the experts, whose choices are an input."""
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", 2])
    choice = graph.add_input("choice", TensorProto.INT64, ["m"])
    stored = StoredExperts(graph, experts)
    value = emit_chosen_experts(
        graph, stored, x, choice, lambda branch, value, name: value, 2, choices_per_row
    )
    graph.add_output(value, TensorProto.FLOAT, ["m", 2])
    data = graph.to_model("example", {}).SerializeToString()
    return stored, onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("n_experts", [2, GROUP_SIZE, GROUP_SIZE + 1, 64, 65, 200])
@pytest.mark.parametrize("alike", [True, False])
def test_every_expert_predicts_its_rows(n_experts, alike):
    experts = [make_adder(i) for i in range(n_experts)]
    if not alike:
        experts[0] = make_adder(0, "Sub")  # of 0: the same value by another operator
    stored, session = route(experts)
    assert (stored.stacks is not None) == alike
    rng = np.random.default_rng(0)
    for n_rows in (0, 1, 2, 3, 50, 500):
        x = rng.normal(size=(n_rows, 2)).astype(np.float32)
        for choice in (
            rng.integers(0, n_experts, n_rows),
            np.full(n_rows, n_experts - 1),
            np.arange(n_rows)[::-1] % n_experts,
        ):
            (answers,) = session.run(None, {"x": x, "choice": choice})
            assert_array_equal(answers, x + choice[:, None].astype(np.float32))


def test_several_choices_per_row():
    experts = [make_adder(i) for i in range(11)]
    _, session = route(experts, choices_per_row=3)
    rng = np.random.default_rng(0)
    for n_rows in (0, 1, 40):
        x = rng.normal(size=(n_rows, 2)).astype(np.float32)
        choice = rng.integers(0, 11, 3 * n_rows)
        (answers,) = session.run(None, {"x": x, "choice": choice})
        assert_array_equal(answers, np.repeat(x, 3, axis=0) + choice[:, None].astype(np.float32))


@pytest.mark.parametrize("n_experts", [4, 64])
def test_experts_without_rows_are_not_computed(n_experts, tmp_path):
    """The runtime's profile names only the nodes of the chosen experts."""
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", 2])
    choice = graph.add_input("choice", TensorProto.INT64, ["n"])
    stored = StoredExperts(graph, [make_adder(i) for i in range(n_experts)])
    value = emit_chosen_experts(graph, stored, x, choice, lambda branch, value, name: value, 2)
    graph.add_output(value, TensorProto.FLOAT, ["n", 2])
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(
        graph.to_model("example", {}).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    session.run(None, {"x": np.ones((3, 2), np.float32), "choice": np.array([1, 3, 1])})
    profile = json.loads(Path(session.end_profiling()).read_text())
    ran = {event["name"].removesuffix("_kernel_time") for event in profile}
    computed = {name for name in ran if name.endswith(f"/{OUTPUT}")}
    assert computed == {f"expert_1/{OUTPUT}", f"expert_3/{OUTPUT}"}
