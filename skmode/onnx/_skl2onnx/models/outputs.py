"""The outputs that skl2onnx gives to classifiers: labels, and probabilities in one of its forms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

from skmode.onnx._skl2onnx.compat import apply_zipmap
from skmode.onnx._skl2onnx.containers import class_labels, set_number_type
from skmode.onnx._skl2onnx.replacements import (
    original_converter,
    original_shapes,
    replace_converter,
)

CLASSIFIER_OPTIONS: dict[str, list[Any]] = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def has_nocl(operator: Any) -> bool:
    """Whether option nocl asks for positions instead of labels."""
    model = operator.raw_operator
    return bool(operator.scope_inst.get_options(model, {"nocl": False})["nocl"])


def declare(scope: Any, model: Any, inputs: Any, alias: str) -> Any:
    """Declare an operator for a model."""
    operator = scope.declare_local_operator(alias, model)
    operator.inputs = inputs
    return operator


def declare_classifier_outputs(scope: Any, model: Any, operator: Any) -> Any:
    """Declare outputs as skl2onnx does, but with float32 probabilities for any inputs."""
    options = scope.get_options(model, {"zipmap": True})
    operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    operator.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    outputs = list(operator.outputs)
    with_classes = options.get("output_class_labels", False)
    if options["zipmap"]:
        if with_classes:
            raise RuntimeError(
                "Option output_class_labels needs zipmap=False, got zipmap="
                f"{options['zipmap']!r}: use only one of the two."
            )
        return apply_zipmap(options["zipmap"], scope, model, FloatTensorType(), outputs)
    if with_classes:
        operator = scope.declare_local_operator("SklearnClassLabels")
        operator.classes = class_labels(model, scope.get_options(model, {"nocl": False})["nocl"])
        strings = operator.classes.dtype.kind in "OU"
        kind = StringTensorType if strings else Int64TensorType
        variable = scope.declare_local_variable("class_labels", kind([len(operator.classes)]))
        operator.outputs.append(variable)
        outputs.append(variable)
    return outputs


def infer_classifier(operator: Any) -> None:
    """Set the types of labels and probabilities."""
    labels = class_labels(operator.raw_operator, has_nocl(operator))
    n_rows = operator.inputs[0].get_first_dimension()
    kind = StringTensorType if labels.dtype.kind == "O" else Int64TensorType
    operator.outputs[0].set_type(kind([n_rows]))
    if len(operator.outputs) > 1:
        set_number_type(operator.outputs[1], [n_rows, len(labels)])


def replace_zip_map() -> None:
    """Replace skl2onnx's converter of dicts of probabilities."""
    replace_converter("SklearnZipMap", type(None), _infer_zip_map, _convert_zip_map)


def _infer_zip_map(operator: Any) -> None:
    """Infer as skl2onnx does, but with float32 values, the only type that ZipMap supports."""
    original_shapes(operator.type)(operator)
    element = operator.outputs[-1].type.element_type
    element.value_type = FloatTensorType([])


def _convert_zip_map(scope: Any, operator: Any, container: Any) -> None:
    """Cast probabilities to float32; skl2onnx passes float64, which ONNX does not allow."""
    probabilities = operator.inputs[-1].full_name
    name = scope.get_unique_variable_name(f"{probabilities}_float32")
    node_name = scope.get_unique_operator_name("Cast")
    container.add_node("Cast", [probabilities], [name], name=node_name, to=TensorProto.FLOAT)
    labels = ("classlabels_int64s", "classlabels_strings")
    stand_in = SimpleNamespace(
        inputs=[*operator.inputs[:-1], SimpleNamespace(full_name=name)],
        outputs=operator.outputs,
        **{key: getattr(operator, key) for key in labels if hasattr(operator, key)},
    )
    original_converter(operator.type)(scope, stand_in, container)
