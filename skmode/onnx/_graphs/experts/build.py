"""Expert networks as small graphs, to be inlined into other graphs."""

from __future__ import annotations

import onnx
from onnx import TensorProto
from torch import nn

from skmode.nn import ConvExperts, MLPExperts, ModuleExperts, StackedLinear
from skmode.nn.experts.images import StackedConv
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.modules import convert_module
from skmode.onnx._graphs.layers import emit_activation, emit_conv, to_float32

INPUT, OUTPUT = "hidden", "representation"


def build_experts(module: nn.Module, in_features: int) -> list[onnx.GraphProto]:
    """Build one graph per expert."""
    if isinstance(module, MLPExperts):
        return [_build_mlp(module, i, in_features) for i in range(module.n_experts)]
    if isinstance(module, ModuleExperts):
        return [convert_module(module.expert(i), (in_features,)) for i in range(module.n_experts)]
    if isinstance(module, ConvExperts):
        return [_build_conv(module, i, in_features) for i in range(module.n_experts)]
    raise TypeError(
        "Experts must be MLPExperts, ConvExperts or ModuleExperts to be exported, got "
        f"{type(module).__name__}: wrap the modules of the experts in ModuleExperts."
    )


def _build_mlp(module: MLPExperts, expert: int, in_features: int) -> onnx.GraphProto:
    graph = GraphBuilder()
    value = graph.add_input(INPUT, TensorProto.FLOAT, ["n", in_features])
    return _finish(graph, module, expert, value)


def _build_conv(module: ConvExperts, expert: int, in_features: int) -> onnx.GraphProto:
    graph = GraphBuilder()
    value = graph.add_input(INPUT, TensorProto.FLOAT, ["n", in_features])
    maps = graph.constant([0, *module.in_shape], "maps/shape")
    value = graph.add("Reshape", [value, maps], "maps")
    for i, layer in enumerate(module.convolutions):
        assert isinstance(layer, StackedConv)
        weight, bias = map(to_float32, layer.folded(expert))
        value = emit_conv(graph, value, weight, bias, layer.stride, f"convolution_{i}")
        value = emit_activation(graph, module.activation, value, f"convolution_{i}/activation")
    first = module.perceptrons.layers[0]
    assert isinstance(first, StackedLinear)
    flat = graph.constant([0, first.weight.shape[1]], "flat/shape")
    value = graph.add("Reshape", [value, flat], "flat")
    return _finish(graph, module.perceptrons, expert, value)


def _finish(graph: GraphBuilder, module: MLPExperts, expert: int, value: str) -> onnx.GraphProto:
    for i, layer in enumerate(module.layers):
        assert isinstance(layer, StackedLinear)
        weight = graph.add_weight(to_float32(layer.weight[expert]), f"layer_{i}/weight")
        bias = graph.add_weight(to_float32(layer.bias[expert]), f"layer_{i}/bias")
        value = graph.add("Gemm", [value, weight, bias], f"layer_{i}")
        if not (module.linear_output and i == len(module.layers) - 1):
            value = emit_activation(graph, module.activation, value, f"activation_{i}")
    graph.add("Identity", [value], OUTPUT)
    graph.add_output(OUTPUT, TensorProto.FLOAT, ["n", module.width])
    return graph.to_model("expert", {}).graph
