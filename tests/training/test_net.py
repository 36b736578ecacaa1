"""The training loop: seeds, early stopping, history, schedules, callbacks, warm starts."""

import copy
import gc
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from skorch.callbacks import Callback, EarlyStopping

from skmode import MoDEClassifier, MoDERegressor, RoutingCollapseWarning
from skmode._training.callbacks import make_schedule, schedule_factor

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "max_epochs": 4,
    "batch_size": 100,
    "early_stopping": False,
    "random_state": 0,
}
HELD_OUT = QUICK | {"early_stopping": True}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
# Where both share what is tested.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)
PARTS = ("task_loss", "distillation_loss", "balance_loss", "train_loss")
MEASURES = ("gate_entropy", "consistency", "dur")
VALID = (
    "valid_loss",
    "valid_loss_mixture",
    "valid_loss_top_expert",
    "valid_score_mixture",
    "valid_score_top_expert",
)

X, y = make_classification(300, 5, flip_y=0.3, random_state=0)


class Spy(Callback):
    """Count the calls, and do something after an epoch."""

    def __init__(self, after_epoch=lambda net, epoch: None):
        self.after_epoch = after_epoch

    def on_train_begin(self, net, **kwargs):
        self.rates, self.batches, self.epochs = [], 0, 0

    def on_batch_begin(self, net, **kwargs):
        self.batches += 1
        self.rates.append(net.optimizer_.param_groups[0]["lr"])

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1
        self.after_epoch(net, self.epochs)


def weights(estimator):
    return torch.cat([p.detach().flatten() for p in estimator.net_.module_.parameters()]).numpy()


# Random state.


@BOTH
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_same_random_state_gives_the_same_bits(Estimator, dropout):
    fits = []
    for seed in range(2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        fits.append(Estimator(**HELD_OUT, dropout=dropout).fit(X, y))
    assert_array_equal(weights(fits[0]), weights(fits[1]))
    assert_array_equal(fits[0].predict(X), fits[1].predict(X))
    assert fits[0].loss_curve_ == fits[1].loss_curve_


@BOTH
def test_other_random_state_gives_other_weights(Estimator):
    other = QUICK | {"random_state": 1}
    assert not np.array_equal(
        weights(Estimator(**QUICK).fit(X, y)), weights(Estimator(**other).fit(X, y))
    )


@BOTH
def test_global_random_states_stay_untouched(Estimator):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    estimator = Estimator(**HELD_OUT, dropout=0.5, warm_start=True).fit(X, y)
    estimator.fit(X, y).partial_fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), torch_state)
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):  # noqa: NPY002
        assert_array_equal(before, after)


@BOTH
def test_random_state_none_gives_different_fits(Estimator):
    unseeded = QUICK | {"random_state": None}
    assert not np.array_equal(
        weights(Estimator(**unseeded).fit(X, y)), weights(Estimator(**unseeded).fit(X, y))
    )


# Early stopping.


def overfitting(**parameters):
    return MoDEClassifier(
        **{
            "n_experts": 2,
            "hidden_layer_sizes": (32,),
            "max_epochs": 60,
            "batch_size": 32,
            "learning_rate": 0.02,
            "learning_rate_schedule": "constant",
            "activation": "relu",
            "numeric_embedding": "periodic",
            "dropout": 0.0,
            "weight_averaging": 0.5,
            "early_stopping": True,
            "validation_fraction": 0.3,
            "n_iter_no_change": 5,
            "refit_fraction": 0,
            "random_state": 0,
        }
        | parameters
    )


def test_early_stopping_stops():
    estimator = overfitting().fit(X, y)
    losses = [epoch["valid_loss"] for epoch in estimator.history_]
    assert estimator.n_iter_ < 60
    assert len(losses) - 1 - int(np.argmin(losses)) == 5


