"""The predictions of the estimators, and their behaviour on odd input."""

import copy
import datetime
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skmode import MoDEClassifier, MoDERegressor

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
# Where both share what is tested, and it takes long.
CLASSIFIER_FIRST = pytest.mark.parametrize(
    "Estimator", [MoDEClassifier, pytest.param(MoDERegressor, marks=pytest.mark.slow)]
)
MIXINGS = pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
GATES = pytest.mark.parametrize("gate", ["dense", "sparse"])

X, y = make_classification(200, 4, n_informative=4, n_redundant=0, n_classes=3, random_state=0)


# Accuracy.


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_classifier_is_level_with_logistic_regression(load):
    train_X, test_X, train_y, test_y = train_test_split(
        *load(return_X_y=True), test_size=0.4, random_state=0
    )
    baseline = make_pipeline(StandardScaler(), LogisticRegression()).fit(train_X, train_y)
    needed = baseline.score(test_X, test_y) - 0.03
    estimator = MoDEClassifier(random_state=0).fit(train_X, train_y)
    assert estimator.score(test_X, test_y) >= needed
    assert estimator.set_params(inference="top_expert").score(test_X, test_y) >= needed


@pytest.mark.slow
def test_regressor_without_embedding_is_level_with_ridge_on_diabetes():
    # On so few and noisy rows the default's embedding of numbers costs more than it gains.
    train_X, test_X, train_y, test_y = train_test_split(
        *load_diabetes(return_X_y=True), test_size=0.4, random_state=0
    )
    baseline = Ridge(0.1).fit(train_X, train_y)
    estimator = MoDERegressor(numeric_embedding=None, random_state=0).fit(train_X, train_y)
    assert estimator.score(test_X, test_y) > baseline.score(test_X, test_y) - 0.1


# Labels and targets.


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"],
        [False, True],
        [0, 1],
        [-1, 1],
        [1.0, 2.0],
        np.array(["no", "yes"], dtype=object),
        ["b", "c", "a"],
        [10, -3, 7],
    ],
    ids=str,
)
def test_labels_may_be_of_any_type(labels):
    labels = np.asarray(labels)
    target = labels[y % len(labels)]
    estimator = MoDEClassifier(**QUICK | {"max_epochs": 20}, learning_rate=0.02).fit(X, target)
    predicted = estimator.predict(X)
    assert_array_equal(estimator.classes_, np.unique(labels))
    assert predicted.dtype == labels.dtype
    assert set(predicted) <= set(labels)
    assert np.mean(predicted == target) > 0.7
    assert estimator.predict_proba(X).shape == (200, len(labels))
    assert estimator.expert_predict(X).dtype == labels.dtype


@pytest.mark.parametrize(
    "wrap",
    [
        lambda labels: pd.Series(labels, dtype="category"),
        lambda labels: pd.Series(labels, dtype="string"),
        lambda labels: pl.Series(labels),
        list,
    ],
    ids=["category", "string", "polars", "list"],
)
def test_labels_may_come_as_series(wrap):
    labels = np.array(["a", "b", "c"])[y]
    estimator = MoDEClassifier(**QUICK).fit(X, wrap(labels))
    assert_array_equal(estimator.predict(X), MoDEClassifier(**QUICK).fit(X, labels).predict(X))


def test_names_of_labels_do_not_matter():
    integers = MoDEClassifier(**QUICK).fit(X, y)
    strings = MoDEClassifier(**QUICK).fit(X, np.array(["a", "b", "c"])[y])
    assert_array_equal(integers.predict_proba(X), strings.predict_proba(X))


def test_probabilities_sum_to_one():
    probabilities = MoDEClassifier(**QUICK).fit(X, y).predict_proba(X)
    assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert probabilities.min() >= 0


def test_log_probabilities():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    assert_allclose(estimator.predict_log_proba(X), np.log(estimator.predict_proba(X)))


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressor_returns_as_many_columns_as_y(n_outputs):
    target = np.column_stack([X[:, 0], 100 + 10 * X[:, 1]])[:, :n_outputs]
    estimator = MoDERegressor(**QUICK | {"max_epochs": 30}).fit(X, target)
    assert estimator.predict(X).shape == (200, n_outputs)
    assert estimator.expert_predict(X).shape == (200, 3, n_outputs)
    assert estimator.score(X, target) > 0.8


