"""The contract of the estimators of texts: what check_estimator checks, which skips them."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils._param_validation import InvalidParameterError

from skmode import MoDETextClassifier, MoDETextRegressor

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "token_embedding_size": 8,
    "vocab_size": 400,
    "max_epochs": 3,
    "random_state": 0,
}
BOTH = pytest.mark.parametrize(
    "estimator", [MoDETextClassifier(**QUICK), MoDETextRegressor(**QUICK)], ids=type
)
METHODS = ("predict", "route", "gate_proba", "expert_predict")

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
WORDS = np.array(["red", "green", "blue", "sun", "moon", "star", "tree", "river", "stone", "cloud"])
y = np.arange(60) % 2
X = np.array(
    [" ".join([*rng.choice(WORDS, 6), ["good", "bad"][label]]) for label in y], dtype=object
)


@pytest.fixture(scope="module")
def fitted():
    return MoDETextClassifier(**QUICK).fit(X, y)


def predictions(estimator, texts):
    classify = is_classifier(estimator)
    return estimator.predict_proba(texts) if classify else estimator.predict(texts)


@BOTH
def test_init_stores_parameters_as_they_are(estimator):
    params = estimator.get_params()
    assert list(params) == sorted(params)
    again = type(estimator)(**params)
    assert all(again.get_params()[name] is value for name, value in params.items())
    assert not [name for name in vars(again) if name.endswith("_")]


@BOTH
def test_clone_is_not_fitted_and_has_equal_parameters(estimator):
    copied = clone(clone(estimator).fit(X, y))
    assert copied.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        copied.predict(X)


@BOTH
def test_set_params_returns_the_estimator(estimator):
    estimator = clone(estimator)
    assert estimator.set_params(alpha=0.5) is estimator
    with pytest.raises(ValueError, match="Invalid parameter 'numeric_embedding'"):
        estimator.set_params(numeric_embedding=None)


@BOTH
def test_fit_returns_itself_and_changes_no_parameter_and_no_input(estimator):
    estimator, texts, target = clone(estimator), X.copy(), y.copy()
    params = copy.deepcopy(estimator.get_params())
    assert estimator.fit(texts, target) is estimator
    assert estimator.get_params() == params
    assert_array_equal(texts, X)
    assert_array_equal(target, y)


@BOTH
def test_prediction_changes_nothing(estimator):
    estimator = clone(estimator).fit(X, y)
    before = {name: value for name, value in vars(estimator).items() if name != "net_"}
    weights = copy.deepcopy(estimator.net_.module_.state_dict())
    for method in METHODS:
        getattr(estimator, method)(X)
    assert {name: value for name, value in vars(estimator).items() if name != "net_"} == before
    after = estimator.net_.module_.state_dict()
    assert all(bool((after[name] == value).all()) for name, value in weights.items())


@BOTH
@pytest.mark.parametrize("method", METHODS)
def test_prediction_needs_fit(estimator, method):
    with pytest.raises(NotFittedError):
        getattr(clone(estimator), method)(X)


@BOTH
def test_fit_twice_gives_the_same(estimator):
    first = predictions(clone(estimator).fit(X, y), X)
    again = clone(estimator).fit(X[::-1], 1 - y)
    assert_array_equal(predictions(again.fit(X, y), X), first)


@BOTH
def test_order_of_the_rows_does_not_matter_in_one_batch(estimator):
    order = np.random.default_rng(1).permutation(len(X))
    first = predictions(clone(estimator).fit(X, y), X)
    assert_allclose(predictions(clone(estimator).fit(X[order], y[order]), X), first, atol=1e-6)


@BOTH
def test_prediction_of_parts(estimator):
    estimator = clone(estimator).fit(X, y)
    whole = predictions(estimator, X)
    assert_allclose(np.concatenate([predictions(estimator, X[[i]]) for i in range(9)]), whole[:9])
    order = np.random.default_rng(1).permutation(len(X))
    assert_allclose(predictions(estimator, X[order]), whole[order])


@BOTH
def test_weights_count_as_repetition(estimator):
    """The tokens that training finds, however, come from the texts and not from their weights."""
    weight = np.random.default_rng(1).integers(1, 3, len(X))
    repeated = np.repeat(np.arange(len(X)), weight)
    tokenizer = clone(estimator).fit(X, y).tokenizer_json_
    estimator = clone(estimator).set_params(tokenizer=tokenizer, early_stopping=False)
    weighted = clone(estimator).fit(X, y, sample_weight=weight)
    alone = clone(estimator).fit(X[repeated], y[repeated])
    assert np.abs(predictions(weighted, X) - predictions(alone, X)).max() < 0.02


@BOTH
def test_a_weight_of_zero_leaves_a_text_out(estimator):
    weight = np.ones(len(X))
    weight[::3] = 0
    kept = weight > 0
    first = predictions(clone(estimator).fit(X, y, sample_weight=weight), X)
    assert_allclose(predictions(clone(estimator).fit(X[kept], y[kept]), X), first, atol=1e-9)


@BOTH
def test_pickling_keeps_predictions(estimator):
    estimator = clone(estimator).fit(X, y)
    again = pickle.loads(pickle.dumps(estimator))
    assert_array_equal(predictions(again, X), predictions(estimator, X))


@BOTH
def test_tags(estimator):
    tags = get_tags(estimator)
    assert tags.input_tags.one_d_array
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not any(getattr(tags.input_tags, name) for name in ("sparse", "categorical"))
    assert tags.target_tags.required
    assert is_classifier(estimator) != is_regressor(estimator)


@BOTH
def test_a_target_is_needed(estimator):
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        clone(estimator).fit(X, None)


@BOTH
def test_numbers_of_texts_and_targets_must_agree(estimator):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(estimator).fit(X, y[:-1])


@BOTH
@pytest.mark.parametrize("method", METHODS)
def test_numbers_among_texts_are_an_error(estimator, method):
    estimator = clone(estimator).fit(X, y)
    with pytest.raises(ValueError, match="must be strings, None or NaN, got 3 of type int"):
        getattr(estimator, method)(["red", 3])


@BOTH
def test_all_missing_is_an_error_in_training_alone(estimator):
    with pytest.raises(ValueError, match="At least one text must not be missing"):
        clone(estimator).fit([None, "", np.nan, ""], [0, 1, 0, 1])
    estimator = clone(estimator).fit(X, y)
    missing = predictions(estimator, [None, "", np.nan])
    assert np.isfinite(missing).all()
    assert_array_equal(missing[0], missing[2])


@BOTH
def test_missing_texts_are_allowed_in_training(estimator):
    some = pd.Series(X)
    some[::4] = None
    assert np.isfinite(predictions(clone(estimator).fit(some, y), some)).all()


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", 3),
        ("vocab_size", 255),
        ("max_epochs", 0),
        ("max_tokens", 0),
        ("token_dropout", 1.0),
        ("token_embedding_size", 0),
        ("tune_tokens", "yes"),
        ("lowercase", None),
    ],
)
def test_wrong_parameters_are_an_error(estimator, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        clone(estimator).set_params(**{name: value}).fit(X, y)


def test_a_failed_fit_leaves_the_fitted_model_as_it_was(fitted):
    model = copy.deepcopy(fitted)
    with pytest.raises(ValueError, match="must be strings"):
        model.fit(np.arange(60), y)
    assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))


def test_search_over_alpha_in_a_pipeline():
    pipeline = make_pipeline(FunctionTransformer(shout), MoDETextClassifier(**QUICK))
    search = GridSearchCV(pipeline, {"modetextclassifier__alpha": [0, 1]}, cv=2)
    assert search.fit(X, y).predict(X).shape == (60,)


def test_warm_start_and_partial_fit_continue():
    model = MoDETextClassifier(**QUICK, warm_start=True).fit(X, y)
    n_first = len(model.history_)
    assert len(model.fit(X, y).history_) > n_first
    with pytest.raises(ValueError, match="vocab_size must stay 400 when training continues"):
        model.set_params(vocab_size=500).fit(X, y)
    partly = MoDETextClassifier(**QUICK)
    for part in np.array_split(np.arange(len(X)), 2):
        partly.partial_fit(X[part], y[part], classes=[0, 1])
    assert partly.n_iter_ == 2


def test_classes_of_strings():
    labels = np.array(["left", "right"])[y]
    model = MoDETextClassifier(**QUICK).fit(X, labels)
    assert set(model.predict(X)) <= {"left", "right"}


def shout(texts):
    return np.array([text.upper() for text in texts], dtype=object)
