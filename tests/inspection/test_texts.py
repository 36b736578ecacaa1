"""Looking into models of texts: tokens, typical texts, and what works as for tables."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest

from skmode import MoDEClassifier, MoDETextClassifier, MoDETextRegressor
from skmode.inspection import (
    RoutingMapDisplay,
    alpha_path,
    compare,
    expert_attention,
    expert_probing,
    expert_tokens,
    feature_importances,
    gate_history,
    report,
    typical_texts,
)

QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "vocab_size": 400, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

# One word decides about the class.
rng = np.random.default_rng(0)
WORDS = np.array(["red", "green", "blue", "sun", "moon", "star", "tree", "river"])
target = rng.integers(0, 2, size=300)
texts = [
    " ".join(rng.permutation([*rng.choice(WORDS, 5), ["dull", "great"][label]])) for label in target
]


@pytest.fixture(scope="module")
def model():
    return MoDETextClassifier(**QUICK, max_epochs=15).fit(texts, target)


def test_attributions_find_the_words_that_decide(model):
    found = expert_tokens(model, texts[:60])
    table = found.by_expert(4)
    sizes = found.attributions["expert"].abs().groupby(found.attributions["token"]).mean()
    assert set(sizes.nlargest(2).index) == {"dull", "great"}
    assert table.columns.tolist() == ["expert", "token", "importance", "adds", "n_texts"]
    assert (table["expert"] == "gate").sum() == 4
    assert found.completeness_error < 0.05
    np.testing.assert_array_equal(found.route, model.route(texts[:60]))
    assert "60 texts" in repr(found)


def test_attributions_sum_to_the_change_of_the_output(model):
    found = expert_tokens(model, texts[:5], n_steps=64)
    alone = model.expert_predict_proba(texts[:5])[np.arange(5), found.route]
    empty = model.expert_predict_proba([""])[0, found.route]
    expected = (alone - empty)[np.arange(5), found.predictions]
    sums = found.attributions.groupby("text")["expert"].sum()
    np.testing.assert_allclose(sums, expected, atol=1e-3)
    gate = model.gate_proba(texts[:5]).max(axis=1) - model.gate_proba([""])[0, found.route]
    np.testing.assert_allclose(found.attributions.groupby("text")["gate"].sum(), gate, atol=1e-3)


@pytest.mark.parametrize("method", ["permutation", "integrated_gradients"])
def test_attention_is_by_token(model, method):
    attention = expert_attention(model, texts, target, method, random_state=0)
    of_experts = attention.importances.drop(columns="gate").sum(axis=1)
    assert of_experts.idxmax() in {"dull", "great"}
    assert len(attention.importances) <= 30


def test_shuffling_a_token_is_as_shuffling_its_word(model):
    """A text with one word is another text, whose prediction the estimator knows."""
    from skmode.inspection._attention.tokens import ShuffledTokens

    some = ["great sun", "dull sun", "sun", "moon moon"]
    domain = model.route(some)
    network = ShuffledTokens(model, some, domain)
    network.select(network.names.index("sun"))
    order = np.array([3, 1, 2, 0])
    shuffled = ["great", "dull sun", "sun", "moon moon sun"]
    np.testing.assert_array_equal(network.routes(order), model.route(shuffled))
    expected = model.expert_predict(shuffled)[np.arange(4), domain]
    np.testing.assert_array_equal(network.own_predictions(order), expected)


def test_values_of_texts():
    length = np.array([len(text) for text in texts], float)
    model = MoDETextRegressor(**QUICK, max_epochs=3).fit(texts, length)
    assert expert_tokens(model, texts[:9], n_steps=8).unit == "units of the target"
    assert len(expert_attention(model, texts[:40], length[:40], n_repeats=1).importances)


def test_typical_texts_are_those_of_the_largest_weights(model):
    gate, route = model.gate_proba(texts), model.route(texts)
    for expert, positions in enumerate(typical_texts(model, texts, n_texts=3)):
        members = np.flatnonzero(route == expert)
        assert len(positions) == min(3, len(members))
        if len(members):
            assert gate[positions[0], expert] == gate[members, expert].max()


def test_missing_texts_have_no_tokens(model):
    found = expert_tokens(model, [texts[0], None, ""])
    assert set(found.attributions["text"]) == {0}


@pytest.mark.slow
def test_instruments_of_tables_work(model):
    probing = expert_probing(model, texts, target)
    assert len(probing.experts) == 2
    assert len(gate_history(model).measures) == model.n_iter_
    quick = MoDETextClassifier(**QUICK, max_epochs=2)
    assert alpha_path(quick, texts[:80], target[:80], [0, 1], cv=2).parameter == "alpha"
    compare(
        {"one": quick, "zero": MoDETextClassifier(**QUICK, alpha=0, max_epochs=2)},
        texts[:80],
        target[:80],
        cv=2,
    )


@pytest.mark.slow
def test_report(model, tmp_path):
    path = report(model, texts, target, tmp_path / "texts.html", n_repeats=3)
    text = path.read_text(encoding="utf-8")
    assert "texts have no columns" in text
    assert "great" in text
    assert "Texts of which the gate is surest" in text


def test_other_models_are_refused(model):
    table = MoDEClassifier(n_experts=2, max_epochs=1).fit(rng.normal(size=(50, 2)), target[:50])
    with pytest.raises(TypeError, match="models of texts, got MoDEClassifier"):
        expert_tokens(table, np.zeros((2, 2)))
    with pytest.raises(TypeError, match="columns of a table"):
        feature_importances(model)
    with pytest.raises(TypeError, match="use typical_texts"):
        RoutingMapDisplay.from_estimator(model, texts)
    with pytest.raises(ValueError, match="n_steps must be a whole number"):
        expert_tokens(model, texts[:2], n_steps=0)
