"""Time the exported graphs: each image's top expert against the whole mixture."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks._timing import open_session
from benchmarks.images._measure import RESULTS, inner
from skmode import MoDEImageClassifier
from skmode.onnx import export

SIZES = (1, 2, 7, 256, 2_000)
REPEATS = 7


def time_routing() -> None:
    """Write how long both graphs take, and how far they are from the estimator."""
    split = inner(2_000)
    model = MoDEImageClassifier(max_epochs=3, random_state=0).fit(split.X, split.y)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for routing in ("top_expert", "mixture"):
            export(model.set_params(inference=routing), Path(folder, routing), routing=routing)
            sessions[routing] = open_session(Path(folder, routing, "model.onnx"))
        for n_rows in SIZES:
            images = split.test[:n_rows]
            seconds: dict[str, list[float]] = {routing: [] for routing in sessions}
            for _ in range(REPEATS):  # in turns, so that what disturbs one disturbs both
                for routing, session in sessions.items():
                    seconds[routing].append(_time(session, images))
            times = {routing: median(each) for routing, each in seconds.items()}
            errors = {
                routing: _compare(model.set_params(inference=routing), session, images)
                for routing, session in sessions.items()
            }
            found[n_rows] = {
                "milliseconds": {name: round(1e3 * each, 4) for name, each in times.items()},
                "ratio": round(times["mixture"] / times["top_expert"], 3),
                "largest_difference": max(error for error, _ in errors.values()),
                "labels_equal": all(equal for _, equal in errors.values()),
            }
    RESULTS.joinpath("images_routing.json").write_text(json.dumps(found, indent=2) + "\n")


def _time(session: Any, images: Any) -> float:
    n_calls = max(1, 256 // len(images))
    begun = time.process_time()
    for _ in range(n_calls):
        session.run(None, {"image": images})
    return (time.process_time() - begun) / n_calls


def _compare(model: Any, session: Any, images: Any) -> tuple[float, bool]:
    label, probabilities = session.run(["label", "probabilities"], {"image": images})
    expected = model.predict_proba(images)
    error = float(np.abs(probabilities - expected).max())
    return error, bool(np.array_equal(label, model.predict(images)))
