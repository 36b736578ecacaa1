"""Fits that several processes run together: they equal those of one, and fail together."""

import copy
import functools
import pickle
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback

from skmode import MoDEClassifier, MoDERegressor, MoDETextClassifier, fit_alone, nn
from skmode._training.process.steps import Part
from skmode._training.rows import Rows
from skmode.onnx import export

sys.path.insert(0, str(Path(__file__).parent))
import cloudpickle
from workers import Workers

# Workers cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

# Seconds in which all ranks must have an error.
SOON = 30
QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "balance": 0.1,
    "dropout": 0.0,
    "max_epochs": 3,
    "batch_size": 101,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def workers():
    made = Workers(2)
    yield made
    made.close()


def rows(n_rows=303):
    """Numbers, of which some are missing, a category, and weights."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n_rows, 4)), columns=list("abcd"))
    X["kind"] = rng.choice(["x", "y", "z"], n_rows)
    y = np.sign(X["a"] * X["b"]) + (X["kind"] == "x") + 0.1 * rng.normal(size=n_rows)
    X[X[list("abcd")] > 2] = np.nan
    X.loc[::7, "c"] = np.nan
    return X, y.to_numpy(), rng.uniform(0.5, 2, n_rows)


def labels(y):
    return np.array(["low", "middle", "high"])[np.digitize(y, [0, 1])]


def weights(model):
    return np.concatenate(
        [each.numpy().ravel() for each in model.net_.module_.state_dict().values()]
    )


class Steps(Callback):
    """Keeps the weights after each step."""

    def __init__(self):
        self.found = []

    def on_batch_end(self, net, **kwargs):
        self.found.append([each.detach().clone() for each in net.module_.parameters()])


def fit(rank, model, *arguments, **kwargs):
    """The task of most tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*arguments, **kwargs)


def fitted_by(workers, model, *arguments, **kwargs):
    """Fit on all ranks, which must end alike, and in one process; return both models."""
    answers = workers.run(lambda rank: fit(rank, model, *arguments, **kwargs))
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    first, second = answers
    assert_array_equal(weights(first), weights(second))
    assert first.history_ == second.history_
    assert_array_equal(first.expert_usage_, second.expert_usage_)
    assert first.validation_scores_ == second.validation_scores_
    return first, fit(0, copy.deepcopy(model), *arguments, **kwargs)


@pytest.mark.parametrize("gate", ["dense", "sparse"])
def test_each_step_equals_that_of_one_process(workers, gate):
    X, y, weight = rows()
    # The last batch has a single row for each of them.
    X, y, weight = X[:203], labels(y)[:203], weight[:203]
    model = MoDEClassifier(
        **QUICK | {"batch_size": 67, "max_epochs": 2},
        gate=gate,
        optimizer="sgd",
        learning_rate=0.05,
        weight_averaging=0.0,
        early_stopping=False,
        precision="float32",
    )

    def task(rank, model):
        steps = Steps()
        model.set_params(callbacks=[steps]).fit(X, y, sample_weight=weight)
        return steps.found, model.loss_curve_

    (first, losses), (second, _) = workers.run(task, model)
    alone, expected = task(0, model)
    assert len(first) == len(alone) == 8
    for step, other, own in zip(first, second, alone, strict=True):
        for a, b, c in zip(step, other, own, strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, c, rtol=0, atol=1e-6)
    assert_allclose(losses, expected, rtol=1e-6)


def test_a_classifier_equals_that_of_one_process(workers, tmp_path):
    """With validation, alpha="auto", temperature and refit; then a pickle, and export."""
    X, y, weight = rows()
    model = MoDEClassifier(**QUICK, alpha="auto", precision="float64")
    together, alone = fitted_by(workers, model, X, labels(y), sample_weight=weight)
    assert together.alpha_ == alone.alpha_
    assert together.refit_n_iter_ == alone.refit_n_iter_ > 0
    assert_allclose(together.temperature_, alone.temperature_, rtol=1e-5)
    assert_allclose(together.loss_curve_, alone.loss_curve_, rtol=1e-6)
    expected = alone.predict_proba(X)
    assert_allclose(together.predict_proba(X), expected, atol=1e-6)
    assert_array_equal(
        pickle.loads(pickle.dumps(together)).predict_proba(X), together.predict_proba(X)
    )
    export(together, tmp_path / "bundle", X=X[:50])


@pytest.mark.parametrize("teacher", ["mixture", "ensemble"])
def test_a_regressor_and_its_teacher_equal_those_of_one_process(workers, teacher):
    X, y, weight = rows()
    model = MoDERegressor(**QUICK, teacher=teacher, precision="float64", n_teachers=2)
    together, alone = fitted_by(workers, model, X, y, sample_weight=weight)
    assert together.refit_n_iter_ == alone.refit_n_iter_ > 0
    assert_allclose(together.predict(X), alone.predict(X), atol=1e-6)


