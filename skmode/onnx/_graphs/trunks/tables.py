"""The trunk: scaling and embeddings of numbers and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from rtdl_num_embeddings import PeriodicEmbeddings, PiecewiseLinearEmbeddings
from torch import Tensor

from skmode.nn import (
    CategoricalEmbeddings,
    PeriodicBiasEmbeddings,
    RobustScaler,
    TabularTrunk,
)
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.layers import to_float32


def emit_trunk(
    graph: GraphBuilder, trunk: TabularTrunk, numbers: str | None, codes: str | None
) -> str:
    """Scale and embed numbers, embed codes."""
    parts: list[str] = []
    if trunk.scaler is not None:
        assert numbers is not None
        scaled, missing = _emit_scaler(graph, trunk.scaler, numbers)
        parts.append(_emit_numeric_embedding(graph, trunk.numeric, scaled))
        parts += [missing] if missing else []
    if trunk.categorical is not None:
        assert codes is not None
        parts.append(_emit_categorical_embedding(graph, trunk.categorical, codes))
    features = graph.concatenate(parts, "trunk")
    scales = graph.add_weight(to_float32(trunk.feature_scales), "trunk/scales")
    return graph.add("Mul", [features, scales], "trunk/scaled")


def _emit_scaler(graph: GraphBuilder, scaler: RobustScaler, numbers: str) -> tuple[str, str | None]:
    center = graph.add_weight(to_float32(scaler.center), "scaler/center")
    scale = graph.add_weight(to_float32(scaler.scale), "scaler/scale")
    zero = graph.constant(0, "scaler/zero", np.float32)
    is_missing = graph.add("IsNaN", [numbers], "scaler/is_missing")
    value = graph.add("Sub", [numbers, center], "scaler/centered")
    value = graph.add("Div", [value, scale], "scaler/scaled")
    bound = np.array([-1e6, 1e6]) * scaler.limit  # as in RobustScaler: squares must not overflow
    clamps = [graph.constant(side, "scaler/bound", np.float32) for side in bound]
    value = graph.add("Clip", [value, *clamps], "scaler/bounded")
    value = graph.add("Where", [is_missing, zero, value], "scaler/filled")
    limit = graph.constant(scaler.limit, "scaler/limit", np.float32)
    square = graph.add("Div", [value, limit], "scaler/share_of_limit")
    square = graph.add("Mul", [square, square], "scaler/square")
    square = graph.add(
        "Add", [square, graph.constant(1, "one", np.float32)], "scaler/square_plus_1"
    )
    root = graph.add("Sqrt", [square], "scaler/root")
    clipped = graph.add("Div", [value, root], "scaler/clipped")
    columns = scaler.missing_columns.cpu().numpy()
    if not len(columns):
        return clipped, None
    indicator = graph.add("Cast", [is_missing], "scaler/indicator", to=TensorProto.FLOAT)
    positions = graph.constant(columns, "scaler/missing_columns")
    return clipped, graph.add("Gather", [indicator, positions], "scaler/missing", axis=1)


def _emit_numeric_embedding(
    graph: GraphBuilder, module: torch.nn.Module | None, scaled: str
) -> str:
    """Embed each number with the weights of its column.

    The values have the shape `(column, ..., n)`: with the rows last, all operators run along them.
    """
    if module is None:
        return scaled
    by_column = graph.add("Transpose", [scaled], "embedding/by_column", perm=[1, 0])
    middle = graph.constant([1], "middle_axis")
    by_column = graph.add("Unsqueeze", [by_column, middle], "embedding/by_column")
    if isinstance(module, PeriodicEmbeddings):
        value = _emit_periodic(graph, module, by_column)
    elif isinstance(module, PeriodicBiasEmbeddings):
        value = _emit_periodic_bias(graph, module, by_column)
    else:
        assert isinstance(module, PiecewiseLinearEmbeddings)
        value = _emit_piecewise_linear(graph, module, by_column)
    value = graph.add("Transpose", [value], "embedding/by_row", perm=[2, 0, 1])
    n_columns, size = module.get_output_shape()
    flat = graph.constant([0, n_columns * size], "embedding/shape")
    return graph.add("Reshape", [value, flat], "embedding/numbers")


def _add_weights(graph: GraphBuilder, weights: dict[str, Tensor | NDArray[Any]]) -> dict[str, str]:
    return {
        key: graph.add_weight(
            to_float32(weight) if isinstance(weight, Tensor) else weight, f"embedding/{key}"
        )
        for key, weight in weights.items()
    }


def _emit_periodic(graph: GraphBuilder, module: PeriodicEmbeddings, by_column: str) -> str:
    linear = module.linear
    names = _add_weights(
        graph,
        {
            "frequency": 2 * torch.pi * module.periodic.weight[..., None],
            "weight": linear.weight.transpose(1, 2),
            "bias": linear.bias[..., None],
        },
    )
    angle = graph.add("Mul", [names["frequency"], by_column], "embedding/angle")
    waves = [graph.add(wave, [angle], f"embedding/{wave.lower()}") for wave in ("Cos", "Sin")]
    value = graph.add("Concat", waves, "embedding/waves", axis=1)
    value = graph.add("MatMul", [names["weight"], value], "embedding/linear")
    value = graph.add("Add", [value, names["bias"]], "embedding/linear")
    return graph.add("Relu", [value], "embedding/relu")


def _emit_periodic_bias(graph: GraphBuilder, module: PeriodicBiasEmbeddings, by_column: str) -> str:
    names = _add_weights(
        graph,
        {
            "frequency": 2 * torch.pi * module.frequency[..., None],
            "phase": module.phase[..., None],
            "weight": module.weight,
            "bias": module.bias[..., None],
        },
    )
    angle = graph.add("Mul", [names["frequency"], by_column], "embedding/angle")
    angle = graph.add("Add", [angle, names["phase"]], "embedding/angle")
    value = graph.add("Cos", [angle], "embedding/cos")
    value = graph.add("MatMul", [names["weight"], value], "embedding/linear")
    value = graph.add("Add", [value, names["bias"]], "embedding/linear")
    return graph.add("Concat", [value, by_column], "embedding/with_number", axis=1)


def _emit_piecewise_linear(
    graph: GraphBuilder, module: PiecewiseLinearEmbeddings, by_column: str
) -> str:
    """Version B of rtdl_num_embeddings: the sum of a linear and a piecewise linear embedding."""
    bins = module.impl
    n_columns, n_bins = bins.weight.shape
    largest = np.finfo(np.float32).max
    lower = np.zeros((n_columns, n_bins, 1), np.float32)
    upper = np.ones((n_columns, n_bins, 1), np.float32)
    # The outer bins are not clamped on their outer side, and a single bin on neither.
    lower[:, 0] = -largest
    upper[:, -1] = largest
    if bins.single_bin_mask is not None:
        lower[bins.single_bin_mask.cpu().numpy(), -1] = -largest
    names = _add_weights(
        graph,
        {
            "bin_weight": bins.weight[..., None],
            "bin_bias": bins.bias[..., None],
            "bin_lower": lower,
            "bin_upper": upper,
            "weight": module.linear.weight.transpose(1, 2),
            "linear_weight": module.linear0.weight[..., None],
            "linear_bias": module.linear0.bias[..., None],
        },
    )
    value = graph.add("Mul", [names["bin_weight"], by_column], "embedding/position")
    value = graph.add("Add", [value, names["bin_bias"]], "embedding/position")
    value = graph.add("Max", [value, names["bin_lower"]], "embedding/clamped")
    value = graph.add("Min", [value, names["bin_upper"]], "embedding/clamped")
    value = graph.add("MatMul", [names["weight"], value], "embedding/bins")
    straight = graph.add("Mul", [names["linear_weight"], by_column], "embedding/linear")
    straight = graph.add("Add", [straight, names["linear_bias"]], "embedding/linear")
    return graph.add("Add", [straight, value], "embedding/sum")


def _emit_categorical_embedding(
    graph: GraphBuilder, module: CategoricalEmbeddings, codes: str
) -> str:
    table = to_float32(module.table)
    table[module.offsets.cpu().numpy()] = 0  # the code of unseen categories
    weight = graph.add_weight(table, "categories/table")
    value = graph.add("Gather", [weight, codes], "categories/vectors", axis=0)
    flat = graph.constant([0, module.out_features], "categories/shape")
    return graph.add("Reshape", [value, flat], "categories/embedding")
