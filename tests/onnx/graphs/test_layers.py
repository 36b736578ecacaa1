import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose
from onnx import TensorProto

from skmode import nn as mode
from skmode.nn.activations import ACTIVATIONS
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.layers import emit_activation

WIDTH = 5


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    rows = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)
    graph = GraphBuilder()
    x = graph.add_input("x", TensorProto.FLOAT, ["n", WIDTH])
    module = mode.make_activation(name)
    y = graph.add("Identity", [emit_activation(graph, module, x, "activation")], "y")
    graph.add_output(y, TensorProto.FLOAT, ["n", WIDTH])
    data = graph.to_model("example", {}).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": rows})
    assert_allclose(result, module(torch.as_tensor(rows)).numpy(), rtol=0, atol=1e-6)