def test_a_teacher_that_is_an_estimator_is_fitted_on_each_rank(workers):
    X, y, _ = rows()
    inner = MoDERegressor(**QUICK | {"max_epochs": 1})
    model = MoDERegressor(**QUICK, teacher=inner, teacher_weight=0.5, precision="float64")
    together, alone = fitted_by(workers, model, X, y)
    assert_allclose(together.predict(X), alone.predict(X), atol=1e-6)


def test_dropout_differs_by_rank_and_random_state_is_agreed_on(workers):
    X, y, _ = rows()
    model = MoDERegressor(**QUICK | {"dropout": 0.5, "random_state": None})
    first, second = workers.run(lambda rank: model.fit(X, y))
    assert_array_equal(weights(first), weights(second))
    assert first.history_ == second.history_


def test_warm_start_and_partial_fit_go_on(workers):
    X, y, _ = rows()
    model = MoDERegressor(**QUICK, precision="float64", warm_start=True)

    def task(rank, model):
        model.fit(X, y).fit(X, y)
        return model.partial_fit(X[:150], y[:150])

    first, second = workers.run(task, model)
    assert_array_equal(weights(first), weights(second))
    assert_allclose(first.predict(X), task(0, model).predict(X), atol=1e-6)


def test_a_dataset_is_read_by_each_rank(workers, tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    X, y, _ = rows()
    X.assign(y=y).to_parquet(tmp_path / "rows.parquet")
    model = MoDERegressor(**QUICK, precision="float64")

    def task(rank, model):
        return model.fit(dataset.dataset(tmp_path), target="y")

    first, second = workers.run(task, model)
    assert_array_equal(weights(first), weights(second))
    assert_allclose(first.predict(X), task(0, model).predict(X), atol=1e-6)


def test_texts(workers):
    pytest.importorskip("tokenizers")
    words = np.array(["cat", "dog", "sun", "sea", "tree", "bird"])
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(200)]
    y = np.array(["cat" in text for text in texts])
    model = MoDETextClassifier(**QUICK, token_dropout=0.0, precision="float64")
    together, alone = fitted_by(workers, model, texts, y)
    assert_allclose(together.predict_proba(texts), alone.predict_proba(texts), atol=1e-6)


def test_each_rank_may_fit_its_own_model(workers):
    X, y, _ = rows()

    def task(rank):
        with fit_alone():
            return MoDERegressor(**QUICK).fit(X[rank::2], y[rank::2])

    for rank, model in enumerate(workers.run(task)):
        alone = MoDERegressor(**QUICK).fit(X[rank::2], y[rank::2])
        assert_array_equal(model.predict(X), alone.predict(X))


class Alone:
    """A rank whose sums are added up by the test."""

    def __init__(self, rank, world):
        self.rank, self.world = rank, world
        self.added = []

    def add(self, tensor):
        self.added.append(tensor.clone())
        return tensor


@pytest.mark.parametrize("weighted", [True, False])
def test_a_rank_without_rows_adds_nothing(weighted):
    """Two rows for three ranks: their sum is the gradient of the batch; few rows are float64."""
    torch.manual_seed(0)
    module = nn.MixtureOfExperts(
        nn.IdentityTrunk(4),
        nn.DenseGate(4, n_experts=2),
        nn.MLPExperts(4, n_experts=2, hidden_layer_sizes=(8,)),
        torch.nn.Linear(8, 1),
        nn.RegressionLoss(),
        alpha=1.0,
    ).double()
    weight = torch.tensor([0.5, 2.0]).double() if weighted else None
    batch = Rows((torch.randn(2, 4).double(),), torch.randn(2, 1).double(), weight)
    losses = module(*batch.inputs, **batch.targets()).losses
    losses.total.backward()
    expected = [each.grad for each in module.parameters()]
    ranks = [Alone(rank, 3) for rank in range(3)]
    for rank in ranks:
        module.zero_grad()
        part = Part(rank, batch, axis=0, dtype=torch.float64)
        with part.balanced(module):
            found = module(*part.rows.inputs, **part.rows.targets()).losses
        part.loss(module, found).backward()
        part.add_up(module.parameters(), found)
    (summed,) = torch.stack([rank.added[0] for rank in ranks], dim=1).sum(dim=1, keepdim=True).T
    reached = [torch.tensor([0.0 if each is None else 3.0]).double() for each in expected]
    gradients = [
        (torch.zeros_like(each) if gradient is None else gradient).flatten()
        for each, gradient in zip(module.parameters(), expected, strict=True)
    ]
    torch.testing.assert_close(
        summed,
        torch.cat([torch.stack(losses).detach(), torch.zeros(1).double(), *reached, *gradients]),
    )


# What goes wrong. `spoil` gets the rank, and may change what is passed to `fit`.


class Raises(Callback):
    """Fails in the middle of the training, on one rank."""

    def __init__(self, rank, error):
        self.rank = rank
        self.error = error

    def on_batch_end(self, net, **kwargs):
        if self.rank == 1 and len(net.history) == 2:
            raise self.error


def other_columns(X, y, model):
    return X.rename(columns={"a": "e"}), y, model


def fewer_columns(X, y, model):
    return X.drop(columns="a"), y, model