def test_regressor_returns_one_dimension_for_one():
    estimator = MoDERegressor(**QUICK).fit(X, X[:, 0])
    assert estimator.predict(X).shape == (200,)
    assert estimator.expert_predict(X).shape == (200, 3)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_regressor_does_not_depend_on_the_units_of_the_target(factor):
    target = X[:, 0] + 3
    plain = MoDERegressor(**QUICK).fit(X, target).predict(X)
    scaled = MoDERegressor(**QUICK).fit(X, factor * target).predict(X)
    assert_allclose(scaled / factor, plain, rtol=1e-4)


def test_constant_target_is_predicted():
    assert_allclose(
        MoDERegressor(**QUICK | {"max_epochs": 30}).fit(X, np.full(200, 7.0)).predict(X),
        7,
        atol=0.1,
    )


# Losses of the regressor.


def fit_loss(loss, X, y, **parameters):
    return MoDERegressor(
        n_experts=2,
        hidden_layer_sizes=(16,),
        max_epochs=60,
        batch_size=100,
        early_stopping=False,
        learning_rate=0.01,
        loss=loss,
        random_state=0,
        **parameters,
    ).fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantile_loss_covers_its_share(quantile):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(1200, 1))
    y = X[:, 0] + (1.5 + X[:, 0]) * rng.normal(size=1200)
    estimator = fit_loss("quantile", X[:800], y[:800], quantile=quantile)
    assert np.mean(y[800:] <= estimator.predict(X[800:])) == pytest.approx(quantile, abs=0.05)


@pytest.mark.slow
def test_absolute_error_finds_the_median_and_squared_error_the_mean():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(800, 1)), rng.exponential(size=800)
    assert fit_loss("absolute_error", X, y).predict(X).mean() == pytest.approx(np.log(2), abs=0.06)
    assert fit_loss("squared_error", X, y).predict(X).mean() == pytest.approx(1, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber", "absolute_error"])
def test_robust_losses_resist_outliers(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 1))
    y = np.where(rng.random(600) < 0.05, 30.0, X[:, 0])
    robust, squared = (
        np.abs(fit_loss(each, X, y).predict(X) - X[:, 0]).mean() for each in (loss, "squared_error")
    )
    assert robust < squared / 2


@pytest.mark.parametrize("loss", ["huber", "absolute_error", "quantile"])
def test_robust_losses_do_not_care_how_far_outliers_are(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 1))
    y = np.where(rng.random(600) < 0.01, 1e8, X[:, 0])
    found = fit_loss(loss, X, np.column_stack([y, X[:, 0]])).predict(X)
    assert np.abs(found - X).mean() < 0.2


def test_targets_without_outliers_keep_their_deviation():
    zeros = np.where(np.arange(400) < 380, 0.0, 1000.0)  # their middle half is constant
    y = np.column_stack([np.random.default_rng(0).lognormal(size=400), zeros])
    estimator = MoDERegressor(**QUICK, loss="absolute_error").fit(np.arange(400)[:, None], y)
    assert_allclose(estimator.target_mean_, y.mean(axis=0))
    assert_allclose(estimator.target_scale_, y.std(axis=0))


def test_few_far_numbers_do_not_hide_a_column_that_is_mostly_zero():
    rng = np.random.default_rng(0)
    amount = np.where(rng.random(600) < 0.8, 0, rng.uniform(1, 1000, 600))
    target, far = amount > 500, amount.copy()
    far[:2] = 999_999_999
    fitted = MoDEClassifier(**QUICK | {"max_epochs": 30}).fit(far[2:, None], target[2:])
    hidden = MoDEClassifier(**QUICK | {"max_epochs": 30}).fit(far[:, None], target)
    losses = [log_loss(target, each.predict_proba(amount[:, None])) for each in (fitted, hidden)]
    assert losses[1] < losses[0] + 0.05


# Weights.


def repeated(X, y, weight):
    return np.repeat(X, weight, axis=0), np.repeat(y, weight)


SMALL_X, SMALL_y = X[:50], y[:50]
COUNTS = np.random.default_rng(0).integers(0, 4, 50)


