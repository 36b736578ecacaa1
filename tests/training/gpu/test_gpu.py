"""Whole fits on a GPU that the CPU pretends to be: same answers, and no step that waits for it."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

import skmode._estimators.parameters as parameters
from skmode import (
    MoDEClassifier,
    MoDEImageClassifier,
    MoDERegressor,
    MoDETextClassifier,
)
from skmode._training.net import MixtureNet
from skmode._training.rows import SparseNumbers
from skmode.language import training as language_training
from skmode.language.training import Phase, Recipe, _Loop

sys.path.insert(0, str(Path(__file__).parent))
from pretended import OnGPU, pretend

pytestmark = pytest.mark.filterwarnings("ignore:Each expert should get some rows")

rng = np.random.RandomState(0)
X = rng.randn(200, 4).astype(np.float32)
y = (X[:, 0] * X[:, 1] > 0).astype(int)
TABLE = pd.DataFrame(
    {
        "number": X[:, 0],
        "category": rng.choice(list("abc"), 200),
        "text": [" ".join(rng.choice(["one", "two", "three", "four"], 5)) for _ in range(200)],
    }
)
IMAGES = rng.rand(140, 8, 8).astype(np.float32)
SMALL = {"n_experts": 3, "hidden_layer_sizes": 6, "max_epochs": 2, "random_state": 0}
SMALL |= {"batch_size": 32, "alpha": 1.0, "n_iter_no_change": 9}
CONVOLUTIONS = {"trunk_channels": 2, "expert_channels": 2, "n_experts": 2}


class Expert(torch.nn.Module):
    """Draws from torch's default generator, as users' modules do."""

    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, 6)

    def forward(self, x):
        return torch.nn.functional.dropout(self.linear(x).relu(), 0.1, self.training)


def classifier(**options):
    return lambda device: MoDEClassifier(**{**SMALL, "device": device, **options}).fit(X, y)


CASES = {
    "dense": classifier(),
    "sparse": classifier(gate="sparse", distillation="pairwise", balance=0.1),
    "likelihood": classifier(mixing="likelihood", gate="sparse", inference="top_expert"),
    "taught by the mixture": classifier(teacher="mixture"),
    "taught by an ensemble": classifier(teacher="auto", n_teachers=2, max_epochs=3),
    "custom experts": classifier(expert_module=Expert),
    "regressor": lambda device: MoDERegressor(
        **SMALL, numeric_embedding="piecewise_linear", device=device
    ).fit(X, X[:, 0]),
    "mixed": lambda device: MoDEClassifier(
        **SMALL, text_features=["text"], teacher="mixture", device=device
    ).fit(TABLE, y),
    "images": lambda device: MoDEImageClassifier(
        **{**SMALL, **CONVOLUTIONS}, augment="shift", device=device
    ).fit(IMAGES, y[:140]),
    "texts": lambda device: MoDETextClassifier(
        **{**SMALL, "vocab_size": 300, "device": device}
    ).fit(TABLE["text"], y),
}


@pytest.fixture
def epochs(monkeypatch):
    """Steps, waits and copies of each pass over the training rows; set `gpu` to fill it."""
    found = SimpleNamespace(gpu=None, passes=[])
    run = MixtureNet.run_single_epoch

    def counted(self, iterator, *args, **kwargs):
        before = len(found.gpu.waits), len(found.gpu.to_device)
        run(self, iterator, *args, **kwargs)
        if iterator is not None:
            waits, copies = found.gpu.waits[before[0] :], found.gpu.to_device[before[1] :]
            found.passes.append((len(iterator), waits, copies))

    monkeypatch.setattr(MixtureNet, "run_single_epoch", counted)
    return found


@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_gpu(case, epochs):
    with pretend("cuda") as epochs.gpu:
        estimator = CASES[case]("cuda")
    assert estimator.device_ == "cuda"
    assert len(epochs.passes) >= 2
    for n_steps, waits, copies in epochs.passes:
        assert n_steps >= 4
        # The losses of all steps, read at the end; and the order of the rows, sent at the start.
        assert waits == [("aten._to_copy.default", "net.py:means")]
        assert len(copies) <= 1


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("case", ["sparse", "regressor"])
def test_same_answers_as_the_cpu(case, kind):
    options = {**SMALL, "dropout": 0.0, "gate": "sparse", "balance": 0.1}
    Estimator, target = (MoDEClassifier, y) if case == "sparse" else (MoDERegressor, X[:, 0])
    expected = Estimator(**options, device="cpu").fit(X, target)
    with pretend(kind):
        estimator = Estimator(**options, device=kind).fit(X, target)
        assert isinstance(estimator.net_.module_.head.weight, OnGPU)
        assert_allclose(estimator.loss_curve_, expected.loss_curve_, rtol=1e-5)
        assert_allclose(estimator.predict(X), expected.predict(X), rtol=1e-4, atol=1e-5)
        assert_array_equal(estimator.route(X), expected.route(X))


def test_sparse_numbers_are_sent_once_if_they_fit(epochs):
    numbers = scipy.sparse.random(200, 300, 0.1, format="csr", random_state=0, dtype=np.float32)
    with pretend("cuda") as epochs.gpu:
        MoDEClassifier(**SMALL, device="cuda").fit(numbers, y)
    assert all(len(copies) <= 1 for _, _, copies in epochs.passes)
    with pretend("cuda"):
        sent = SparseNumbers(numbers).to("cuda", torch.float32)
        assert isinstance(sent, OnGPU)
        assert_array_equal(sent.cpu(), numbers.toarray())
    with pretend("mps"):  # its memory is the computer's, of which a dense matrix may be too much
        assert isinstance(SparseNumbers(numbers).to("mps", torch.float32), SparseNumbers)


def test_top_experts_are_computed_with_one_wait_for_all():
    with pretend("cuda") as gpu:
        estimator = MoDEClassifier(**{**SMALL, "n_experts": 8}, device="cuda").fit(X, y)
        gpu.clear()
        estimator.set_params(inference="top_expert").predict(X)
    # The positions of all rows, the experts' numbers of rows, and the result.
    assert len(gpu.waits) <= 4


# Models travel.


def test_pickle_of_a_gpu_goes_on_elsewhere():
    with pretend("cuda"):
        estimator = MoDEClassifier(**SMALL, warm_start=True, dropout=0.0, device="cuda").fit(X, y)
        expected = estimator.predict_proba(X)
        written = pickle.dumps(estimator)
    read = pickle.loads(written)
    assert_allclose(read.predict_proba(X), expected, rtol=1e-5)
    net = read.net_
    trained = {id(each) for group in net.optimizer_.param_groups for each in group["params"]}
    assert trained == {id(each) for each in net.module_.parameters()}
    assert all("exp_avg" in net.optimizer_.state[each] for each in net.module_.parameters())
    read.set_params(device="cpu").fit(X, y)
    assert read.device_ == "cpu"
    assert np.abs(read.predict_proba(X) - expected).max() > 1e-4  # it did learn
    with pretend("cuda"):
        again = pickle.loads(pickle.dumps(read)).set_params(device="cuda").fit(X, y)
        assert isinstance(again.net_.module_.head.weight, OnGPU)
        assert len(again.history_) == 3 * len(estimator.history_)


# device="auto".


def test_auto_leaves_small_tables_to_the_cpu(monkeypatch):
    with pretend("cuda"):
        estimator = MoDEClassifier(**SMALL).fit(X, y)
        assert estimator.device_ == "cpu"
        assert estimator.predict(X).shape == (200,)
        monkeypatch.setattr(parameters, "GPU_WORK", 200 * 3 * 6)
        estimator = MoDEClassifier(**SMALL).fit(X, y)
        assert estimator.device_ == "cuda"
        assert isinstance(estimator.net_.module_.head.weight, OnGPU)
        expected = estimator.predict_proba(X[:3])  # few, yet where the model is
        assert isinstance(estimator.net_.module_.head.weight, OnGPU)
        assert MoDEClassifier(**SMALL).fit(X[:199], y[:199]).device_ == "cpu"
        written = pickle.dumps(estimator)
    assert_allclose(pickle.loads(written).predict_proba(X[:3]), expected, rtol=1e-5)


def test_auto_counts_rows_and_hidden_numbers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    default = MoDEClassifier()
    assert default._resolve_device(19_999, first=True) == "cpu"
    assert default._resolve_device(20_000, first=True) == "cuda"
    large = MoDEClassifier(n_experts=64, hidden_layer_sizes=(512, 512))
    assert large._resolve_device(200, first=True) == "cuda"
    images = MoDEImageClassifier()
    images.image_shape_ = (28, 28)
    assert images._resolve_device(300, first=True) == "cpu"
    assert images._resolve_device(1000, first=True) == "cuda"
    images.set_params(trunk_channels=(16, 16, 16, 16))  # after which an image has few pixels
    assert images._resolve_device(1000, first=True) == "cpu"
    images.set_params(trunk_module=torch.nn.Conv2d(1, 4, 3))  # whatever trunk_channels says
    assert images._resolve_device(30, first=True) == "cpu"
    assert images._resolve_device(300, first=True) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert large._resolve_device(10**9, first=True) == "cpu"


# Apple's GPUs, which have no double precision: `pretend` refuses it as they do.


def test_mps_trains_small_tables_in_float32():
    with pretend("mps"):
        estimator = MoDEClassifier(**SMALL, device="mps").fit(X[:100], y[:100])
        assert estimator.device_ == "mps"
        assert estimator.net_.module_.head.weight.dtype == torch.float32
        with pytest.raises(
            ValueError, match='precision must be "float32" or "bf16" on device="mps"'
        ):
            MoDEClassifier(**SMALL, device="mps", precision="float64").fit(X, y)
        # A model in double precision predicts where it can.
        double = MoDEClassifier(**SMALL, precision="float64", device="cpu").fit(X, y)
        expected = double.predict_proba(X)
        assert_array_equal(double.set_params(device="mps").predict_proba(X), expected)


def test_mps_without_it_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    estimator = MoDEClassifier(**SMALL, device="mps")
    with pytest.raises(ValueError, match="device='mps' needs Apple's Metal, but torch finds none"):
        estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


# Language models.


class Words(torch.nn.Module):
    """The smallest of language models."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(9, 4)
        self.head = torch.nn.Linear(4, 9)

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.head(self.table(input_ids)))


