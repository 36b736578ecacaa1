"""Make up rows and predict them, for the file ``samples.json`` of a bundle."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import skmode_deploy
from skmode._common.quiet import hide_warnings
from skmode.onnx._bundles.checks.parity import TOLERANCE, name_causes
from skmode.onnx._bundles.columns import like_training
from skmode.onnx._bundles.parts import Parts, margin, read_parts
from skmode_deploy import bundle
from skmode_deploy.errors import SampleMismatchError
from skmode_deploy.samples import (
    MAX_BYTES,
    Samples,
    check_samples,
    draw_columns,
    draw_rows,
    sample_inputs,
)

LOGGER = logging.getLogger("skmode")

N_ROWS = 32
# Numbers of all images together; a few bytes of JSON each.
MAX_PIXELS = 200_000
# Most models need the first 64 rows that are drawn.
MAX_DRAWN = 2048
SEED = 0
# If two experts or two classes are closer than this, rounding may decide between them.
CLEAR = 1e-3
# Predictions with 8-bit weights may differ by this on another processor, as rounding is coarser.
TOLERANCE_8_BITS = 1e-2
# Tried in turn: a step of a Pipeline may fail on missing values or unknown categories.
KINDS_OF_ROWS = (
    {"missing": True, "unseen": True},
    {"missing": True, "unseen": False},
    {"missing": False, "unseen": False},
)

_Arrays = dict[str, NDArray[Any]]


def make_samples(
    manifest: bundle.Manifest, files: Mapping[str, bytes], model: Any, X: Any
) -> bytes | None:
    """Make up rows, let the model predict them, and check that the bundle predicts the same."""
    parts = read_parts(model)
    reasons = []
    for kinds in KINDS_OF_ROWS:
        try:
            return _make(manifest, files, model, X, kinds)
        except Exception as error:  # a step of a Pipeline may raise anything
            is_mismatch = isinstance(error, SampleMismatchError)
            # Steps may well be converted to something else on unusual rows, but on no others.
            if is_mismatch and (not parts.steps or kinds is KINDS_OF_ROWS[-1]):
                raise ValueError(_mismatch(error, parts)) from error
            reason = f"{type(error).__name__}: {str(error).strip()[:300]}"
            reasons.append(reason)
            # A step may well fail on such rows, but a bundle must not predict something else.
            level = logging.WARNING if is_mismatch else logging.INFO
            LOGGER.log(level, "Sample rows (%s) gave %s", _describe(kinds), reason)
    LOGGER.warning(
        "The bundle gets no %s: the model failed on rows made up from the ranges and categories "
        "of its columns: %s. Servers cannot check the predictions of this bundle.",
        bundle.SAMPLES,
        "; ".join(dict.fromkeys(reasons)),
    )
    return None


def _mismatch(error: Exception, parts: Parts) -> str:
    """Say what differs, with cures for whoever exports in the place of those for a server."""
    difference = str(error).split(": export the model")[0].split(" Upgrade onnxruntime")[0]
    cures = name_causes(parts) or (
        "scale numbers before fit that are too coarse in float32. If there are none, this is a "
        "defect: please report it, with what `python -m skmode` prints."
    )
    return (
        "The bundle must predict what the model predicts, for made-up rows, too. "
        f"{difference.rstrip('.')}: {cures}"
    )


def _make(
    manifest: bundle.Manifest,
    files: Mapping[str, bytes],
    model: Any,
    X: Any,
    kinds: Mapping[str, bool],
) -> bytes:
    n_rows = _n_rows(manifest)
    n_drawn = 2 * n_rows
    while True:
        rows = _draw(manifest, n_drawn, X, kinds)
        inputs = sample_inputs(manifest, rows)
        outputs, clear = _predict(manifest, model, rows)
        chosen = np.flatnonzero(clear)[:n_rows]
        if len(chosen) == n_rows or n_drawn >= MAX_DRAWN:
            break
        n_drawn *= 2
    if not len(chosen):
        raise ValueError("every row is too close to a tie between experts or classes")
    # In the order of the columns, several of which may share one input.
    names = dict.fromkeys(column.input for column in manifest.columns) or inputs
    samples = Samples(
        {name: inputs[name][chosen] for name in names},
        {name: values[chosen] for name, values in outputs.items()},
        _tolerance(manifest, model, rows, outputs),
        "estimator",
    )
    with tempfile.TemporaryDirectory() as folder:
        if manifest.quantization is not None:
            samples = _predict_by_graph(samples, manifest, files, model, Path(folder) / "graph")
        return _check(samples, manifest, files, Path(folder) / "checked")


def _draw(manifest: bundle.Manifest, n_rows: int, X: Any, kinds: Mapping[str, bool]) -> Any:
    """Make up rows like those of training, images or texts."""
    if manifest.image is not None:
        return draw_rows(manifest, n_rows, SEED)
    if manifest.input == "text":
        return draw_columns(manifest, n_rows, SEED, **kinds)[0]
    return like_training(manifest, draw_columns(manifest, n_rows, SEED, **kinds), X)


def _n_rows(manifest: bundle.Manifest) -> int:
    """The number of sample rows: fewer where each is a large image."""
    if not manifest.n_pixel_values:
        return N_ROWS
    return max(1, min(N_ROWS, MAX_PIXELS // manifest.n_pixel_values))


def _describe(kinds: Mapping[str, bool]) -> str:
    names = {"missing": "missing values", "unseen": "unknown categories"}
    chosen = [names[name] for name, wanted in kinds.items() if wanted]
    return f"with {' and '.join(chosen)}" if chosen else "plain"


def _check(
    samples: Samples, manifest: bundle.Manifest, files: Mapping[str, bytes], folder: Path
) -> bytes:
    """Write the samples into the bundle, and check them as a server would."""
    text = samples.to_json()
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} bytes, more than {MAX_BYTES}, for {samples.n_rows} rows")
    bundle.write(folder, manifest, {**files, bundle.SAMPLES: text})
    check_samples(_load(folder))
    return text


def _predict_by_graph(
    samples: Samples,
    manifest: bundle.Manifest,
    files: Mapping[str, bytes],
    model: Any,
    folder: Path,
) -> Samples:
    """Replace the estimator's predictions by those of the graph with 8-bit weights."""
    bundle.write(folder, manifest, files)
    names = list(samples.outputs)
    for _ in range(len(next(iter(samples.inputs.values())))):
        predictor = _load(folder)
        feeds = predictor.encode_texts(samples.inputs)
        answers = dict(zip(names, predictor.run(names, feeds), strict=True))
        if "probabilities" not in answers:
            break
        clear = read_parts(model).margin(answers["probabilities"]) > 2 * TOLERANCE_8_BITS
        if clear.all():
            break
        # With fewer rows the runtime measures another range, so predictions may change again.
        samples = _select(samples, clear)
    if not samples.n_rows:
        raise ValueError("every row is too close to a tie between classes")
    return replace(samples, outputs=answers, source="graph")


