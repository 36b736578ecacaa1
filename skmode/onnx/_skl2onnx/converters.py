"""Converters of our estimators for skl2onnx."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import skl2onnx
from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.utils.validation import check_is_fitted

from skmode import MoDEClassifier, MoDERegressor
from skmode._common.unwrap import nested_estimators
from skmode.onnx._graphs.columns import ARRAY_INPUT, ELEMENT_TYPES
from skmode.onnx._graphs.models import build_model
from skmode.onnx._graphs.source import Source, read_estimator, with_array_input
from skmode.onnx._skl2onnx.containers import (
    check_opset,
    class_labels,
    column_widths,
    connect_output,
    insert_model,
    join_columns,
    keep_outputs,
    set_number_type,
    split_columns,
)
from skmode.onnx._skl2onnx.models import replace_models
from skmode.onnx._skl2onnx.models.outputs import (
    CLASSIFIER_OPTIONS,
    declare,
    declare_classifier_outputs,
    has_nocl,
    infer_classifier,
)
from skmode.onnx._skl2onnx.models.support import check_supported
from skmode.onnx._skl2onnx.numbers import NUMBERS, is_float32
from skmode.onnx._skl2onnx.repairs import replace_steps
from skmode.onnx._skl2onnx.replacements import watch_conversions

ROUTINGS = ["top_expert", "mixture"]


def register_converters() -> None:
    """Register converters of MoDEClassifier and MoDERegressor with skl2onnx.

    Importing :mod:`skmode.onnx` calls it; another call changes nothing. Afterwards
    ``skl2onnx.to_onnx`` converts these estimators, and the models of scikit-learn around them:
    Pipelines, searches, thresholds, transformed targets, chains and ensembles. It refuses by name
    what it cannot convert.

    Notes
    -----
    Options, as ``skl2onnx.to_onnx(model, X[:1], options={MoDEClassifier: {...}})``:

    - ``routing``: ``"top_expert"`` or ``"mixture"``. The default is the estimator's parameter
      `inference`;
    - ``zipmap``, ``nocl`` and ``output_class_labels`` as for scikit-learn's own classifiers.

    Set options for the estimator or its class, not for the model around it. Options that are set
    for a Pipeline, a search or a FrozenEstimator do not reach the estimator, except ``zipmap`` and
    ``output_class_labels``.

    The graph needs opset 18 or above, and computes the experts in float32. skl2onnx takes the types
    of the inputs from the first row of X: pass a row without missing strings, or pass
    ``initial_types=[("age", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1]))]``.
    In the graph a missing string is ``""``, whether it is None or NaN in Python. A step that treats
    None and NaN differently, such as a SimpleImputer for NaN on a column with None, is converted as
    if all were NaN.

    skl2onnx does not check what it converts. :func:`skmode.onnx.compare_with_onnx` compares the
    graph with the model on rows of yours.

    skl2onnx fails on tables with missing strings or several numeric types, does not know some
    classes, ignores the threshold of a TunedThresholdClassifierCV, or its graphs do not compute
    what scikit-learn computes. While it converts a model that contains one of these estimators,
    skmode therefore replaces its converters of some classes and adds others:

    - around the estimator: RandomizedSearchCV and the halving searches,
      FixedThresholdClassifier and TunedThresholdClassifierCV (on probabilities),
      TransformedTargetRegressor, ClassifierChain, RegressorChain, SelfTrainingClassifier,
      CalibratedClassifierCV, voting ensembles, StackingClassifier, AdaBoostClassifier,
      OneVsOneClassifier;
    - steps before it: ColumnTransformer, which passes strings on to the estimator,
      StandardScaler, SimpleImputer, MissingIndicator, OneHotEncoder, OrdinalEncoder,
      TargetEncoder, KBinsDiscretizer, Binarizer, PolynomialFeatures, PowerTransformer,
      SplineTransformer, QuantileTransformer, KMeans, FunctionTransformer with functions of numpy,
      and steps that select columns.

    The replacements compute in float64 and ignore option ``div``. Other models are converted as if
    skmode were not imported, except that a FrozenEstimator, which skl2onnx does not support, now
    has a converter. Where scikit-learn raises at a row, such as at an unseen category with
    ``handle_unknown="error"`` or beyond the knots of a spline with ``extrapolation="error"``, the
    runtime raises too.

    Refused: LinearDiscriminantAnalysis and RandomTreesEmbedding as steps, KNNImputer on other
    numbers than float32, OutputCodeClassifier, an IterativeImputer that holds an estimator, a
    StackingClassifier with ``stack_method="predict"``, RFE as the model that predicts, calibration
    with ``method="temperature"`` and calibration of the decision function of an estimator in a
    Pipeline or a search.
    """
    skl2onnx.update_registered_converter(
        MoDEClassifier,
        "SkmodeMoDEClassifier",
        infer_classifier,
        _convert_classifier,
        parser=_parse_classifier,
        options=CLASSIFIER_OPTIONS | {"routing": ROUTINGS},
    )
    skl2onnx.update_registered_converter(
        MoDERegressor,
        "SkmodeMoDERegressor",
        _infer_regressor,
        _convert_regressor,
        parser=_parse_regressor,
        options={"routing": ROUTINGS},
    )
    _replace_converters()


@functools.cache  # once for the process
def _replace_converters() -> None:
    replace_steps()
    replace_models()
    watch_conversions(MoDEClassifier, MoDERegressor, check=_check_model)


def _check_model(model: Any) -> None:
    """Raise if a model cannot be converted."""
    check_supported(model)
    *_, last = nested_estimators(model)
    encoder = getattr(last, "encoder_", None)
    texts = hasattr(last, "tokenizer_json_") or getattr(encoder, "text_columns", [])
    images = hasattr(last, "image_shape_") or getattr(encoder, "image_columns", [])
    if images or texts:
        kind = f"{type(last).__name__} with {'texts' if texts else 'images'}"
        raise TypeError(
            f"skl2onnx converts models of tables without texts and images, got a {kind}: write a "
            "bundle with skmode.onnx.export, whose model.onnx is the graph."
        )


def _parse_classifier(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    return declare_classifier_outputs(
        scope, model, _declare(scope, model, inputs, "SkmodeMoDEClassifier")
    )


def _parse_regressor(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = _declare(scope, model, inputs, "SkmodeMoDERegressor")
    operator.outputs.append(scope.declare_local_variable("variable", FloatTensorType()))
    return list(operator.outputs)


def _declare(scope: Any, model: Any, inputs: Any, alias: str) -> Any:
    check_is_fitted(model, "net_")
    return declare(scope, model, inputs, alias)


def _infer_regressor(operator: Any) -> None:
    n_rows = operator.inputs[0].get_first_dimension()
    set_number_type(operator.outputs[0], [n_rows, len(operator.raw_operator.target_scale_)])


def _option(operator: Any, name: str, default: Any) -> Any:
    return operator.scope_inst.get_options(operator.raw_operator, {name: default})[name]


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    source = read_estimator(operator.raw_operator)
    labels = class_labels(operator.raw_operator, has_nocl(operator))
    names = ("label", "probabilities")
    _convert(scope, operator, container, replace(source, classes=labels), names)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    source = read_estimator(operator.raw_operator)
    _convert(scope, operator, container, source, ("variable",))


def _convert(
    scope: Any, operator: Any, container: Any, source: Source, outputs: tuple[str, ...]
) -> None:
    name = type(operator.raw_operator).__name__
    check_opset(container, name)
    default = operator.raw_operator.inference
    routing = _option(operator, "routing", default) or default
    source = with_array_input(source)
    model = build_model(source, routing).to_model(name, {})
    keep_outputs(model, outputs)
    inputs = _connect_inputs(scope, operator, container, source)
    results = insert_model(scope, container, model, inputs, name)
    for value, variable in zip(outputs, operator.outputs, strict=True):
        connect_output(container, results[value], variable)


def _connect_inputs(scope: Any, operator: Any, container: Any, source: Source) -> dict[str, str]:
    """Get the value for each input of the graph, cast to its type."""
    name, columns = type(operator.raw_operator).__name__, source.columns
    widths = column_widths(name, operator.inputs, len(columns))
    pairs = zip(operator.inputs, widths, strict=True)
    variables = [variable for variable, width in pairs for _ in range(width)]
    for column, variable in zip(columns, variables, strict=True):
        _check_type(name, column, variable)
    if not source.one_input_per_column:
        value = join_columns(scope, container, operator.inputs, TensorProto.FLOAT)
        return {ARRAY_INPUT: value}
    dtypes = [ELEMENT_TYPES[column.dtype] for column in columns]
    values = split_columns(scope, container, operator.inputs, dtypes)
    return {column.input: value for column, value in zip(columns, values, strict=True)}


def _check_type(name: str, column: Any, variable: Any) -> None:
    strings = column.dtype == "string"
    if isinstance(variable.type, StringTensorType if strings else NUMBERS):
        coarse = column.dtype == "float64" and is_float32(variable)
        if not coarse or np.array_equal(column.categories, np.float32(column.categories)):
            return
    raise TypeError(
        f"Column {column.name!r} of {name} must be of type {column.dtype}, as in training, got "
        f"{type(variable.type).__name__} from {variable.raw_name!r}: pass skl2onnx one input per "
        "column (X as a DataFrame without missing strings in its first row, or initial_types), and "
        "use no step before the estimator that puts strings and numbers into one array."
    )