@pytest.mark.parametrize(
    "inference", ["mixture", pytest.param("top_expert", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("n_iter_no_change", [5, 100])
def test_early_stopping_restores_the_best_weights(inference, n_iter_no_change):
    seen = []
    spy = Spy(lambda net, epoch: seen.append(copy.deepcopy(net.module_.state_dict())))
    estimator = overfitting(
        inference=inference,
        n_iter_no_change=n_iter_no_change,
        max_epochs=15,
        callbacks=[spy],
        calibration=None,
    ).fit(X, y)
    losses = [epoch["valid_loss"] for epoch in estimator.history_]
    assert np.argmin(losses) < len(losses) - 1
    best = estimator.history_[int(np.argmin(losses))]
    assert estimator.validation_scores_["mixture"] == best["valid_score_mixture"]
    assert estimator.validation_scores_["top_expert"] == best["valid_score_top_expert"]
    assert best["valid_loss"] == best[f"valid_loss_{inference}"]
    state = estimator.net_.module_.state_dict()
    assert all(torch.equal(state[name], value) for name, value in seen[np.argmin(losses)].items())


def test_best_weights_are_those_of_the_epoch_in_which_a_callback_stops():
    stop = EarlyStopping("train_loss", patience=2, threshold=0.9, sink=lambda text: None)
    options = HELD_OUT | {"max_epochs": 10, "callbacks": [stop]}
    estimator = MoDEClassifier(**options).fit(X, y)
    losses = [epoch["valid_loss"] for epoch in estimator.history_]
    assert 1 < len(losses) < 10
    assert np.argmin(losses) == len(losses) - 1
    best = estimator.history_[-1]
    assert estimator.validation_scores_["mixture"] == best["valid_score_mixture"]
    assert estimator.validation_scores_["top_expert"] == best["valid_score_top_expert"]


class Normalised(torch.nn.Sequential):
    """An expert that cannot train on a single row."""

    def __init__(self, in_features):
        super().__init__(torch.nn.Linear(in_features, 8), torch.nn.BatchNorm1d(8))


@pytest.mark.parametrize("rows", [257, 286])  # one row is left over: of all of them, of 90 %
def test_no_batch_has_a_single_row(rows):
    options = QUICK | {"expert_module": Normalised, "max_epochs": 2, "batch_size": 256}
    options |= {"early_stopping": True, "refit_fraction": 0.3}
    estimator = MoDEClassifier(**options).fit(X[:rows], y[:rows])
    assert np.isfinite(estimator.predict_proba(X)).all()


@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_validation_rows_without_weight_are_an_error(weights):
    y = np.array([0, 0] + [1] * 298)
    if weights == "class_weight":
        estimator, sample_weight = MoDEClassifier(**HELD_OUT, class_weight={0: 1, 1: 0}), None
    else:
        estimator, sample_weight = MoDEClassifier(**HELD_OUT), np.where(y == 0, 1, 1e-60)
    with pytest.raises(ValueError, match="one of the validation rows needs a positive weight"):
        estimator.fit(X, y, sample_weight=sample_weight)
    estimator.set_params(early_stopping=False).fit(X, y, sample_weight=sample_weight)


def test_early_stopping_auto_depends_on_the_number_of_rows():
    auto = QUICK | {"max_epochs": 1, "early_stopping": "auto"}
    assert MoDEClassifier(**auto).fit(X[:128], y[:128]).validation_scores_ is None
    assert MoDEClassifier(**auto).fit(X[:129], y[:129]).validation_scores_ is not None


def test_every_class_is_in_the_validation_part():
    y = np.array([0] * 285 + [1] * 15)
    estimator = MoDEClassifier(**HELD_OUT).fit(X, y)
    # 29 rows of class 0 and 1 or 2 of class 1, and the mixture answers 0 for all of them.
    assert 0.9 < estimator.validation_scores_["mixture"] < 1


@CLASSIFIER_FIRST
def test_validation_respects_sample_weights(Estimator):
    # Half of the rows are noise of next to no weight; unweighted scores would suffer from them.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    noise = rng.random(600) < 0.5
    target = np.where(noise, rng.random(600) < 0.5, X[:, 0] > 0).astype(int)
    weight = np.where(noise, 1e-6, 1.0)
    parameters = HELD_OUT | {"max_epochs": 15, "validation_fraction": 0.3}
    weighted = Estimator(**parameters).fit(X, target, sample_weight=weight)
    plain = Estimator(**parameters).fit(X, target)
    assert weighted.validation_scores_["mixture"] > plain.validation_scores_["mixture"] + 0.1


@BOTH
def test_early_stopping_of_a_single_row_is_an_error(Estimator):
    with pytest.raises(ValueError, match="needs at least two rows .* got 1 row"):
        Estimator(**HELD_OUT).fit(X[:1], y[:1])


# What is recorded.


@BOTH
@pytest.mark.parametrize("early_stopping", [True, False])
def test_history_has_all_parts_per_epoch(Estimator, early_stopping):
    parameters = HELD_OUT if early_stopping else QUICK
    estimator = Estimator(**parameters, alpha=2.0, balance=0.5, refit_fraction=0).fit(X, y)
    assert len(estimator.history_) == len(estimator.loss_curve_) == estimator.n_iter_ == 4
    for epoch, (recorded, loss) in enumerate(
        zip(estimator.history_, estimator.loss_curve_, strict=True), start=1
    ):
        assert recorded["epoch"] == epoch
        assert recorded["train_loss"] == loss
        assert all(isinstance(recorded[name], float) for name in PARTS + MEASURES)
        assert all((name in recorded) == early_stopping for name in VALID)
        assert len(recorded["expert_usage"]) == 3
        assert sum(recorded["expert_usage"]) == pytest.approx(1)
        assert 0 <= recorded["gate_entropy"] <= math.log(3) + 1e-6
        assert recorded["consistency"] <= 1 + 1e-6
        parts = [recorded[name] for name in PARTS[:3]]
        assert np.dot([1, 2, 0.5], parts) == pytest.approx(loss)


def test_last_record_describes_the_fitted_model():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    last, gate = estimator.history_[-1], estimator.gate_proba(X)
    votes = estimator.expert_predict(X)
    pairs = [votes[:, i] == votes[:, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert last["gate_entropy"] == pytest.approx(-(gate * np.log(gate)).sum(axis=1).mean())
    assert_allclose(last["expert_usage"], estimator.expert_usage_, rtol=1e-5)
    assert last["consistency"] == pytest.approx(np.mean(pairs))


def test_consistency_of_a_regressor_is_one_minus_the_normalised_difference():
    estimator = MoDERegressor(**QUICK).fit(X, y)
    each = estimator.expert_predict(X)
    pairs = [(each[:, i] - each[:, j]) ** 2 for i, j in ((0, 1), (0, 2), (1, 2))]
    expected = 1 - np.mean(pairs) / 2 / y.var()
    assert estimator.history_[-1]["consistency"] == pytest.approx(expected, rel=1e-4)


def test_training_lowers_the_loss():
    X, y = make_regression(200, 4, random_state=0)
    losses = MoDERegressor(**QUICK | {"max_epochs": 20, "batch_size": 32}).fit(X, y).loss_curve_
    assert losses[-1] < losses[0] - 0.5


# Learning rate.


def rates(schedule, epochs=5):
    spy = Spy()
    MoDEClassifier(
        **QUICK | {"max_epochs": epochs, "batch_size": 30},
        learning_rate=0.1,
        learning_rate_schedule=schedule,
        callbacks=[spy],
    ).fit(X, y)
    return np.array(spy.rates)


def test_constant_schedule():
    assert_array_equal(rates("constant"), 0.1)


def test_cosine_schedule_warms_up_and_falls_to_zero():
    seen = rates("cosine")
    assert len(seen) == 50
    assert_allclose(seen[:3], [0.05, 0.1, 0.1])
    assert np.all(np.diff(seen[2:]) < 0)
    assert 0 < seen[-1] < 0.001


def test_schedule_names_need_no_steps():
    assert make_schedule("constant", 10) == []
    assert schedule_factor("constant", 3, 10) == 1


# Callbacks, interruption, errors.


def test_user_callbacks_are_called():
    spy = Spy()
    MoDEClassifier(**QUICK, callbacks=[spy]).fit(X, y)
    assert (spy.epochs, spy.batches) == (4, 12)


def test_user_callbacks_may_be_named():
    spy = Spy()
    MoDEClassifier(**QUICK, callbacks=[("spy", spy)]).fit(X, y)
    assert spy.epochs == 4


def interrupt_after(epoch):
    def after_epoch(net, now):
        if now == epoch:
            raise KeyboardInterrupt

    return Spy(after_epoch)


@BOTH
def test_interrupt_warns_and_keeps_the_model_so_far(Estimator):
    estimator = Estimator(**QUICK | {"max_epochs": 50}, callbacks=[interrupt_after(3)])
    with pytest.warns(ConvergenceWarning, match="Training interrupted by user"):
        estimator.fit(X, y)
    assert estimator.n_iter_ == len(estimator.history_) == 3
    assert estimator.predict(X).shape == (300,)
    assert not estimator.net_.module_.training


def test_interrupt_keeps_the_best_weights():
    with pytest.warns(ConvergenceWarning):
        estimator = overfitting(n_iter_no_change=40, callbacks=[interrupt_after(15)]).fit(X, y)
    best = min(estimator.history_, key=lambda epoch: epoch["valid_loss"])
    assert best["epoch"] < 15
    assert estimator.validation_scores_["mixture"] == best["valid_score_mixture"]


def test_interrupt_within_an_epoch_forgets_its_record():
    class Impatient(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning):
        estimator = MoDEClassifier(**QUICK, callbacks=[Impatient()]).fit(X, y)
    assert estimator.n_iter_ == 1
    assert np.isfinite(estimator.predict_proba(X)).all()


def test_interrupt_before_the_first_epoch_is_a_failed_fit():
    class Early(Callback):
        def on_train_begin(self, net, **kwargs):
            raise KeyboardInterrupt

    estimator = MoDEClassifier(**QUICK, warm_start=True).fit(X, y)
    before = estimator.predict_proba(X)
    with pytest.raises(KeyboardInterrupt):
        estimator.set_params(callbacks=[Early()]).fit(X, y)
    assert_array_equal(estimator.predict_proba(X), before)
    with pytest.raises(KeyboardInterrupt):
        estimator.set_params(warm_start=False).fit(X, y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_does_not_warn():
    assert overfitting().fit(X, y).n_iter_ < 60


@BOTH
def test_nonfinite_loss_raises_with_advice(Estimator):
    estimator = Estimator(**QUICK | {"max_epochs": 20}, learning_rate=1e30)
    with pytest.raises(
        ValueError, match=r"must stay finite.*lower learning_rate \(now 1e\+30\), lower alpha"
    ):
        estimator.fit(X, y)


@BOTH
def test_divergence_in_the_last_step_raises(Estimator):
    estimator = Estimator(**QUICK | {"max_epochs": 1, "batch_size": 300}, learning_rate=1e30)
    with pytest.raises(ValueError, match="must stay finite, but in epoch 1"):
        estimator.fit(X, y)


@BOTH
def test_failed_fit_leaves_an_unfitted_estimator(Estimator):
    estimator = Estimator(**QUICK | {"max_epochs": 20}, learning_rate=1e30, warm_start=True)
    with pytest.raises(ValueError, match="must stay finite"):
        estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    assert np.isfinite(estimator.set_params(learning_rate=0.01).fit(X, y).loss_curve_).all()


@BOTH
def test_verbose_shows_progress_on_stderr(Estimator, capsys):
    Estimator(**QUICK, verbose=1).fit(X, y)
    output = capsys.readouterr()
    assert "fit: 100%" in output.err
    assert "4/4" in output.err
    assert "train_loss=" in output.err
    assert output.out == ""


@BOTH
def test_silent_by_default(Estimator, capsys):
    Estimator(**QUICK).fit(X, y)
    assert capsys.readouterr() == ("", "")


# Going on.


@BOTH
def test_warm_start_continues(Estimator):
    estimator = Estimator(**QUICK, warm_start=True).fit(X, y)
    first, net = estimator.loss_curve_, estimator.net_
    estimator.fit(X, y)
    assert estimator.net_ is net
    assert estimator.n_iter_ == 8
    assert estimator.loss_curve_[:4] == first
    assert estimator.loss_curve_[-1] < first[-1]
    assert [epoch["epoch"] for epoch in estimator.history_] == list(range(1, 9))


@BOTH
def test_fit_without_warm_start_starts_again(Estimator):
    estimator = Estimator(**QUICK).fit(X, y)
    first = weights(estimator)
    assert_array_equal(weights(estimator.fit(X, y)), first)
    assert estimator.n_iter_ == 4


def test_warm_start_takes_new_loss_weights():
    estimator = MoDEClassifier(**QUICK, alpha=0.0, balance=0.0, warm_start=True).fit(X, y)
    assert estimator.history_[-1]["distillation_loss"] == 0
    estimator.set_params(alpha=2.0, balance=3.0).fit(X, y)
    last = estimator.history_[-1]
    assert last["distillation_loss"] > 0
    total = np.dot([1, 2, 3], [last[name] for name in PARTS[:3]])
    assert last["train_loss"] == pytest.approx(total)


@BOTH
def test_partial_fit_adds_one_epoch_per_call(Estimator):
    estimator = Estimator(**QUICK)
    for n in range(1, 6):
        assert estimator.partial_fit(X, y) is estimator
        assert estimator.n_iter_ == n
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]
    assert estimator.validation_scores_ is None


@BOTH
def test_partial_fit_continues_after_fit(Estimator):
    estimator = Estimator(**QUICK).fit(X, y)
    before = weights(estimator)
    assert estimator.partial_fit(X, y).n_iter_ == 5
    assert not np.array_equal(weights(estimator), before)


@BOTH
def test_successive_partial_fits_learn_from_their_rows(Estimator):
    estimator = Estimator(**QUICK | {"random_state": np.random.RandomState(0)}, learning_rate=0.01)
    target = (X[:, 0] > 0).astype(int)
    for _ in range(10):
        for start in range(0, 300, 100):
            part = slice(start, start + 100)
            estimator.partial_fit(X[part], target[part])
    assert estimator.score(X, target) > 0.7


def test_partial_fit_may_announce_classes():
    estimator = MoDEClassifier(**QUICK).partial_fit(X, y, classes=[2, 1, 0])
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.predict_proba(X).shape == (300, 3)
    estimator.partial_fit(X[:2], [2, 2])
    assert "_announced_classes" not in vars(estimator)


def test_new_class_in_partial_fit_is_an_error():
    estimator = MoDEClassifier(**QUICK).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"classes of the first fit, \[0, 1\], got \[2\] as well"):
        estimator.partial_fit(X[:2], [1, 2])


def test_class_that_was_not_announced_is_an_error():
    with pytest.raises(ValueError, match=r"got \[1\] as well: pass all classes to the first"):
        MoDEClassifier(**QUICK).partial_fit(X, y, classes=[0, 2])


def test_new_class_in_a_warm_start_is_an_error():
    estimator = MoDEClassifier(**QUICK, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"got \['a', 'b'\] as well"):
        estimator.fit(X, np.where(y, "a", "b"))


def test_partial_fit_with_another_number_of_targets_is_an_error():
    estimator = MoDERegressor(**QUICK).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y must have the 1 target\(s\) of the first fit, got 2"):
        estimator.partial_fit(X, np.column_stack([y, y]))


# Routing.


@BOTH
@pytest.mark.parametrize(("balance", "larger"), [(0.0, 0.1), (0.3, 0.9)])
def test_routing_collapse_warns_with_advice(Estimator, balance, larger):
    X = np.ones((300, 3))  # rows that are all the same go to the same expert
    advice = rf"raise balance \(now {balance:g}; try {larger:g}\) or gate_temperature"
    with pytest.warns(
        RoutingCollapseWarning,
        match=rf"sends 100\.0% of the training rows to expert \d: {advice}",
    ):
        Estimator(**QUICK, balance=balance).fit(X, y)


@BOTH
@pytest.mark.filterwarnings("error::skmode.RoutingCollapseWarning")
def test_a_single_expert_does_not_collapse(Estimator):
    Estimator(**QUICK | {"n_experts": 1}).fit(X, y)


def test_an_epoch_keeps_nothing_of_its_steps():
    """Small tensors kept between the steps' activations would hold on to their memory."""

    class CountTensors(Callback):
        def on_train_begin(self, net, **kwargs):
            self.steps, self.counts = 0, {}

        def on_batch_end(self, net, **kwargs):
            self.steps += 1
            if self.steps in (12, 20):  # the second and the last one of the second epoch
                alive = (type(each) is torch.Tensor for each in gc.get_objects())
                self.counts[self.steps] = sum(alive)

    counter = CountTensors()
    X = np.random.default_rng(0).normal(size=(200, 2))
    MoDERegressor(
        n_experts=2, max_epochs=2, batch_size=20, early_stopping=False, callbacks=[counter]
    ).fit(X, X[:, 0])
    assert counter.steps == 20
    assert counter.counts[12] == counter.counts[20]
