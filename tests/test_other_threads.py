"""Hiding messages of other libraries hides nothing of other threads, and undoes nothing of them."""

import logging
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmode
from skmode import MoDEClassifier
from skmode._common import quiet
from skmode.inspection import report
from skmode.onnx import export

pytestmark = pytest.mark.filterwarnings("ignore:The estimator predicts by its mixture")

X = np.random.default_rng(0).normal(size=(60, 3))
y = (X[:, 0] > 0).astype(int)
QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


class Foreign(UserWarning):
    """A warning of another thread."""


class Expert(torch.nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.linear = torch.nn.Linear(in_features, 8)

    def forward(self, x):
        return torch.relu(self.linear(x))


def run_export(folder, *, steps=False, **options):
    params = {"expert_module": Expert} if options.pop("own", False) else {}
    model = MoDEClassifier(**QUICK | params)
    model = make_pipeline(StandardScaler(), model) if steps else model
    export(model.fit(X, y), folder / "bundle", X=X, **options)


def fit_with_bins(folder):
    MoDEClassifier(**QUICK, numeric_embedding="piecewise_linear").fit(X > 0, y)


def write_report(folder):
    report(MoDEClassifier(**QUICK).fit(X, y), X, y, folder / "report.html")


# What runs while messages are hidden: the place to patch, and a call that leads there.
PLACES = {
    "trunk": ("skmode.nn.trunks.tables.PiecewiseLinearEmbeddings", fit_with_bins),
    "report": ("skmode.inspection._report.pictures._probing", write_report),
    "samples": ("skmode.onnx._bundles.parts.Parts.predict", lambda x: run_export(x, steps=True)),
    "refusals": (
        "skmode.onnx._bundles.checks.refusals.like_training",
        lambda x: run_export(x, steps=True),
    ),
    "experts": ("torch.onnx.export", lambda x: run_export(x, own=True)),
    "quantization": (
        "onnxruntime.quantization.quantize_dynamic",
        lambda x: run_export(x, quantize="dynamic", tolerance=1),
    ),
}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(each, marks=pytest.mark.slow) if each in ("experts", "report") else each
        for each in PLACES
    ],
)
def test_other_threads(place, monkeypatch, tmp_path, capsys, caplog):
    where, call = PLACES[place]
    met = []

    def of_another_thread():
        warnings.warn("seen", Foreign, stacklevel=1)
        warnings.filterwarnings("ignore", "set by another thread")
        logging.getLogger().warning("logged")
        print("printed")

    owner, _, name = where.rpartition(".")
    original = _find(owner, name)

    def meanwhile(*args, **kwargs):
        if not met:
            met.append(threading.Thread(target=of_another_thread))
            met[0].start()
            met[0].join()
        return original(*args, **kwargs)

    monkeypatch.setattr(where, meanwhile)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        call(tmp_path)
        after = list(warnings.filters)
    assert met
    assert [each.category for each in caught].count(Foreign) == 1
    added = [each[1] for each in after if each not in before]
    assert "set by another thread" in [getattr(each, "pattern", "") for each in added]
    assert not [each for each in added if isinstance(each, quiet._InThisContext)]
    assert [each for each in after if each in before] == before
    assert "logged" in caplog.text
    assert "printed" in capsys.readouterr().out


def _find(owner, name):
    parts = owner.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found = __import__(".".join(parts[:i]), fromlist=["_"])
        except ImportError:
            continue
        for part in parts[i:]:
            found = getattr(found, part)
        return getattr(found, name)
    raise AssertionError(owner)


def test_filters_are_never_exchanged():
    """`warnings.catch_warnings` undoes what other threads do in the meantime."""
    for path in Path(skmode.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "with warnings.catch_warnings" not in text, path
        assert "redirect_stdout(" not in text, path
