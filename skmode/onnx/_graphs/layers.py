"""Linear layers and activations as ONNX nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skmode.onnx._graphs.builder import GraphBuilder


def to_float32(tensor: Tensor) -> NDArray[np.float32]:
    """Convert weights to float32, which all graphs store, whatever the module's precision."""
    return tensor.detach().cpu().numpy().astype(np.float32)


def emit_linear(graph: GraphBuilder, linear: nn.Linear, value: str, name: str) -> str:
    """Apply a linear layer."""
    weight = graph.add_weight(to_float32(linear.weight).T, f"{name}/weight")
    bias = graph.add_weight(to_float32(linear.bias), f"{name}/bias")
    return graph.add("Gemm", [value, weight, bias], name)


def emit_conv(
    graph: GraphBuilder,
    value: str,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    stride: int,
    name: str,
) -> str:
    """Apply a convolution that keeps the size of its input, or divides it by the stride."""
    names = [graph.add_weight(weight, f"{name}/weight"), graph.add_weight(bias, f"{name}/bias")]
    before, after = ((size - 1) // 2 for size in weight.shape[2:])
    return graph.add(
        "Conv",
        [value, *names],
        name,
        kernel_shape=list(weight.shape[2:]),
        pads=[before, after, before, after],
        strides=[stride, stride],
    )


def emit_halving(graph: GraphBuilder, value: str, name: str) -> str:
    """Take the maximum of 2 x 2 pixels, at the edges of those that are there."""
    return graph.add("MaxPool", [value], name, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)


def emit_activation(graph: GraphBuilder, module: nn.Module, value: str, name: str) -> str:
    """Apply an activation of :func:`skmode.nn.make_activation`."""
    simple = {nn.ReLU: "Relu", nn.Tanh: "Tanh", nn.Sigmoid: "Sigmoid"}
    if isinstance(module, nn.Identity):
        return value
    if isinstance(module, nn.SiLU):
        factor = graph.add("Sigmoid", [value], f"{name}/sigmoid")
        return graph.add("Mul", [value, factor], name)
    if isinstance(module, nn.GELU):
        root = graph.constant(2**0.5, "square_root_of_2", np.float32)
        factor = graph.add("Div", [value, root], f"{name}/scaled")
        factor = graph.add("Erf", [factor], f"{name}/erf")
        factor = graph.add("Add", [factor, graph.constant(1, "one", np.float32)], f"{name}/plus_1")
        factor = graph.add("Mul", [value, factor], f"{name}/product")
        return graph.add("Mul", [factor, graph.constant(0.5, "half", np.float32)], name)
    return graph.add(simple[type(module)], [value], name)
