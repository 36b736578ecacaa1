"""A served model of texts: the labels are equal, and how long predictions take."""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import numpy as np
import onnxruntime

import skmode_deploy
from benchmarks.text._measure import RESULTS, load
from skmode import MoDETextClassifier
from skmode.onnx import export

SET = "reuters-r8"
N_ONE, N_REPEATS = 500, 5


def measure_serving() -> None:
    """Export a model of R8, compare its labels with the estimator's, and time it."""
    split = load(SET)
    model = MoDETextClassifier(random_state=0, inference="top_expert").fit(split.X, split.y)
    with tempfile.TemporaryDirectory() as folder:
        export(model, folder, X=split.X[:500])
        predictor = skmode_deploy.load(folder)
        labels = predictor.predict(split.test)
        found: dict[str, Any] = {
            "set": SET,
            "n_texts": len(labels),
            "labels_equal": float((labels == model.predict(split.test)).mean()),
            "characters_of_one": float(np.median([len(text) for text in split.test])),
            "microseconds_of_one": 1e6 * _one(predictor, split.test[:N_ONE]),
            "texts_a_second": _batch(predictor, split.test),
            "onnxruntime": onnxruntime.__version__,
        }
    RESULTS.joinpath("text_serving.json").write_text(json.dumps(found, indent=2) + "\n")
    print(found)


def _one(predictor: skmode_deploy.Predictor, texts: list[str]) -> float:
    """Median processor seconds of one text, with its tokenizing."""
    times = []
    for text in texts:
        begun = time.process_time()
        predictor.predict([text])
        times.append(time.process_time() - begun)
    return float(np.median(times))


def _batch(predictor: skmode_deploy.Predictor, texts: list[str]) -> float:
    """Texts per processor second in one call."""
    times = []
    for _ in range(N_REPEATS):
        begun = time.process_time()
        predictor.predict(texts)
        times.append(time.process_time() - begun)
    return len(texts) / min(times)
