"""The text encoder that reads the order of the words, and names of columns of texts."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV

import skmode_deploy
from skmode import MoDETextClassifier, MoDETextRegressor
from skmode.inspection import expert_attention, expert_tokens, report, typical_texts
from skmode.nn import TransformerTrunk
from skmode.onnx import export

QUICK = {
    "n_experts": 2,
    "text_encoder": "transformer",
    "transformer_heads": 2,
    "hidden_layer_sizes": (8,),
    "token_embedding_size": 8,
    "vocab_size": 300,
    "max_tokens": 12,
    "random_state": 0,
}
# It takes about a hundred steps.
STEPS = {
    "alpha": 0.1,
    "balance": 0.03,
    "batch_size": 24,
    "learning_rate": 0.01,
    "tune_tokens": True,
    "early_stopping": False,
    "max_epochs": 30,
}
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
WORDS = np.array(["red", "sun", "été"])
# The same words in each class: only their order differs.
y = np.arange(120) % 2
X = [
    " ".join(["good", *rng.choice(WORDS, i % 3), "bad"][:: 1 if label else -1])
    for i, label in enumerate(y)
]


@pytest.fixture(scope="module")
def fitted():
    return MoDETextClassifier(**QUICK, **STEPS, inference="top_expert").fit(X, y)


def test_it_learns_the_order(fitted):
    assert fitted.score(X, y) > 0.95
    assert fitted.history_[-1]["balance_loss"] > 1.5  # of the mixture, and of the layer of experts
    bag = MoDETextClassifier(**{**QUICK, **STEPS, "text_encoder": "bag"})
    assert bag.fit(X, y).score(X, y) < 0.7


def test_bundle_predictor_and_estimator_agree(fitted, tmp_path):
    export(fitted, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    texts = [*X, None, "", "x" * 500, "good bad 😀 " * 30, "good"]
    found = predictor.predict_full(texts)
    assert predictor.manifest.columns[0].text.encoder == "transformer"
    assert_allclose(found.probabilities, fitted.predict_proba(texts), atol=1e-5)
    assert_array_equal(found.expert, fitted.route(texts))
    for text in (texts[:1], [None], ["good"]):
        assert_array_equal(predictor.route(text), fitted.route(text))
    assert_allclose(predictor.predict_proba(texts[-3:-2]), found.probabilities[-3:-2], atol=1e-6)


def test_attention_reads_tokens_in_their_order(fitted):
    tokens = expert_tokens(fitted, X[:30])
    assert tokens.completeness_error < 0.05
    assert len(tokens.attributions) == sum(map(len, fitted.encoder_._open().encode_batch(X[:30])))
    found = expert_attention(fitted, X, y, method="permutation", n_repeats=1, random_state=0)
    assert set(found.importances.index[:2]) & {"good", "bad"}


@pytest.mark.parametrize("kind", [MoDETextClassifier, MoDETextRegressor])
def test_scikit_learn_manners(kind):
    model = kind(**QUICK, max_epochs=1)
    first = model.fit(X, y).predict(X)
    assert isinstance(model.net_.module_.trunk, TransformerTrunk)
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), first)
    assert_array_equal(clone(model).fit(X, y).predict(X), first)
    search = GridSearchCV(model, {"transformer_layers": [1, 2]}, cv=2).fit(X, y)
    n_layers = search.best_params_["transformer_layers"]
    assert len(search.best_estimator_.net_.module_.trunk.blocks) == n_layers
    with pytest.raises(ValueError, match="multiple of transformer_heads, got 8 and 3"):
        clone(model).set_params(transformer_heads=3).fit(X, y)
    with pytest.raises(ValueError, match="text_encoder must stay 'transformer'"):
        model.set_params(warm_start=True, text_encoder="bag").fit(X, y)


@pytest.mark.parametrize("options", [{}, {"linear_share": 0.0}])
def test_validation_texts_choose_no_linear_part(options):
    # The words decide, so a linear model would be chosen if it were tried.
    texts, labels = [f"{word} {i}" for i in range(20) for word in ("good", "bad")], [0, 1] * 20
    model = MoDETextClassifier(**QUICK, **options, max_epochs=1, early_stopping=True)
    model.fit(texts, labels)
    assert model.linear_share_ == 0
    assert model.predict_proba(["good", None]).shape == (2, 2)


@pytest.fixture(scope="module")
def of_table():
    table = pd.DataFrame({"review": X})
    options = {**QUICK, "text_encoder": "bag", "max_epochs": 3}
    return MoDETextClassifier(**options).fit(table, y), table


def test_a_table_gives_the_name_of_its_column(of_table):
    model, table = of_table
    assert model.feature_names_in_.tolist() == ["review"]
    assert model.n_features_in_ == 1
    expected = model.predict(table)
    with pytest.raises(ValueError, match="feature names should match those that were passed"):
        model.predict(table.rename(columns={"review": "title"}))
    # A list and a Series have no such name.
    assert_array_equal(model.predict(X), expected)
    assert_array_equal(model.predict(table["review"].rename("title")), expected)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        assert_array_equal(model.predict(table.to_numpy()), expected)
    again = clone(model).fit(table, y).fit(X, y)
    assert not hasattr(again, "feature_names_in_")
    assert_array_equal(again.predict(table), again.predict(X))


def test_permutation_importance_takes_a_table(of_table):
    model, table = of_table
    for rows in (table, table.to_numpy()):
        fitted = clone(model).fit(rows, y)
        found = permutation_importance(fitted, rows, y, n_repeats=1, random_state=0)
        assert found.importances.shape == (1, 1)


def test_the_report_shows_texts_of_a_table(of_table, tmp_path):
    model, table = of_table
    report(model, table, y, tmp_path / "report.html", n_repeats=1)
    surest = X[typical_texts(model, table)[0][0]]
    assert surest in (tmp_path / "report.html").read_text()