@CLASSIFIER_FIRST
@pytest.mark.parametrize(
    "parameters",
    [
        {"mixing": "representation"},
        {"mixing": "likelihood"},
        {"mixing": "expected"},
        {"distillation": "pairwise", "alpha": 10.0},
        {"gate": "sparse", "balance": 0.1},
        {"numeric_embedding": "piecewise_linear"},
    ],
    ids=str,
)
def test_integer_weights_are_repeated_rows(Estimator, parameters):
    parameters = QUICK | {"max_epochs": 10} | parameters
    weighted = Estimator(**parameters).fit(SMALL_X, SMALL_y, sample_weight=COUNTS)
    other = Estimator(**parameters).fit(*repeated(SMALL_X, SMALL_y, COUNTS))
    name = "predict_proba" if Estimator is MoDEClassifier else "predict"
    assert_allclose(getattr(weighted, name)(X), getattr(other, name)(X), rtol=1e-7, atol=1e-9)
    assert_allclose(weighted.expert_usage_, other.expert_usage_)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 5.0, 2: 0.5}], ids=str)
def test_integer_weights_are_repeated_rows_under_class_weights(class_weight):
    parameters = QUICK | {"class_weight": class_weight}
    weighted = MoDEClassifier(**parameters).fit(SMALL_X, SMALL_y, sample_weight=COUNTS)
    other = MoDEClassifier(**parameters).fit(*repeated(SMALL_X, SMALL_y, COUNTS))
    assert_allclose(weighted.predict_proba(X), other.predict_proba(X), rtol=1e-7)


@BOTH
def test_equal_weights_change_nothing(Estimator):
    plain = Estimator(**QUICK).fit(X, y)
    equal = Estimator(**QUICK).fit(X, y, sample_weight=np.full(200, 3.7))
    assert_allclose(equal.predict(X), plain.predict(X), rtol=1e-5)


@BOTH
def test_rows_of_zero_weight_are_left_out(Estimator):
    spoiled_X, spoiled_y = X.copy(), y.copy()
    # Another value, but a class that other rows have: one without any weight stays a class.
    spoiled_X[100:], spoiled_y[100:] = 1e6, 17 if Estimator is MoDERegressor else y[0]
    weight = np.repeat([1.0, 0.0], 100)
    spoiled = Estimator(**QUICK).fit(spoiled_X, spoiled_y, sample_weight=weight)
    assert_array_equal(spoiled.predict(X), Estimator(**QUICK).fit(X[:100], y[:100]).predict(X))


@BOTH
def test_zero_weights_only_are_an_error(Estimator):
    with pytest.raises(
        ValueError,
        match="(?i)sample.weight.*(at least one non-zero|zeros only)|at least one row needs",
    ):
        Estimator(**QUICK).fit(X, y, sample_weight=np.zeros(200))


@BOTH
def test_negative_weights_are_an_error(Estimator):
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        Estimator(**QUICK).fit(X, y, sample_weight=-np.ones(200))


@pytest.mark.slow
@pytest.mark.parametrize("class_weight", ["balanced", {0: 1, 1: 20}], ids=str)
def test_class_weight_favours_the_rare_class(class_weight):
    rng = np.random.default_rng(0)
    rare = (rng.random(600) < 0.05).astype(int)
    X = rng.normal(size=(600, 1)) + 1.5 * rare[:, None]
    parameters = QUICK | {"max_epochs": 20}
    plain = MoDEClassifier(**parameters).fit(X, rare).predict(X)
    weighted = MoDEClassifier(**parameters, class_weight=class_weight).fit(X, rare).predict(X)
    assert plain[rare == 1].mean() < 0.5
    assert weighted[rare == 1].mean() > 0.6


def test_class_weight_is_a_sample_weight():
    weight = np.array([1.0, 4.0, 2.0])
    by_class = MoDEClassifier(**QUICK, class_weight=dict(enumerate(weight))).fit(X, y)
    by_row = MoDEClassifier(**QUICK).fit(X, y, sample_weight=weight[y])
    assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))


def test_a_class_of_weight_zero_stays_a_class():
    estimator = MoDEClassifier(**QUICK | {"max_epochs": 30}, class_weight={0: 0, 1: 1, 2: 1})
    estimator.fit(X, y)
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.predict_proba(X)[:, 0].mean() < 0.2


def test_a_class_of_rows_without_weight_stays_a_class():
    weight = np.where(y == 1, 0.0, 1.0)
    estimator = MoDEClassifier(**QUICK | {"max_epochs": 30}).fit(X, y, sample_weight=weight)
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.predict_proba(X)[:, 1].mean() < 0.2
    assert 1 not in estimator.predict(X)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.Categorical, "string"])
