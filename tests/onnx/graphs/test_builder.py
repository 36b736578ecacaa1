import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from skmode.onnx._graphs.builder import GraphBuilder


@pytest.fixture
def graph():
    return GraphBuilder()


def test_names_are_unique_and_inputs_keep_theirs(graph):
    assert graph.add_input("scale", TensorProto.FLOAT, ["n"]) == "scale"
    assert graph.add_weight(np.ones(2, np.float32), "scale") == "scale_2"
    assert graph.add("Relu", ["scale"], "scale") == "scale_3"
    assert graph.branch().add("Relu", ["scale"], "scale") == "scale_4"


def test_equal_constants_are_stored_once(graph):
    first = graph.constant([0, 1], "axes")
    assert graph.constant([0, 1], "other") == first
    assert graph.branch().constant([0, 1], "other") != first  # a branch holds its own
    assert graph.constant([0, 1], "axes", np.float32) != first
    assert graph.constant([[0, 1]], "axes") != first


def test_branches_see_outer_values_and_have_own_weights(graph):
    x = graph.add_input("x", TensorProto.FLOAT, ["n"])
    flag = graph.add_input("flag", TensorProto.BOOL, [])
    branches = {}
    for which, factor in (("then_branch", 2), ("else_branch", 3)):
        branch = graph.branch()
        weight = branch.add_weight(np.float32(factor), "factor")
        branch.add_output(branch.add("Mul", [x, weight], "product"), TensorProto.FLOAT, ["n"])
        branches[which] = branch
    graph.add_output(graph.add("If", [flag], "y", **branches), TensorProto.FLOAT, ["n"])
    model = graph.to_model("example", {"task": "multiply"})
    assert not model.graph.initializer
    branches = [attribute.g for attribute in model.graph.node[0].attribute]
    assert {graph.initializer[0].name for graph in branches} == {"factor", "factor_2"}
    assert model.metadata_props[0].value == "multiply"
    evaluator = ReferenceEvaluator(model)
    ones = np.ones(2, np.float32)
    assert evaluator.run(None, {"x": ones, "flag": np.array(True)})[0].tolist() == [2, 2]
    assert evaluator.run(None, {"x": ones, "flag": np.array(False)})[0].tolist() == [3, 3]


def test_strings_are_stored_as_utf8(graph):
    graph.add_weight(np.array(["Łódź", ""], dtype=object), "cities")
    graph.add_output(graph.add("Identity", ["cities"], "y"), TensorProto.STRING, [2])
    model = graph.to_model("example", {})
    assert onnx.numpy_helper.to_array(model.graph.initializer[0]).tolist() == ["Łódź", ""]


def test_an_invalid_graph_is_refused(graph):
    graph.add_output(graph.add("Relu", ["nowhere"], "y"), TensorProto.FLOAT, ["n"])
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        graph.to_model("example", {})


def make_inner():
    """Ifs, one in the other, that use a weight, an input and an initializer of their own."""
    inner = GraphBuilder()
    x = inner.add_input("x", TensorProto.FLOAT, ["n"])
    weight = inner.add_weight(np.float32(10), "weight")
    flag = inner.add("Cast", [inner.constant(1, "flag")], "is_true", to=TensorProto.BOOL)
    then, other = inner.branch(), inner.branch()
    deep, shallow = then.branch(), then.branch()
    own = deep.add_weight(np.float32(2), "own")
    deep.add_output(deep.add("Mul", [x, own], "product"), TensorProto.FLOAT, ["n"])
    shallow.add_output(shallow.add("Identity", [x], "same"), TensorProto.FLOAT, ["n"])
    value = then.add("If", [flag], "deep", then_branch=deep, else_branch=shallow)
    then.add_output(then.add("Add", [value, weight], "sum"), TensorProto.FLOAT, ["n"])
    other.add_output(other.add("Identity", [x], "same"), TensorProto.FLOAT, ["n"])
    inner.add("If", [flag], "y", then_branch=then, else_branch=other)
    inner.add_output("y", TensorProto.FLOAT, ["n"])
    return inner.to_model("inner", {}).graph


def test_inlined_graphs_keep_branches_and_do_not_collide(graph):
    x = graph.add_input("x", TensorProto.FLOAT, ["n"])
    once = graph.inline(make_inner(), {"x": x}, "first")["y"]
    twice = graph.inline(make_inner(), {"x": once}, "second")["y"]
    heavier = graph.add_weight(np.float32(100), "heavier")
    changed = graph.inline(make_inner(), {"x": x, "weight": heavier}, "third")["y"]
    for value in (twice, changed):
        graph.add_output(value, TensorProto.FLOAT, ["n"])
    model = graph.to_model("example", {})
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    ones = np.ones(2, np.float32)
    for evaluator in (ReferenceEvaluator(model), session):
        results = evaluator.run(None, {"x": ones})
        assert results[0].tolist() == [34, 34]
        assert results[1].tolist() == [102, 102]
    assert {node.name.split("/")[0] for node in model.graph.node} == {"first", "second", "third"}
