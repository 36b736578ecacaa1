"""Averaged weights: their values, and when the estimator uses them."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

from skmode import MoDEClassifier, MoDERegressor

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 4,
    "batch_size": 50,
    "early_stopping": False,
    "refit_fraction": 0,
    "random_state": 0,
}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
# Where both share what is tested.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)

X, y = make_classification(300, 5, flip_y=0.3, random_state=0)


def weights(module):
    return torch.cat([each.detach().flatten() for each in module.parameters()]).numpy()


class Record(Callback):
    """The weights of all steps, with an interrupt after one of them."""

    def __init__(self, last=None):
        self.last = last

    def on_train_begin(self, net, **kwargs):
        self.start, self.steps, self.epochs = weights(net.module_), [], []

    def on_batch_end(self, net, **kwargs):
        self.steps.append(weights(net.module_))
        if len(self.steps) == self.last:
            raise KeyboardInterrupt

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(weights(net.module_))

    def averages(self, decay):
        """The averages after each step, by their definition."""
        average, averages = self.start.astype(np.float64), []
        for k, raw in enumerate(self.steps, start=1):
            share = min(decay, (1 + k) / (10 + k))
            average = share * average + (1 - share) * raw
            averages.append(average)
        return np.array(averages)


class Normalised(nn.Module):
    """An expert with statistics of the rows as buffers."""

    def __init__(self, in_features):
        super().__init__()
        self.linear = nn.Linear(in_features, 8)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(self.linear(x))


@BOTH
@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_fitted_weights_are_the_averages_of_the_steps(Estimator, decay):
    record = Record()
    estimator = Estimator(**QUICK, weight_averaging=decay, callbacks=[record]).fit(X, y)
    assert len(record.steps) == 24
    averages = record.averages(decay)
    assert_allclose(weights(estimator.net_.module_), averages[-1], rtol=1e-4, atol=1e-6)
    assert_allclose(record.epochs, averages[5::6], rtol=1e-4, atol=1e-6)


@BOTH
def test_training_continues_from_the_raw_weights(Estimator):
    records = [Record(), Record()]
    estimators = [
        Estimator(**QUICK, weight_averaging=decay, callbacks=[record]).fit(X, y)
        for decay, record in zip((0, 0.99), records, strict=True)
    ]
    assert_array_equal(records[1].steps, records[0].steps)
    plain, averaged = (weights(estimator.net_.module_) for estimator in estimators)
    assert_array_equal(plain, records[0].steps[-1])
    assert not np.allclose(averaged, plain)
    assert estimators[0].loss_curve_ == estimators[1].loss_curve_


def test_validation_sees_the_averages():
    options = QUICK | {"early_stopping": True, "calibration": None}
    estimator = MoDEClassifier(**options, weight_averaging=0.95)
    record = Record()
    estimator.set_params(callbacks=[record]).fit(X, y)
    best = int(np.argmin([epoch["valid_loss"] for epoch in estimator.history_]))
    assert_array_equal(weights(estimator.net_.module_), record.epochs[best])
    score = estimator.history_[best]["valid_score_mixture"]
    assert estimator.validation_scores_["mixture"] == score


@pytest.mark.parametrize("last", [3, 6, 9])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_interrupt_keeps_the_averages(last):
    record = Record(last)
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        estimator = MoDEClassifier(**QUICK, weight_averaging=0.9, callbacks=[record]).fit(X, y)
    # Those that the callbacks have heard of: the average of a step comes before they do.
    expected = record.averages(0.9)[-1]
    assert_allclose(weights(estimator.net_.module_), expected, rtol=1e-4, atol=1e-6)


def test_buffers_come_from_training():
    plain, averaged = (
        MoDEClassifier(**QUICK, expert_module=Normalised, weight_averaging=decay).fit(X, y)
        for decay in (0, 0.9)
    )
    for one, other in zip(
        plain.net_.module_.buffers(), averaged.net_.module_.buffers(), strict=True
    ):
        assert_array_equal(one, other)
    assert not np.allclose(plain.predict_proba(X), averaged.predict_proba(X))


@BOTH
def test_partial_fit_does_not_average(Estimator):
    plain, averaged = (
        Estimator(**QUICK, weight_averaging=decay).partial_fit(X, y).partial_fit(X, y)
        for decay in (0, 0.99)
    )
    assert_array_equal(averaged.predict(X), plain.predict(X))


@CLASSIFIER_FIRST
@pytest.mark.parametrize(
    "options",
    [
        {"gate": "sparse"},
        {"optimizer": "sgd", "learning_rate": 0.01},
        {"precision": "bf16"},
        {"precision": "float64"},
    ],
    ids=str,
)
def test_averages_with_other_options(Estimator, options):
    record = Record()
    weight = np.linspace(0.5, 2, 300)
    estimator = Estimator(**QUICK | options, weight_averaging=0.9, callbacks=[record])
    estimator.fit(X, y, sample_weight=weight)
    expected = record.averages(0.9)[-1]
    assert_allclose(weights(estimator.net_.module_), expected, rtol=1e-4, atol=1e-6)


def test_fitted_net_keeps_no_averages():
    estimator = MoDEClassifier(**QUICK, weight_averaging=0.9).fit(X, y)
    assert not estimator.net_.callbacks_
    twin = copy.deepcopy(estimator)
    assert_array_equal(twin.predict_proba(X), estimator.predict_proba(X))
