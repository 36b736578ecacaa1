"""How parameters are resolved: batch size, dropout, precision, device, optimizer."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning

from skmode import MoDEClassifier, MoDERegressor
from skmode._estimators.parameters import DROPOUT, resolve_batch_size

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 4,
    "early_stopping": False,
    "random_state": 0,
}
HELD_OUT = QUICK | {"early_stopping": True}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])

X, y = make_classification(300, 5, flip_y=0.3, random_state=0)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "expected"),
    [
        (100, "auto", 100),
        (128, "auto", 128),
        (129, "auto", 32),
        (1024, "auto", 64),
        (2048, "auto", 128),
        (4096, "auto", 256),
        (10**6, "auto", 256),
        (100, 7, 7),
        (100, 1000, 100),
    ],
)
def test_batch_size(n_rows, batch_size, expected):
    assert resolve_batch_size(batch_size, n_rows) == expected


@BOTH
@pytest.mark.parametrize("n_rows", [100, 300])
def test_batch_size_of_a_fit(Estimator, n_rows):
    estimator = Estimator(**QUICK).fit(X[:n_rows], y[:n_rows])
    assert estimator.net_.batch_size == resolve_batch_size("auto", n_rows)


@BOTH
@pytest.mark.parametrize(
    ("dropout", "n_rows", "expected"),
    [("auto", 128, 0.0), ("auto", 129, DROPOUT), (0.5, 100, 0.5), (0.5, 300, 0.5), (0, 300, 0.0)],
)
def test_dropout(Estimator, dropout, n_rows, expected):
    estimator = Estimator(**QUICK, dropout=dropout).fit(X[:n_rows], y[:n_rows])
    assert estimator.net_.module_.experts.dropout.p == expected


def test_dropout_of_steps_that_see_a_part_of_a_small_table():
    estimator = MoDEClassifier(**QUICK, dropout="auto", batch_size=50).fit(X[:100], y[:100])
    assert estimator.net_.module_.experts.dropout.p == DROPOUT


# Precision, device, optimizer.


@BOTH
@pytest.mark.parametrize(
    ("precision", "n_rows", "dtype"),
    [
        ("auto", 128, torch.float64),
        ("auto", 129, torch.float32),
        ("float32", 128, torch.float32),
        ("float64", 129, torch.float64),
        ("bf16", 129, torch.float32),
    ],
)
def test_precision(Estimator, precision, n_rows, dtype):
    estimator = Estimator(**QUICK, precision=precision).fit(X[:n_rows], y[:n_rows])
    assert all(parameter.dtype == dtype for parameter in estimator.net_.module_.parameters())
    assert np.isfinite(estimator.loss_curve_).all()
    assert estimator.predict(X).shape == (300,)


def test_bf16_differs_from_float32_by_rounding_only():
    low, full = (
        MoDERegressor(**QUICK, precision=precision).fit(X, y) for precision in ("bf16", "float32")
    )
    assert low.loss_curve_ != full.loss_curve_
    assert_allclose(low.loss_curve_, full.loss_curve_, rtol=0.05)


@BOTH
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_cuda_is_an_error(Estimator, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device='{device}' needs a CUDA device, but torch finds"):
        Estimator(**QUICK, device=device).fit(X, y)


@BOTH
def test_unknown_device_is_an_error(Estimator):
    with pytest.raises(ValueError, match='device must be "auto", "cpu", "cuda" or .*got \'gpu\''):
        Estimator(**QUICK, device="gpu").fit(X, y)


@BOTH
def test_model_for_a_gpu_predicts_without_one(Estimator, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    estimator = Estimator(**QUICK).fit(X, y)
    elsewhere = pickle.loads(pickle.dumps(copy.deepcopy(estimator).set_params(device="cuda")))
    assert_array_equal(elsewhere.predict(X), estimator.predict(X))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", torch.optim.RAdam])
def test_optimizers_learn(optimizer):
    estimator = MoDEClassifier(**QUICK, optimizer=optimizer, weight_decay=0.125).fit(X, y)
    (group,) = estimator.net_.optimizer_.param_groups
    assert group["weight_decay"] == 0.125
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]


def test_optimizer_may_be_a_class():
    estimator = MoDEClassifier(**QUICK, optimizer=torch.optim.RAdam).fit(X, y)
    assert isinstance(estimator.net_.optimizer_, torch.optim.RAdam)


@pytest.mark.parametrize(
    "change", [{"n_experts": 5}, {"hidden_layer_sizes": (9,)}, {"mixing": "representation"}]
)
def test_warm_start_cannot_change_the_network(change):
    estimator = MoDEClassifier(**QUICK, mixing="likelihood", warm_start=True).fit(X, y)
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} must stay .*warm_start=False"):
        estimator.set_params(**change).fit(X, y)
    estimator.set_params(warm_start=False).fit(X, y)


def test_failed_warm_start_keeps_the_model():
    estimator = MoDEClassifier(**QUICK, warm_start=True).fit(X, y)
    before = estimator.predict_proba(X)
    with pytest.raises(ValueError, match="must stay finite"):
        estimator.set_params(learning_rate=1e30).fit(X, y)
    assert_array_equal(estimator.predict_proba(X), before)
    assert not estimator.net_.callbacks_  # nor the rows that they hold
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        estimator.set_params(learning_rate=0.001).fit(X, y)


def test_partial_fit_does_not_size_batches_by_its_first_rows():
    estimator = MoDEClassifier(**QUICK).partial_fit(X[:10], y[:10], classes=np.unique(y))
    assert estimator.net_.batch_size == 256
    assert next(estimator.net_.module_.parameters()).dtype == torch.float32


def test_partial_fit_refuses_balanced_classes():
    with pytest.raises(ValueError, match='"balanced" needs all labels at once.*dict'):
        MoDEClassifier(**QUICK, class_weight="balanced").partial_fit(X, y)


def test_fitted_net_keeps_no_rows():
    estimator = MoDEClassifier(**HELD_OUT).fit(X, y)
    assert not estimator.net_.callbacks_
    assert not estimator.net_.callbacks


def test_warm_start_takes_a_new_batch_size_and_weight_decay():
    estimator = MoDEClassifier(**QUICK, warm_start=True, batch_size=32).fit(X, y)
    estimator.set_params(batch_size=16, weight_decay=0.5).fit(X, y)
    assert estimator.net_.batch_size == 16
    assert estimator.net_.optimizer_.param_groups[0]["weight_decay"] == 0.5


def test_other_classes_in_a_later_partial_fit_are_an_error():
    estimator = MoDEClassifier(**QUICK).partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(ValueError, match="classes must be the same in every call"):
        estimator.partial_fit(X, y, classes=[*np.unique(y), 99])


def test_invalid_callbacks_are_an_error():
    with pytest.raises(TypeError, match="callbacks must hold instances of skorch.*got 3"):
        MoDEClassifier(**QUICK, callbacks=[3]).fit(X, y)


def test_optimizers_without_weight_decay_train_and_lbfgs_is_an_error():
    MoDEClassifier(**QUICK, optimizer=torch.optim.Rprop).fit(X, y)
    with pytest.raises(ValueError, match="step once per gradient, got LBFGS"):
        MoDEClassifier(**QUICK, optimizer=torch.optim.LBFGS).fit(X, y)
