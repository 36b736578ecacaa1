"""Models inside a model: skl2onnx converts each, and a graph of ours combines their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.compat import find_alias
from skmode.onnx._skl2onnx.containers import class_labels, connect_output, insert_model


def known_alias(model: Any) -> str:
    """Get skl2onnx's name of a class, or raise if it has none."""
    alias = find_alias(type(model))
    if alias is None:
        raise NotImplementedError(
            "skl2onnx must have a converter for every part of a model, got "
            f"{type(model).__name__} without one: replace it, or register a converter with "
            "skl2onnx.update_registered_converter."
        )
    return alias


def declare_nested(
    scope: Any, model: Any, inputs: Any, classes: NDArray[Any] | None
) -> tuple[Any, Any]:
    """Declare a model for skl2onnx to convert; get its labels (None for regression) and numbers."""
    operator = scope.declare_local_operator(known_alias(model), model)
    operator.inputs = inputs
    labels = None
    if classes is not None:
        kind = StringTensorType if classes.dtype.kind == "O" else Int64TensorType
        labels = scope.declare_local_variable("label", kind())
        operator.outputs.append(labels)
    numbers = scope.declare_local_variable("nested", FloatTensorType())
    operator.outputs.append(numbers)
    return labels, numbers


class Combination:
    """A graph that combines the predictions of nested models into the outputs of an operator."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self.graph = GraphBuilder()
        self._scope, self._operator, self._container = scope, operator, container
        self._values: dict[str, str] = {}

    def add_classifier(self, model: Any) -> tuple[str, str]:
        """Get the positions of a classifier's labels in its classes, and its probabilities."""
        classes = class_labels(model)
        labels, numbers = declare_nested(self._scope, model, self._operator.inputs, classes)
        i, strings = len(self._values), classes.dtype.kind == "O"
        dtype = TensorProto.STRING if strings else TensorProto.INT64
        label = self._add_input(f"label_{i}", labels, dtype, ["n"])
        kind = "strings" if strings else "int64s"
        keys: Any = [key.encode() for key in classes] if strings else classes.tolist()
        position = self.graph.add(
            "LabelEncoder",
            [label],
            f"position_{i}",
            domain="ai.onnx.ml",
            **{f"keys_{kind}": keys, "values_int64s": list(range(len(classes)))},
        )
        return position, self._add_numbers(f"probabilities_{i}", numbers, len(classes))

    def add_probabilities(self, model: Any) -> str:
        """Get the probabilities of a classifier in float64."""
        classes = class_labels(model)
        _, numbers = declare_nested(self._scope, model, self._operator.inputs, classes)
        return self._add_numbers(f"probabilities_{len(self._values)}", numbers, len(model.classes_))

    def add_regressor(self, model: Any) -> str:
        """Get the values of a regressor in float64."""
        _, numbers = declare_nested(self._scope, model, self._operator.inputs, None)
        return self._add_numbers(f"values_{len(self._values)}", numbers, None)

    def _add_input(self, name: str, variable: Any, dtype: int, shape: Sequence[Any]) -> str:
        self._values[name] = variable.full_name
        return self.graph.add_input(name, dtype, shape)

    def _add_numbers(self, name: str, variable: Any, width: int | None) -> str:
        value = self._add_input(name, variable, TensorProto.FLOAT, ["n", width])
        return self.graph.add("Cast", [value], f"{name}/double", to=TensorProto.DOUBLE)

    def finish(self, *outputs: tuple[str, int, Sequence[Any]]) -> None:
        """Insert the graph; each output of the operator gets a value of a type and a shape."""
        for value, dtype, shape in outputs:
            self.graph.add_output(value, dtype, shape)
        name = type(self._operator.raw_operator).__name__
        proto = self.graph.to_model(name, {})
        results = insert_model(self._scope, self._container, proto, self._values, name)
        for (value, *_), variable in zip(outputs, self._operator.outputs, strict=True):
            connect_output(self._container, results[value], variable)

    def finish_classifier(self, position: str, probabilities: str, nocl: bool) -> None:
        """Insert the graph of a classifier that chooses positions in its classes."""
        classes = class_labels(self._operator.raw_operator, nocl)
        known = self.graph.add_weight(np.asarray(classes), "classes")
        label = self.graph.add("Gather", [known, position], "label")
        strings = classes.dtype.kind == "O"
        dtype = TensorProto.STRING if strings else TensorProto.INT64
        shape = ["n", len(classes)]
        self.finish((label, dtype, ["n"]), (probabilities, TensorProto.DOUBLE, shape))
