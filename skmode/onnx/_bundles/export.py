"""Export a fitted estimator as a bundle."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import skl2onnx
import sklearn
import torch

import skmode_deploy
from skmode._common.unwrap import to_dense
from skmode._version import __version__
from skmode.onnx._bundles.checks.parity import (
    check_predictions,
    check_quantization,
    measure_differences,
)
from skmode.onnx._bundles.checks.refusals import find_refusals
from skmode.onnx._bundles.checks.routing import compare_routing
from skmode.onnx._bundles.parts import Parts
from skmode.onnx._bundles.pipeline import prepend_steps, read_pipeline
from skmode.onnx._bundles.quantization import quantize_experts
from skmode.onnx._bundles.samples import make_samples
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.models import Routing, build_expert, build_gate, build_model
from skmode.onnx._graphs.source import Source, check_target, label_kind, read_estimator
from skmode_deploy import bundle


def export(
    estimator: Any,
    directory: str | os.PathLike[str],
    *,
    X: Any = None,
    routing: Routing = "top_expert",
    quantize: Literal["dynamic"] | None = None,
    tolerance: float = 0.02,
    notes: str = "",
) -> None:
    """Write a fitted estimator as a bundle of ONNX files.

    The bundle holds:

    - ``model.onnx``: the whole model, from columns to predictions;
    - ``gate.onnx`` and one ``expert_<i>.onnx`` per expert: the same model in parts, for servers
      that load experts when they are needed;
    - ``manifest.json``: a description of the model, with the size and hash of each file;
    - ``README.md``: a model card, the same description for people;
    - ``samples.json``: 32 made-up rows (no training data) with the estimator's predictions, to
      check the bundle on another machine.

    `skmode_deploy.load` opens a bundle, and any onnxruntime runs its graphs, which use only the
    operators of ``ai.onnx`` and ``ai.onnx.ml``. The same estimator gives the same bytes if the
    environment variable ``SOURCE_DATE_EPOCH`` fixes the time in the manifest. On another machine
    the predictions in ``samples.json`` may be rounded differently.

    Parameters
    ----------
    estimator : MoDEClassifier, MoDERegressor or a model around one
        A fitted estimator; or a Pipeline that ends with one, whose steps become part of the graphs;
        or a search such as GridSearchCV, a threshold (FixedThresholdClassifier,
        TunedThresholdClassifierCV) or a TransformedTargetRegressor around either, and so on. Also
        an estimator of images or of texts, or with columns of them, but no steps before it.
    directory : path
        Folder to write. It must be new, empty or a bundle; an existing bundle is replaced as a
        whole once the new one is complete.
    X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features), images or texts, \