def _select(samples: Samples, rows: NDArray[np.bool_]) -> Samples:
    return replace(
        samples,
        inputs={name: values[rows] for name, values in samples.inputs.items()},
        outputs={name: values[rows] for name, values in samples.outputs.items()},
    )


def _load(folder: Path) -> skmode_deploy.Predictor:
    return skmode_deploy.load(folder, providers=("CPUExecutionProvider",))


def _predict(manifest: bundle.Manifest, model: Any, rows: Any) -> tuple[_Arrays, NDArray[np.bool_]]:
    """Predict the outputs of the graph, and mark the rows that are not close to a tie."""
    parts = read_parts(model)
    with hide_warnings():  # for example of unknown categories
        features = parts.transform(rows)
        reference = parts.with_routing(manifest.routing)
        expected = parts.predict(reference, features)
        gate = np.asarray(parts.estimator.gate_proba(features))
    clear = (margin(gate) >= CLEAR) & np.isfinite(expected).all(axis=1)
    outputs: _Arrays = {}
    if manifest.classes is None:
        outputs["variable"] = expected.astype(np.float32)
    else:
        clear &= parts.margin(expected) >= CLEAR
        outputs["label"] = _labels(manifest.classes, parts.choose(expected))
        outputs["probabilities"] = expected.astype(np.float32)
    outputs["expert"] = gate.argmax(axis=1).astype(np.int64)
    outputs["gate_probability"] = gate.max(axis=1).astype(np.float32)
    return outputs, clear


def _labels(classes: bundle.Classes, positions: NDArray[Any]) -> NDArray[Any]:
    """Class labels in the type of the graph's output."""
    if classes.label == "index":
        return positions.astype(np.int64)
    dtype: Any = object if isinstance(classes.values[0], str) else np.int64
    labels: NDArray[Any] = np.array(classes.values, dtype=dtype)[positions]
    return labels


def _tolerance(
    manifest: bundle.Manifest, model: Any, rows: Any, outputs: _Arrays
) -> dict[str, tuple[float, ...]]:
    """How far each output may differ on another machine: as far as `export` itself allows."""
    tolerance = TOLERANCE if manifest.quantization is None else TOLERANCE_8_BITS
    gate = {"gate_probability": (TOLERANCE,)}
    if manifest.classes is not None:
        return {"probabilities": (tolerance,), **gate}
    parts = read_parts(model)
    scale = parts.deviation(parts.with_routing(manifest.routing), parts.transform(rows))
    # Far from zero float32 has steps larger than the tolerance.
    steps = 4 * np.finfo(np.float32).eps * np.abs(outputs["variable"]).max(axis=0)
    return {"variable": tuple((tolerance * scale + steps).tolist()), **gate}
