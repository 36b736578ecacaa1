"""What estimators of texts do beyond the contract: tokens, teachers, all options of tables."""

import threading

import numpy as np
import pandas as pd
import pytest
import tokenizers
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skmode import MoDETextClassifier, MoDETextRegressor

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
WORDS = np.array(["red", "green", "blue", "sun", "moon", "star", "tree", "river", "stone", "cloud"])
target = rng.integers(0, 2, size=300)
ENDS = np.array([["fine", "great", "lovely"], ["dull", "poor", "awful"]])
texts = [" ".join([*rng.choice(WORDS, 8), rng.choice(ENDS[label])]) for label in target]
names = np.array(["good", "bad"])[target]


def fit(X=texts, y=names, **options):
    return MoDETextClassifier(**QUICK | options).fit(X, y)


@pytest.fixture(scope="module")
def model():
    return fit()


def test_defaults_learn():
    model = MoDETextClassifier(random_state=0, max_epochs=15).fit(texts, names)
    assert model.score(texts, names) > 0.95
    assert model.set_params(inference="top_expert").score(texts, names) > 0.95
    assert model.predict(["a lovely day", "an awful day"]).tolist() == ["good", "bad"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"gate": "sparse"},
        {"mixing": "representation"},
        {"mixing": "likelihood", "distillation": "pairwise"},
        {"tune_tokens": False},
        {"precision": "float64", "batch_size": 50},
        {"class_weight": "balanced", "calibration": None},
        {"early_stopping": False, "weight_averaging": 0.0},
        {"lowercase": False, "max_tokens": 12},
        {"teacher": "mixture"},
        {"teacher": "ensemble", "n_teachers": 2},
        pytest.param({"teacher": "auto", "n_teachers": 2}, marks=pytest.mark.slow),
        pytest.param({"alpha": "auto"}, marks=pytest.mark.slow),
        pytest.param({"n_experts": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_options_of_tables_work(options):
    model = fit(**options, n_iter_no_change=8)
    assert model.score(texts, names) > 0.8
    assert np.isfinite(model.predict_proba(texts)).all()


@pytest.mark.slow
def test_other_models_of_texts_teach():
    teacher = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    model = fit(teacher=teacher, teacher_cv=2)
    assert model.teacher_names_ in ([], ["Pipeline(TfidfVectorizer, LogisticRegression)"])
    assert model.teacher_scores_["loss"]["teacher"] < 0.7


@pytest.mark.slow
def test_soft_targets_and_further_texts():
    soft = np.where(target[:, None] == [1, 0], 0.6, 0.4)  # classes: bad, good
    model = MoDETextClassifier(**QUICK, teacher_weight=0.5)
    assert model.fit(texts, names, soft_targets=soft).score(texts, names) > 0.8
    teacher = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    model = MoDETextClassifier(**QUICK, teacher=teacher, teacher_cv=2, teacher_weight=0.5)
    assert model.fit(texts, names, X_unlabeled=texts[:50]).score(texts, names) > 0.8


def test_validation_texts_of_ones_own():
    model = MoDETextClassifier(**QUICK).fit(
        texts[:200], names[:200], X_val=pd.Series(texts[200:]), y_val=names[200:]
    )
    assert model.validation_scores_["mixture"] > 0.8
    with pytest.raises(ValueError, match="X_val and y_val must be as X and y are: Texts must be"):
        MoDETextClassifier(**QUICK).fit(texts, names, X_val=[1, 2], y_val=names[:2])


@pytest.mark.slow
def test_values_of_texts():
    length = np.array([len(text) for text in texts], dtype=float)
    model = MoDETextRegressor(**QUICK | {"max_epochs": 30}).fit(texts, length)
    assert model.score(texts, length) > 0.5
    both = MoDETextRegressor(**QUICK).fit(texts, np.column_stack([length, -length]))
    assert both.predict(texts).shape == (300, 2)


def test_a_tokenizer_of_ones_own(model):
    given = tokenizers.Tokenizer.from_str(model.tokenizer_json_)
    estimator = MoDETextClassifier(**QUICK, tokenizer=given)
    again = clone(estimator).fit(texts, names)
    np.testing.assert_array_equal(again.predict_proba(texts), model.predict_proba(texts))
    other = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ValueError, match="A tokenizer must"):
        MoDETextClassifier(**QUICK, tokenizer=other).fit(texts, names)


@pytest.mark.slow
def test_threads_predict_and_fit_alike(model):
    expected = model.predict_proba(texts)
    found = {}

    def work(i):
        found[i] = fit().predict_proba(texts), model.predict_proba(texts)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pair in found.values():
        for each in pair:
            np.testing.assert_array_equal(each, expected)


def test_progress_is_shown(capsys):
    fit(verbose=1, max_epochs=2)
    assert "epoch" in capsys.readouterr().err


def test_html_shows_the_experts(model):
    assert "expert 0" in model._repr_html_()


def test_fewer_texts_than_directions():
    model = fit(texts[:10], names[:10], token_embedding_size=64)
    assert model.net_.module_.trunk.out_features <= 10
    assert np.isfinite(model.predict_proba(texts)).all()


@pytest.mark.parametrize("n_texts", [100, 700])
def test_texts_that_are_all_alike_say_nothing(n_texts):
    y = np.arange(n_texts) % 4 == 0
    options = QUICK | {"max_epochs": 60}
    model = MoDETextClassifier(**options).fit(["the same text"] * n_texts, y)
    assert model.predict_proba(["the same text"])[0, 1] == pytest.approx(0.25, abs=0.1)


def test_a_few_texts_again_and_again_have_few_directions():
    few = ["a fine film", "a dull plot", "fine dull", "plot film"]
    columns = [fit(few * n, list("ab" * 2 * n)).net_.module_.trunk.out_features for n in (50, 400)]
    assert columns[0] == columns[1] < 10


def test_without_tokenizers_the_error_says_what_to_install(model, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"extra 'text' of skmode .*pip install '\.\[text\]'"):
        fit()


@pytest.mark.slow
def test_validation_texts_choose_the_weight_decay():
    model = fit(max_epochs=3)
    assert model.weight_decay_ in (0.01, 3.0)
    assert model.net_.optimizer_.param_groups[0]["weight_decay"] == model.weight_decay_
    losses = [
        min(epoch["valid_loss"] for epoch in fit(max_epochs=3, weight_decay=decay).history_)
        for decay in (0.01, 3.0)
    ]
    assert model.weight_decay_ == (0.01, 3.0)[int(np.argmin(losses))]
    assert fit(max_epochs=2, early_stopping=False).weight_decay_ == 0.3
    assert fit(max_epochs=2, weight_decay=0.1).weight_decay_ == 0.1


def test_later_parts_of_words_weigh_nothing_unless_they_are_most_tokens():
    model = fit(max_epochs=1)
    later = model.encoder_.continues_word()
    assert later.any()
    assert (model.net_.module_.trunk.idf[later] == 0).all()
    joined = [text.replace(" ", "") for text in texts]
    whole = fit(joined, max_epochs=1)
    assert (whole.net_.module_.trunk.idf > 0).all()


@pytest.mark.parametrize("estimator", [MoDETextClassifier, MoDETextRegressor])
@pytest.mark.parametrize("text_encoder", ["bag", "transformer"])
def test_the_only_text_may_be_held_out(estimator, text_encoder):
    texts, labels = ["one text", *[None] * 19], [0, 1] * 10
    model = estimator(
        2,
        text_encoder=text_encoder,
        max_epochs=1,
        early_stopping=True,
        validation_fraction=[(np.arange(2, 20), np.arange(2))],
        refit_fraction=0,
        random_state=0,
    ).fit(texts, labels)
    assert np.isfinite(model.predict(["one text", "other", None])).all()


def test_a_tokenizer_with_huge_numbers_is_refused():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"z": 2**24}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    with pytest.raises(ValueError, match="at most 16,777,215, got 16,777,216"):
        MoDETextClassifier(tokenizer=tokenizer).fit(["z", "zz"], [0, 1])


def test_a_tokenizer_that_finds_no_token_is_refused():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"z": 0}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    with pytest.raises(ValueError, match="tokenizer must know some token.* such as 'a fine'"):
        MoDETextClassifier(tokenizer=tokenizer).fit(["a fine", None, "day"], [0, 1, 1])
