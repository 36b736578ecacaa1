"""Steps whose inputs or outputs skl2onnx takes for something else than scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx.common.data_types import FloatTensorType
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import KernelPCA
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.impute import KNNImputer
from sklearn.neighbors import KNeighborsTransformer
from sklearn.random_projection import GaussianRandomProjection

from skmode.onnx._graphs.builder import OPSET, GraphBuilder
from skmode.onnx._skl2onnx import compat
from skmode.onnx._skl2onnx.containers import main_opset, set_number_type
from skmode.onnx._skl2onnx.numbers import (
    check_numbers,
    insert_on_numbers,
    numbers_input,
    to_double,
)
from skmode.onnx._skl2onnx.replacements import replace_converter, replace_parser


def adapt_steps() -> None:
    """Replace skl2onnx's parsers of some steps."""
    for clusters in (KMeans, MiniBatchKMeans):
        replace_parser(clusters, _parse_clusters)
        replace_converter(
            f"Sklearn{clusters.__name__}", clusters, _infer_distances, _convert_distances
        )
    for step in (GaussianRandomProjection, KernelPCA, KNeighborsTransformer, TfidfTransformer):
        replace_parser(step, _parse_in_double)
    replace_parser(KNNImputer, _parse_in_float32)


def _parse_clusters(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any
) -> list[Any]:
    """Declare the distances alone: around the estimators nothing predicts clusters."""
    if main_opset(scope.target_opset) < OPSET:
        return list(original(scope, model, inputs, custom_parsers))[1:]
    operator = scope.declare_local_operator(compat.find_alias(type(model)), model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("distances", FloatTensorType()))
    return list(operator.outputs)


def _infer_distances(operator: Any) -> None:
    check_numbers(operator)
    width = len(operator.raw_operator.cluster_centers_)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert_distances(scope: Any, operator: Any, container: Any) -> None:
    """Compute the distances to the centers; skl2onnx's way is too coarse near a center."""
    centers = np.asarray(operator.raw_operator.cluster_centers_, dtype=np.float64)
    graph = GraphBuilder()
    x = numbers_input(graph, centers.shape[1])
    row = graph.add("Unsqueeze", [x, graph.constant([1], "axes")], "row")
    step = graph.add("Sub", [row, graph.add_weight(centers[None], "centers")], "step")
    square = graph.add("Mul", [step, step], "square")
    sum_ = graph.add("ReduceSum", [square, graph.constant([2], "axes")], "sum", keepdims=0)
    insert_on_numbers(scope, operator, container, graph, graph.add("Sqrt", [sum_], "distances"))


def _parse_in_double(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any
) -> Any:
    """Cast integers to float64: skl2onnx's converter fails on them, or rounds to float32."""
    inputs = [
        each if isinstance(each.type, FloatTensorType) else to_double(scope, each)
        for each in inputs
    ]
    return original(scope, model, inputs, custom_parsers)


def _parse_in_float32(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any
) -> Any:
    """Refuse other numbers than float32: another type may have other neighbours."""
    for variable in inputs:
        if not isinstance(variable.type, FloatTensorType):
            name = type(model).__name__
            raise TypeError(
                f"{name} must get float32 numbers to be converted by skl2onnx, got "
                f"{type(variable.type).__name__} from {variable.raw_name!r}: fit and convert with "
                "X.astype(np.float32)."
            )
    return original(scope, model, inputs, custom_parsers)
