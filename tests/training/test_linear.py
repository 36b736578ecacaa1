"""The linear model of tokens that becomes a part of the network of texts."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from skmode import MoDETextClassifier, MoDETextRegressor, nn
from skmode._training import trainer
from skmode._training.evaluation import evaluate_experts
from skmode._training.finish.linear import (
    Linear,
    add_linear,
    choose_linear,
    fit_linear,
    token_weights,
)
from skmode._training.rows import Rows

N_TOKENS, N_TEXTS = 40, 200
QUICK = {
    "n_experts": 3,
    "hidden_layer_sizes": (16,),
    "token_embedding_size": 16,
    "vocab_size": 400,
    "max_epochs": 8,
    "random_state": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
tokens = torch.as_tensor(
    np.sort(rng.permuted(np.tile(np.arange(N_TOKENS), (N_TEXTS, 1)), axis=1)[:, :9])
)
counts = torch.as_tensor(rng.integers(0, 4, tokens.shape), dtype=torch.float32)
counts[:, 0] = 1
labels = torch.as_tensor(rng.integers(0, 3, N_TEXTS))
TWO_TEXTS = ["a fine film", "a dull film", "fine actors", "dull actors"]


def make_module(
    n_outputs=3, activation="silu", sizes=(7,), gate=nn.DenseGate, loss=None, **options
):
    torch.manual_seed(0)
    trunk = nn.TextTrunk(1 + torch.rand(N_TOKENS), torch.randn(N_TOKENS, 5))
    module = nn.MixtureOfExperts(
        trunk,
        gate(5, n_experts=4),
        nn.MLPExperts(5, 4, sizes, activation),
        torch.nn.Linear(sizes[-1], n_outputs),
        loss or nn.CrossEntropy(),
        **options,
    )
    return module.eval()


def rows_of(y, weight=None, part=slice(None)):
    return Rows((tokens[part], counts[part]), y[part], weight)


def fit(module, rows, linear):
    return fit_linear(module, token_weights(module, rows), rows, linear)


def softmax(logits):
    return torch.as_tensor(logits).log_softmax(dim=-1).exp().numpy()


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "identity"])
@pytest.mark.parametrize("sizes", [(7,), (7, 6), (5, 4, 3)])
def test_each_expert_predicts_the_mean_of_both(activation, sizes):
    before = make_module(activation=activation, sizes=sizes, mixing="expected")
    rows = rows_of(labels)
    linear = fit(before, rows, Linear(10.0, share=0.3))
    after = copy.deepcopy(before)
    add_linear(after, linear)
    values = token_weights(before, rows) @ linear.weight + linear.bias
    with torch.inference_mode():
        old = before(tokens, counts, all_experts=True)
        new = after(tokens, counts, all_experts=True)
        by_one, expert = after.predict_top_expert(tokens, counts)
    assert_allclose(new.gate_probabilities, old.gate_probabilities, atol=1e-6)
    expected = softmax(0.7 * old.expert_outputs + 0.3 * torch.as_tensor(values)[:, None])
    assert_allclose(new.expert_outputs.exp(), expected, atol=1e-5)
    assert_allclose(by_one.exp(), expected[np.arange(N_TEXTS), expert], atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"mixing": "representation"}, {"gate": nn.SparseGate}], ids=str
)
def test_other_mixtures_predict_the_mean_of_both(options):
    before = make_module(**{"mixing": "expected"} | options)
    rows = rows_of(labels)
    linear = fit(before, rows, Linear(10.0, share=0.5))
    after = copy.deepcopy(before)
    add_linear(after, linear)
    values = torch.as_tensor(token_weights(before, rows) @ linear.weight + linear.bias)
    with torch.inference_mode():
        old, new = before(tokens, counts, all_experts=True), after(tokens, counts)
    if options.get("mixing") == "representation":
        expected = softmax(0.5 * old.prediction + 0.5 * values)
    else:
        each = softmax(0.5 * old.expert_outputs + 0.5 * values[:, None])
        expected = (old.gate_probabilities.numpy()[:, :, None] * each).sum(axis=1)
    assert_allclose(new.prediction.exp(), expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [(7,), (7, 6)])
@pytest.mark.parametrize("has_table", [True, False])
def test_columns_of_texts_share_one_model(sizes, has_table):
    torch.manual_seed(0)
    scaler = nn.RobustScaler(torch.zeros(2), torch.ones(2), torch.tensor([], dtype=torch.int64))
    texts = [nn.TextTrunk(1 + torch.rand(size), torch.randn(size, 3)) for size in (N_TOKENS, 50)]
    trunk = nn.MixedTrunk(nn.TabularTrunk(scaler) if has_table else None, texts)
    width = trunk.out_features
    experts, head = nn.MLPExperts(width, 4, sizes, "silu"), torch.nn.Linear(sizes[-1], 3)
    gate = nn.DenseGate(width, n_experts=4)
    before = nn.MixtureOfExperts(trunk, gate, experts, head, nn.CrossEntropy(), mixing="expected")
    before.eval()
    numbers, codes = torch.randn(N_TEXTS, 2), torch.zeros(N_TEXTS, 0, dtype=torch.int64)
    inputs = numbers, codes, tokens, counts, tokens + 10, counts.flip(0)
    rows = Rows(inputs, labels, None)
    linear = fit(before, rows, Linear(1.0, share=0.3))
    after = copy.deepcopy(before)
    add_linear(after, linear)
    values = linear.predict(token_weights(before, rows))
    assert values.std() > 0.1
    with torch.inference_mode():
        old, new = (each(*inputs, all_experts=True) for each in (before, after))
    assert_allclose(new.gate_probabilities, old.gate_probabilities, atol=1e-6)
    expected = softmax(0.7 * old.expert_outputs + 0.3 * torch.as_tensor(values)[:, None])
    assert_allclose(new.expert_outputs.exp(), expected, atol=1e-5)
    assert len(after.trunk.feature_columns) == after.trunk.out_features


@pytest.mark.parametrize("n_classes", [2, 3])
def test_margins_are_those_of_scikit_learn(n_classes):
    module, y = make_module(n_classes), labels % n_classes
    weight = torch.as_tensor(rng.uniform(0.5, 2, N_TEXTS), dtype=torch.float32)
    rows = rows_of(y, weight)
    X = token_weights(module, rows)
    linear = fit(module, rows, Linear(0.5, margin=4.0))
    margins = LinearSVC(C=0.5, dual=False).fit(X, y, weight.numpy()).decision_function(X)
    if n_classes == 2:
        margins = np.stack([-margins, margins], axis=1)
    assert_allclose(linear.predict(X), 4 * margins, atol=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_values(n_outputs):
    loss = nn.RegressionLoss()
    module = make_module(n_outputs, loss=loss, mixing="expected")
    y = torch.as_tensor(rng.normal(size=(N_TEXTS, n_outputs)), dtype=torch.float32)
    rows = rows_of(y)
    X = token_weights(module, rows)
    linear = fit(module, rows, Linear(5.0, share=0.25))
    expected = Ridge(0.2).fit(X, y).predict(X).reshape(y.shape)
    assert_allclose(X @ linear.weight + linear.bias, expected, atol=1e-6)
    with torch.inference_mode():
        before = module(tokens, counts).prediction
        add_linear(module, linear)
        after = module(tokens, counts).prediction
    assert_allclose(after, 0.75 * before + 0.25 * torch.as_tensor(expected), atol=1e-5)


def test_a_class_that_the_rows_lack_is_always_another_class():
    module, y = make_module(4), labels.clone()
    y[y == 1] = 3
    linear = fit(module, rows_of(y), Linear(1.0, margin=4.0))
    assert_array_equal(linear.weight[:, 1], 0)
    assert linear.bias[1] == -4


@pytest.mark.parametrize("weight", [None, (labels == 0).float()], ids=["all alike", "zero weights"])
def test_rows_of_one_class_say_so(weight):
    y = torch.zeros_like(labels) if weight is None else labels
    linear = fit(make_module(3), rows_of(y, weight), Linear(1.0, margin=4.0))
    assert not linear.weight.any()
    assert linear.bias.tolist() == [4, -4, -4]


def test_the_validation_rows_choose():
    """Where the classes are a matter of tokens it takes part, where they are noise it does not."""
    module = make_module(2, mixing="expected")
    told = token_weights(module, rows_of(labels))[:, [3, 8, 20]].sum(axis=1) > 0.3
    options = {"calibrate": True, "top_expert": False}
    first, last = slice(0, 120), slice(120, None)

    def choose(y, shares=(0.0, 0.25, 0.5, 0.75), weight=None):
        train, valid = (
            rows_of(torch.as_tensor(y), weight if part is last else None, part)
            for part in (first, last)
        )
        evaluated = evaluate_experts(module, valid)
        found, mixed = choose_linear(module, train, valid, evaluated, shares, **options)
        if found is None:
            assert mixed is evaluated
            return None
        again = copy.deepcopy(module)
        add_linear(again, fit(module, train, found))
        for ours, theirs in zip(mixed, evaluate_experts(again, valid), strict=True):
            close = ours.exp() if ours is not mixed.gate else ours
            assert_allclose(close, theirs.exp() if ours is not mixed.gate else theirs, atol=1e-4)
        return found

    found = choose(np.asarray(told, dtype=np.int64))
    assert found.share == 0.75
    assert found.strength == 3
    # Only the texts that differ from what words tell count: then nothing of it is left.
    opposite = np.asarray(told, dtype=np.int64)
    opposite[last][::2] = 1 - opposite[last][::2]
    wrong = torch.zeros(80)
    wrong[::2] = 1
    assert choose(opposite, weight=wrong) is None
    assert choose(opposite, weight=1 - wrong).share == 0.75
    assert choose(opposite, shares=(0.5,), weight=wrong).share == 0.5


def test_auto_helps_a_network_of_rare_words():
    """Each word tells something of the class, which a few texts show a linear model."""
    words = np.array([f"word{i}" for i in range(300)])
    scores = rng.normal(size=300)
    chosen = rng.integers(0, 300, (900, 12))
    y = np.where(scores[chosen].sum(axis=1) + rng.normal(size=900) > 0, "up", "down")
    X = [" ".join(words[row]) for row in chosen]
    options = QUICK | {"vocab_size": 2_000}
    model = MoDETextClassifier(**options).fit(X[:600], y[:600])
    alone = MoDETextClassifier(**options, linear_share=0).fit(X[:600], y[:600])
    assert model.linear_share_ > 0
    assert alone.linear_share_ == 0
    assert model.score(X[600:], y[600:]) > alone.score(X[600:], y[600:])


@pytest.mark.parametrize("inference", ["mixture", "top_expert"])
def test_scores_and_temperature_are_those_of_the_whole(inference):
    """Without a refit the model that was measured is the one that is returned."""
    y = np.array(["no", "yes"])[np.arange(600) % 2]
    X = [f"{rng.choice(['red', 'blue'])} {label * (i % 3 > 0)}" for i, label in enumerate(y)]
    given = {"X_val": X[400:], "y_val": y[400:]}
    model = MoDETextClassifier(**QUICK, linear_share=0.5, inference=inference)
    model.fit(X[:400], y[:400], **given)
    assert model.refit_n_iter_ == 0
    scores = {
        how: model.set_params(inference=how).score(X[400:], y[400:])
        for how in ("mixture", "top_expert")
    }
    assert model.validation_scores_ == pytest.approx(scores)
    alone = clone(model).set_params(linear_share=0, inference=inference)
    alone.fit(X[:400], y[:400], **given)
    assert abs(model.temperature_ - alone.temperature_) > 0.01


def test_the_last_fit_has_all_texts():
    y = np.array([0, 1] * 40)
    X = [f"{('dull', 'fine')[label]} film" for label in y]
    X[7] = X[9] = "a word that only two texts have"
    held_out = [(np.delete(np.arange(80), [7, 9]), [7, 9])]
    model = MoDETextClassifier(**QUICK, linear_share=0.5, validation_fraction=held_out).fit(X, y)
    added = model.net_.module_.trunk.vectors[:, -2:].detach()
    tokens, counts = model.encoder_.transform(np.array(X[7:8], dtype=object))
    assert added[torch.as_tensor(tokens[0][counts[0] > 0]).long()].abs().sum() > 0


def test_auto_leaves_out_many_classes():
    X = [f"word{i % 130} of {i}" for i in range(650)]
    y = np.arange(650) % 130
    options = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "vocab_size": 600}
    model = MoDETextClassifier(**options, random_state=0).fit(X, y)
    assert model.linear_share_ == 0
    assert MoDETextClassifier(**options, linear_share=0.5).fit(X, y).linear_share_ == 0.5


@pytest.mark.parametrize("where", ["choose_linear", "fit_linear"])
def test_an_interrupt_keeps_the_network(where, monkeypatch):
    calls = []

    def interrupt(*args, **kwargs):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, where, interrupt)
    model = MoDETextClassifier(**QUICK, linear_share=0.5, early_stopping=True)
    with pytest.warns(ConvergenceWarning, match="interrupted by user"):
        model.fit(TWO_TEXTS * 20, [0, 1, 0, 1] * 20)
    assert calls
    assert model.linear_share_ == 0
    assert model.predict_proba(TWO_TEXTS).shape == (4, 2)


def test_partial_fit_adds_none():
    model = MoDETextClassifier(**QUICK, linear_share=0.5)
    model.partial_fit(TWO_TEXTS * 20, [0, 1, 0, 1] * 20, classes=[0, 1])
    assert model.linear_share_ == 0
    assert model.net_.module_.experts.width == 16


def test_a_share_is_taken_as_it_is():
    y = [0, 1, 0, 1] * 20
    for options in ({}, {"early_stopping": False}):
        model = MoDETextClassifier(**QUICK, linear_share=0.4, **options).fit(TWO_TEXTS * 20, y)
        assert model.linear_share_ == 0.4
        assert model.score(TWO_TEXTS, y[:4]) == 1
    automatic = MoDETextClassifier(**QUICK, early_stopping=False).fit(TWO_TEXTS * 20, y)
    assert automatic.linear_share_ == 0  # no validation texts


def test_training_goes_on_with_it():
    X, y = TWO_TEXTS * 20, [0, 1, 0, 1] * 20
    options = {"linear_share": 0.4, "warm_start": True, "tune_tokens": True}
    model = MoDETextClassifier(**QUICK, **options).fit(X, y)
    width = model.net_.module_.experts.width
    group = model.net_.optimizer_.param_groups[0]
    assert {id(each) for each in group["params"]} == set(map(id, model.net_.module_.parameters()))
    assert model.net_.optimizer_.param_groups[0]["weight_decay"] == model.weight_decay_
    before = model.net_.module_.trunk.table.detach().clone()
    model.set_params(weight_decay=0.0).partial_fit(X, y)
    assert (model.net_.module_.trunk.table[:, -2:] != before[:, -2:]).any()
    model.fit(X, y)
    assert model.linear_share_ == 0.4
    assert model.net_.module_.experts.width == width
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    model.set_params(warm_start=False, linear_share=0).fit(X, y)
    assert model.linear_share_ == 0


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"text_encoder": "transformer"}, "text_encoder='transformer'"),
        ({"activation": "tanh"}, "activation='tanh'"),
        ({"expert_module": torch.nn.Identity}, "expert_module="),
    ],
)
def test_a_share_is_refused_where_layers_cannot_pass_it_on(options, got):
    with pytest.raises(ValueError, match="linear_share above 0 needs") as error:
        MoDETextClassifier(**QUICK | options, linear_share=0.5).fit(TWO_TEXTS, [0, 1, 0, 1])
    assert got in str(error.value)


def test_a_share_is_refused_with_another_loss():
    model = MoDETextRegressor(**QUICK, loss="absolute_error", linear_share=0.5)
    with pytest.raises(ValueError, match="got loss='absolute_error': change it"):
        model.fit(TWO_TEXTS, [0.0, 1.0, 0.0, 1.0])


@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"loss": "absolute_error"}], ids=str)
def test_auto_leaves_it_out_where_it_cannot_be(options):
    y = np.arange(80) % 4 % 2 + rng.normal(size=80) / 10
    model = MoDETextRegressor(**QUICK | options).fit(TWO_TEXTS * 20, y)
    assert model.linear_share_ == 0
