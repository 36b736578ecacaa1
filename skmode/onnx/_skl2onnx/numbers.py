"""Numeric inputs of converters: their types, and graphs that compute in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int8TensorType,
    Int16TensorType,
    Int32TensorType,
    Int64TensorType,
    UInt8TensorType,
    UInt16TensorType,
    UInt32TensorType,
    UInt64TensorType,
)

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import connect_output, insert_model, join_columns

NUMBERS = (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int8TensorType,
    Int16TensorType,
    Int32TensorType,
    Int64TensorType,
    UInt8TensorType,
    UInt16TensorType,
    UInt32TensorType,
    UInt64TensorType,
)


def check_numbers(operator: Any) -> None:
    """Raise if an input is not numeric."""
    name = type(operator.raw_operator).__name__
    for variable in operator.inputs:
        if not isinstance(variable.type, NUMBERS):
            raise TypeError(
                f"{name} must get numbers, got {type(variable.type).__name__} from "
                f"{variable.raw_name!r}: pass skl2onnx the types of the training table."
            )


def is_float32(variable: Any) -> bool:
    """Whether a variable comes, at least in part, from a float32 input."""
    return any(isinstance(source.type, FloatTensorType) for source in _sources(variable))


def is_all_float32(variable: Any) -> bool:
    """Whether all of a variable comes from float32 inputs."""
    return all(isinstance(source.type, FloatTensorType) for source in _sources(variable))


def _sources(variable: Any) -> Iterator[Any]:
    """Yield what a variable was before it was cast, joined or taken apart."""
    moves = ("SklearnCast", "SklearnConcat", "SklearnIdentity", "SklearnArrayFeatureExtractor")
    before = [step for step in variable.operators_outputs_ if step.type in moves]
    if not before:
        yield variable
    for step in before:
        for source in step.inputs:
            yield from _sources(source)


def split_at_float32(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose for each edge the first float32 that counts as at or above it.

    A float32 may stand for numbers on both sides of an edge. It counts as the shortest decimal that
    rounds to it, as data have few digits: 0.3 at an edge of 0.3 is above, whatever float32 makes
    of it. An edge that is a float32 itself, as after training on float32, needs no choice.
    """
    nearest = edges.astype(np.float32)
    shortest = np.array([float(str(edge)) for edge in nearest])
    below = (shortest < edges) & (nearest.astype(np.float64) != edges)
    return np.where(below, np.nextafter(nearest, np.float32(np.inf)), nearest).astype(np.float64)


def declare_step(scope: Any, alias: str, inputs: list[Any], kind: Any) -> Any:
    """Declare one of skl2onnx's own operators while a model is parsed, and get its output."""
    operator = scope.declare_local_operator(alias)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable(inputs[0].raw_name, kind))
    return operator.outputs[0]


def to_double(scope: Any, variable: Any) -> Any:
    """Cast a variable to float64, unless it has strings."""
    if not isinstance(variable.type, NUMBERS) or isinstance(variable.type, DoubleTensorType):
        return variable
    kind = DoubleTensorType(list(variable.type.shape))
    return declare_step(scope, "SklearnCast", [variable], kind)


def join_variables(scope: Any, variables: list[Any]) -> Any:
    """Put variables of one type side by side."""
    if len(variables) == 1:
        return variables[0]
    kind = type(variables[0].type)
    return declare_step(scope, "SklearnConcat", variables, kind([None, None]))


def numbers_input(graph: GraphBuilder, width: int | None) -> str:
    """Declare the float64 input of a graph for :func:`insert_on_numbers`."""
    return graph.add_input("X", TensorProto.DOUBLE, ["n", width])


def emit_error(graph: GraphBuilder, wrong: str, value: str, name: str) -> str:
    """Make the runtime raise where scikit-learn does: an index past the end of one entry."""
    index = graph.add("Cast", [wrong], "index", to=TensorProto.INT64)
    zero = graph.add("Gather", [graph.constant([0.0], name, np.float64), index], "check")
    return graph.add("Add", [value, zero], "checked")


def insert_on_numbers(
    scope: Any, operator: Any, container: Any, graph: GraphBuilder, value: str
) -> None:
    """Insert a graph that reads all inputs of an operator in float64 and sets its one output."""
    name = type(operator.raw_operator).__name__
    output = graph.add("Identity", [value], "output")
    graph.add_output(output, TensorProto.DOUBLE, ["n", None])
    numbers = join_columns(scope, container, operator.inputs, TensorProto.DOUBLE)
    results = insert_model(scope, container, graph.to_model(name, {}), {"X": numbers}, name)
    connect_output(container, results[output], operator.outputs[0])
