"""From a fitted estimator to a bundle."""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import sklearn
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.exceptions import NotFittedError
from torch import nn

from skmode._version import __version__
from skmode.nn import CrossEntropy, MixtureOfExperts, MLPExperts, SparseGate, TabularTrunk
from skmode.onnx._builder import GraphBuilder
from skmode.onnx._mixture import (
    Head,
    emit_active_mixture,
    emit_dense_mixture,
    emit_gate_logits,
    emit_gate_probabilities,
    emit_single_expert,
    emit_top_expert,
    emit_top_expert_outputs,
)
from skmode.onnx._trunk import (
    ARRAY_INPUT,
    emit_array_input,
    emit_codes,
    emit_column_inputs,
    emit_numbers,
    emit_trunk,
)

try:
    from skmode_deploy import bundle
except ImportError as error:
    raise ImportError(
        "skmode.onnx writes its files through the package skmode-deploy, which is not installed: "
        "run `pip install ./deploy` in a checkout of skmode."
    ) from error

# Names that the outputs of model.onnx and gate.onnx have; no input may be called so.
OUTPUTS = ("label", "probabilities", "variable", "expert", "gate_probabilities", "hidden")

Routing = Literal["top_expert", "mixture"]

# Largest step between float32 numbers near the mean target, in its standard deviations.
COARSEST_TARGET_STEP = 1e-3


def export(
    estimator: Any, directory: str | os.PathLike[str], *, routing: Routing = "top_expert"
) -> None:
    """Write a fitted estimator as a bundle of ONNX files.

    The bundle holds ``model.onnx`` (columns in, answer out), ``gate.onnx`` and one
    ``expert_<i>.onnx`` per expert (the parts, to be served apart), and ``manifest.json``.
    `skmode_deploy.load` serves it; so does any onnxruntime. All files use the operators of
    ``ai.onnx`` and ``ai.onnx.ml`` only, and the same estimator gives the same bytes.

    Parameters
    ----------
    estimator : MoDEClassifier or MoDERegressor
        A fitted estimator.
    directory : path
        Folder to write. It must be new, empty or a bundle; a bundle in it is replaced as a whole
        once the new one is complete.
    routing : {"top_expert", "mixture"}, default="top_expert"
        What ``model.onnx`` computes: each row by its top expert alone, as the estimator does
        with ``inference="top_expert"``, or the mixture of the experts.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If `routing` is not one of the two, or categories differ by less than float32 tells.
    TypeError
        If the estimator, or a part of it, has no ONNX form, or if its class labels are not
        strings, integers, bools or floats.
    FileExistsError
        If `directory` holds something else than a bundle.

    Warns
    -----
    UserWarning
        If a regression target is so far from zero that float32, the type of the answers, is too
        coarse for it.

    Notes
    -----
    Inputs of ``model.onnx``: after training on a table, one input `(n, 1)` per column, called as
    the column (with ``_input`` appended if that is the name of an output): float32 numbers with
    NaN for missing ones, strings with ``""`` for missing ones, or float64 where the categories
    are numbers. After training on an array, one float32 input ``X``, or, if it had string
    categories, one input per column, ``x0``, ``x1`` and so on.

    Outputs: ``label`` `(n,)` and ``probabilities`` `(n, n_classes)` of a classifier, ``variable``
    `(n, n_outputs)` of a regressor, and ``expert`` `(n,)`, the top expert of each row. Labels are
    integers or strings; bools and floats appear as their position.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> import skmode_deploy
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import export
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(estimator, folder)
    ...     skmode_deploy.load(folder).predict(X).shape
    (150,)
    """
    if routing not in ("top_expert", "mixture"):
        raise ValueError(
            f'routing must be "top_expert" or "mixture", got {routing!r}: choose one of them.'
        )
    source = _read_estimator(estimator)
    _check_target(source)
    models = {"model.onnx": _build_model(source, routing), "gate.onnx": _build_gate(source)}
    for i in range(source.mixture.n_experts):
        models[f"expert_{i}.onnx"] = _build_expert(source, i)
    properties = _metadata(estimator, source, routing)
    files = {name: _serialize(graph, name, properties) for name, graph in models.items()}
    bundle.write(directory, _manifest(estimator, source, routing), files)


