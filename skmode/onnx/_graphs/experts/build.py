"""Expert networks as small graphs, to be inlined into other graphs."""

from __future__ import annotations

import onnx
from onnx import TensorProto
from torch import nn

from skmode.nn import MLPExperts, ModuleExperts, StackedLinear
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.modules import convert_module
from skmode.onnx._graphs.layers import emit_activation, to_float32

INPUT, OUTPUT = "hidden", "representation"


def build_experts(module: nn.Module, in_features: int) -> list[onnx.GraphProto]:
    """Build one graph per expert."""
    if isinstance(module, MLPExperts):
        return [_build_mlp(module, i, in_features) for i in range(module.n_experts)]
    if isinstance(module, ModuleExperts):
        return [convert_module(module.expert(i), in_features) for i in range(module.n_experts)]
    raise TypeError(
        f"Experts must be MLPExperts or ModuleExperts to be exported, got {type(module).__name__}: "
        "wrap the modules of the experts in ModuleExperts."
    )


def _build_mlp(module: MLPExperts, expert: int, in_features: int) -> onnx.GraphProto:
    graph = GraphBuilder()
    value = graph.add_input(INPUT, TensorProto.FLOAT, ["n", in_features])
    for i, layer in enumerate(module.layers):
        assert isinstance(layer, StackedLinear)
        weight = graph.add_weight(to_float32(layer.weight[expert]), f"layer_{i}/weight")
        bias = graph.add_weight(to_float32(layer.bias[expert]), f"layer_{i}/bias")
        value = graph.add("Gemm", [value, weight, bias], f"layer_{i}")
        value = emit_activation(graph, module.activation, value, f"activation_{i}")
    graph.add("Identity", [value], OUTPUT)
    graph.add_output(OUTPUT, TensorProto.FLOAT, ["n", module.width])
    return graph.to_model("expert", {}).graph
