"""Insert our graphs into skl2onnx's container, which collects the nodes of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from skmode.onnx._graphs.builder import OPSET


def main_opset(target: Any) -> int:
    """Get the opset of ``ai.onnx``; 1000 stands for the newest, if none is asked for."""
    if isinstance(target, dict):
        target = target.get("")
    return int(target) if target else 1000


def check_opset(container: Any, name: str) -> None:
    """Raise if the opset of a model lacks operators of our graphs."""
    check_target_opset(container.target_opset_all, name)


def check_target_opset(target: Any, name: str) -> None:
    """Raise if a target opset lacks operators of our graphs."""
    opset = main_opset(target)
    if opset < OPSET:
        raise ValueError(
            f"{name} needs opset {OPSET} or above, got target_opset={opset}: pass "
            f"target_opset={OPSET}."
        )


def insert_model(
    scope: Any, container: Any, model: onnx.ModelProto, values: Mapping[str, str], name: str
) -> dict[str, str]:
    """Add the nodes and weights of a model under a prefix that no other name has."""
    prefix = scope.get_unique_operator_name(name)
    while any(value.startswith(f"{prefix}/") for value in scope.onnx_variable_names):
        prefix = scope.get_unique_operator_name(name)
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    _add_prefix(graph, f"{prefix}/")
    # Through Identity nodes: skl2onnx may rename outside values, but not inside branches.
    nodes = [
        helper.make_node("Identity", [value], [f"{prefix}/{key}"], name=f"{prefix}/{key}/input")
        for key, value in values.items()
    ]
    for node in graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            nodes += _delay(node, [*nodes, *graph.node])
        nodes.append(node)
    for node in nodes:
        _append(container, node)
    container.initializers.extend(graph.initializer)
    for opset in model.opset_import:
        container.node_domain_version_pair_sets.add((opset.domain, opset.version))
    return {output.name: f"{prefix}/{output.name}" for output in model.graph.output}


def _append(container: Any, node: onnx.NodeProto) -> None:
    """Add a node, unless `black_op` or `white_op` of skl2onnx forbids it."""
    for operator in _operators(node):
        container.check_white_black_list(operator)
    container.nodes.append(node)


def _operators(node: onnx.NodeProto) -> set[str]:
    """Operators of a node and of its branches."""
    names = {node.op_type}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names = names.union(*map(_operators, attribute.g.node))
    return names


def keep_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Remove all other outputs of a model, and the nodes and weights that only they need."""
    graph, wanted = model.graph, set(names)
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input, _captured(node))
            nodes.insert(0, node)
    outputs = [output for output in graph.output if output.name in names]
    weights = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.output[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.output.extend(outputs)
    graph.initializer.extend(weights)


def _add_prefix(graph: onnx.GraphProto, prefix: str) -> None:
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        item.name = prefix + item.name
    for node in graph.node:
        node.name = prefix + node.name
        # The name of an omitted optional input is empty, and must stay so.
        node.input[:] = [value and prefix + value for value in node.input]
        node.output[:] = [value and prefix + value for value in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _add_prefix(attribute.g, prefix)


def _delay(node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Make skl2onnx sort a node with branches behind the values that its branches read.

    skl2onnx sorts nodes by their depth, which it computes from the inputs of a node only, not from
    what its branches read. A chain of Identity nodes before the input adds the missing depth;
    skl2onnx removes them after sorting.
    """
    depth: dict[str, int] = {}
    for other in nodes:
        longest = max((depth.get(value, 0) for value in other.input), default=0)
        depth.update(dict.fromkeys(other.output, longest + 1))
    seen = max((depth.get(value, 0) for value in _captured(node)), default=0)
    chain = []
    for i in range(seen):
        value = f"{node.name}/delay_{i}"
        chain.append(helper.make_node("Identity", [node.input[0]], [value], name=value))
        node.input[0] = value
    return chain


def _captured(node: onnx.NodeProto) -> set[str]:
    """All names that the branches of a node read."""
    names: set[str] = set()
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                names.update(inner.input)
                names.update(_captured(inner))
    return names


def add_node(
    scope: Any, container: Any, operator: str, inputs: Sequence[str], **attributes: Any
) -> str:
    """Add a node with one output."""
    output: str = scope.get_unique_variable_name(operator.lower())
    name = scope.get_unique_operator_name(operator)
    _append(container, helper.make_node(operator, inputs, [output], name=name, **attributes))
    container.node_domain_version_pair_sets.add(("", OPSET))
    return output


def add_integers(scope: Any, container: Any, values: Sequence[int]) -> str:
    """Add a small constant of integers."""
    name: str = scope.get_unique_variable_name("integers")
    container.add_initializer(name, TensorProto.INT64, [len(values)], list(values))
    return name


def cast(scope: Any, container: Any, value: str, dtype: int) -> str:
    """Cast a value; a runtime drops a cast that changes nothing."""
    if dtype == TensorProto.STRING:  # the value is a string already
        return value
    return add_node(scope, container, "Cast", [value], to=dtype)


def join_columns(scope: Any, container: Any, variables: Sequence[Any], dtype: int) -> str:
    """Put all columns of some variables into one value of one type."""
    values = [cast(scope, container, variable.full_name, dtype) for variable in variables]
    return values[0] if len(values) == 1 else add_node(scope, container, "Concat", values, axis=1)


def split_columns(
    scope: Any, container: Any, variables: Sequence[Any], dtypes: Sequence[int]
) -> list[str]:
    """Split variables into values of one column, each of its type in `dtypes`."""
    values: list[str] = []
    for variable in variables:
        width = variable.get_second_dimension()
        for i in range(width):
            value = variable.full_name
            if width > 1:
                position = add_integers(scope, container, [i])
                value = add_node(scope, container, "Gather", [value, position], axis=1)
            values.append(cast(scope, container, value, dtypes[len(values)]))
    return values


def connect_output(container: Any, value: str, variable: Any) -> None:
    """Give a value the name and the type of a declared variable."""
    output, name = variable.full_name, f"{variable.full_name}/output"
    dtypes = {
        FloatTensorType: TensorProto.FLOAT,
        DoubleTensorType: TensorProto.DOUBLE,
        Int64TensorType: TensorProto.INT64,
    }
    if isinstance(variable.type, StringTensorType):
        node = helper.make_node("Identity", [value], [output], name=name)
    else:
        dtype = dtypes[type(variable.type)]
        node = helper.make_node("Cast", [value], [output], name=name, to=dtype)
    _append(container, node)


def set_number_type(variable: Any, shape: list[Any]) -> None:
    """Give a variable its shape, and float32 as its type unless float64 was asked for."""
    kind = DoubleTensorType if isinstance(variable.type, DoubleTensorType) else FloatTensorType
    variable.set_type(kind(shape))


def column_widths(name: str, variables: Sequence[Any], expected: int) -> list[int]:
    """Get the number of columns of each variable, and check their sum."""
    widths = [variable.get_second_dimension() for variable in variables]
    unknown = [variable for variable in variables if variable.get_second_dimension() is None]
    # The labels of a classifier have one dimension only.
    if len(unknown) == 1 and (len(variables) == 1 or len(unknown[0].type.shape) == 2):
        width = expected - sum(width for width in widths if width is not None)
        unknown[0].type.shape = [unknown[0].get_first_dimension(), width]
        widths = [variable.get_second_dimension() for variable in variables]
    if None in widths or sum(widths) != expected or min(widths) < 1:
        raise ValueError(
            f"The inputs of {name} must have {expected} columns, as in training, got widths "
            f"{widths}: pass X[:1] with all columns, or their widths in initial_types."
        )
    return widths


def class_labels(model: Any, nocl: bool = False) -> NDArray[Any]:
    """Get class labels as skl2onnx converts them: floats and bools become integers."""
    classes = np.asarray(model.classes_)
    if nocl:
        return np.arange(len(classes))
    if classes.dtype.kind in "OU" and all(isinstance(label, str) for label in classes):
        return classes.astype(object)
    if classes.dtype.kind in "biuf" and np.array_equal(classes.astype(np.int64), classes):
        return classes.astype(np.int64)
    raise TypeError(
        "Class labels must be strings or integers to be converted by skl2onnx, got "
        f"{classes.tolist()[0]!r} of type {classes.dtype}: encode the labels before fit, or set "
        "option nocl, which returns positions."
    )