@dataclass(frozen=True)
class _Source:
    """What the graphs are made of, read off an estimator."""

    mixture: MixtureOfExperts
    columns: tuple[bundle.Column, ...]
    one_input_per_column: bool
    classes: NDArray[Any] | None
    target_mean: NDArray[np.float64] | None
    target_scale: NDArray[np.float64] | None

    @property
    def answer(self) -> str:
        return "variable" if self.classes is None else "probabilities"

    @property
    def n_outputs(self) -> int:
        assert isinstance(self.mixture.head, nn.Linear)
        return self.mixture.head.out_features

    @property
    def trunk(self) -> TabularTrunk:
        assert isinstance(self.mixture.trunk, TabularTrunk)
        return self.mixture.trunk


def _read_estimator(estimator: Any) -> _Source:
    name = type(estimator).__name__
    if not (hasattr(estimator, "net_") and hasattr(estimator, "encoder_")):
        if hasattr(estimator, "fit") and "inference" in getattr(estimator, "get_params", dict)():
            raise NotFittedError(
                f"Only a fitted estimator has something to export, and this {name} is not fitted: "
                "call fit before export."
            )
        raise TypeError(
            f"estimator must be a MoDEClassifier or a MoDERegressor, got {name}: pass the "
            "estimator itself, for a search its best_estimator_, for a Pipeline its last step."
        )
    mixture = estimator.net_.module_
    if not isinstance(mixture.experts, MLPExperts):
        raise TypeError(
            f"Experts must be MLPExperts to be exported, got {type(mixture.experts).__name__}: "
            "train with the estimator's own experts (hidden_layer_sizes), or convert the module "
            "with torch.onnx.export."
        )
    encoder = estimator.encoder_
    strings = any(
        column.categories is not None and column.categories.dtype == object
        for column in encoder.columns_
    )
    apart = encoder.from_table_ or strings
    classify = isinstance(mixture.task_loss, CrossEntropy)
    if classify:
        _check_labels(np.asarray(estimator.classes_))
    return _Source(
        mixture,
        _columns(encoder.columns_, apart),
        apart,
        np.asarray(estimator.classes_) if classify else None,
        None if classify else estimator.target_mean_,
        None if classify else estimator.target_scale_,
    )


def _check_labels(classes: NDArray[Any]) -> None:
    """The manifest holds labels as JSON."""
    labels = classes.tolist()
    # Some dates come out of tolist as bare integers.
    if classes.dtype.kind in "mM" or not all(isinstance(x, str | int | float) for x in labels):
        raise TypeError(
            "Class labels must be strings, integers, bools or floats to be exported, got "
            f"{classes[0]!r} of type {classes.dtype}: encode the labels as strings before fit, for "
            "example y.astype(str)."
        )


def _check_target(source: _Source) -> None:
    if source.target_mean is None:
        return
    assert source.target_scale is not None
    steps = np.finfo(np.float32).eps * np.abs(source.target_mean) / source.target_scale
    worst = int(np.argmax(steps))
    if steps[worst] > COARSEST_TARGET_STEP:
        warnings.warn(
            "Answers are float32, whose steps near the mean target must be at most "
            f"{COARSEST_TARGET_STEP:g} of its standard deviation, got {steps[worst]:.2g} for "
            f"output {worst} (mean {source.target_mean[worst]:g}, standard deviation "
            f"{source.target_scale[worst]:g}): subtract a constant from y before fit, for example "
            "with TransformedTargetRegressor, and add it to the answers.",
            UserWarning,
            stacklevel=3,
        )


