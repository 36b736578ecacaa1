"""Converter of SplineTransformer: on each interval between knots, the splines are polynomials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.preprocessing import SplineTransformer

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.numbers import (
    check_numbers,
    emit_error,
    insert_on_numbers,
    numbers_input,
)
from skmode.onnx._skl2onnx.replacements import add_converter


def add_splines() -> None:
    """Add a converter of SplineTransformer."""
    add_converter(SplineTransformer, _infer, _convert)


def _infer(operator: Any) -> None:
    check_numbers(operator)
    model = operator.raw_operator
    if model.extrapolation == "linear" and model.degree < 2 and model.n_features_in_ > 1:
        raise NotImplementedError(
            "SplineTransformer with extrapolation='linear' needs degree 2 or more to be converted, "
            f"got degree={model.degree} for {model.n_features_in_} features, of which scikit-learn "
            "extrapolates all but the first from other knots: use one transformer per feature, or "
            "a higher degree."
        )
    shape = [operator.inputs[0].get_first_dimension(), model.n_features_out_]
    set_number_type(operator.outputs[0], shape)


def _knots(model: Any) -> NDArray[np.float64]:
    """Get the knots of each feature, from the first to the last that data may lie between."""
    rows = [one.t[one.k : len(one.t) - one.k] for one in model.bsplines_]
    return np.stack(rows)


def _coefficients(model: Any, knots: NDArray[np.float64], power: int) -> NDArray[np.float64]:
    """Get the coefficients of one power of the distance from the start of each interval."""
    rows = [
        spline(starts[:-1], nu=power) / math.factorial(power)
        for spline, starts in zip(model.bsplines_, knots, strict=True)
    ]
    return np.concatenate(rows)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    knots, degree = _knots(model), model.degree
    graph = GraphBuilder()
    x = numbers_input(graph, model.n_features_in_)
    inside, missing = _emit_inside(graph, model, knots, x)
    interval = _emit_interval(graph, knots, inside)
    starts = graph.add_weight(knots[:, :-1].ravel(), "starts")
    start = graph.add("Gather", [starts, interval], "start")
    last_axis = graph.constant([2], "last_axis")
    step = graph.add("Sub", [inside, start], "step")
    step = graph.add("Unsqueeze", [step, last_axis], "step")
    tables = [
        graph.add(
            "Gather", [graph.add_weight(_coefficients(model, knots, i), "table"), interval], "c"
        )
        for i in range(degree + 1)
    ]
    value = _emit_horner(graph, tables, step)
    if model.extrapolation == "linear" and degree:
        slopes = [
            graph.add("Mul", [table, graph.constant(i + 1, "power", np.float64)], "slope")
            for i, table in enumerate(tables[1:])
        ]
        beyond = graph.add(
            "Unsqueeze", [graph.add("Sub", [x, inside], "beyond"), last_axis], "beyond"
        )
        rise = graph.add("Mul", [_emit_horner(graph, slopes, step), beyond], "rise")
        value = graph.add("Add", [value, rise], "linear")
    zeros = graph.add("Unsqueeze", [missing, last_axis], "zeros")
    zero = graph.constant(0, "zero", np.float64)
    value = graph.add("Where", [zeros, zero, value], "splines")
    insert_on_numbers(scope, operator, container, graph, _emit_output(graph, model, value))


def _emit_inside(
    graph: GraphBuilder, model: Any, knots: NDArray[np.float64], x: str
) -> tuple[str, str]:
    """Move values between the first and the last knot, and find the missing ones."""
    low, high = (graph.constant(knots[:, [end]].T, "bound", np.float64) for end in (0, -1))
    missing = graph.add("IsNaN", [x], "is_missing")
    below = graph.add("Less", [x, low], "is_below")
    above = graph.add("Greater", [x, high], "is_above")
    known = graph.add("Where", [missing, low, x], "known")
    if getattr(model, "handle_missing", "error") == "error":
        known = emit_error(graph, missing, known, "missing_is_an_error")
    # scikit-learn raises an error of its own for steps that are to be constant outside.
    if model.extrapolation == "error" or (model.extrapolation == "constant" and not model.degree):
        outside = graph.add("Or", [below, above], "is_outside")
        return emit_error(graph, outside, known, "beyond_the_knots_is_an_error"), missing
    if model.extrapolation == "continue":
        return known, missing
    if model.extrapolation == "periodic":
        period = graph.constant((knots[:, [-1]] - knots[:, [0]]).T, "period", np.float64)
        offset = graph.add("Sub", [known, low], "offset")
        turns = graph.add("Floor", [graph.add("Div", [offset, period], "turns")], "turns")
        full = graph.add("Mul", [turns, period], "full")
        return graph.add("Sub", [known, full], "inside"), missing
    value = graph.add("Where", [below, low, known], "inside")
    return graph.add("Where", [above, high, value], "inside"), missing


def _emit_interval(graph: GraphBuilder, knots: NDArray[np.float64], x: str) -> str:
    """Find the interval of each value, as a row of the tables of all features."""
    n_features, n_intervals = len(knots), knots.shape[1] - 1
    inner = knots[None, :, 1:-1] if n_intervals > 1 else np.full((1, n_features, 1), np.inf)
    column = graph.add("Unsqueeze", [x, graph.constant([2], "last_axis")], "column")
    passed = graph.add("GreaterOrEqual", [column, graph.add_weight(inner, "inner")], "passed")
    passed = graph.add("Cast", [passed], "passed", to=TensorProto.INT64)
    count = graph.add(
        "ReduceSum", [passed, graph.constant([2], "last_axis")], "interval", keepdims=0
    )
    offsets = graph.constant([np.arange(n_features) * n_intervals], "offsets")
    return graph.add("Add", [count, offsets], "interval")


def _emit_horner(graph: GraphBuilder, coefficients: list[str], step: str) -> str:
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = graph.add("Add", [graph.add("Mul", [value, step], "term"), coefficient], "sum")
    return value


def _emit_output(graph: GraphBuilder, model: Any, value: str) -> str:
    """Put the splines of all features side by side, without the last ones if a bias is excluded."""
    n_splines = model.bsplines_[0].c.shape[1]
    if not model.include_bias:
        kept = graph.constant(np.arange(n_splines - 1), "kept")
        value = graph.add("Gather", [value, kept], "kept", axis=2)
    shape = graph.constant([0, model.n_features_out_], "shape")
    return graph.add("Reshape", [value, shape], "splines")