default=None
        Rows like those of training, ideally the training table. Before anything is written, the
        predictions of the bundle and of `estimator` are compared on up to 1,000 of them. A
        Pipeline needs `X`, because the types, categories and ranges of its raw columns are read
        from it; so does `quantize`.
    routing : {"top_expert", "mixture"}, default="top_expert"
        Whether ``model.onnx`` predicts each row with its top expert alone, as the estimator does
        with ``inference="top_expert"``, or with the whole mixture. If the estimator predicts by its
        mixture and the bundle does not, a warning says how much they differ.
    quantize : {"dynamic"} or None, default=None
        ``"dynamic"`` reduces the weights of the experts to 8 bits with
        `onnxruntime.quantization.quantize_dynamic`. They take a quarter of the space, and wide
        experts are faster. Predictions change a little. They also depend slightly on the other
        rows of a call, because the runtime scales the inputs of a layer by their range. Needs `X`.
    tolerance : float, default=0.02
        How much 8-bit experts may change the predictions on `X`. It limits the share of labels
        that change, and the mean absolute difference of the probabilities. For regression it
        limits the root mean squared difference in standard deviations of the target.
    notes : str, default=""
        Free text for the manifest and ``README.md``.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If a parameter has an invalid value; if `X` is needed and missing, or its columns differ
        from training; if the predictions on `X`, or on the rows of ``samples.json``, differ from
        the estimator's by more than 1e-4, or with 8-bit experts by more than `tolerance`; if
        float32 cannot tell all categories of a column apart.
    TypeError
        If the estimator, or a part of it, cannot be converted to ONNX, or if its class labels are
        not strings, integers, bools or floats. A calibrated classifier, a chain or an ensemble
        cannot become a bundle; use `skl2onnx.to_onnx`.
    NotImplementedError
        If a step of a Pipeline, the inverse of a TransformedTargetRegressor or a threshold on a
        decision function cannot be converted.
    FileExistsError
        If `directory` is not empty and not a bundle.

    Warns
    -----
    RoutingDifferenceWarning
        If the estimator predicts by its mixture (``inference="mixture"``, the default) and the
        bundle by the top expert of each row. It says how far the two are from each other on the
        validation rows of `fit` (`routing_difference_`) and on the rows of `X`, and how they scored
        on the validation rows. ``manifest.json`` and ``README.md`` state the first of these.
    UserWarning
        If a regression target is so far from zero that float32, the type of the predictions, is
        too coarse.

    Notes
    -----
    A model that was trained on a table has one input of shape `(n, 1)` per column, with the name of
    the column; if an output has that name, ``_input`` is appended. Numbers are float32, with NaN
    for missing ones. Numeric categories are float64. Missing strings are ``""``. Numbers that the
    steps of a Pipeline read are float64, unless they are float32 in the table. A ColumnTransformer
    may pass strings on to the estimator, whose own categories they become. A model that was
    trained on an array has one float32 input ``X``; if the array had string categories, it has one
    input per column, ``x0``, ``x1`` and so on. A model of images has one input ``image``, in the
    type and with the axes of the training images: normalisation is part of the graphs. A model of
    texts has the inputs ``tokens`` (int64) and ``counts`` (float32) of shape `(n, length)`, and the
    bundle holds its ``tokenizer.json``: `skmode_deploy` reads texts. A column of texts in a table
    has the inputs ``tokens_<name>`` and ``counts_<name>``. A column of images has one input, which
    has its name, for the pixels of all rows.

    The outputs of a classifier are ``label`` `(n,)` and ``probabilities`` `(n, n_classes)`; a
    regressor has ``variable`` `(n, n_outputs)`. Both have ``expert`` `(n,)`, the top expert of
    each row, and ``gate_probability`` `(n,)`, its gate weight. Labels are integers or strings;
    for bools and floats ``label`` is the position in `classes_`. With a threshold the label may
    differ from the most probable class; ``manifest.json`` has the threshold.

    The rows of ``samples.json`` are drawn from the ranges and categories in the manifest, with a
    category that training did not see, and with missing values where training saw some. Rows
    close to a tie between two experts or two classes are left out. On the machine that serves the
    bundle, check it with `skmode_deploy.samples.check_samples` or ``skmode-deploy verify``. With
    `quantize` the stored predictions are those of ``model.onnx``. If the steps of a Pipeline fail
    on all such rows, the bundle has no ``samples.json``, and the logger ``skmode`` says why. Where
    the bundle predicts something else than the model, that is an error, and nothing is written.
    Only of a Pipeline the rows may then lack missing values and unknown categories.

    A module of your own (`trunk_module`, `expert_module`) must treat each row alone, and use only
    what `torch.onnx.export` can trace.

    The steps of a Pipeline, or their graph, may fail on values that `X` does not show. Therefore
    missing values, unknown categories and numbers beyond those of `X` are put into rows of `X`, one
    column after the other. Where the Pipeline raises, or its graph predicts something else, the
    manifest states it (`refuses`, `lowest` and `highest` of the column), and `skmode_deploy`
    refuses such values with an error that names the column. If such rows cannot be made, missing
    values that `X` does not have and unknown categories are refused.

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
    X = to_dense(X)  # as the served model reads it
    _check_options(routing, quantize, X, tolerance, notes)
    parts, preprocessing = read_pipeline(estimator, X)
    source = _read_source(parts)
    check_target(source)
    if preprocessing is not None:
        source = prepend_steps(source, preprocessing)
    difference = compare_routing(parts, X) if routing == "top_expert" else None
    manifest = replace(
        _manifest(parts, source, routing), notes=notes, routing_difference=difference
    )
    files = _files(source, manifest)
    with _opened(manifest, files) as predictor:
        if X is not None:
            differences = measure_differences(predictor, estimator, X, manifest.routing)
            check_predictions(differences, estimator)
        manifest = replace(manifest, columns=find_refusals(predictor, estimator, X))
    if quantize is not None:
        source = replace(source, experts=quantize_experts(source.experts))
        manifest = replace(manifest, quantization=quantize)
        files = _files(source, manifest)
        with _opened(manifest, files) as predictor:
            differences = measure_differences(predictor, estimator, X, manifest.routing)
        check_quantization(differences, tolerance)
    samples = make_samples(manifest, files, estimator, X)
    if samples is not None:
        files[bundle.SAMPLES] = samples
    bundle.write(directory, manifest, files)


def _read_source(parts: Parts) -> Source:
    source = read_estimator(parts.estimator)
    if parts.threshold is not None:
        source = replace(source, choose=parts.threshold.emit)
    if parts.targets:
        source = replace(source, invert=parts.emit_inverse)
    return source


@contextmanager
def _opened(
    manifest: bundle.Manifest, files: dict[str, bytes]
) -> Iterator[skmode_deploy.Predictor]:
    """Write a bundle into a temporary folder, and open it."""
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(folder, manifest, files)
        yield skmode_deploy.load(folder, providers=("CPUExecutionProvider",))