def _columns(learned: Sequence[Any], apart: bool) -> tuple[bundle.Column, ...]:
    """Describe the columns; the names of their inputs are unique."""
    taken = set(OUTPUTS) | {""}
    columns = []
    for column in learned:
        name = input_name = str(column.name)
        while input_name in taken:
            input_name += "_input"
        taken.add(input_name)
        columns.append(_column(column, name, input_name if apart else ARRAY_INPUT, apart))
    return tuple(columns)


def _column(column: Any, name: str, input_name: str, apart: bool) -> bundle.Column:
    if column.kind == "number":
        return bundle.Column(name, input_name, "number", "float32")
    known = column.categories
    dtype: Literal["float32", "float64", "string"] = "float64"
    if known.dtype == object:
        dtype = "string"
    elif not apart:
        dtype = "float32"  # as the array that holds it
        if len(np.unique(known.astype(np.float32))) < len(known):
            raise ValueError(
                "Categories in an array must differ as float32 numbers, the type of the graph's "
                f"input, got some in column {name!r} that do not: fit on a DataFrame, whose "
                "numeric categories stay float64."
            )
        known = known.astype(np.float32)
    return bundle.Column(
        name, input_name, "category", dtype, tuple(known.tolist()), bool(column.has_missing)
    )


def _emit_hidden(graph: GraphBuilder, source: _Source) -> str:
    """Inputs and trunk."""
    columns = source.columns
    if source.one_input_per_column:
        values = emit_column_inputs(graph, columns)
        numbers = [v for v, column in zip(values, columns, strict=True) if column.kind == "number"]
        codes = [v for v, column in zip(values, columns, strict=True) if column.kind == "category"]
    else:
        values = emit_array_input(graph, columns)
        has_numbers = any(column.kind == "number" for column in columns)
        numbers, codes = values[:has_numbers], values[has_numbers:]
    categorical = [column for column in columns if column.kind == "category"]
    return emit_trunk(
        graph, source.trunk, emit_numbers(graph, numbers), emit_codes(graph, categorical, codes)
    )


def _build_model(source: _Source, routing: Routing) -> GraphBuilder:
    graph = GraphBuilder()
    mixture = source.mixture
    hidden = _emit_hidden(graph, source)
    logits = emit_gate_logits(graph, mixture.gate, hidden)
    expert = emit_top_expert(graph, logits)
    head = Head(graph, mixture)
    one_active = isinstance(mixture.gate, SparseGate) and mixture.gate.top_k == 1
    if routing == "top_expert" or one_active or mixture.n_experts == 1:
        value = emit_top_expert_outputs(graph, mixture, head, hidden, expert)
        value = head.to_answer(graph, value, source.answer)
    else:
        weights = emit_gate_probabilities(graph, mixture.gate, logits)
        sparse = isinstance(mixture.gate, SparseGate)
        emit = emit_active_mixture if sparse else emit_dense_mixture
        name = "probabilities" if head.classify else "mixture"
        value = emit(graph, mixture, head, hidden, weights, name)
    _emit_answer(graph, source, value)
    graph.add_output(expert, TensorProto.INT64, ["n"])
    return graph


def _emit_answer(graph: GraphBuilder, source: _Source, value: str) -> None:
    """Labels of probabilities, or values in the unit of the target."""
    shape: list[int | str | None] = ["n", source.n_outputs]
    if source.classes is None:
        _emit_target_scale(graph, source, value)
        graph.add_output("variable", TensorProto.FLOAT, shape)
        return
    kind = _label_kind(source.classes)
    indices = kind == "index" or np.array_equal(source.classes, np.arange(len(source.classes)))
    name = "label" if indices else "label/index"
    label = graph.add("ArgMax", [value], name, axis=1, keepdims=0)
    if not indices:
        dtype = object if source.classes.dtype.kind in "OU" else np.int64
        classes = graph.add_weight(source.classes.astype(dtype), "label/classes")
        label = graph.add("Gather", [classes, label], "label", axis=0)
    strings = not indices and source.classes.dtype.kind in "OU"
    graph.add_output(label, TensorProto.STRING if strings else TensorProto.INT64, ["n"])
    graph.add_output("probabilities", TensorProto.FLOAT, shape)