def test_a_missing_label_is_named(missing, form):
    labels = np.array(["a", "b"] * 100, dtype=object)
    estimator = MoDEClassifier(**QUICK).fit(X, labels)
    labels[[3, 8]] = missing
    given = pd.array(labels, dtype=form) if isinstance(form, str) else form(labels)
    calls = (
        MoDEClassifier(**QUICK).fit,
        MoDEClassifier(**QUICK).partial_fit,
        estimator.score,
        make_pipeline("passthrough", estimator).score,
    )
    for call in calls:
        with pytest.raises(ValueError, match="Input y contains NaN.*in row 3: drop such rows"):
            call(X, given)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, np.nan]),
        pd.array([0, 1, None], dtype="Int64"),
        pd.array([True, False, None], dtype="boolean"),
        pd.to_datetime(["2020-01-01", "2020-01-02", None]),
    ],
    ids=["floats", "integers", "bools", "dates"],
)
def test_a_missing_label_of_other_types_is_named(labels):
    y = pd.Series(labels).take(np.arange(len(X)) % 3).reset_index(drop=True)
    with pytest.raises(ValueError, match="Input y contains NaN.*in row 2: drop such rows"):
        MoDEClassifier(**QUICK).fit(X, y)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("form", [list, lambda values: np.array(values, dtype=object), pd.Series])
def test_missing_classes_are_refused(missing, form):
    labels = np.array(["a", "b"] * 100, dtype=object)
    estimator = MoDEClassifier(**QUICK).partial_fit(X, labels, classes=["a", "b", "c"])
    for each in (MoDEClassifier(**QUICK), estimator):
        with pytest.raises(ValueError, match="classes must hold labels only, got .*: leave it out"):
            each.partial_fit(X, labels, classes=form(["a", "b", missing]))
    numbers = MoDEClassifier(**QUICK)
    with pytest.raises(ValueError, match="classes must hold labels only, got nan"):
        numbers.partial_fit(X, y, classes=[0, 1, 2, np.nan])
    assert not hasattr(numbers, "net_")


def test_labels_of_several_types_are_refused():
    labels = np.array(["a", 1] * 100, dtype=object)
    estimator = MoDEClassifier(**QUICK).fit(X, labels.astype(str))
    calls = (MoDEClassifier(**QUICK).fit, estimator.score, estimator.partial_fit)
    for call in calls:
        with pytest.raises(TypeError, match="labels in y .* got strings and numbers: convert"):
            call(X, labels)
    with pytest.raises(TypeError, match="labels in classes .* got strings and numbers: convert"):
        MoDEClassifier(**QUICK).partial_fit(X, labels.astype(str), classes=["a", 1])


@BOTH
def test_read_only_arrays_do_not_warn(Estimator):
    frozen = X.astype(np.float32)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        estimator = Estimator(**QUICK | {"n_experts": 1}).fit(frozen, y)
        assert_array_equal(estimator.predict(frozen), estimator.predict(frozen.copy()))
    assert not frozen.flags.writeable


# Looking inside.


@BOTH
@MIXINGS
@GATES
def test_top_expert_is_the_expert_at_the_route(Estimator, mixing, gate):
    estimator = Estimator(**QUICK, mixing=mixing, gate=gate).fit(X, y)
    gates, route = estimator.gate_proba(X), estimator.route(X)
    assert gates.shape == (200, 3)
    assert_allclose(gates.sum(axis=1), 1, rtol=1e-12)
    assert_array_equal(route, gates.argmax(axis=1))
    assert ((gates > 0).sum(axis=1) == (2 if gate == "sparse" else 3)).all()

    mixture = estimator.predict(X)
    top = estimator.set_params(inference="top_expert").predict(X)
    alone = estimator.expert_predict(X)[np.arange(200), route]
    assert_allclose(top, alone, rtol=1e-5, atol=1e-6)
    assert_array_equal(estimator.set_params(inference="mixture").predict(X), mixture)
    assert not np.array_equal(mixture, top)


