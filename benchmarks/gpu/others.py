"""Images, texts and language models, several candidates at once, and onnxruntime on the GPU."""

from __future__ import annotations

import inspect
import json
import logging
import pydoc_data.topics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.datasets import load_digits

from benchmarks.gpu._record import Lines, Setting, Skipped, attempt
from benchmarks.gpu._tables import epoch_seconds, make_classifier, make_table
from skmode import MoDEImageClassifier, MoDETextClassifier

# As in answers.py.
ALLOWED = 1e-4


def modalities(setting: Setting) -> Lines:
    """Train on images, on texts, and language models, on the device and on the CPU."""
    for name, measure in (("images", _images), ("texts", _texts), ("language", _language)):
        try:
            yield attempt({"of": name}, partial(measure, setting))
        except ImportError as error:  # texts need tokenizers, language models transformers too
            yield {"of": name, "skipped": str(error)}


def _images(setting: Setting) -> dict[str, Any]:
    """Digits of 8 x 8 pixels, enlarged to 32 x 32."""
    digits = load_digits()
    n = setting.choose(1500, 100)
    images = np.kron(digits.images[:n] / 16, np.ones((4, 4))).astype(np.float32)
    options: dict[str, Any] = {"random_state": 0, "max_epochs": setting.choose(6, 1)}
    if setting.quick:
        options |= {"trunk_channels": (4,), "expert_channels": (4,), "n_experts": 2}
    return _both(setting, MoDEImageClassifier, options, images, digits.target[:n])


def _texts(setting: Setting) -> dict[str, Any]:
    """Lines of English and of Python, from the standard library."""
    sources = _sources()
    n = setting.choose(2000, 60)
    texts = [line for own in sources.values() for line in own[:n]]
    labels = [name for name, own in sources.items() for _ in own[:n]]
    options: dict[str, Any] = {"random_state": 0, "max_epochs": setting.choose(8, 1)}
    options |= {"vocab_size": setting.choose(4000, 300)}
    return _both(setting, MoDETextClassifier, options, texts, np.array(labels))


def _both(
    setting: Setting, Estimator: Any, options: dict[str, Any], X: Any, y: Any
) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for device in (setting.device, "cpu"):
        model = Estimator(device=device, **options)
        seconds = setting.seconds(partial(model.fit, X, y))
        name = "cpu" if device == "cpu" else "device"
        line |= {f"{name}_seconds": round(seconds, 3), f"{name}_score": float(model.score(X, y))}
        line[f"{name}_epoch_seconds"] = round(epoch_seconds(model), 4)
    return line


def _language(setting: Setting) -> dict[str, Any]:
    """A teacher, and a student for each of two domains."""
    from skmode.language import ModularLanguageModel

    sources = _sources()
    n = setting.choose(4000, 150)
    texts = ["\n".join(own[:n]) for own in sources.values()]
    steps = setting.choose(100, 2)
    options: dict[str, Any] = {
        "student": setting.choose("small", "tiny"),
        "teacher": setting.choose("medium", "tiny"),
        "vocab_size": setting.choose(2048, 300),
        "max_length": setting.choose(256, 16),
        "batch_size": setting.choose(32, 2),
        "steps": steps,
        "teacher_steps": steps,
        "warm_start_steps": steps,
        "random_state": 0,
    }
    model = ModularLanguageModel(device=setting.device, **options)
    seconds = setting.seconds(lambda: model.fit(texts, list(sources)))
    tokens = 4 * steps * options["batch_size"] * options["max_length"]
    line = {"device_seconds": round(seconds, 2), "tokens_per_second": round(tokens / seconds)}
    start = time.perf_counter()
    bits = model.bits_per_byte([text[:20_000] for text in texts])
    line["evaluation_seconds"] = round(time.perf_counter() - start, 3)
    line["bits_per_byte"] = [round(float(each), 4) for each in bits]
    return line


