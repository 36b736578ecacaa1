"""Does a GPU give the answers that the CPU gives, and do models travel between the two?"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

from benchmarks.gpu._record import Lines, Setting, attempt
from skmode import MoDEClassifier, MoDERegressor

# Largest difference of probabilities, and of predictions in standard deviations of the target.
ALLOWED = 1e-4
# In a process that sees no GPU.
READER = """
import pickle, sys
import numpy as np
import torch
assert not torch.cuda.is_available()
with open(sys.argv[1], "rb") as file:
    models = pickle.load(file)
found = [getattr(model, "predict_proba", model.predict)(X) for model, X in models]
np.savez(sys.argv[2], *found)
"""


def answers(setting: Setting) -> Lines:
    """Compare both at equal seeds, where neither draws random numbers after the weights.

    Both have the same weights and order of rows, so rounding alone differs; it grows with the
    steps. TF32 and bf16 round to 10 and 7 bits, so no 1e-4 can be asked of them.
    """
    for kind in ("classifier", "regressor"):
        for gate in ("dense", "sparse"):
            for precision in ("float64", "float32", "bf16"):
                if precision == "float64" and setting.device == "mps":
                    continue
                options: dict[str, Any] = {"gate": gate, "balance": 0.1, "precision": precision}
                about = {"estimator": kind, "gate": gate, "precision": precision}
                found = attempt(about, partial(_differences, setting, kind, options))
                if precision == "bf16":
                    found.pop("holds", None)
                yield found


def _differences(setting: Setting, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    fixed = {"dropout": 0.0, "alpha": 1.0, "teacher": None, "early_stopping": False}
    fixed |= {"max_epochs": setting.choose(5, 2), "random_state": 0, "batch_size": 128}
    X, y = _data(kind, setting)
    pair = [
        _make(kind, device=device, **fixed, **options).fit(X, y)
        for device in (setting.device, "cpu")
    ]
    curves = np.array([each.loss_curve_ for each in pair])
    predictions = [_predict(each, X) for each in pair]
    spread = 1.0 if kind == "classifier" else float(np.std(y))
    difference = float(np.abs(predictions[0] - predictions[1]).max()) / spread
    return {
        "loss_difference": float(np.abs(curves[0] - curves[1]).max()),
        "prediction_difference": difference,
        "same_expert": float(np.mean(pair[0].route(X) == pair[1].route(X))),
        "allowed": ALLOWED,
        "holds": difference <= ALLOWED,
    }


def quality(setting: Setting) -> Lines:
    """Compare held-out scores over five seeds, with all that the defaults draw."""
    for kind, load in (("classifier", load_breast_cancer), ("regressor", load_diabetes)):
        X, y = load(return_X_y=True)
        gaps = []
        for seed in range(setting.choose(5, 2)):
            parts = train_test_split(X, y, test_size=0.3, random_state=seed)
            line: dict[str, Any] = {"estimator": kind, "seed": seed}
            for name, device in (("device", setting.device), ("cpu", "cpu")):
                options = {"max_epochs": 2} if setting.quick else {}
                model = _make(kind, device=device, random_state=seed, **options)
                model.fit(parts[0], parts[2])
                line[name] = round(float(model.score(parts[1], parts[3])), 4)
            gaps.append(line["device"] - line["cpu"])
            yield line
        error = float(np.std(gaps, ddof=1) / len(gaps) ** 0.5)
        yield {
            "estimator": kind,
            "mean_gap": float(np.mean(gaps)),
            "standard_error": error,
            "holds": bool(abs(np.mean(gaps)) <= 2 * error + 1e-9),
        }


def elsewhere(setting: Setting) -> Lines:
    """Load what the device trained in a process that has no GPU, and its weights on the CPU."""
    options: dict[str, Any] = {"max_epochs": 2, "random_state": 0, "precision": "float32"}
    models = []
    for kind in ("classifier", "regressor"):
        X, y = _data(kind, setting)
        model = _make(kind, device=setting.device, warm_start=True, **options)
        models.append((model.fit(X, y), X))
    found = _predict_without_gpu(models)
    for kind, pair, there in zip(("classifier", "regressor"), models, found, strict=True):
        about = {"estimator": kind, "trained_on": pair[0].device_}
        yield attempt(about, partial(_travels, setting, kind, pair[0], options, there))


def _travels(
    setting: Setting, kind: str, model: Any, options: dict[str, Any], there: Any
) -> dict[str, Any]:
    """Compare what `model` predicts with what it predicted elsewhere, and let training go on."""
    X, y = _data(kind, setting)
    expected = _predict(model, X)
    other = _make(kind, device="cpu", **options | {"random_state": 1}).fit(X, y)
    _load_state(other, model)
    differences = [_relative(each, expected) for each in (there, _predict(other, X))]
    # A warm start goes on elsewhere, and back.
    moved = pickle.loads(pickle.dumps(model)).set_params(device="cpu").fit(X, y)
    back = moved.set_params(device=setting.device).fit(X, y)
    goes_on = bool(back.loss_curve_[-1] < back.loss_curve_[0])
    return {
        "pickle_difference": differences[0],
        "state_difference": differences[1],
        "goes_on": goes_on,
        "holds": bool(max(differences) <= ALLOWED and goes_on),
    }


def _predict_without_gpu(models: list[tuple[Any, Any]]) -> list[Any]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/models.pkl", f"{folder}/found.npz"]
        Path(files[0]).write_bytes(pickle.dumps(models))
        subprocess.run([sys.executable, "-c", READER, *files], check=True, env=environment)
        with np.load(files[1]) as found:
            return [found[f"arr_{i}"] for i in range(len(models))]


def _load_state(into: Any, model: Any) -> None:
    """Give a fitted estimator another one's weights, by way of a file."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.net_.module_.state_dict(), f"{folder}/state.pt")
        into.net_.module_.load_state_dict(torch.load(f"{folder}/state.pt", map_location="cpu"))


def _relative(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _data(kind: str, setting: Setting) -> tuple[Any, Any]:
    if kind == "regressor":
        X, y = load_diabetes(return_X_y=True)
    else:
        X, y = (
            load_breast_cancer(return_X_y=True) if setting.quick else load_digits(return_X_y=True)
        )
    few = setting.choose(len(X), 200)
    return X[:few], y[:few]


def _make(kind: str, **options: Any) -> Any:
    return (MoDEClassifier if kind == "classifier" else MoDERegressor)(**options)


def _predict(model: Any, X: Any) -> Any:
    return getattr(model, "predict_proba", model.predict)(X)
