"""A small builder of ONNX graphs, with readable names and each weight stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Old enough for the onnxruntime of two years ago; tried with 1.17.3 of early 2024.
OPSET = 18
ML_OPSET = 3  # of the domain ai.onnx.ml; older than OPSET
IR_VERSION = 8

Shape = Sequence[int | str | None]


class GraphBuilder:
    """Collect the nodes and weights of one graph, or of a branch of an If.

    Values are referred to by their names, as in ONNX. Names are paths such as ``"gate/layer_0"``; a
    name that is taken gets a number. Branches see all values of the graph around them, so names
    are unique across both. A weight belongs to the graph or branch that adds it: the runtime
    passes outside values into a branch at each call, which costs time.

    Examples
    --------
    >>> from onnx import TensorProto
    >>> from skmode.onnx._graphs.builder import GraphBuilder
    >>> graph = GraphBuilder()
    >>> x = graph.add_input("x", TensorProto.FLOAT, ["n", 2])
    >>> graph.add_output(graph.add("Relu", [x], "y"), TensorProto.FLOAT, ["n", 2])
    >>> [node.op_type for node in graph.to_model("example", {}).graph.node]
    ['Relu']
    """

    def __init__(self, parent: GraphBuilder | None = None) -> None:
        self._root: GraphBuilder = self if parent is None else parent._root
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        # Used in the root only.
        self._taken: set[str] = set()
        self._domains: set[str] = set()

    def add_input(self, name: str, dtype: int, shape: Shape) -> str:
        """Declare an input of the graph under exactly this name."""
        assert name
        assert name not in self._root._taken
        self._root._taken.add(name)
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def order_inputs(self, names: Sequence[str]) -> None:
        """Put the inputs that were declared into the order of these names."""
        positions = {name: i for i, name in enumerate(names)}
        self._inputs.sort(key=lambda declared: positions[declared.name])

    def add_output(self, value: str, dtype: int, shape: Shape) -> None:
        """Declare a value as an output."""
        self._outputs.append(helper.make_tensor_value_info(value, dtype, shape))

    def add_weight(self, array: NDArray[Any], name: str) -> str:
        """Store an array."""
        name = self._unique(name)
        if array.dtype == object:
            strings = [value.encode() for value in array.ravel()]
            tensor = helper.make_tensor(name, TensorProto.STRING, array.shape, strings)
        else:
            tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        self._weights.append(tensor)
        return name

    def constant(self, value: Any, name: str, dtype: Any = np.int64) -> str:
        """Store a small array; equal ones are stored once in each branch."""
        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        known = self._constants
        if key not in known:
            known[key] = self.add_weight(array, name)
        return known[key]

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node with one output."""
        return self.add_many(operator, inputs, [name], domain=domain, **attributes)[0]

    def add_many(
        self,
        operator: str,
        inputs: Sequence[str],
        names: Sequence[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs."""
        outputs = [self._unique(name) for name in names]
        attributes = {
            key: value._to_graph(f"{outputs[0]}/{key}")
            if isinstance(value, GraphBuilder)
            else value
            for key, value in attributes.items()
        }
        node = helper.make_node(
            operator, inputs, outputs, name=outputs[0], domain=domain, **attributes
        )
        self._nodes.append(node)
        self._root._domains.add(domain)
        return outputs

    def concatenate(self, values: Sequence[str], name: str, axis: int = 1) -> str:
        """Concatenate values; a single one is returned unchanged."""
        return values[0] if len(values) == 1 else self.add("Concat", values, name, axis=axis)

    def inline(
        self, graph: onnx.GraphProto, values: Mapping[str, str], prefix: str
    ) -> dict[str, str]:
        """Add all nodes of another graph; `values` says what its inputs are."""
        names = dict(values)
        for tensor in graph.initializer:
            if tensor.name not in names:
                copy = onnx.TensorProto()
                copy.CopyFrom(tensor)
                copy.name = names[tensor.name] = self._unique(f"{prefix}/{tensor.name}")
                self._weights.append(copy)
        for node in graph.node:
            self._nodes.append(self._renamed_node(node, names, prefix))
        return {output.name: names[output.name] for output in graph.output}

    def branch(self) -> GraphBuilder:
        """Begin a branch of an If."""
        return GraphBuilder(self)

    def to_model(self, name: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Make the model and check it."""
        graph = self._to_graph(name)
        opsets = [helper.make_opsetid("", OPSET)]
        if "ai.onnx.ml" in self._root._domains:
            opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _to_graph(self, name: str) -> onnx.GraphProto:
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._weights)

    def _renamed_node(
        self, node: onnx.NodeProto, names: dict[str, str], prefix: str
    ) -> onnx.NodeProto:
        """Copy a node, and add the new names of its outputs to `names`."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.metadata_props[:]
        copy.doc_string = ""
        copy.input[:] = [names.get(value, value) for value in node.input]
        for value in node.output:
            if value:
                names[value] = self._unique(f"{prefix}/{value}")
        copy.output[:] = [names.get(value, value) for value in node.output]
        copy.name = copy.output[0]
        self._root._domains.add(copy.domain)
        for attribute in copy.attribute:
            if attribute.HasField("g"):
                attribute.g.CopyFrom(self._renamed_graph(attribute.g, names, prefix))
            for graph in attribute.graphs:
                graph.CopyFrom(self._renamed_graph(graph, names, prefix))
        return copy

    def _renamed_graph(
        self, graph: onnx.GraphProto, outer: Mapping[str, str], prefix: str
    ) -> onnx.GraphProto:
        """Copy a branch, which sees the names around it."""
        copy = onnx.GraphProto()
        copy.CopyFrom(graph)
        names = dict(outer)
        own = {value.name for value in (*graph.initializer, *graph.input)}
        names.update({name: self._unique(f"{prefix}/{name}") for name in sorted(own)})
        for value in (*copy.initializer, *copy.input):
            value.name = names[value.name]
        nodes = [self._renamed_node(node, names, prefix) for node in graph.node]
        del copy.node[:], copy.value_info[:]
        copy.node.extend(nodes)
        for output in copy.output:
            output.name = names.get(output.name, output.name)
        return copy

    def _unique(self, name: str) -> str:
        taken = self._root._taken
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free)
        return free