def _sources() -> dict[str, list[str]]:
    english = "\n".join(pydoc_data.topics.topics.values()).splitlines()
    python = "\n".join(map(inspect.getsource, (inspect, logging, json, tempfile))).splitlines()
    sources = {"english": english, "python": python}
    return {
        name: [line.strip() for line in own if len(line.split()) > 3]
        for name, own in sources.items()
    }


def several(setting: Setting) -> Lines:
    """Fit several small candidates at once on one device: in turn, in threads, in processes."""
    n_rows, n_candidates = setting.choose(20_000, 300), setting.choose(4, 2)
    X, y = make_table(n_rows)
    models = [
        make_classifier(
            setting,
            4,
            setting.choose(64, 8),
            max_epochs=setting.choose(3, 1),
            random_state=seed,
        )
        for seed in range(n_candidates)
    ]
    models[0].fit(X, y)
    expected = models[1].fit(X, y).predict_proba(X[:100])
    alone = setting.seconds(lambda: [model.fit(X, y) for model in models])
    yield {"candidates": n_candidates, "at_once": 1, "how": "in turn", "seconds": round(alone, 3)}
    for workers in setting.choose((4,), (2,)):
        with ThreadPoolExecutor(workers) as pool:
            seconds = setting.seconds(lambda: list(pool.map(lambda each: each.fit(X, y), models)))
        same = float(np.abs(models[1].predict_proba(X[:100]) - expected).max())
        yield _at_once(n_candidates, workers, "threads", alone, seconds) | {"difference": same}
    for workers in setting.choose((4,), ()):
        with Parallel(n_jobs=workers) as parallel:
            parallel(delayed(_fit_in_process)(models[0], X[:500], y[:500]) for _ in range(workers))
            seconds = setting.seconds(
                lambda: parallel(delayed(_fit_in_process)(each, X, y) for each in models)
            )
        yield _at_once(n_candidates, workers, "processes", alone, seconds)


def _fit_in_process(model: Any, X: Any, y: Any) -> None:
    torch.set_num_threads(1)
    model.fit(X, y)


def _at_once(
    n_candidates: int, workers: int, how: str, alone: float, seconds: float
) -> dict[str, Any]:
    return {
        "candidates": n_candidates,
        "at_once": workers,
        "how": how,
        "seconds": round(seconds, 3),
        "times_as_fast": round(alone / seconds, 3),
    }


def serving(setting: Setting) -> Lines:
    """Compare an exported model on CUDAExecutionProvider with the estimator."""
    try:
        import onnxruntime

        import skmode.onnx
        import skmode_deploy
    except ImportError as error:
        raise Skipped(f"needs onnx and onnxruntime: {error}") from error
    wanted = "CUDAExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        if not setting.quick:
            raise Skipped(f"onnxruntime {onnxruntime.__version__} has no {wanted}")
        wanted = "CPUExecutionProvider"
    X, y = make_table(setting.choose(100_000, 300))
    model = make_classifier(
        setting, 4, 64, max_epochs=2, inference="top_expert", precision="float32"
    ).fit(X, y)
    expected = model.predict_proba(X[:1000])
    with tempfile.TemporaryDirectory() as folder:
        skmode.onnx.export(model, Path(folder) / "bundle", X=X[:100])
        for provider in dict.fromkeys((wanted, "CPUExecutionProvider")):
            predictor = skmode_deploy.load(Path(folder) / "bundle", providers=(provider,))
            found = predictor.predict_proba(X[:1000])
            rows = X[: setting.choose(65_536, 300)]
            predictor.predict_proba(rows)
            seconds = min(setting.seconds(partial(predictor.predict_proba, rows)) for _ in range(3))
            difference = float(np.abs(found - expected).max())
            yield {
                "provider": provider,
                "difference": difference,
                "holds": difference <= ALLOWED,
                "rows_per_second": round(len(rows) / seconds),
            }