class Pairs:
    """Blocks of tokens, the last of which has no target."""

    def draw(self, n, generator):
        tokens = torch.randint(9, (n, 6), generator=generator)
        return tokens, torch.where(torch.arange(6) < 5, tokens.roll(-1, 1), -1)


def losses_of_steps(device, accumulate, batch_size=4):
    torch.manual_seed(0)
    recipe = Recipe(
        batch_size=batch_size, accumulate=accumulate, learning_rate=0.1, weight_decay=0.0,
        warmup_steps=1, max_norm=1.0, bf16=False, device=torch.device(device),
        distillation="reverse", alpha="loss_ratio", temperature=1.0,
        schedule="combined", alternate_every=1, verbose=False,
    )  # fmt: skip
    phase = Phase("p", {"m": Words()}, {"m": ["a", "b"]}, 3, Words().to(device), ("a",))
    loop = _Loop(phase, {"a": Pairs(), "b": Pairs()}, recipe, 0)
    for step in range(3):
        loop.step(step)
    return loop


def test_language_models_read_their_losses_after_the_steps():
    here = losses_of_steps("cpu", 2)
    here.complete_history()
    with pretend("mps") as gpu:
        there = losses_of_steps("mps", 2)
        assert gpu.waits == []
        there.complete_history()
    assert [sorted(each) for each in there.phase.history] == [
        ["alpha", "ce", "kd", "learning_rate", "loss", "model", "norm", "phase", "step"]
    ] * 3
    for name in ("ce", "kd", "loss", "norm", "alpha"):
        pair = ([each[name] for each in loop.phase.history] for loop in (here, there))
        assert_allclose(*pair, rtol=1e-5)


def test_losses_of_language_models_do_not_pile_up(monkeypatch):
    """On the CPU they kept memory of each step from being used again: 8 MB a step were lost."""
    here = losses_of_steps("cpu", 1)
    assert (len(here.unread), len(here.phase.history)) == (0, 3)
    monkeypatch.setattr(language_training, "READ_EVERY", 2)
    with pretend("mps"):
        there = losses_of_steps("mps", 1)
        assert (len(there.unread), len(there.phase.history)) == (1, 2)


def test_the_divergence_is_the_mean_of_the_parts_that_a_teacher_taught():
    """One row in each part of a batch: the first is of the domain that is taught."""
    loop = losses_of_steps("cpu", 2, batch_size=1)
    assert all(each["kd"] > 0 for each in loop.phase.history)
