"""numpy's functions of one number as operators, and the converter of FunctionTransformer.

Only operators that onnxruntime 1.20 has in float64 are used: a cosine is a shifted sine, because
``Cos`` exists in float32 alone there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from scipy.special import expit, logit
from sklearn.preprocessing import FunctionTransformer

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.numbers import check_numbers, insert_on_numbers, numbers_input
from skmode.onnx._skl2onnx.replacements import (
    original_converter,
    original_shapes,
    replace_converter,
)

Emit = Callable[[GraphBuilder, str], str]


def _operator(name: str) -> Emit:
    return lambda graph, x: graph.add(name, [x], name.lower())


def constant(graph: GraphBuilder, value: float) -> str:
    """Add a float64 number."""
    return graph.constant(value, "number", np.float64)


def _binary(name: str, value: float) -> Emit:
    """Apply an operator to the number and to a constant."""
    return lambda graph, x: graph.add(name, [x, constant(graph, value)], name.lower())


def _chain(*steps: Emit) -> Emit:
    def emit(graph: GraphBuilder, x: str) -> str:
        for step in steps:
            x = step(graph, x)
        return x

    return emit


def _join(name: str, left: Emit, right: Emit) -> Emit:
    """Apply an operator to two functions of the number."""
    return lambda graph, x: graph.add(name, [left(graph, x), right(graph, x)], name.lower())


def _as_double(name: str) -> Emit:
    """Apply an operator that returns true or false."""
    return lambda graph, x: graph.add(
        "Cast", [graph.add(name, [x], name.lower())], name.lower(), to=TensorProto.DOUBLE
    )


def _odd(emit: Emit) -> Emit:
    """Extend a function of positive numbers to negative ones, by ``f(-x) = -f(x)``."""
    return _join("Mul", _operator("Sign"), _chain(_operator("Abs"), emit))


def _log1p(graph: GraphBuilder, x: str) -> str:
    """Compute ``log(1 + x)`` so that small numbers keep their digits (Kahan)."""
    above = graph.add("Add", [x, constant(graph, 1)], "above_one")
    kept = graph.add("Sub", [above, constant(graph, 1)], "kept")
    slope = graph.add("Div", [graph.add("Log", [above], "log"), kept], "slope")
    value = graph.add("Mul", [x, slope], "log1p")
    return graph.add("Where", [_is_zero(graph, kept), x, value], "log1p")


def _expm1(graph: GraphBuilder, x: str) -> str:
    """Compute ``exp(x) - 1`` so that small numbers keep their digits (Kahan)."""
    power = graph.add("Exp", [x], "exp")
    plain = graph.add("Sub", [power, constant(graph, 1)], "expm1")
    slope = graph.add("Div", [x, graph.add("Log", [power], "log")], "slope")
    value = graph.add("Mul", [plain, slope], "expm1")
    value = graph.add("Where", [_is_zero(graph, plain), x, value], "expm1")
    is_large = graph.add("Greater", [graph.add("Abs", [x], "size"), constant(graph, 1)], "is_large")
    return graph.add("Where", [is_large, plain, value], "expm1")


def _is_zero(graph: GraphBuilder, x: str) -> str:
    return graph.add("Equal", [x, constant(graph, 0)], "is_zero")


_identity = _operator("Identity")
_exp, _log, _sqrt, _sin = map(_operator, ("Exp", "Log", "Sqrt", "Sin"))
_square = _join("Mul", _identity, _identity)
_minus = _operator("Neg")
_cos = _chain(_binary("Add", np.pi / 2), _sin)
_half = _binary("Mul", 0.5)
_truncated = _odd(_operator("Floor"))
_FUNCTIONS: dict[Callable[..., Any], Emit] = {
    expit: _operator("Sigmoid"),
    logit: _chain(_join("Div", _identity, _chain(_minus, _binary("Add", 1))), _log),
    np.abs: _operator("Abs"),
    np.arccosh: _chain(_join("Add", _identity, _chain(_square, _binary("Sub", 1), _sqrt)), _log),
    np.arcsinh: _odd(
        _chain(_join("Add", _identity, _chain(_square, _binary("Add", 1), _sqrt)), _log)
    ),
    np.arctanh: _chain(
        _join("Div", _binary("Add", 1), _chain(_minus, _binary("Add", 1))), _log, _half
    ),
    np.cbrt: _odd(_binary("Pow", 1 / 3)),
    np.ceil: _operator("Ceil"),
    np.cos: _cos,
    np.cosh: _chain(_join("Add", _exp, _chain(_minus, _exp)), _half),
    np.deg2rad: _binary("Mul", np.pi / 180),
    np.exp: _exp,
    np.exp2: _chain(_binary("Mul", np.log(2)), _exp),
    np.expm1: _expm1,
    np.fabs: _operator("Abs"),
    np.floor: _operator("Floor"),
    np.isnan: _as_double("IsNaN"),
    np.log: _log,
    np.log10: _chain(_log, _binary("Div", np.log(10))),
    np.log1p: _log1p,
    np.log2: _chain(_log, _binary("Div", np.log(2))),
    np.negative: _minus,
    np.positive: _identity,
    np.rad2deg: _binary("Mul", 180 / np.pi),
    np.reciprocal: _operator("Reciprocal"),
    np.rint: _operator("Round"),
    np.sign: _operator("Sign"),
    np.sin: _sin,
    np.sinh: _chain(_join("Sub", _exp, _chain(_minus, _exp)), _half),
    np.sqrt: _sqrt,
    np.square: _square,
    np.tan: _join("Div", _sin, _cos),
    np.tanh: _operator("Tanh"),
    np.trunc: _truncated,
}
# Other names of the same function, under which it may be a different object.
_FUNCTIONS |= {np.degrees: _FUNCTIONS[np.rad2deg], np.radians: _FUNCTIONS[np.deg2rad]}


def emit_function(graph: GraphBuilder, function: Any, value: str) -> str:
    """Apply a function of numpy to a float64 value, or raise if it has no operators."""
    return find_function(function)(graph, value)


def has_operators(function: Any, arguments: Any = None) -> bool:
    """Whether a function can be converted."""
    try:
        find_function(function, arguments)
    except NotImplementedError:
        return False
    return True


def find_function(function: Any, arguments: Any = None) -> Emit:
    """Find the operators of a function, None for the identity, or raise if it has none."""
    if function is None:
        return _identity
    try:
        known = _FUNCTIONS.get(function)
    except TypeError:  # not hashable
        known = None
    if known is None or arguments:
        name = getattr(function, "__name__", None) or repr(function)
        names = ", ".join(sorted({one.__name__ for one in _FUNCTIONS}))
        raise NotImplementedError(
            "A function must be a known one of numpy or scipy, without further arguments, to be "
            f"converted, got {name!r}: use one of {names}, or move the work out of the model."
        )
    return known


def replace_functions() -> None:
    """Replace skl2onnx's converter of FunctionTransformer, which knows only the identity."""
    replace_converter("SklearnFunctionTransformer", FunctionTransformer, _infer, _convert)


def _infer(operator: Any) -> None:
    model = operator.raw_operator
    if model.func is None:
        original_shapes(operator.type)(operator)
        return
    find_function(model.func, model.kw_args)
    check_numbers(operator)
    widths = [variable.get_second_dimension() for variable in operator.inputs]
    width = None if None in widths else sum(widths)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    if model.func is None:
        original_converter(operator.type)(scope, operator, container)
        return
    graph = GraphBuilder()
    value = emit_function(graph, model.func, numbers_input(graph, None))
    insert_on_numbers(scope, operator, container, graph, value)