def _emit_target_scale(graph: GraphBuilder, source: _Source, value: str) -> None:
    assert source.target_scale is not None
    assert source.target_mean is not None
    scale = graph.add_weight(source.target_scale.astype(np.float32), "target/scale")
    mean = graph.add_weight(source.target_mean.astype(np.float32), "target/mean")
    value = graph.add("Mul", [value, scale], "target/scaled")
    graph.add("Add", [value, mean], "variable")


def _label_kind(classes: NDArray[Any]) -> Literal["value", "index"]:
    """ONNX has labels of type string and int64."""
    kind = classes.dtype.kind
    strings = kind == "U" or (kind == "O" and all(isinstance(label, str) for label in classes))
    integers = kind in "iu" and int(classes.max()) <= np.iinfo(np.int64).max
    return "value" if strings or integers else "index"


def _build_gate(source: _Source) -> GraphBuilder:
    graph = GraphBuilder()
    gate = source.mixture.gate
    hidden = _emit_hidden(graph, source)
    logits = emit_gate_logits(graph, gate, hidden)
    emit_gate_probabilities(graph, gate, logits, "gate_probabilities")
    emit_top_expert(graph, logits)
    graph.add("Identity", [hidden], "hidden")
    graph.add_output("gate_probabilities", TensorProto.FLOAT, ["n", gate.n_experts])
    graph.add_output("expert", TensorProto.INT64, ["n"])
    graph.add_output("hidden", TensorProto.FLOAT, ["n", source.mixture.trunk.out_features])  # type: ignore[list-item]
    return graph


def _build_expert(source: _Source, expert: int) -> GraphBuilder:
    graph = GraphBuilder()
    mixture = source.mixture
    assert isinstance(mixture.experts, MLPExperts)
    hidden = graph.add_input("hidden", TensorProto.FLOAT, ["n", source.trunk.out_features])
    head = Head(graph, mixture)
    value = emit_single_expert(graph, mixture.experts, expert, hidden)
    value = head.to_answer(graph, head.apply(graph, value, "head"), "probabilities")
    if source.classes is None:
        _emit_target_scale(graph, source, value)
    graph.add_output(source.answer, TensorProto.FLOAT, ["n", source.n_outputs])
    return graph


def _metadata(estimator: Any, source: _Source, routing: Routing) -> dict[str, str]:
    task = "regression" if source.classes is None else "classification"
    properties = {
        "producer": "skmode",
        "producer_version": __version__,
        "task": task,
        "n_experts": str(source.mixture.n_experts),
        "alpha": repr(float(estimator.alpha)),
        "routing": routing,
    }
    if source.classes is not None:
        properties["classes"] = json.dumps(source.classes.tolist(), default=str)
    return properties


def _serialize(graph: GraphBuilder, name: str, properties: dict[str, str]) -> bytes:
    model: onnx.ModelProto = graph.to_model(name.removesuffix(".onnx"), properties)
    model.producer_name, model.producer_version = "skmode", __version__
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _manifest(estimator: Any, source: _Source, routing: Routing) -> bundle.Manifest:
    classes = None
    if source.classes is not None:
        dtype = source.classes.dtype
        classes = bundle.Classes(
            tuple(source.classes.tolist()), dtype.str, _label_kind(source.classes)
        )
    scores = estimator.validation_scores_
    return bundle.Manifest(
        task="regression" if source.classes is None else "classification",
        routing=routing,
        input="columns" if source.one_input_per_column else "array",
        from_table=bool(estimator.encoder_.from_table_),
        columns=source.columns,
        n_outputs=source.n_outputs,
        classes=classes,
        n_experts=source.mixture.n_experts,
        alpha=float(estimator.alpha),
        expert_usage=tuple(float(share) for share in estimator.expert_usage_),
        validation_scores=scores and {name: float(score) for name, score in scores.items()},
        versions={
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
            "skmode": __version__,
            "torch": torch.__version__,
        },
    )