def _check_options(routing: Any, quantize: Any, X: Any, tolerance: Any, notes: Any) -> None:
    if routing not in ("top_expert", "mixture"):
        raise ValueError(
            f'routing must be "top_expert" or "mixture", got {routing!r}: choose one of these.'
        )
    if quantize not in (None, "dynamic"):
        raise ValueError(
            f'quantize must be None or "dynamic", got {quantize!r}: choose one of these.'
        )
    if X is not None:
        _check_rows(X)
    if quantize is not None and X is None:
        raise ValueError(
            f"quantize={quantize!r} needs rows to compare predictions on, got X=None: pass a few "
            "hundred rows like those of training as X."
        )
    is_number = isinstance(tolerance, int | float | np.number) and not isinstance(tolerance, bool)
    if not is_number or not tolerance >= 0:
        raise ValueError(
            f"tolerance must be a number of at least 0, got {tolerance!r}: pass for example 0.02, "
            "which lets 2 % of the labels change."
        )
    if not isinstance(notes, str):
        raise TypeError(f"notes must be a str, got {notes!r}: pass a string.")


def _check_rows(X: Any) -> None:
    if isinstance(X, str | bytes | dict) or not (hasattr(X, "shape") or hasattr(X, "__len__")):
        raise TypeError(
            "X must be a table or an array of shape (n_samples, n_features), got "
            f"{type(X).__name__}: pass the training table."
        )
    if (X.shape[0] if getattr(X, "shape", ()) else len(X)) == 0:
        raise ValueError("X must have rows, got 0: pass the training table, or part of it.")


def _files(source: Source, manifest: bundle.Manifest) -> dict[str, bytes]:
    """Build the content of each ONNX file."""
    models = {"model.onnx": build_model(source, manifest.routing), "gate.onnx": build_gate(source)}
    for i in range(source.mixture.n_experts):
        models[f"expert_{i}.onnx"] = build_expert(source, i)
    properties = _metadata(manifest)
    written = {name: _serialize(graph, name, properties) for name, graph in models.items()}
    return written | {name: text.encode() for name, text in source.tokenizers.items()}


def _metadata(manifest: bundle.Manifest) -> dict[str, str]:
    properties = {
        "producer": "skmode",
        "producer_version": __version__,
        "task": manifest.task,
        "n_experts": str(manifest.n_experts),
        "alpha": repr(manifest.alpha),
        "routing": manifest.routing,
    }
    if manifest.quantization is not None:
        properties["quantization"] = manifest.quantization
    if manifest.classes is not None:
        properties["classes"] = json.dumps(manifest.classes.values)
    return properties


def _serialize(graph: GraphBuilder, name: str, properties: dict[str, str]) -> bytes:
    model: onnx.ModelProto = graph.to_model(name.removesuffix(".onnx"), properties)
    model.producer_name, model.producer_version = "skmode", __version__
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _manifest(parts: Parts, source: Source, routing: Routing) -> bundle.Manifest:
    estimator = parts.estimator
    classes = threshold = None
    if parts.threshold is not None:
        threshold = bundle.Threshold(parts.threshold.positive, parts.threshold.value)
    if source.classes is not None:
        dtype = source.classes.dtype
        classes = bundle.Classes(
            tuple(source.classes.tolist()), dtype.str, label_kind(source.classes)
        )
    scores = estimator.validation_scores_
    one_per_column, columns = source.one_input_per_column, source.columns
    of_table = source.image is None and not source.reads_texts
    from_table = of_table and bool(estimator.encoder_.from_table_)
    if source.preprocessing is not None:
        before = source.preprocessing
        one_per_column, from_table = before.one_input_per_column, before.from_table
        columns = before.columns
    return bundle.Manifest(
        task="regression" if source.classes is None else "classification",
        routing=routing,
        input=_kind_of_input(source, one_per_column),
        from_table=from_table,
        columns=columns,
        n_outputs=source.n_outputs,
        classes=classes,
        n_experts=source.mixture.n_experts,
        alpha=float(estimator.alpha_),
        expert_usage=tuple(float(share) for share in estimator.expert_usage_),
        validation_scores=scores and {name: float(score) for name, score in scores.items()},
        versions={
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
            "skl2onnx": skl2onnx.__version__,
            "skmode": __version__,
            "torch": torch.__version__,
        },
        threshold=threshold,
        teacher=_teacher(estimator),
        image=source.image,
    )


def _kind_of_input(
    source: Source, one_per_column: bool
) -> Literal["columns", "array", "image", "text"]:
    if source.image is not None:
        return "image"
    if source.reads_texts:
        return "text"
    return "columns" if one_per_column else "array"


def _teacher(estimator: Any) -> bundle.Teacher | None:
    """Name the estimators that taught this one, with the losses of both."""
    names = getattr(estimator, "teacher_names_", [])  # pickles of earlier releases have none
    if not names:
        return None
    scores = estimator.teacher_scores_
    return bundle.Teacher(tuple(names), None if scores is None else dict(scores["loss"]))