@MIXINGS
@GATES
def test_probabilities_of_the_top_expert(mixing, gate):
    estimator = MoDEClassifier(**QUICK, mixing=mixing, gate=gate).fit(X, y)
    each = estimator.expert_predict_proba(X)
    assert each.shape == (200, 3, 3)
    assert_allclose(each.sum(axis=2), 1, rtol=1e-12)
    assert_array_equal(estimator.expert_predict(X), each.argmax(axis=2))
    top = estimator.set_params(inference="top_expert").predict_proba(X)
    assert_allclose(top, each[np.arange(200), estimator.route(X)], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mixing", ["likelihood", "expected"])
@GATES
def test_mixture_is_the_average_of_the_experts(mixing, gate):
    classifier = MoDEClassifier(**QUICK, mixing=mixing, gate=gate).fit(X, y)
    gates = classifier.gate_proba(X)
    average = np.einsum("nk,nkc->nc", gates, classifier.expert_predict_proba(X))
    assert_allclose(classifier.predict_proba(X), average, rtol=1e-4, atol=1e-6)
    regressor = MoDERegressor(**QUICK, mixing=mixing, gate=gate).fit(X, y)
    average = (regressor.gate_proba(X) * regressor.expert_predict(X)).sum(axis=1)
    assert_allclose(regressor.predict(X), average, rtol=1e-4, atol=1e-6)


@BOTH
@pytest.mark.parametrize("weighted", [True, False])
def test_expert_usage_counts_the_routes_of_the_training_rows(Estimator, weighted):
    weight = np.linspace(0.5, 2, 200) if weighted else None
    estimator = Estimator(**HELD_OUT).fit(X, y, sample_weight=weight)
    counts = np.bincount(estimator.route(X), weights=weight, minlength=3)
    assert_allclose(estimator.expert_usage_, counts / counts.sum(), rtol=1e-12)


@BOTH
def test_validation_scores_are_of_the_held_out_rows(Estimator):
    class Spy(Callback):
        def on_train_end(self, net, **kwargs):
            self.rows = dict(net.callbacks_)["watch"].rows

    spy = Spy()
    estimator = Estimator(
        **HELD_OUT, validation_fraction=0.3, refit_fraction=0, callbacks=[spy]
    ).fit(X, y)
    held_out, target = spy.rows.inputs[0].numpy(), spy.rows.target.numpy()
    if Estimator is MoDERegressor:
        target = target * estimator.target_scale_ + estimator.target_mean_
    assert len(held_out) == 60
    for inference in ("mixture", "top_expert"):
        score = estimator.set_params(inference=inference).score(held_out, target)
        assert estimator.validation_scores_[inference] == pytest.approx(score, rel=1e-4)
    assert Estimator(**QUICK).fit(X, y).validation_scores_ is None


def test_one_expert_is_the_mixture():
    estimator = MoDEClassifier(**QUICK | {"n_experts": 1}).fit(X, y)
    assert_array_equal(estimator.gate_proba(X), 1)
    assert_array_equal(estimator.expert_usage_, [1])
    assert_allclose(estimator.expert_predict_proba(X)[:, 0], estimator.predict_proba(X), rtol=1e-5)


@BOTH
def test_predictions_do_not_depend_on_the_other_rows(Estimator):
    estimator = Estimator(**QUICK).fit(X, y)
    name = "predict_proba" if Estimator is MoDEClassifier else "predict"
    together = getattr(estimator, name)(X[:20])
    alone = np.concatenate([getattr(estimator, name)(row[None]) for row in X[:20]])
    assert_allclose(alone, together, rtol=1e-4, atol=1e-6)


@BOTH
def test_large_tables_are_predicted_block_by_block(Estimator):
    estimator = Estimator(**QUICK).fit(X, y)
    large = np.tile(X, (50, 1))
    assert_allclose(
        estimator.predict(large), np.tile(estimator.predict(X), 50), rtol=1e-4, atol=1e-6
    )


def test_distillation_makes_the_experts_agree():
    apart, alike = (
        MoDEClassifier(**QUICK | {"max_epochs": 30}, alpha=alpha).fit(X, y) for alpha in (0, 100)
    )
    assert alike.history_[-1]["consistency"] > apart.history_[-1]["consistency"] + 0.1


def test_missing_values_are_learnt_from():
    known = X[:, 0] > 0
    holes = np.where(known[:, None], X, np.nan)
    assert MoDEClassifier(**QUICK | {"max_epochs": 30}).fit(holes, known).score(holes, known) > 0.99


# Odd tables: like scikit-learn's own networks.

ODD = {
    "one row": (X[:1], y[:1]),
    "one feature": (X[:, :1], y),
    "one class": (X, np.zeros(200, dtype=int)),
    "a class with one row": (X, np.where(np.arange(200) == 0, 1, 0)),
    "constant columns": (np.ones((200, 4)), y % 2),
    "two rows": (X[:2], np.array([0, 1])),
}


@BOTH
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("X", "y"), ODD.values(), ids=ODD.keys())
def test_odd_tables_are_fitted_as_by_scikit_learn(Estimator, X, y):
    peer = MLPClassifier if Estimator is MoDEClassifier else MLPRegressor
    expected = peer(max_iter=4, random_state=0).fit(X, y).predict(X)
    predicted = Estimator(**QUICK).fit(X, y).predict(X)
    assert predicted.shape == expected.shape
    assert predicted.dtype == expected.dtype
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize("name", ["one row", "one class"])
def test_one_class_is_certain(name):
    X, y = ODD[name]
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    assert_array_equal(estimator.predict(X), y)
    assert_array_equal(estimator.predict_proba(X), np.ones((len(X), 1)))


