"""Pickles of an earlier release load, predict as they did, and go on training."""

import copy
import importlib
import io
import pickle
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmode.inspection
import skmode_deploy.bundle
from skmode import MoDEClassifier, MoDERegressor, nn

# Written by skmode 0.1.0, whose modules had other names, after training on the rows below.
FOLDER = Path(__file__).parent / "pickles"
PROBABILITIES = [0.547155, 0.545016, 0.557427, 0.543382, 0.541038, 0.552042]
VALUES = [0.738018, 0.743325, 0.74405, 0.756087, 0.74198, 0.743929]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=150), "kind": rng.choice(["a", "b"], 150)})
    frame.loc[::9, "size"] = np.nan
    return frame


def load(name):
    with pytest.warns(InconsistentVersionWarning, match="from version pre-0.1.0"):
        return pickle.loads((FOLDER / f"{name}.pickle").read_bytes())


def test_classifier_of_0_1_0(rows):
    classifier = load("classifier")
    assert type(classifier) is MoDEClassifier
    assert_allclose(classifier.predict_proba(rows[:6])[:, 1], PROBABILITIES, atol=1e-5)
    again = pickle.loads(pickle.dumps(classifier))
    assert_allclose(again.predict_proba(rows), classifier.predict_proba(rows))


def test_regressor_of_0_1_0(rows):
    regressor = load("regressor")
    assert type(regressor) is MoDERegressor
    assert_allclose(regressor.predict(rows[:6]), VALUES, atol=1e-5)


@pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")
def test_warm_start_continues_from_pickled_weights(rows):
    classifier = load("classifier").set_params(max_epochs=1, refit_fraction=0)
    before = [each.detach().clone() for each in classifier.net_.module_.parameters()]
    classifier.fit(rows, np.where(rows["kind"] == "a", "True", "False"))
    after = [each.detach() for each in classifier.net_.module_.parameters()]
    moved = [float((a - b).abs().max()) for a, b in zip(after, before, strict=True)]
    assert 0 < max(moved) < 0.5
    assert len(classifier.history_) == 4


@pytest.mark.parametrize(
    ("module", "thing"),
    [
        ("skmode._base", skmode.RoutingCollapseWarning),
        ("skmode.nn.balance", nn.load_balance_loss),
        ("skmode.nn.distillation", nn.distillation_loss),
        ("skmode.inspection._plot._attention", skmode.inspection.ExpertAttentionDisplay),
        ("skmode.inspection._plot._history", skmode.inspection.GateHistoryDisplay),
        ("skmode.inspection._plot._paths", skmode.inspection.AlphaPathDisplay),
        ("skmode.inspection._plot._probing", skmode.inspection.ExpertProbingDisplay),
        ("skmode.inspection._plot._routing", skmode.inspection.RoutingMapDisplay),
        ("skmode_deploy.manifest", skmode_deploy.bundle.Manifest),
        ("skmode_deploy.predictor", skmode_deploy.Predictor),
        ("skmode_deploy.predictor", skmode_deploy.Prediction),
    ],
)
def test_classes_pickled_by_0_1_0_are_found(module, thing):
    assert getattr(importlib.import_module(module), thing.__name__) is thing


class Mine(MoDEClassifier):
    """A subclass of a user's own."""


@pytest.fixture(params=[MoDEClassifier, MoDERegressor, Mine])
def fitted(request):
    X = np.random.default_rng(0).normal(size=(40, 2))
    return request.param(n_experts=2, max_epochs=1, random_state=0).fit(X, X[:, 0] > 0)


def through_joblib(thing):
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: [model], make_pipeline])
def test_pickles_of_another_version_warn(fitted, wrap, monkeypatch):
    pickled = pickle.dumps(wrap(fitted))
    monkeypatch.setattr("skmode._common.pickling.__version__", "0.2.0")
    with pytest.warns(InconsistentVersionWarning, match="0.1.0 when using version 0.2.0") as seen:
        pickle.loads(pickled)
    (warning,) = (each.message for each in seen)
    assert warning.estimator_name == type(fitted).__name__
    assert warning.original_sklearn_version == "0.1.0"


def test_copies_and_pickles_of_this_version_do_not_warn(fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (fitted, clone(fitted), make_pipeline(StandardScaler(), fitted)):
            for make in (copy.copy, copy.deepcopy, clone, through_joblib):
                assert not hasattr(make(model), "_skmode_version")
            assert not hasattr(pickle.loads(pickle.dumps(model)), "_skmode_version")


def test_what_is_loaded_in_inference_mode_can_train_on(fitted):
    pickled = pickle.dumps(fitted.set_params(warm_start=True))
    X = np.random.default_rng(0).normal(size=(40, 2))
    expected = pickle.loads(pickled).fit(X, X[:, 0] > 0).expert_predict(X)
    with torch.inference_mode():
        model = pickle.loads(pickled)
    assert_array_equal(model.fit(X, X[:, 0] > 0).expert_predict(X), expected)
