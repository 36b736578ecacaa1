"""The trunk of images: pixels are normalised, then go through a network."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from skmode.nn import ImageFeatures, ImageNormalization, ImageTrunk
from skmode.nn.activations import ACTIVATIONS
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.modules import convert_module
from skmode.onnx._graphs.layers import emit_activation, emit_conv, emit_halving, to_float32
from skmode_deploy import bundle

IMAGE_INPUT = "image"
# What `make_convolutions` builds.
USUAL: dict[str, object] = {
    "kernel_size": (3, 3),
    "padding": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
    "padding_mode": "zeros",
}
HALVING: dict[str, object] = {
    "kernel_size": 2,
    "stride": 2,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": True,
    "return_indices": False,
}
ELEMENT_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def emit_image_input(graph: GraphBuilder, image: bundle.Image, name: str = IMAGE_INPUT) -> str:
    """Declare the input: images in the type and layout of training."""
    return graph.add_input(name, ELEMENT_TYPES[image.dtype], ["n", *image.shape])


def emit_image_trunk(
    graph: GraphBuilder,
    trunk: ImageTrunk,
    image: bundle.Image,
    pixels: str,
    names: tuple[str, str] = ("image", "trunk"),
) -> str:
    """Compute flat features of images; `names` are those of normalisation and convolutions."""
    value = _emit_normalization(graph, trunk.normalization, image, pixels, names[0])
    value = _emit_body(graph, trunk.body, trunk.image_shape, value, names[1])
    if len(trunk.out_shape) == 1:
        return value
    flat = graph.constant([0, trunk.out_features], f"{names[1]}/shape")
    return graph.add("Reshape", [value, flat], f"{names[1]}/features")


def emit_image_features(
    graph: GraphBuilder, features: ImageFeatures, image: bundle.Image, pixels: str, name: str
) -> str:
    """Compute the few features of a table's column of images."""
    value = emit_image_trunk(graph, features.trunk, image, pixels, (name, name))
    weight = graph.add_weight(to_float32(features.projection.weight), f"{name}/weight")
    bias = graph.add_weight(to_float32(features.projection.bias), f"{name}/bias")
    return graph.add("Gemm", [value, weight, bias], f"{name}/projection", transB=1)


def _emit_normalization(
    graph: GraphBuilder, module: ImageNormalization, image: bundle.Image, pixels: str, name: str
) -> str:
    value = pixels
    if image.dtype == "uint8":
        value = graph.add("Cast", [value], f"{name}/numbers", to=TensorProto.FLOAT)
        largest = graph.constant(255, f"{name}/largest", np.float32)
        value = graph.add("Div", [value, largest], f"{name}/scaled")
    if image.layout == "hw":
        value = graph.add(
            "Unsqueeze", [value, graph.constant([1], f"{name}/axis")], f"{name}/channel"
        )
    elif image.layout == "hwc":
        value = graph.add("Transpose", [value], f"{name}/channels_first", perm=[0, 3, 1, 2])
    mean = graph.add_weight(to_float32(module.mean), f"{name}/mean")
    scale = graph.add_weight(to_float32(module.scale), f"{name}/standard_deviation")
    value = graph.add("Sub", [value, mean], f"{name}/centered")
    return graph.add("Div", [value, scale], f"{name}/normalized")


def _emit_body(
    graph: GraphBuilder, body: nn.Module, image_shape: tuple[int, ...], value: str, name: str
) -> str:
    """Emit convolutions, or let torch convert a network of the user."""
    layers = _plain_layers(body)
    if layers is None:
        converted = convert_module(body, image_shape)
        inlined = graph.inline(converted, {converted.input[0].name: value}, name)
        return inlined[converted.output[0].name]
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            following = layers[i + 1] if i + 1 < len(layers) else None
            weight, bias = _fold(layer, following if _is_norm(following) else None)
            value = emit_conv(graph, value, weight, bias, _step(layer), f"{name}/layer_{i}")
        elif isinstance(layer, nn.MaxPool2d):
            value = emit_halving(graph, value, f"{name}/halved_{i}")
        elif not _is_norm(layer):
            value = emit_activation(graph, layer, value, f"{name}/activation_{i}")
    return value


def _is_norm(layer: nn.Module | None) -> bool:
    return type(layer) is nn.BatchNorm2d


def _plain_layers(body: nn.Module) -> list[nn.Module] | None:
    """The layers of a network that `make_convolutions` could have built, None for others."""
    if type(body) is not nn.Sequential or _has_hooks(body):
        return None
    # Not `children`, which leaves out repetitions of a layer, such as a shared activation.
    layers = list(body)
    before = [None, *layers]
    is_plain = bool(layers) and all(map(_is_plain, layers, before))
    return layers if is_plain else None


def _is_plain(layer: nn.Module, before: nn.Module | None) -> bool:
    """Whether `_emit_body` can emit a layer."""
    if type(layer) is nn.Conv2d:
        known = _is_usual(layer)
    elif type(layer) is nn.MaxPool2d:
        known = _has(layer, HALVING)
    elif _is_norm(layer):
        # It can only be folded into the convolution before it, and only with numbers of training.
        known = type(before) is nn.Conv2d and getattr(layer, "running_var", None) is not None
    else:  # of which GELU may be an approximation, which ours is not
        is_exact = getattr(layer, "approximate", "none") == "none"
        known = type(layer) in ACTIVATIONS.values() and is_exact
    return known and not _has_hooks(layer)


def _has_hooks(module: nn.Module) -> bool:
    """Whether calls of a module do more than its `forward`."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_usual(layer: nn.Conv2d) -> bool:
    # Trunks of older releases have steps of two pixels, and no maximum.
    return _step(layer) in (1, 2) and _has(layer, USUAL | {"stride": (_step(layer),) * 2})


def _step(layer: nn.Conv2d) -> int:
    return layer.stride[0]


def _has(layer: nn.Module, values: dict[str, object]) -> bool:
    return all(getattr(layer, name) == value for name, value in values.items())


def _fold(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a convolution, with the normalisation behind it as in prediction."""
    weight = conv.weight.detach().double().cpu()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double().cpu()
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_var is not None
        assert norm.running_mean is not None
        factor = (norm.running_var.double().cpu() + norm.eps).rsqrt()
        if norm.affine:
            factor = factor * norm.weight.detach().double().cpu()
        bias = (bias - norm.running_mean.double().cpu()) * factor
        if norm.affine:
            bias = bias + norm.bias.detach().double().cpu()
        weight = weight * factor.view(-1, 1, 1, 1)
    return to_float32(weight), to_float32(bias)