def test_a_class_with_one_row_may_be_held_out_from_validation():
    X, y = ODD["a class with one row"]
    estimator = MoDEClassifier(**HELD_OUT).fit(X, y)
    assert_array_equal(estimator.classes_, [0, 1])
    assert estimator.validation_scores_["mixture"] == 1


@BOTH
@pytest.mark.parametrize(
    ("X", "y"),
    [
        (X, np.where(y == 1, np.nan, 0.0)),
        (X, y[:-1]),
        (X[:, 0], y),
        (X[:, :, None], y),
    ],
    ids=["NaN in y", "other length", "one dimension", "three dimensions"],
)
def test_malformed_input_is_an_error_as_in_scikit_learn(Estimator, X, y):
    peer = MLPClassifier if Estimator is MoDEClassifier else MLPRegressor
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        peer().fit(X, y)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        Estimator().fit(X, y)
    assert str(raised.value)[:20] == str(expected.value)[:20]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (X[:, 0], "Unknown label type"),
        (np.column_stack([y, y]), "y should be a 1d array"),
        (
            np.array([1, "a"] * 100, dtype=object),
            "(?i)unknown label type|uniformly strings or numbers",
        ),
        (None, "requires y to be passed"),
    ],
    ids=["continuous", "two columns", "mixed", "none"],
)
def test_wrong_labels_are_an_error(target, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MoDEClassifier(**QUICK).fit(X, target)


@pytest.mark.parametrize("target", [np.full(200, np.inf), np.array(["a"] * 200), X[:, :, None]])
def test_wrong_targets_are_an_error(target):
    with pytest.raises(
        ValueError, match="infinity|could not convert|Found array with dim 3|Unable to"
    ):
        MoDERegressor(**QUICK).fit(X, target)


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        pd.Series,
        lambda y: np.column_stack([X[:, 0], y]),
        lambda y: y.astype(str).astype(object),
    ],
)
def test_a_missing_target_is_named(form):
    target = X[:, 1].copy()
    target[[3, 8]] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN.*in row 3: drop such rows"):
        MoDERegressor(**QUICK).fit(X, form(target))


def test_classes_as_targets_say_what_to_fit():
    with pytest.raises(ValueError, match="reading y failed .*'(yes|no)'.*fit a classifier"):
        MoDERegressor(**QUICK).fit(X, np.where(y, "yes", "no"))


@pytest.mark.parametrize("convert", [pd.Series, np.array])
def test_dates_as_targets_are_an_error(convert):
    days = convert(pd.date_range("2024-01-01", periods=len(X)))
    with pytest.raises(ValueError, match="must be numbers, got y of datetime64.*days since"):
        MoDERegressor(**QUICK).fit(X, days)
    with pytest.raises(ValueError, match="must be numbers, got y of timedelta64"):
        MoDERegressor(**QUICK).fit(X, days - days[0])


