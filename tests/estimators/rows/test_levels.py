"""Teachers of regressors whose loss asks for a quantile, not for the mean."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, QuantileRegressor

from skmode import MoDERegressor
from skmode._training.finish.fidelity import _constant
from skmode._training.rows import Rows
from skmode.nn import RegressionLoss

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 4,
    "early_stopping": True,
    "teacher_cv": 2,
    "teacher_weight": 0.5,
    "random_state": 0,
}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
y = X[:, 0] + RNG.normal(size=400)
REFUSED = DummyRegressor(strategy="constant", constant=-5.0)


@pytest.mark.parametrize("given", ["teacher", "soft_targets"])
def test_a_teacher_of_the_mean_is_warned_of(given):
    mean = LinearRegression()
    soft = {} if given == "teacher" else {"soft_targets": mean.fit(X, y).predict(X)}
    teacher = mean if given == "teacher" else None
    model = MoDERegressor(**QUICK, loss="quantile", quantile=0.9, teacher=teacher)
    with pytest.warns(
        UserWarning, match=r"the quantile 0.9, but .* has [45]\d% of the targets below"
    ):
        model.fit(X, y, **soft)


def test_a_refused_teacher_of_the_mean_needs_another_model_not_another_weight():
    model = MoDERegressor(
        **QUICK | {"teacher_weight": "auto"}, loss="quantile", quantile=0.99, teacher=REFUSED
    )
    with pytest.warns(
        UserWarning, match=r"does not: .* alone: pass one of this quantile, .*0.99\)\."
    ):
        model.fit(X, y)


@pytest.mark.parametrize(
    ("loss", "quantile", "teacher"),
    [
        ("quantile", 0.9, QuantileRegressor(quantile=0.9, alpha=0)),
        ("quantile", 0.5, LinearRegression()),
        ("absolute_error", 0.9, LinearRegression()),
        ("squared_error", 0.9, DummyRegressor(strategy="constant", constant=0.5)),
        ("huber", 0.9, LinearRegression()),
    ],
)
def test_others_are_not(loss, quantile, teacher):
    model = MoDERegressor(**QUICK, loss=loss, quantile=quantile, teacher=teacher)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "With loss=")
        model.fit(X, y)


def test_ties_are_of_either_side():
    model = MoDERegressor(
        **QUICK, loss="quantile", quantile=0.3, teacher=DummyRegressor(strategy="median")
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "With loss=")
        model.fit(X, (y > 2).astype(float))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (RegressionLoss("squared_error"), [22.0, 0.2]),
        (RegressionLoss("absolute_error"), [3.0, 0.0]),
        (RegressionLoss("quantile", quantile=0.9), [100.0, 1.0]),
        (RegressionLoss("huber"), [3.0, 0.2]),
    ],
)
def test_the_best_constant_is_that_of_the_loss(loss, expected):
    target = torch.tensor([[1.0, 0], [2.0, 0], [3.0, 0], [4.0, 0], [100.0, 1.0]])
    rows = Rows((target,), target, None, target, torch.ones(5))
    found = _constant(loss, rows, rows)[0]
    assert found.tolist() == pytest.approx(expected, abs=1e-3)
