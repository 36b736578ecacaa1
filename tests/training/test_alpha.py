"""alpha="auto": which of the two weights of distillation is kept."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import Callback

from skmode import MoDEClassifier, MoDERegressor
from skmode._training import trainer

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 6,
    "batch_size": 120,
    "learning_rate": 0.01,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "refit_fraction": 0.5,
    "random_state": 0,
}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
# Where both share what is tested.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)

X, y = make_classification(300, 5, flip_y=0.1, random_state=0)


class Interrupt(Callback):
    """Interrupt in one of the trainings, after a number of epochs."""

    def __init__(self, training, epochs):
        self.training, self.epochs, self.begun = training, epochs, 0

    def on_train_begin(self, net, **kwargs):
        self.begun += 1

    def on_epoch_begin(self, net, **kwargs):
        if self.begun == self.training and len(net.history) == self.epochs + 1:
            raise KeyboardInterrupt


class Poison(Callback):
    """Spoil the weights of some of the trainings."""

    def __init__(self, *trainings):
        self.trainings, self.begun = trainings, 0

    def on_train_begin(self, net, **kwargs):
        self.begun += 1

    def on_epoch_begin(self, net, **kwargs):
        if self.begun in self.trainings:
            net.module_.head.weight.data.fill_(np.nan)


def lowest(estimator):
    return min(epoch["valid_loss"] for epoch in estimator.history_)


@CLASSIFIER_FIRST
@pytest.mark.parametrize(
    "inference", ["mixture", pytest.param("top_expert", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("rows", [slice(150), slice(150, 300), slice(300)])
def test_auto_keeps_the_fit_with_the_lower_validation_loss(Estimator, inference, rows):
    options = QUICK | {"inference": inference}
    fits = {
        alpha: Estimator(**options, alpha=alpha).fit(X[rows], y[rows])
        for alpha in (1.0, 10.0, "auto")
    }
    better = min((1.0, 10.0), key=lambda alpha: lowest(fits[alpha]))
    auto = fits["auto"]
    assert auto.alpha_ == better
    assert auto.alpha == "auto"
    assert_array_equal(auto.predict(X), fits[better].predict(X))
    assert auto.loss_curve_ == fits[better].loss_curve_
    assert auto.validation_scores_ == fits[better].validation_scores_
    assert auto.refit_n_iter_ == fits[better].refit_n_iter_


@pytest.mark.slow
def test_auto_can_keep_either_alpha():
    options = QUICK | {"max_epochs": 30, "learning_rate": 0.03, "refit_fraction": 0}
    kept = {
        MoDEClassifier(**options | {"random_state": seed}, alpha="auto").fit(X, y).alpha_
        for seed in range(2)
    }
    assert kept == {1.0, 10.0}


@BOTH
@pytest.mark.parametrize("alpha", [0, 2.5, np.float32(0.5)])
def test_numeric_alpha_is_used_unchanged(Estimator, alpha):
    estimator = Estimator(**QUICK, alpha=alpha).fit(X, y)
    assert type(estimator.alpha_) is float
    assert estimator.alpha_ == estimator.net_.module_.alpha == alpha


@BOTH
def test_auto_without_validation_rows_is_one(Estimator):
    options = QUICK | {"early_stopping": False}
    auto, one = (Estimator(**options, alpha=alpha).fit(X, y) for alpha in ("auto", 1))
    assert auto.alpha_ == one.alpha_ == 1
    assert_array_equal(auto.predict(X), one.predict(X))
    assert Estimator(**QUICK, alpha="auto").partial_fit(X, y).alpha_ == 1


@CLASSIFIER_FIRST
@pytest.mark.parametrize("kept", [1.0, 10.0])
def test_warm_start_and_partial_fit_keep_the_chosen_alpha(Estimator, kept):
    estimator = Estimator(**QUICK, alpha=kept, warm_start=True).fit(X, y).set_params(alpha="auto")
    n_iter = estimator.n_iter_
    estimator.fit(X, y)
    assert estimator.alpha_ == estimator.net_.module_.alpha == kept
    assert n_iter < estimator.n_iter_ <= n_iter + 6  # trained once
    assert estimator.partial_fit(X, y).alpha_ == kept
    assert estimator.set_params(alpha=3).fit(X, y).alpha_ == 3


def test_a_new_fit_chooses_alpha_again():
    estimator = MoDEClassifier(**QUICK, alpha="auto").fit(X, y)
    chosen = estimator.alpha_
    estimator.alpha_ = 5.0
    assert estimator.fit(X, y).alpha_ == chosen


@pytest.mark.parametrize(
    ("training", "epochs", "kept"), [(1, 3, {1.0}), (2, 3, {1.0, 10.0}), (2, 0, {1.0})]
)
def test_interrupt_keeps_the_better_one_so_far(training, epochs, kept):
    interrupt = Interrupt(training, epochs)
    estimator = MoDEClassifier(**QUICK, alpha="auto", callbacks=[interrupt])
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        estimator.fit(X, y)
    assert interrupt.begun == training
    assert estimator.alpha_ in kept
    assert estimator.net_.module_.alpha == estimator.alpha_
    assert estimator.refit_n_iter_ == 0
    assert np.isfinite(estimator.predict_proba(X)).all()


@pytest.mark.parametrize(
    "options", [{"n_experts": 1}, {"gate": "sparse", "top_k": 1}], ids=["one expert", "top 1"]
)
def test_auto_is_one_for_a_single_expert(options):
    count = Interrupt(training=0, epochs=0)
    estimator = MoDEClassifier(**QUICK | options, alpha="auto", callbacks=[count]).fit(X, y)
    assert estimator.alpha_ == 1
    assert count.begun == 1


def test_interrupt_between_the_trainings_keeps_the_first(monkeypatch):
    build, count = trainer.build_net, 0

    def interrupt(*args):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return build(*args)

    monkeypatch.setattr(trainer, "build_net", interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        estimator = MoDEClassifier(**QUICK | {"refit_fraction": 0}, alpha="auto").fit(X, y)
    assert estimator.alpha_ == 1
    assert estimator.n_iter_ == QUICK["max_epochs"]


@pytest.mark.parametrize(("spoilt", "kept"), [(1, 10), (2, 1)])
def test_a_diverged_training_is_not_chosen(spoilt, kept):
    estimator = MoDEClassifier(**QUICK, alpha="auto", callbacks=[Poison(spoilt)]).fit(X, y)
    assert estimator.alpha_ == kept
    alone = MoDEClassifier(**QUICK, alpha=float(kept)).fit(X, y)
    assert_array_equal(estimator.predict_proba(X), alone.predict_proba(X))


def test_error_if_both_trainings_diverge():
    with pytest.raises(ValueError, match="must stay finite, but in epoch 1 it became nan"):
        MoDEClassifier(**QUICK, alpha="auto", callbacks=[Poison(1, 2)]).fit(X, y)


def test_failed_choice_leaves_an_unfitted_estimator():
    estimator = MoDEClassifier(**QUICK | {"learning_rate": 1e30}, alpha="auto")
    with pytest.raises(ValueError, match="must stay finite"):
        estimator.fit(X, y)
    assert not hasattr(estimator, "net_")


@BOTH
@pytest.mark.parametrize("alpha", ["best", "Auto", None, -1])
def test_other_values_are_an_error(Estimator, alpha):
    with pytest.raises(
        InvalidParameterError, match="'alpha' parameter of MoDE.* must be a str among {'auto'} or"
    ):
        Estimator(**QUICK, alpha=alpha).fit(X, y)


def test_auto_survives_clone():
    estimator = clone(MoDEClassifier(**QUICK, alpha="auto"))
    assert estimator.alpha == "auto"