@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (pl.Series, "Date"),
        (lambda days: pl.Series(days) - days[0], "Duration"),
        (lambda days: pl.DataFrame({"day": days, "sum": np.arange(len(days))}), "Date"),
        (pa.array, "date32"),
        (lambda days: pa.table({"day": pa.array(days)}), "date32"),
        (lambda days: pd.DataFrame({"day": pd.to_datetime(days)}), "datetime64"),
        (lambda days: pd.to_datetime(pd.Series(days)).dt.to_period("M"), "period"),
        (lambda days: np.array(days, dtype=object), "reading y failed .*datetime.date"),
    ],
)
def test_dates_of_other_libraries_as_targets_are_an_error(convert, name):
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(len(X))]
    with pytest.raises(ValueError, match=f"targets of a regressor must be numbers.*{name}"):
        MoDERegressor(**QUICK).fit(X, convert(days))


@BOTH
def test_masked_values_are_an_error(Estimator):
    masked = np.ma.masked_array(X, mask=X > 1)
    with pytest.raises(ValueError, match=r"X must not be masked.* got \d+ masked values: missing"):
        Estimator(**QUICK).fit(masked, y)
    with pytest.raises(ValueError, match="y must not be masked, .* got 3 masked values: leave out"):
        Estimator(**QUICK).fit(X, np.ma.masked_array(y, mask=np.arange(len(y)) < 3))
    estimator = Estimator(**QUICK).fit(np.ma.masked_array(X), y)
    with pytest.raises(ValueError, match="X must not be masked"):
        estimator.predict(masked)


def test_strings_in_an_array_say_what_to_pass():
    table = pd.DataFrame({"a": X[:, 0], "job": np.where(y, "office", "trade")})
    model = MoDEClassifier(**QUICK).fit(table, y)
    for call in (lambda rows: MoDEClassifier(**QUICK).fit(rows, y), model.predict):
        with pytest.raises(ValueError, match="to float: '(office|trade)'.*pass a table"):
            call(table.to_numpy())


# Persistence.


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator, path="model.joblib"):
    joblib.dump(estimator, path)
    return joblib.load(path)


