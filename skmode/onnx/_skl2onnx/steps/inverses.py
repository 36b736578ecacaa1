"""The inverse of a transformer of the target, as operators in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skmode._common.sklearn import power_scaler
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.steps.functions import constant, emit_function, find_function
from skmode.onnx._skl2onnx.steps.quantiles import emit_inverse_quantiles


def check_inverse(transformer: Any) -> None:
    """Raise if a transformer's inverse has no operators."""
    emit_inverse(GraphBuilder(), transformer, "y")


def emit_inverse(graph: GraphBuilder, transformer: Any, value: str) -> str:
    """Undo a transformer on values of shape (n_rows, n_outputs)."""
    if isinstance(transformer, Pipeline):
        for _, step in reversed(transformer.steps):
            if step is not None and step != "passthrough":
                value = emit_inverse(graph, step, value)
        return value
    emit = _INVERSES.get(type(transformer))
    if emit is None:
        names = ", ".join(sorted(kind.__name__ for kind in _INVERSES))
        raise NotImplementedError(
            "A TransformedTargetRegressor needs a transformer whose inverse can be converted, got "
            f"{type(transformer).__name__}: use a Pipeline of, or one of {names}."
        )
    return emit(graph, transformer, value)


def _emit_function(graph: GraphBuilder, transformer: Any, value: str) -> str:
    find_function(transformer.inverse_func, transformer.inv_kw_args)
    return emit_function(graph, transformer.inverse_func, value)


def _emit_scaling(graph: GraphBuilder, value: str, scale: Any, offset: Any) -> str:
    for operator, numbers in (("Mul", scale), ("Add", offset)):
        if numbers is not None:
            row = graph.add_weight(np.asarray(numbers, dtype=np.float64).reshape(1, -1), "row")
            value = graph.add(operator, [value, row], "scaled")
    return value


def _emit_standard(graph: GraphBuilder, model: Any, value: str) -> str:
    mean = model.mean_ if model.with_mean else None
    return _emit_scaling(graph, value, model.scale_, mean)


def _emit_robust(graph: GraphBuilder, model: Any, value: str) -> str:
    return _emit_scaling(graph, value, model.scale_, model.center_)


def _emit_max_abs(graph: GraphBuilder, model: Any, value: str) -> str:
    return _emit_scaling(graph, value, model.scale_, None)


def _emit_min_max(graph: GraphBuilder, model: Any, value: str) -> str:
    return _emit_scaling(graph, value, 1 / model.scale_, -model.min_ / model.scale_)


def _emit_power(graph: GraphBuilder, model: Any, value: str) -> str:
    """Undo each column by the branch of its exponent."""
    if model.standardize:
        value = _emit_standard(graph, power_scaler(model), value)
    emit = _emit_box_cox if model.method == "box-cox" else _emit_yeo_johnson
    columns = []
    for i, exponent in enumerate(model.lambdas_):
        column = graph.add("Gather", [value, graph.constant([i], "column")], "column", axis=1)
        columns.append(emit(graph, float(exponent), column))
    return graph.concatenate(columns, "powers")


def _emit_box_cox(graph: GraphBuilder, exponent: float, x: str) -> str:
    if exponent == 0:
        return graph.add("Exp", [x], "exp")
    return _emit_root(graph, x, exponent)


def _emit_yeo_johnson(graph: GraphBuilder, exponent: float, x: str) -> str:
    one = constant(graph, 1)
    magnitude = graph.add("Abs", [x], "magnitude")
    sides = [
        graph.add("Sub", [_emit_box_cox(graph, side, magnitude), one], "power")
        for side in (exponent, 2 - exponent)
    ]
    negative = graph.add("Less", [x, constant(graph, 0)], "is_negative")
    return graph.add("Where", [negative, graph.add("Neg", [sides[1]], "power"), sides[0]], "power")


def _emit_root(graph: GraphBuilder, x: str, exponent: float) -> str:
    scaled = graph.add("Mul", [x, constant(graph, exponent)], "scaled")
    base = graph.add("Add", [scaled, constant(graph, 1)], "base")
    return graph.add("Pow", [base, constant(graph, 1 / exponent)], "root")


_INVERSES: dict[type, Callable[[GraphBuilder, Any, str], str]] = {
    FunctionTransformer: _emit_function,
    MaxAbsScaler: _emit_max_abs,
    MinMaxScaler: _emit_min_max,
    PowerTransformer: _emit_power,
    QuantileTransformer: emit_inverse_quantiles,
    RobustScaler: _emit_robust,
    StandardScaler: _emit_standard,
}
