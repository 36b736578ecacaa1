"""Converters of PowerTransformer and PolynomialFeatures, which skl2onnx has in float32 only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import PolynomialFeatures, PowerTransformer

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.numbers import (
    check_numbers,
    emit_error,
    insert_on_numbers,
    numbers_input,
)
from skmode.onnx._skl2onnx.replacements import replace_converter
from skmode.onnx._skl2onnx.steps.functions import constant, emit_function


def replace_powers() -> None:
    """Replace skl2onnx's converters of powers and products."""
    replace_converter("SklearnPowerTransformer", PowerTransformer, _infer_powers, _convert_powers)
    replace_converter(
        "SklearnPolynomialFeatures", PolynomialFeatures, _infer_products, _convert_products
    )


def _infer_powers(operator: Any) -> None:
    check_numbers(operator)
    width = len(operator.raw_operator.lambdas_)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert_powers(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph, powers = GraphBuilder(), np.asarray(model.lambdas_, dtype=np.float64)
    x = numbers_input(graph, len(powers))
    zero = constant(graph, 0)
    if model.method == "box-cox":
        wrong = graph.add("LessOrEqual", [x, zero], "is_not_positive")
        x = emit_error(graph, wrong, x, "not_positive_is_an_error")
        power = graph.constant([powers], "power", np.float64)
        value = _emit_power(graph, graph.add("Log", [x], "log"), power)
    else:
        negative = graph.add("Less", [x, zero], "is_negative")
        log = emit_function(graph, np.log1p, graph.add("Abs", [x], "size"))
        either = [graph.constant([each], "power", np.float64) for each in (2 - powers, powers)]
        power = graph.add("Where", [negative, *either], "power")
        value = _emit_power(graph, log, power)
        minus = graph.add("Neg", [value], "minus")
        value = graph.add("Where", [negative, minus, value], "value")
    if model.standardize:
        scaler = model._scaler
        value = graph.add("Sub", [value, graph.add_weight(scaler.mean_, "mean")], "centered")
        value = graph.add("Div", [value, graph.add_weight(scaler.scale_, "scale")], "scaled")
    insert_on_numbers(scope, operator, container, graph, value)


def _emit_power(graph: GraphBuilder, log: str, power: str) -> str:
    """Compute ``(z**power - 1) / power`` from the logarithm of z."""
    is_log = graph.add("Equal", [power, constant(graph, 0)], "is_log")
    divisor = graph.add("Where", [is_log, constant(graph, 1), power], "divisor")
    above_one = emit_function(graph, np.expm1, graph.add("Mul", [power, log], "exponent"))
    value = graph.add("Div", [above_one, divisor], "value")
    return graph.add("Where", [is_log, log, value], "value")


def _infer_products(operator: Any) -> None:
    check_numbers(operator)
    width = int(operator.raw_operator.n_output_features_)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert_products(scope: Any, operator: Any, container: Any) -> None:
    """Multiply a column for each degree; where a product has fewer, by one."""
    model = operator.raw_operator
    columns = _columns_of_products(model.powers_)
    graph = GraphBuilder()
    x = numbers_input(graph, model.n_features_in_)
    one, value = constant(graph, 1), ""
    for chosen in columns.T:
        column = graph.constant(np.maximum(chosen, 0), "column")
        factor = graph.add("Gather", [x, column], "column", axis=1)
        if (chosen < 0).any():
            used = graph.constant([chosen >= 0], "is_used", np.bool_)
            factor = graph.add("Where", [used, factor, one], "factor")
        value = graph.add("Mul", [value, factor], "product") if value else factor
    insert_on_numbers(scope, operator, container, graph, value)


def _columns_of_products(powers: NDArray[np.int64]) -> NDArray[np.int64]:
    """List the columns of each product, as often as they occur in it, and then -1."""
    degree = max(1, powers.sum(axis=1).max(initial=0))
    found = np.full((len(powers), degree), -1)
    for row, exponents in zip(found, powers, strict=True):
        columns = np.repeat(np.arange(len(exponents)), exponents)
        row[: len(columns)] = columns
    return found
