"""Converter of StackingClassifier: skl2onnx takes the most probable class for the label, but its
final estimator may choose another, such as by a threshold.
"""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import StackingClassifier

from skmode.onnx._skl2onnx.replacements import original_converter, replace_converter


def replace_stacking() -> None:
    """Replace skl2onnx's converter of stacked classifiers."""
    replace_converter("SklearnStackingClassifier", StackingClassifier, None, _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Convert as skl2onnx does, and take the label from the final estimator."""
    begun = len(container.nodes)
    original_converter(operator.type)(scope, operator, container)
    final = operator.raw_operator.final_estimator_
    *_, nested = (each for each in scope.operators.values() if each.raw_operator is final)
    (choice,) = (node for node in container.nodes[begun:] if node.op_type == "ArgMax")
    # The final estimator was fitted on positions in the classes.
    choice.op_type = "Identity"
    choice.input[:] = [nested.outputs[0].full_name]
    del choice.attribute[:]