@BOTH
@pytest.mark.parametrize("copy_of", [through_pickle, through_joblib, copy.deepcopy])
@pytest.mark.parametrize("n_rows", [100, 200], ids=["float64", "float32"])
def test_copies_predict_the_same(Estimator, copy_of, n_rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimator = Estimator(**QUICK).fit(X[:n_rows], y[:n_rows])
    other = copy_of(estimator)
    for name in ("predict", "gate_proba", "route", "expert_predict"):
        assert_array_equal(getattr(other, name)(X), getattr(estimator, name)(X))
    assert other.history_ == estimator.history_
    assert other.get_params() == estimator.get_params()
    assert other.partial_fit(X[:n_rows], y[:n_rows]).n_iter_ == 5


def test_a_copy_is_independent():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    before = estimator.predict_proba(X)
    copy.deepcopy(estimator).partial_fit(X, y)
    assert_array_equal(estimator.predict_proba(X), before)
    assert estimator.n_iter_ == 4


def weight_bytes(estimator):
    module = estimator.net_.module_
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


@CLASSIFIER_FIRST
@pytest.mark.parametrize("early_stopping", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_file_is_little_larger_than_the_weights(Estimator, early_stopping):
    X = np.random.default_rng(0).normal(size=(130, 20))
    options = {"max_epochs": 100, "n_iter_no_change": 100, "refit_fraction": 0}
    estimator = Estimator(**options, early_stopping=early_stopping, batch_size=130).fit(
        X, (X[:, 0] > 0).astype(int)
    )
    assert estimator.n_iter_ == 100
    assert len(pickle.dumps(estimator)) < 1.3 * weight_bytes(estimator)


@CLASSIFIER_FIRST
@pytest.mark.slow
def test_file_holds_no_training_data(Estimator):
    X = np.random.default_rng(0).normal(size=(20_000, 20))
    estimator = Estimator(max_epochs=1).fit(X, (X[:, 0] > 0).astype(int))
    assert X.astype(np.float32).nbytes > 2 * weight_bytes(estimator)
    assert len(pickle.dumps(estimator)) < 1.3 * weight_bytes(estimator)


@BOTH
def test_file_holds_no_optimizer_state_unless_warm_start(Estimator):
    cold, warm = (
        Estimator(**QUICK, warm_start=warm_start).fit(X, y) for warm_start in (False, True)
    )
    assert not hasattr(through_pickle(cold).net_, "optimizer_")
    assert through_pickle(warm).net_.optimizer_.state
    assert len(pickle.dumps(warm)) > len(pickle.dumps(cold)) + 1.8 * weight_bytes(cold)
    assert hasattr(cold.net_, "optimizer_")


@BOTH
def test_warm_start_after_unpickling_equals_uninterrupted_training(Estimator):
    estimator = Estimator(**QUICK, warm_start=True).fit(X, y)
    other = through_pickle(estimator)
    estimator.fit(X, y)
    other.fit(X, y)
    assert_array_equal(other.predict(X), estimator.predict(X))
    assert other.loss_curve_ == estimator.loss_curve_
    assert other.n_iter_ == 8


@BOTH
def test_weights_are_stored_for_the_cpu(Estimator):
    # "meta" stands for any device that the reader lacks: a move to the CPU would fail loudly.
    estimator = Estimator(**QUICK).fit(X, y)
    moved = []

    class Elsewhere(torch.nn.Module):
        def __deepcopy__(self, memo):
            return self

        def to(self, device):
            moved.append(device)
            return estimator.net_.module_

        def parameters(self):
            yield torch.empty(1, device="meta")

    net = copy.copy(vars(estimator.net_))
    fake = copy.deepcopy(estimator)
    vars(fake.net_).update(net, module_=Elsewhere(), device="meta")
    other = through_pickle(fake)
    assert moved == ["cpu"]
    assert other.net_.device == "cpu"
    assert_array_equal(other.predict(X), estimator.predict(X))


def test_score_takes_weights():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    right = estimator.predict(X) == y
    assert estimator.score(X, y, sample_weight=right.astype(float)) == 1
    assert estimator.score(X, y) == pytest.approx(right.mean())
    assert log_loss(y, estimator.predict_proba(X)) < np.log(3)


def test_targets_with_infinite_squares_are_an_error():
    with pytest.raises(ValueError, match=r"values in y must be at most 1e\+38.*larger unit"):
        MoDERegressor(**QUICK).fit(X, np.linspace(0, 1e300, len(X)))


def test_unknown_inference_after_fit_is_an_error():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="inference must be .*got 'top-expert'"):
        estimator.set_params(inference="top-expert").predict(X)


@pytest.mark.parametrize("class_weight", [{0: 0, 1: 0}, {0: -1, 1: 1}])
def test_invalid_class_weights_are_an_error(class_weight):
    with pytest.raises(ValueError, match="class_weight must hold no negative weight"):
        MoDEClassifier(**QUICK, class_weight=class_weight).fit(X, np.arange(len(X)) % 2)


def test_every_class_with_one_row_trains_on_all_rows():
    estimator = MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(X, np.arange(len(X)))
    assert estimator.validation_scores_ is None
    assert len(estimator.classes_) == len(X)


def test_strings_in_an_array_are_categories_on_request():
    values = [["a"], ["b"]] * 100
    expected = MoDEClassifier(**QUICK, categorical_features=[0]).fit(
        np.array(values, dtype=object), y
    )
    for table in (values, np.array(values)):
        estimator = MoDEClassifier(**QUICK, categorical_features=[0]).fit(table, y)
        assert_array_equal(estimator.predict_proba(table), expected.predict_proba(table))


class Small(MoDEClassifier):
    """A subclass with parameters of its own choice."""

    def __init__(self, n_experts=2, random_state=None):
        super().__init__(n_experts, max_epochs=2, random_state=random_state)


def test_a_subclass_may_have_fewer_parameters():
    model = Small(random_state=0).fit(X, y)
    assert model.set_params(n_experts=3).fit(X, y).expert_predict(X).shape == (200, 3)
    assert Small(random_state=0).partial_fit(X, y).partial_fit(X, y).n_iter_ == 2


@BOTH
@pytest.mark.parametrize(
    "parameters",
    [
        {"callbacks": ["none"]},
        {"categorical_features": ["no such column"]},
        {"device": "abacus"},
        {"optimizer": torch.optim.LBFGS},
    ],
)
def test_a_failed_fit_leaves_no_model(Estimator, parameters):
    estimator = Estimator(**QUICK).fit(X, y)
    with pytest.raises((TypeError, ValueError)):
        estimator.set_params(**parameters).fit(X[:, :2], y)
    with pytest.raises(NotFittedError):
        estimator.predict(X[:, :2])