def other_classes(X, y, model):
    return X, np.where(y == "low", "middle", y), model


def other_rows(X, y, model):
    return X.assign(a=X["a"] + (X.index == 5)), y, model


def another_order(X, y, model):
    return X[::-1], y[::-1], model


def fewer_rows(X, y, model):
    return X[1:], y[1:], model


def a_dataset(X, y, model):
    import pyarrow as pa

    return (lambda: [pa.RecordBatch.from_pandas(X)]), y, model


def own_validation_rows(X, y, model):
    model.fit = functools.partial(model.fit, X_val=X[:50], y_val=y[:50])
    return X, y, model


def fitted_before(X, y, model):
    with fit_alone():
        return X, y, model.set_params(warm_start=True).fit(X, y)


def no_rows(X, y, model):
    return X[:0], y[:0], model


def another_parameter(X, y, model):
    return X, y, model.set_params(n_experts=4)


def invalid_parameter(X, y, model):
    return X, y, model.set_params(max_epochs=-1)


def failing_callback(X, y, model):
    return X, y, model.set_params(callbacks=[Raises(1, ZeroDivisionError("of the test"))])


def interrupted(X, y, model):
    return X, y, model.set_params(callbacks=[Raises(1, KeyboardInterrupt())])


def other_weights(X, y, model):
    class Changes(Callback):
        def on_batch_end(self, net, **kwargs):
            with torch.no_grad():
                net.module_.head.weight.add_(1)

    return X, y, model.set_params(callbacks=[Changes()])


SAME_ERROR = {
    own_validation_rows: "X_val is missing on rank 0 and given on rank 1",
    a_dataset: "X is in memory on rank 0 and a dataset on rank 1",
    fitted_before: "the model to go on from is none on rank 0 and a fitted one on rank 1",
    other_columns: "the set of columns",
    fewer_columns: "the set of columns",
    other_classes: "the set of classes",
    other_rows: "the training rows",
    another_order: "the training rows",
    fewer_rows: "number of training rows",
    another_parameter: "n_experts is 3 on rank 0 and 4 on rank 1",
    invalid_parameter: "max_epochs is 3 on rank 0 and -1 on rank 1",
    other_weights: "weights of all ranks must stay the same",
}
ONE_FAILS = {
    no_rows: "rank 1 failed with ValueError",
    failing_callback: "rank 1 failed with ZeroDivisionError: of the test",
    interrupted: "rank 1 failed with KeyboardInterrupt",
}


@pytest.mark.parametrize("spoil", [*SAME_ERROR, *ONE_FAILS])
def test_what_one_rank_gets_wrong_fails_on_all(workers, spoil):
    X, y, _ = rows()

    def task(rank):
        given = X, labels(y), MoDEClassifier(**QUICK, warm_start=spoil is fitted_before)
        if rank == 1:
            given = spoil(*given)
        return given[2].fit(*given[:2])

    begun = time.monotonic()
    first, second = workers.run(task, limit=SOON)
    assert time.monotonic() - begun < SOON
    for answer in (first, second):
        assert isinstance(answer, BaseException)
    if spoil in SAME_ERROR:
        assert str(first) == str(second)
        assert SAME_ERROR[spoil] in str(first)
    else:
        assert ONE_FAILS[spoil] in str(first)


def test_what_cannot_be_shared_is_refused(workers, tmp_path):
    X, y, _ = rows(150)

    def expert(in_features):
        return torch.nn.Sequential(torch.nn.Linear(in_features, 8), torch.nn.BatchNorm1d(8))

    def task(rank):
        return MoDERegressor(**QUICK, expert_module=expert).fit(X, y)

    for answer in workers.run(task, limit=SOON):
        assert isinstance(answer, ValueError)
        assert "BatchNorm1d" in str(answer)


@pytest.mark.slow
def test_ranks_that_talk_to_others_alone_notice_a_failure_too():
    """With five, some are not connected to the one that fails, but to one that notices it."""
    kept = []

    def task(rank):
        from skmode._training.process.ranks import together

        begun = time.monotonic()
        try:
            with together() as ranks:
                ranks.add(torch.ones(10))
                begun = time.monotonic()
                if rank == 1:
                    raise ValueError("of the test")
                ranks.add(torch.ones(100_000))
        except Exception as error:
            kept.append(error)  # whose frames may hold what is to be closed
            return str(error), time.monotonic() - begun

    five = Workers(5)
    try:
        answers = five.run(task)
    finally:
        five.close()
    assert all("of the test" in message for message, _ in answers)
    assert max(seconds for _, seconds in answers) < SOON


def test_a_killed_rank_does_not_leave_the_others_waiting(workers):
    """The last test: a rank is gone."""
    X, y, _ = rows()

    class Dies(Callback):
        def on_batch_end(self, net, **kwargs):
            import os

            os._exit(1)

    def task(rank):
        return MoDERegressor(**QUICK, callbacks=[Dies()] if rank else None).fit(X, y)

    survivor, dead = workers.run(task, limit=SOON)
    assert isinstance(dead, EOFError)
    assert "All ranks must end their fit together" in str(survivor)
