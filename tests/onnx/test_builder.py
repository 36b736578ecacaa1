import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from skmode.onnx._builder import GraphBuilder


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
    assert graph.branch().constant([0, 1], "other") == first
    assert graph.constant([0, 1], "axes", np.float32) != first
    assert graph.constant([[0, 1]], "axes") != first


def test_branches_see_the_values_around_them_and_store_weights_outside(graph):
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
    assert [tensor.name for tensor in model.graph.initializer] == ["factor", "factor_2"]
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
