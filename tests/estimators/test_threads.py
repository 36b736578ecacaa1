"""Fits and predictions in threads and processes equal those alone, and leave no trace."""

import contextlib
import functools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import Callback

from skmode import MoDEClassifier, MoDERegressor
from skmode._training.process.isolation import Generators

QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


class Expert(torch.nn.Module):
    """Draws in training, by torch's own dropout."""

    def __init__(self, in_features):
        super().__init__()
        self.linear = torch.nn.Linear(in_features, 8)
        self.dropout = torch.nn.Dropout(0.3)

    def forward(self, x):
        return self.dropout(self.linear(x).relu())


class GradientNoise(Callback):
    """A user's callback that draws."""

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for _, parameter in named_parameters:
            if parameter.grad is not None:
                parameter.grad += 0.01 * torch.randn_like(parameter.grad)


class NoisyDescent(torch.optim.SGD):
    """A user's optimizer that draws."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for parameter in self.param_groups[0]["params"]:
            parameter += 1e-3 * torch.randn_like(parameter)


FITS = {
    "classifier": functools.partial(MoDEClassifier, dropout=0.2),
    "regressor": functools.partial(MoDERegressor, dropout=0.2),
    "early stopping, alpha": functools.partial(MoDEClassifier, alpha="auto", early_stopping=True),
    "bins": functools.partial(MoDERegressor, numeric_embedding="piecewise_linear"),
    "user's experts": functools.partial(MoDEClassifier, expert_module=Expert),
    "user's experts in regression": functools.partial(MoDERegressor, expert_module=Expert),
    "user's callback": functools.partial(
        MoDEClassifier, expert_module=Expert, callbacks=[GradientNoise()]
    ),
    "user's optimizer": functools.partial(MoDERegressor, optimizer=NoisyDescent, dropout=0.2),
}


QUICK_FITS = {"classifier", "early stopping, alpha", "user's callback", "user's optimizer"}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 3))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def predictions(make, rows):
    model = make(**QUICK).fit(*rows)
    return model.predict_proba(rows[0]) if hasattr(model, "classes_") else model.predict(rows[0])


def process_state():
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
        np.geterr(),
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK_FITS else pytest.mark.slow) for name in FITS],
)
def test_fits_in_threads_equal_those_alone(name, rows):
    before = process_state()
    alone = predictions(FITS[name], rows)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: predictions(FITS[name], rows), range(4)))
    for result in results:
        assert_array_equal(result, alone)
    assert process_state() == before


@pytest.mark.slow
def test_different_fits_at_the_same_time(rows):
    alone = [predictions(make, rows) for make in FITS.values()]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda make: predictions(make, rows), FITS.values()))
    for one, other in zip(alone, together, strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize(
    "make", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)
def test_continued_training_in_threads(make, rows):
    def continued(_):
        model = make(**QUICK | {"dropout": 0.2, "batch_size": 32})
        for _ in range(3):
            model.partial_fit(*rows)
        return model.set_params(warm_start=True).fit(*rows).expert_predict(rows[0])

    alone = continued(0)
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(continued, range(2)):
            assert_array_equal(result, alone)


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_cross_validation_in_threads_and_processes(backend, rows):
    model = MoDEClassifier(**QUICK)
    grid = GridSearchCV(model, {"alpha": [0.0, 5.0]}, cv=2, scoring="neg_log_loss")
    alone = cross_val_score(model, *rows, cv=3, scoring="neg_log_loss")
    searched = grid.fit(*rows).cv_results_["mean_test_score"]
    with joblib.parallel_backend(backend, n_jobs=2):
        together = cross_val_score(model, *rows, cv=3, scoring="neg_log_loss", n_jobs=2)
        grid.set_params(n_jobs=2).fit(*rows)
    assert_array_equal(together, alone)
    assert_array_equal(grid.cv_results_["mean_test_score"], searched)


@contextlib.contextmanager
def setting(change, value, back):
    change(value)
    try:
        yield
    finally:
        change(back)


SETTINGS = {
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default device": lambda: setting(torch.set_default_device, "meta", None),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "numpy's errors": lambda: np.errstate(all="raise"),
    "seeds": lambda: contextlib.nullcontext(
        (torch.manual_seed(1), np.random.seed(1), random.seed(1))  # noqa: NPY002
    ),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "make",
    [
        "classifier",
        *(pytest.param(make, marks=pytest.mark.slow) for make in ("regressor", "bins")),
        pytest.param("user's experts", marks=pytest.mark.slow),
    ],
)
def test_a_fit_does_not_depend_on_settings_of_its_process(name, make, rows):
    alone = predictions(FITS[make], rows)
    with SETTINGS[name]():
        before = process_state()
        result = predictions(FITS[make], rows)
        assert process_state() == before
    assert_array_equal(result, alone)


@pytest.mark.parametrize("make", [MoDEClassifier, MoDERegressor])
@pytest.mark.slow
def test_two_threads_of_torch_give_the_bits_of_one(make, rows):
    quick = QUICK | {"max_epochs": 1, "dropout": 0.2, "early_stopping": False}
    alone = make(**quick).fit(*rows).expert_predict(rows[0])
    with setting(torch.set_num_threads, 2, 1):
        result = make(**quick).fit(*rows).expert_predict(rows[0])
        assert torch.get_num_threads() == 2
    assert_array_equal(result, alone)


def test_what_was_trained_in_inference_mode_can_train_on(rows):
    with torch.inference_mode():
        model = MoDEClassifier(**QUICK).fit(*rows)
        model.predict(rows[0])
    model.set_params(warm_start=True).fit(*rows)
    assert len(model.history_) > 3


def test_without_a_random_state_numpy_is_asked_as_in_scikit_learn(rows):
    results = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002
        results += [MoDEClassifier(**QUICK | {"random_state": None}).fit(*rows) for _ in range(2)]
    first, second, again, _ = (model.predict_proba(rows[0]) for model in results)
    assert_array_equal(first, again)
    assert not np.array_equal(first, second)


class Failing(Expert):
    def forward(self, x):
        if self.training:
            raise RuntimeError("no such row")
        return super().forward(x)


def test_a_failing_module_leaves_no_trace(rows):
    before = process_state()
    with pytest.raises(RuntimeError, match="no such row"):
        MoDEClassifier(expert_module=Failing, **QUICK).fit(*rows)
    assert process_state() == before
    with ThreadPoolExecutor(1) as pool:  # another thread may have the generators now
        pool.submit(MoDEClassifier(**QUICK).fit, *rows).result(timeout=60)


@pytest.mark.parametrize("teacher", [None, "ensemble"])
def test_other_threads_may_draw_while_weights_are_made(teacher, rows, monkeypatch):
    params = QUICK | {"teacher": teacher, "n_teachers": 2, "early_stopping": True}
    alone = MoDEClassifier(**params).fit(*rows).predict_proba(rows[0])
    before = torch.get_rng_state()
    drawn = []
    reset = torch.nn.Linear.reset_parameters

    def draw_and_reset(layer):
        drawn.append(pool.submit(torch.rand, 1).result(timeout=60))
        reset(layer)

    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", draw_and_reset)
    with ThreadPoolExecutor(1) as pool:
        result = MoDEClassifier(**params).fit(*rows).predict_proba(rows[0])
    assert_array_equal(result, alone)
    assert len(drawn) > 1
    torch.set_rng_state(before)
    assert_array_equal(torch.cat(drawn), torch.rand(len(drawn)))  # not set back by the fit


def test_own_parts_do_not_need_the_default_generator(rows, monkeypatch):
    taken = []
    default = Generators.default
    monkeypatch.setattr(Generators, "default", lambda self: taken.append(1) or default(self))
    MoDERegressor(dropout=0.2, early_stopping=True, **QUICK).fit(*rows)
    assert not taken
    MoDERegressor(expert_module=Expert, **QUICK).fit(*rows)
    assert len(taken) > 3


class Slow(torch.nn.Module):
    """Gives other threads time to come in between."""

    def __init__(self, in_features):
        super().__init__()
        self.linear = torch.nn.Linear(in_features, 8)

    def forward(self, x):
        time.sleep(0.0005)
        return self.linear(x).tanh()


@pytest.mark.parametrize("inference", ["mixture", "top_expert"])
def test_predictions_of_a_users_experts_in_threads(inference, rows):
    model = MoDEClassifier(expert_module=Slow, **QUICK).fit(*rows).set_params(inference=inference)
    alone = model.predict_proba(rows[0])
    start = threading.Barrier(4)

    def predict(_):
        start.wait(timeout=60)
        return [model.predict_proba(rows[0]) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(predict, range(4)):
            for result in results:
                assert_array_equal(result, alone)
