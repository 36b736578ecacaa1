"""The refit: training continues with the validation rows after early stopping."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler

from skmode import MoDEClassifier, MoDERegressor
from skmode._training.net import MixtureNet

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 40,  # enough: patience ends the training, and the refit has its length
    "n_iter_no_change": 3,
    "batch_size": 50,
    "learning_rate": 0.02,
    "learning_rate_schedule": "constant",
    "early_stopping": True,
    "validation_fraction": 0.2,
    "random_state": 0,
}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
# Where both share what is tested.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)

X, y = make_classification(300, 5, flip_y=0.3, random_state=0)


class Spy(Callback):
    """Count, and keep the validation rows."""

    def on_train_begin(self, net, **kwargs):
        self.epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1

    def on_train_end(self, net, **kwargs):
        self.rows = dict(net.callbacks_)["watch"].rows


def weights(estimator):
    module = estimator.net_.module_
    return torch.cat([each.detach().flatten() for each in module.parameters()]).numpy()


def best_epoch(estimator):
    return 1 + int(np.argmin([epoch["valid_loss"] for epoch in estimator.history_]))


def without_time(history):
    return [{name: value for name, value in epoch.items() if name != "dur"} for epoch in history]


@pytest.fixture
def after_step(monkeypatch):
    """Do something after each step of training, which is told its number and the net."""

    def install(function):
        step, count = MixtureNet.train_step, 0

        def train_step(net, batch, **kwargs):
            nonlocal count
            result = step(net, batch, **kwargs)
            count += 1
            function(net, count)
            return result

        monkeypatch.setattr(MixtureNet, "train_step", train_step)

    return install


def steps_before_the_refit(estimator):
    """Steps of the part with validation: 240 of the 300 rows, 50 at a time."""
    return estimator.n_iter_ * 5


@pytest.mark.slow
def test_refit_learns_from_the_held_out_rows():
    # Each row has a category of its own and noise that only this category tells.
    rng = np.random.default_rng(0)
    number, noise = rng.normal(size=(2, 300))
    frame = pd.DataFrame({"number": number, "row": [f"row {i}" for i in range(300)]})
    correlation = {}
    for fraction in (0, 1):
        spy = Spy()
        options = {"max_epochs": 20, "dropout": 0, "batch_size": 20, "n_iter_no_change": 20}
        estimator = MoDERegressor(**QUICK | options, refit_fraction=fraction, callbacks=[spy]).fit(
            frame, 3 * number + noise
        )
        held_out = np.isin(number.astype(np.float32), spy.rows.inputs[0][:, 0])
        assert held_out.sum() == 60
        found = estimator.predict(frame) - 3 * number
        correlation[fraction] = np.corrcoef(found[held_out], noise[held_out])[0, 1]
    assert correlation[0] < 0.2
    assert correlation[1] > 0.5


@CLASSIFIER_FIRST
@pytest.mark.parametrize("fraction", [0.01, 0.5, 1])
def test_epochs_of_the_refit(Estimator, fraction):
    estimator = Estimator(**QUICK, refit_fraction=fraction).fit(X, y)
    expected = max(2, math.ceil(fraction * best_epoch(estimator)))
    assert estimator.refit_n_iter_ == expected


@pytest.fixture
def passes(after_step):
    """Count the steps of one batch that holds all rows: passes over them."""
    counted = []
    after_step(lambda net, count: counted.append(count))
    return counted


@CLASSIFIER_FIRST
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("max_epochs", [1, 2, 3, 10])
@pytest.mark.parametrize("more", [{}, {"weight_averaging": 0, "learning_rate_schedule": "cosine"}])
def test_never_more_passes_than_max_epochs(Estimator, fraction, max_epochs, more, passes):
    options = {"max_epochs": max_epochs, "batch_size": 300, "n_iter_no_change": 20} | more
    estimator = Estimator(**QUICK | options, refit_fraction=fraction).fit(X, y)
    assert len(passes) == estimator.n_iter_ + estimator.refit_n_iter_ <= max_epochs
    assert estimator.n_iter_ == len(estimator.history_)
    assert estimator.refit_n_iter_ <= max(2, fraction * best_epoch(estimator) + 1)
    if not fraction:
        assert estimator.n_iter_ == max_epochs
    elif max_epochs > 1:
        assert estimator.refit_n_iter_ > 0


def test_each_call_of_a_warm_start_has_the_epochs(passes):
    options = QUICK | {"max_epochs": 4, "batch_size": 300, "warm_start": True}
    estimator = MoDEClassifier(**options, refit_fraction=0.3)
    refits = 0
    for call in (1, 2, 3):
        estimator.fit(X, y)
        refits += estimator.refit_n_iter_
        assert len(passes) == estimator.n_iter_ + refits <= 4 * call
    estimator.partial_fit(X, y)
    assert estimator.refit_n_iter_ == 0
    assert len(passes) == estimator.n_iter_ + refits


def test_each_alpha_of_auto_has_the_epochs(passes):
    options = QUICK | {"max_epochs": 5, "batch_size": 300, "alpha": "auto"}
    estimator = MoDEClassifier(**options, refit_fraction=0.3).fit(X, y)
    assert estimator.n_iter_ + estimator.refit_n_iter_ <= 5
    assert 5 < len(passes) <= 10


def test_a_callback_of_the_user_interrupts_whatever_its_attributes():
    class Stop(Callback):
        stopped = True  # a name of the user's own

        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        MoDEClassifier(**QUICK, callbacks=[Stop()]).fit(X, y)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@BOTH
def test_a_training_that_ends_for_the_refit_is_not_interrupted(Estimator):
    options = {"max_epochs": 10, "n_iter_no_change": 20}
    whole = Estimator(**QUICK | options, refit_fraction=0).fit(X, y)
    estimator = Estimator(**QUICK | options, refit_fraction=0.5).fit(X, y)
    assert estimator.n_iter_ < 10
    assert without_time(estimator.history_) == without_time(whole.history_[: estimator.n_iter_])


@BOTH
def test_history_excludes_the_refit(Estimator):
    spy = Spy()
    plain = Estimator(**QUICK, refit_fraction=0).fit(X, y)
    refitted = Estimator(**QUICK, refit_fraction=0.5, callbacks=[spy]).fit(X, y)
    assert plain.refit_n_iter_ == 0
    assert without_time(refitted.history_) == without_time(plain.history_)
    assert refitted.loss_curve_ == plain.loss_curve_
    assert refitted.n_iter_ == plain.n_iter_ == spy.epochs == len(refitted.net_.history)
    assert refitted.validation_scores_ == plain.validation_scores_
    assert not np.allclose(weights(refitted), weights(plain))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_rate_falls_from_the_best_epochs_to_zero(schedule, after_step):
    rates = []
    after_step(lambda net, count: rates.append(net.optimizer_.param_groups[0]["lr"]))
    options = QUICK | {"max_epochs": 60, "learning_rate_schedule": schedule}
    estimator = MoDEClassifier(**options, refit_fraction=0.5).fit(X, y)
    before = steps_before_the_refit(estimator)
    first, refit = rates[:before], rates[before:]
    assert len(refit) == 6 * estimator.refit_n_iter_  # all 300 rows
    start = max(first[5 * best_epoch(estimator)], 0.2 * estimator.learning_rate)
    assert_allclose(refit, np.linspace(start, 0, len(refit), endpoint=False), rtol=1e-6)


def test_rate_of_the_refit_near_the_end_of_the_cosine(after_step):
    rates = []
    after_step(lambda net, count: rates.append(net.optimizer_.param_groups[0]["lr"]))
    options = {"max_epochs": 10, "learning_rate_schedule": "cosine", "learning_rate": 0.002}
    estimator = MoDEClassifier(**QUICK | options, refit_fraction=0.01).fit(X, y)
    assert (best_epoch(estimator), estimator.refit_n_iter_) == (9, 1)
    assert_allclose(rates[steps_before_the_refit(estimator)], 0.2 * estimator.learning_rate)


@BOTH
def test_no_refit_without_validation_rows(Estimator):
    plain, other = (
        Estimator(
            **QUICK | {"early_stopping": False, "max_epochs": 4}, refit_fraction=fraction
        ).fit(X, y)
        for fraction in (0, 1)
    )
    assert other.refit_n_iter_ == 0
    assert_array_equal(weights(other), weights(plain))
    partial = Estimator(**QUICK, refit_fraction=1).partial_fit(X, y)
    assert partial.refit_n_iter_ == 0
    assert partial.validation_scores_ is None


@CLASSIFIER_FIRST
@pytest.mark.parametrize("gate", ["dense", pytest.param("sparse", marks=pytest.mark.slow)])
def test_refit_with_weights_and_continued_copy(Estimator, gate):
    weight = np.linspace(0.5, 2, 300)
    estimator = Estimator(**QUICK, gate=gate, refit_fraction=0.5, warm_start=True)
    estimator.fit(X, y, sample_weight=weight)
    other = pickle.loads(pickle.dumps(estimator))
    for each in (estimator, other):
        n_iter = each.n_iter_
        each.fit(X, y, sample_weight=weight)
        assert each.n_iter_ > n_iter
        assert each.refit_n_iter_ >= 2
        assert [epoch["epoch"] for epoch in each.history_] == list(range(1, each.n_iter_ + 1))
    assert_array_equal(other.predict(X), estimator.predict(X))


def test_refit_of_several_targets():
    target = np.column_stack([X[:, 0], 100 + X[:, 1]])
    estimator = MoDERegressor(**QUICK, refit_fraction=0.5).fit(X, target)
    assert estimator.refit_n_iter_ >= 2
    assert estimator.predict(X).shape == (300, 2)


def test_no_refit_after_an_interrupt(after_step):
    def interrupt(net, count):
        if count == 8:
            raise KeyboardInterrupt

    after_step(interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        estimator = MoDEClassifier(**QUICK, refit_fraction=1).fit(X, y)
    assert estimator.n_iter_ == 1
    assert estimator.refit_n_iter_ == 0


@CLASSIFIER_FIRST
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_interrupt_of_the_refit_keeps_the_best_weights(Estimator, steps, after_step):
    plain = Estimator(**QUICK, refit_fraction=0).fit(X, y)

    def interrupt(net, count):
        if count == steps_before_the_refit(plain) + steps:
            raise KeyboardInterrupt

    after_step(interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        estimator = Estimator(**QUICK, refit_fraction=1).fit(X, y)
    assert estimator.refit_n_iter_ == 0
    assert estimator.n_iter_ == plain.n_iter_
    assert_array_equal(weights(estimator), weights(plain))
    assert not estimator.net_.module_.training


@CLASSIFIER_FIRST
@pytest.mark.parametrize("steps", [1, 12])  # 12: the last one, after which no loss follows
def test_diverged_refit_keeps_the_best_weights(Estimator, steps, after_step):
    plain = Estimator(**QUICK, refit_fraction=0).fit(X, y)

    def spoil(net, count):
        if count == steps_before_the_refit(plain) + steps:
            with torch.no_grad():
                net.module_.head.weight.fill_(torch.nan)

    after_step(spoil)
    with pytest.warns(
        ConvergenceWarning, match=r"The refit did not stay finite, .* are kept\. The .* lo"
    ):
        estimator = Estimator(**QUICK, refit_fraction=0.01, warm_start=True).fit(X, y)
    assert estimator.refit_n_iter_ == 0
    assert estimator.n_iter_ == plain.n_iter_
    assert_array_equal(weights(estimator), weights(plain))
    assert_array_equal(estimator.predict(X), plain.predict(X))
    # What the optimizer remembers is not left as it was either.
    assert np.isfinite(weights(estimator.fit(X, y))).all()


class Clip(Callback):
    """Clip gradients, and count how often."""

    def __init__(self, limit):
        self.limit, self.count = limit, 0

    def on_grad_computed(self, net, **kwargs):
        torch.nn.utils.clip_grad_norm_(net.module_.parameters(), self.limit)
        self.count += 1


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_refit_clips_gradients_as_the_training_before_it():
    clip = Clip(0.05)
    options = QUICK | {"optimizer": "sgd", "learning_rate": 0.5, "callbacks": [clip, Spy()]}
    estimator = MoDERegressor(**options, refit_fraction=0.5).fit(X, X[:, 0])
    refit = 6 * estimator.refit_n_iter_
    assert refit > 0
    assert clip.count == steps_before_the_refit(estimator) + refit
    assert options["callbacks"][1].epochs == estimator.n_iter_


def test_refit_starts_from_the_rate_set_by_a_callback(after_step):
    rates = []
    after_step(lambda net, count: rates.append(net.optimizer_.param_groups[0]["lr"]))
    halve = LRScheduler("ExponentialLR", gamma=0.8, step_every="epoch")
    estimator = MoDEClassifier(**QUICK, callbacks=[halve], refit_fraction=0.5).fit(X, y)
    best = best_epoch(estimator)
    assert best > 1
    expected = max(0.8 ** (best - 1), 0.2) * estimator.learning_rate
    assert_allclose(rates[steps_before_the_refit(estimator)], expected)


def test_verbose_shows_the_refit(capsys):
    MoDEClassifier(**QUICK, refit_fraction=0.5, verbose=1).fit(X, y)
    shown = capsys.readouterr().err
    assert "fit: " in shown
    assert "refit: 100%" in shown
