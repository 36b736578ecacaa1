"""The refit with a teacher: the mixture as it was, or an ensemble of single networks."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupShuffleSplit
from skorch.callbacks import Callback

import skmode_deploy.bundle
from skmode import MoDEClassifier, MoDERegressor
from skmode._training import trainer
from skmode._training.finish.blend import blend
from skmode._training.finish.ensemble import Ensemble
from skmode._training.finish.members import MemberRows
from skmode._training.finish.taught import TaughtRows, mix, without_dropout
from skmode._training.finish.teachers import train_ensemble
from skmode._training.net import MixtureNet
from skmode._training.rows import Rows
from skmode.nn import (
    CrossEntropy,
    Dropout,
    IdentityTrunk,
    MLPExperts,
    ModuleExperts,
    RegressionLoss,
)
from skmode.onnx import export

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 8,
    "n_iter_no_change": 3,
    "batch_size": 60,
    "learning_rate": 0.02,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "n_teachers": 3,
    "random_state": 0,
}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
# Where both share what is tested.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)
SLOW_TEACHERS = [pytest.param(each, marks=pytest.mark.slow) for each in ("ensemble", "auto")]
TEACHERS = pytest.mark.parametrize("teacher", ["mixture", "ensemble", "auto"])
MIXTURE_FIRST = pytest.mark.parametrize("teacher", ["mixture", *SLOW_TEACHERS])

X, y = make_classification(240, 5, flip_y=0.2, random_state=0)


def predict(estimator, rows=X):
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(rows)
    return estimator.predict(rows)


@CLASSIFIER_FIRST
@TEACHERS
def test_only_the_refit_changes(Estimator, teacher):
    plain = Estimator(**QUICK).fit(X, y)
    taught = Estimator(**QUICK, teacher=teacher, refit_fraction=0.3).fit(X, y)
    assert taught.loss_curve_ == plain.loss_curve_
    assert taught.validation_scores_ == plain.validation_scores_
    assert taught.refit_n_iter_ == plain.refit_n_iter_ > 0
    assert np.abs(predict(taught) - predict(plain)).max() > 1e-4


@CLASSIFIER_FIRST
@TEACHERS
@pytest.mark.parametrize("options", [{"early_stopping": False}, {"refit_fraction": 0}])
def test_no_refit_no_teacher(Estimator, teacher, options):
    plain = Estimator(**QUICK | options).fit(X, y)
    taught = Estimator(**QUICK | options, teacher=teacher).fit(X, y)
    assert_array_equal(predict(taught), predict(plain))


@MIXTURE_FIRST
@pytest.mark.slow
def test_same_bits_again_and_in_threads(teacher):
    def fit(seed):
        options = QUICK | {"random_state": seed, "teacher": teacher}
        return predict(MoDEClassifier(**options).fit(X, y))

    alone = [fit(seed) for seed in (0, 1, 2, 0)]
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(fit, (0, 1, 2, 0)), alone, strict=True):
            assert_array_equal(found, expected)


def test_experts_agree_with_the_ensemble():
    """With all the weight on the teacher, each expert comes closer to it."""
    seen = []

    class Keep(Callback):
        def on_train_end(self, net, **kwargs):
            seen.append(net)

        def on_grad_computed(self, net, **kwargs):
            """Without this, refit and teachers leave the callback out."""

    options = QUICK | {"max_epochs": 30, "refit_fraction": 1}
    plain = MoDEClassifier(**options).fit(X, y)
    taught = MoDEClassifier(
        **options, teacher="ensemble", teacher_weight=1, callbacks=[Keep()]
    ).fit(X, y)
    ensemble = next(net.module_ for net in seen if isinstance(net.module_, Ensemble))
    inputs = tuple(map(torch.as_tensor, taught.encoder_.transform(X)))
    with torch.no_grad():
        teacher = ensemble.eval().teach(inputs).exp().numpy()
    assert_allclose(teacher.sum(axis=1), 1, atol=1e-5)
    distances = [
        np.abs(each.expert_predict_proba(X) - teacher[:, None]).mean() for each in (taught, plain)
    ]
    assert distances[0] < 0.8 * distances[1]


def test_target_does_not_matter_if_the_teacher_has_all_the_weight():
    rows = Rows((torch.randn(20, 3),), torch.zeros(20, dtype=torch.int64), None)
    taught = TaughtRows(rows, lambda inputs: inputs[0].log_softmax(-1), 1.0, torch.Generator())
    for batch in taught.batches(10, shuffle=False):
        assert_allclose(batch.soft_weight, 1)


def test_batches_of_real_and_mixed_rows():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.arange(20.0).view(20, 1)
    codes = torch.arange(20).view(20, 1)
    rows = Rows((numbers, codes), torch.arange(20), torch.linspace(0.5, 1.5, 20))
    taught = TaughtRows(rows, lambda inputs: 2 * inputs[0], 0.7, generator)
    batches = taught.batches(10, shuffle=True, generator=generator)
    assert len(batches) == 2
    for batch in batches:
        real, mixed = batch.select(slice(0, 10)), batch.select(slice(10, 20))
        assert_allclose(real.soft_target, 2 * real.inputs[0])
        assert_allclose(mixed.soft_target, 2 * mixed.inputs[0])
        assert_allclose(real.soft_weight, 0.7)
        assert_allclose(mixed.soft_weight, 1)
        assert_array_equal(real.sample_weight, mixed.sample_weight)
        assert_array_equal(real.inputs[0][:, 0], real.target)
        assert set(mixed.inputs[1].flatten().tolist()) <= set(real.inputs[1].flatten().tolist())
        assert (mixed.inputs[0] != real.inputs[0]).any()


def test_mixed_rows_lie_nearer_to_the_row_itself():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(500, 2)
    numbers[::5, 0] = torch.nan
    codes = torch.randint(0, 50, (500, 3))
    mixed, other = mix((numbers, codes), generator)
    assert_array_equal(mixed[::5, 0].isnan(), True)
    assert not mixed[:, 1].isnan().any()
    known = ~numbers[:, 0].isnan()
    assert not mixed[known].isnan().any()
    moved = (mixed - numbers)[:, 1].abs()
    assert 0 < moved.mean() < 0.5 * (numbers[:, 1] - numbers[:, 1].mean()).abs().mean() * 2
    assert 0.6 < (other == codes).float().mean() < 0.9


@pytest.mark.parametrize("kind", ["stacked", "modules"])
@pytest.mark.parametrize("task_loss", [CrossEntropy(), RegressionLoss()])
def test_networks_of_an_ensemble_share_nothing(kind, task_loss):
    torch.manual_seed(0)
    hidden = (
        MLPExperts(3, 4, (5,))
        if kind == "stacked"
        else ModuleExperts([torch.nn.Linear(3, 5) for _ in range(4)])
    )
    ensemble = Ensemble([IdentityTrunk(3) for _ in range(4)], hidden, 5, 2, task_loss)
    rows = torch.randn(4, 7, 3, requires_grad=True)
    prediction = ensemble(rows).prediction
    assert prediction.shape == (4, 7, 2)
    prediction[1].square().sum().backward()
    assert rows.grad[1].abs().min() > 0
    assert rows.grad[[0, 2, 3]].abs().max() == 0
    for name, parameter in ensemble.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad[[0, 2, 3]].abs().max() == 0, name
    same = torch.randn(7, 3)
    each = ensemble(same.expand(4, 7, 3)).prediction
    mean = each.exp().mean(0).log() if isinstance(task_loss, CrossEntropy) else each.mean(0)
    assert_allclose(ensemble.teach((same,)).detach(), mean.detach(), atol=1e-6)


def test_losses_of_an_ensemble_are_those_of_each_network():
    torch.manual_seed(0)
    ensemble = Ensemble(
        [IdentityTrunk(3), IdentityTrunk(3)], MLPExperts(3, 2, (5,)), 5, 2, CrossEntropy()
    )
    rows, target = torch.randn(2, 7, 3), torch.randint(0, 2, (2, 7))
    weight = torch.rand(2, 7)
    output = ensemble(rows, target=target, sample_weight=weight)
    expected = [
        (w * torch.nn.functional.nll_loss(p, t, reduction="none")).mean()
        for p, t, w in zip(output.prediction, target, weight, strict=True)
    ]
    assert_allclose(output.losses.total.item(), sum(expected).item(), rtol=1e-5)


def test_each_network_has_rows_of_its_own():
    rows = Rows((torch.arange(30.0).view(15, 2),), torch.arange(15), None)
    positions = torch.stack([torch.randperm(15)[:10] for _ in range(3)])
    members = MemberRows(rows, positions)
    for shuffle in (False, True):
        generator = torch.Generator().manual_seed(0)
        batches = list(members.batches(4, shuffle=shuffle, generator=generator))
        assert [batch.target.shape for batch in batches] == [(3, 4), (3, 4), (3, 2)]
        target = torch.cat([batch.target for batch in batches], dim=1)
        assert_array_equal(target.sort(dim=1).values, positions.sort(dim=1).values)
        assert torch.equal(target, positions) is not shuffle
        numbers = torch.cat([batch.inputs[0] for batch in batches], dim=1)
        assert_array_equal(numbers[..., 0], 2 * target)


def test_a_taught_classifier_is_calibrated_by_its_teacher():
    options = QUICK | {"max_epochs": 30, "learning_rate": 0.05}
    plain = MoDEClassifier(**options).fit(X, y)
    assert plain.temperature_ != 1
    assert MoDEClassifier(**options, teacher="mixture").fit(X, y).temperature_ == 1


def frame_of(n_rows=240):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(X[:n_rows], columns=list("abcde"))
    frame["kind"] = rng.choice(["x", "y", "z"], n_rows)
    frame.loc[::7, "a"] = np.nan
    frame.loc[::11, "kind"] = None
    return frame


@MIXTURE_FIRST
@pytest.mark.parametrize(
    "options",
    [
        {"gate": "sparse", "top_k": 1},
        {"mixing": "representation"},
        {"mixing": "likelihood", "distillation": "pairwise"},
        {"alpha": "auto"},
        {"expert_module": lambda width: torch.nn.Linear(width, 6)},
        {"precision": "float64", "optimizer": "sgd"},
        {"numeric_embedding": "piecewise_linear", "class_weight": "balanced"},
        {"inference": "top_expert", "calibration": None, "weight_averaging": 0},
    ],
    ids=", ".join,
)
def test_with_other_options(teacher, options):
    weight = np.linspace(0, 2, 240)
    classifier = MoDEClassifier(**QUICK | options, teacher=teacher)
    classifier.fit(frame_of(), y, sample_weight=weight)
    assert classifier.refit_n_iter_ > 0
    assert np.isfinite(predict(classifier, frame_of())).all()
    assert log_loss(y, predict(classifier, frame_of())) < 0.69


@MIXTURE_FIRST
def test_several_targets(teacher):
    Y = np.column_stack([X[:, 0], -3 * X[:, 1] + 5])
    regressor = MoDERegressor(**QUICK | {"max_epochs": 40}, teacher=teacher).fit(X, Y)
    assert regressor.predict(X).shape == (240, 2)
    assert regressor.score(X, Y) > 0.7


@MIXTURE_FIRST
def test_sparse_rows_as_dense_ones(teacher):
    rows = np.where(np.abs(X) > 0.7, X, 0)
    options = QUICK | {"numeric_embedding": None}
    dense = MoDEClassifier(**options, teacher=teacher).fit(rows, y)
    sparse = MoDEClassifier(**options, teacher=teacher).fit(scipy.sparse.csr_array(rows), y)
    assert_array_equal(predict(sparse, rows), predict(dense, rows))


@CLASSIFIER_FIRST
@TEACHERS
def test_validation_rows_of_the_users_own(Estimator, teacher):
    """They are read and never trained on, by mixture and teachers alike."""
    rows = slice(0, 180), slice(180, 240)
    (X_train, X_val), (y_train, y_val) = ([part[i] for i in rows] for part in (X, y))
    plain = Estimator(**QUICK).fit(X_train, y_train, X_val=X_val, y_val=y_val)
    assert plain.refit_n_iter_ == 0
    trained = []
    step = MixtureNet.train_step

    def train_step(net, batch, **kwargs):
        trained.append(batch.target.numel())
        return step(net, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixtureNet, "train_step", train_step)
        estimator = Estimator(**QUICK, teacher=teacher)
        estimator.fit(X_train, y_train, X_val=X_val, y_val=y_val)
    assert estimator.refit_n_iter_ > 0
    assert sum(trained) % 180 == 0  # passes over the training rows alone


def test_rows_of_a_group_stay_together():
    groups = np.arange(240) // 8
    split = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    options = QUICK | {"validation_fraction": split, "teacher": "ensemble"}
    classifier = MoDEClassifier(**options).fit(X, y, groups=groups)
    assert classifier.refit_n_iter_ > 0


@BOTH
def test_teachers_that_diverge_are_left_out(Estimator, monkeypatch):
    step = MixtureNet.train_step

    def train_step(net, batch, **kwargs):
        result = step(net, batch, **kwargs)
        if isinstance(net.module_, Ensemble):
            with torch.no_grad():
                net.module_.head.weight.fill_(torch.nan)
        return result

    plain = Estimator(**QUICK).fit(X, y)
    monkeypatch.setattr(MixtureNet, "train_step", train_step)
    with pytest.warns(ConvergenceWarning, match="teachers of the refit did not stay finite"):
        found = Estimator(**QUICK, teacher="ensemble", refit_fraction=0.3).fit(X, y)
    assert_array_equal(predict(found), predict(plain))


class CountEpochs(Callback):
    """Count the epochs of the ensemble and the rows of each of its networks in them."""

    def __init__(self):
        self.rows = []

    def on_epoch_begin(self, net, **kwargs):
        self.current = 0

    def on_batch_end(self, net, batch, **kwargs):
        self.current += batch.inputs[0].shape[1]

    def on_epoch_end(self, net, **kwargs):
        if isinstance(net.module_, Ensemble):
            self.rows.append(self.current)

    def on_grad_computed(self, net, **kwargs):
        """Without this, refit and teachers leave the callback out."""


@pytest.mark.parametrize("max_epochs", [1, 5, 30])
def test_teachers_are_refitted_with_all_rows_within_the_budget(max_epochs):
    count = CountEpochs()
    options = QUICK | {"max_epochs": max_epochs, "callbacks": [count], "refit_fraction": 0.6}
    MoDEClassifier(**options, teacher="ensemble").fit(X, y)
    assert len(count.rows) <= max_epochs
    # A budget of one epoch leaves the mixture no refit, so there is nothing to teach.
    assert (len(X) in count.rows) == (max_epochs > 1)


def test_teachers_whose_refit_diverges_keep_their_best_weights(monkeypatch):
    step = MixtureNet.train_step

    def train_step(net, batch, **kwargs):
        result = step(net, batch, **kwargs)
        if isinstance(net.module_, Ensemble) and len(net.history) > options["max_epochs"] - 2:
            with torch.no_grad():
                net.module_.head.weight.fill_(torch.nan)
        return result

    options = QUICK | {"max_epochs": 12, "n_iter_no_change": 100, "refit_fraction": 0.6}
    monkeypatch.setattr(MixtureNet, "train_step", train_step)
    with pytest.warns(ConvergenceWarning, match="refit did not stay finite, so the best"):
        found = MoDEClassifier(**options, teacher="ensemble").fit(X, y)
    assert found.refit_n_iter_ > 0
    assert found.score(X, y) > 0.6


@CLASSIFIER_FIRST
@pytest.mark.slow
def test_auto_takes_no_teacher_that_predicts_worse(Estimator, monkeypatch):
    """Its refit is then the plain one; with a better ensemble it is another."""
    calls = []

    def train(plan, members, generators):
        trained = train_ensemble(plan, members, generators)
        calls.append(plan.teacher)
        if worse:
            trained = trained._replace(held_out=trained.held_out.flip(0) - 5)
        return trained

    monkeypatch.setattr(trainer, "train_ensemble", train)
    options = QUICK | {"refit_fraction": 0.3, "max_epochs": 20}
    plain = Estimator(**options).fit(X, y)
    worse = True
    assert_array_equal(predict(Estimator(**options, teacher="auto").fit(X, y)), predict(plain))
    worse = False
    assert not np.allclose(predict(Estimator(**options, teacher="auto").fit(X, y)), predict(plain))
    assert calls == ["auto", "auto"]


def test_half_of_an_ensemble_as_teacher_is_the_mixture(monkeypatch):
    """The mixture as it was before the refit, calibrated; its weight is that of all networks."""
    seen = {}

    def train(*args):
        seen["ensemble"] = train_ensemble(*args)
        return seen["ensemble"]

    class Taught(TaughtRows):
        def __init__(self, rows, teacher, distillation, mixing):
            super().__init__(rows, teacher, distillation, mixing)
            seen["taught"] = self

    monkeypatch.setattr(trainer, "train_ensemble", train)
    monkeypatch.setattr(trainer, "TaughtRows", Taught)
    # Left for a refit of the same length, the mixture is the one that comes without a refit.
    options = QUICK | {"n_iter_no_change": 2, "max_epochs": 60}
    MoDEClassifier(**options, teacher="ensemble").fit(X, y)
    untaught = MoDEClassifier(**options, refit_fraction=0).fit(X, y)
    rows = seen["taught"].rows
    ensemble = seen["ensemble"].teacher(rows.inputs).detach().exp().numpy()
    expected = untaught.predict_proba(X) / 2 + ensemble / 2
    assert_allclose(rows.soft_target.exp(), expected, atol=1e-5)


class WatchRefit(Callback):
    """Keep the dropout and the learning rate at the first step of each training of the mixture."""

    def __init__(self):
        self.seen = []

    def on_train_begin(self, net, **kwargs):
        self.first = True

    def on_grad_computed(self, net, **kwargs):
        """Without this, the refit leaves the callback out."""

    def on_batch_end(self, net, **kwargs):
        if self.first and not isinstance(net.module_, Ensemble):
            dropout = {each.p for each in net.module_.modules() if isinstance(each, Dropout)}
            self.seen.append((dropout, net.optimizer_.param_groups[0]["lr"]))
        self.first = False


@TEACHERS
@BOTH
def test_a_taught_refit_has_no_dropout_and_a_high_rate(teacher, Estimator):
    """Values, too: only where an estimator predicted them, the rate is lower."""
    watch = WatchRefit()
    options = QUICK | {"dropout": 0.25, "callbacks": [watch], "learning_rate_schedule": "constant"}
    model = Estimator(**options, teacher=teacher).fit(X, y)
    (before, rate), (without, taught_rate) = watch.seen
    assert (before, without) == ({0.25}, {0})
    assert 1.5 * rate < taught_rate <= 2 * rate
    after = {each.p for each in model.net_.module_.modules() if isinstance(each, Dropout)}
    assert after == {0.25}


@pytest.mark.parametrize("teacher", ["mixture", pytest.param("ensemble", marks=pytest.mark.slow)])
def test_a_taught_refit_that_ruins_the_network_is_undone(teacher, monkeypatch):
    """Such as by a rate that the training just withstood."""
    monkeypatch.setattr(trainer, "TAUGHT_RATE", 2000.0)
    options = QUICK | {"teacher": teacher, "refit_fraction": 1}
    with pytest.warns(ConvergenceWarning, match="refit made the network worse.*learning_rate"):
        found = MoDEClassifier(**options).fit(X, y)
    assert found.refit_n_iter_ == 0
    assert found.temperature_ != 1  # its own: the teacher's calibration went with the refit
    assert log_loss(y, predict(found)) < 0.65


@pytest.mark.slow
def test_a_taught_refit_is_judged_by_the_size_of_the_loss():
    """Of values without noise the loss is so small that a refit may raise it many times over."""
    numbers = np.random.default_rng(0).normal(size=(900, 3))
    values = 2 * numbers[:, 0] + numbers[:, 1]
    options = {"learning_rate": 0.02, "max_epochs": 40, "random_state": 0}
    with pytest.warns(ConvergenceWarning, match="worse"):
        taught = MoDERegressor(teacher="ensemble", n_teachers=2, **options).fit(numbers, values)
    assert taught.refit_n_iter_ == 0
    assert taught.teacher_names_ == []
    assert np.sqrt(np.mean((taught.predict(numbers) - values) ** 2)) < 0.03


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"early_stopping": False}, "no rows were held out.*early_stopping=True"),
        ({"refit_fraction": 0}, "refit_fraction is 0"),
        ({"max_epochs": 1}, "max_epochs leaves it no epochs"),
    ],
)
def test_a_name_without_a_refit_warns(options, why):
    with pytest.warns(UserWarning, match=f"teaches in the refit, but there was none: {why}"):
        found = MoDEClassifier(**QUICK | {"teacher": "mixture"} | options).fit(X, y)
    assert found.teacher_names_ == []


def test_partial_fit_has_no_refit_to_warn_of(recwarn):
    model = MoDEClassifier(**QUICK, teacher="mixture").fit(X, y)
    model.partial_fit(X, y)
    MoDEClassifier(**QUICK | {"early_stopping": False}, teacher="mixture", teacher_weight=0).fit(
        X, y
    )
    assert not [each for each in recwarn if "teaches in the refit" in str(each.message)]
    assert model.teacher_names_ == ["mixture"]


@TEACHERS
@pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
def test_without_weight_nobody_teaches(Estimator, teacher):
    found = Estimator(**QUICK, teacher=teacher, teacher_weight=0).fit(X, y)
    assert found.teacher_names_ == []
    assert_array_equal(predict(found), predict(Estimator(**QUICK).fit(X, y)))


def test_the_weight_of_a_name_that_did_not_teach_is_zero():
    model = MoDEClassifier(**QUICK, teacher="mixture").fit(X, y)
    assert model.teacher_weight_ == 0.5
    assert model.partial_fit(X, y).teacher_weight_ == 0
    assert model.set_params(teacher=None).fit(X, y).teacher_weight_ == 0


def test_a_refit_of_a_single_class_is_not_worse_by_rounding(recwarn):
    found = MoDEClassifier(**QUICK, teacher="mixture").fit(X, np.zeros(len(X)))
    assert found.teacher_names_ == ["mixture"]
    assert not [each for each in recwarn if "made the network worse" in str(each.message)]


def test_a_name_that_taught_is_told(tmp_path):
    for teacher, names in (("mixture", ["mixture"]), ("ensemble", ["mixture", "ensemble"])):
        found = MoDEClassifier(**QUICK, teacher=teacher).fit(X, y)
        assert found.teacher_names_ == names
        export(found, tmp_path)
        assert list(skmode_deploy.bundle.verify(tmp_path).teacher.names) == names


def test_dropout_comes_back_after_an_interrupt():
    module = torch.nn.Sequential(Dropout(0.25), torch.nn.Dropout(0.5))

    def refit():
        with without_dropout(module):
            assert [each.p for each in module] == [0, 0.5]  # that of users' experts stays
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refit()
    assert [each.p for each in module] == [0.25, 0.5]


def test_a_plain_refit_keeps_its_dropout():
    watch = WatchRefit()
    options = QUICK | {"dropout": 0.25, "callbacks": [watch]}
    assert MoDEClassifier(**options).fit(X, y).refit_n_iter_ > 0
    assert [dropout for dropout, _ in watch.seen] == [{0.25}, {0.25}]


@TEACHERS
def test_the_training_leaves_a_teacher_as_many_epochs(teacher):
    options = QUICK | {"max_epochs": 20, "n_iter_no_change": 100, "learning_rate": 0.002}
    taught = MoDEClassifier(**options, teacher=teacher).fit(X, y)
    assert taught.refit_n_iter_ == len(taught.loss_curve_) == 10
    assert MoDEClassifier(**options).fit(X, y).refit_n_iter_ < 6


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_blended_teachers(share):
    """Probabilities are averaged, and so are values."""
    rng = np.random.default_rng(0)
    first, second = torch.as_tensor(rng.dirichlet(np.ones(3), size=(2, 5)))

    class Module:
        task_loss = CrossEntropy()

    teacher = blend(Module(), lambda inputs: first.log(), lambda inputs: second.log(), share)
    assert_allclose(teacher(()).exp(), (1 - share) * first + share * second)
    Module.task_loss = RegressionLoss()
    teacher = blend(Module(), lambda inputs: first, lambda inputs: second, share)
    assert_allclose(teacher(()), (1 - share) * first + share * second)


def test_interrupted_teachers_leave_the_best_weights(monkeypatch):
    step = MixtureNet.train_step

    def train_step(net, batch, **kwargs):
        if isinstance(net.module_, Ensemble):
            raise KeyboardInterrupt
        return step(net, batch, **kwargs)

    plain = MoDEClassifier(**QUICK, refit_fraction=0).fit(X, y)
    monkeypatch.setattr(MixtureNet, "train_step", train_step)
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        found = MoDEClassifier(**QUICK, teacher="ensemble", refit_fraction=0.3).fit(X, y)
    assert found.refit_n_iter_ == 0
    assert_array_equal(predict(found)[:, 1] > 0.5, predict(plain)[:, 1] > 0.5)


@MIXTURE_FIRST
def test_pickles_hold_no_teacher(teacher):
    plain = MoDEClassifier(**QUICK).fit(X, y)
    taught = MoDEClassifier(**QUICK, teacher=teacher).fit(X, y)
    assert len(pickle.dumps(taught)) < 1.02 * len(pickle.dumps(plain))


@MIXTURE_FIRST
def test_warm_start(teacher):
    classifier = MoDEClassifier(**QUICK, teacher=teacher, warm_start=True).fit(X, y)
    before = classifier.n_iter_
    classifier.fit(X, y)
    assert classifier.n_iter_ > before
    assert classifier.refit_n_iter_ > 0


@pytest.mark.slow
def test_an_ensemble_helps_one_expert():
    """On noisy rows, the top expert predicts better with an ensemble as its teacher."""
    rows, classes = make_classification(
        1500, 12, n_informative=8, n_clusters_per_class=3, flip_y=0.1, random_state=1
    )
    options = {"inference": "top_expert", "max_epochs": 25, "random_state": 0}
    losses = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for teacher in (None, "ensemble"):
            classifier = MoDEClassifier(**options, teacher=teacher, refit_fraction=0.6)
            classifier.fit(rows[:700], classes[:700])
            losses[teacher] = log_loss(classes[700:], classifier.predict_proba(rows[700:]))
    assert losses["ensemble"] < losses[None]
