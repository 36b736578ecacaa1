"""The estimators inside scikit-learn's own machinery."""

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skmode import MoDEClassifier, MoDERegressor

# Whole workflows, whose parts have faster tests of their own.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
]

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (16,),
    "numeric_embedding": None,
    "learning_rate": 0.02,
    "max_epochs": 15,
    "activation": "relu",
    "mixing": "likelihood",
    "batch_size": 64,
    "dropout": 0.0,
    "weight_averaging": 0.0,
    "early_stopping": False,
    "random_state": 0,
}
classifier, regressor = MoDEClassifier(**QUICK), MoDERegressor(**QUICK)

rng = np.random.default_rng(0)
frame = pd.DataFrame(
    {
        "age": rng.uniform(20, 80, 240),
        "income": rng.lognormal(10, 1, 240),
        "city": rng.choice(["Bern", "Graz", "Lyon"], 240),
    }
)
bought = (frame["age"] > 50) ^ (frame["city"] == "Bern")
label = np.where(bought, "yes", "no")
spent = np.where(bought, 10.0, 1.0) + frame["age"].to_numpy() / 40
frame.loc[::10, "income"] = np.nan
frame.loc[::12, "city"] = None
numbers = frame[["age", "income"]].fillna(0.0)


def test_pipeline_with_a_column_transformer():
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["age", "income"]), ("c", OneHotEncoder(), ["city"])]
    )
    pipeline = make_pipeline(columns, classifier).fit(frame, label)
    assert pipeline.score(frame, label) > 0.8


def test_pipeline_passes_a_dataframe_through():
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["age", "income"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipeline = make_pipeline(columns, classifier).fit(frame, label)
    assert [column.kind for column in pipeline[-1].encoder_.columns_] == [
        "number",
        "number",
        "category",
    ]
    assert pipeline.score(frame, label) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "target"),
    [(classifier, label), (regressor, spent)],
    ids=["classifier", "regressor"],
)
def test_grid_search_over_alpha_in_two_processes(estimator, target):
    search = GridSearchCV(estimator, {"alpha": [0.0, 1.0]}, cv=2, n_jobs=2)
    search.fit(frame, target)
    alone = GridSearchCV(estimator, {"alpha": [0.0, 1.0]}, cv=2).fit(frame, target)
    assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert_array_equal(search.predict(frame), alone.predict(frame))
    assert search.best_score_ > 0.6


@pytest.mark.slow
def test_halving_random_search_over_alpha_in_two_processes():
    estimator = clone(classifier).set_params(learning_rate=0.01, max_epochs=30)
    search = HalvingRandomSearchCV(
        estimator, {"alpha": [0.0, 0.1, 1.0, 10.0]}, n_candidates=4, cv=2, n_jobs=2, random_state=0
    ).fit(frame, label)
    assert search.n_iterations_ > 1
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.alpha == search.best_params_["alpha"]
    assert search.score(frame, label) > 0.7


def count_threads(estimator, X, y):
    return torch.get_num_threads()


@pytest.mark.slow
def test_processes_of_a_search_share_the_cores():
    search = GridSearchCV(classifier, {"alpha": [0.0, 1.0]}, cv=2, n_jobs=2, scoring=count_threads)
    search.fit(frame, label)
    assert search.cv_results_["mean_test_score"].max() <= max(1, joblib.cpu_count() // 2)


@pytest.mark.slow
def test_grid_search_over_a_polars_table():
    search = GridSearchCV(classifier, {"alpha": [0.0, 1.0]}, cv=2)
    from_pandas = search.fit(frame, label).cv_results_["mean_test_score"]
    table = pl.from_pandas(frame)
    search.fit(table, label)
    assert_array_equal(search.cv_results_["mean_test_score"], from_pandas)
    assert_array_equal(search.best_estimator_.feature_names_in_, frame.columns)
    assert search.predict(table).shape == (240,)


@pytest.mark.parametrize(
    ("estimator", "target"),
    [(classifier, label), pytest.param(regressor, spent, marks=pytest.mark.slow)],
    ids=["classifier", "regressor"],
)
def test_cross_validate_with_weights(estimator, target):
    # Half of the rows are nonsense of weight zero.
    weight = rng.permutation(np.repeat([1.0, 0.0], 120))
    spoiled = np.where(weight > 0, target, rng.permutation(target))
    with config_context(enable_metadata_routing=True):
        estimator = clone(estimator).set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        weighted, plain = (
            cross_validate(estimator, frame, spoiled, cv=3, params={"sample_weight": each})
            for each in (weight, np.ones(240))
        )
    assert weighted["test_score"].mean() > plain["test_score"].mean() + 0.1


def test_cross_val_predict_of_probabilities():
    probabilities = cross_val_predict(classifier, frame, label, cv=2, method="predict_proba")
    assert_allclose(probabilities.sum(axis=1), 1)


def test_calibrated_classifier():
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(frame, label)
    assert calibrated.score(frame, label) > 0.75


def test_voting_classifier_averages_probabilities():
    voting = VotingClassifier(
        [("a", classifier), ("b", MoDEClassifier(**QUICK | {"random_state": 1}))], voting="soft"
    ).fit(frame, label)
    each = [member.predict_proba(frame) for member in voting.estimators_]
    assert_allclose(voting.predict_proba(frame), np.mean(each, axis=0))
    assert voting.score(frame, label) > 0.8


def test_voting_regressor_averages_predictions():
    voting = VotingRegressor([("mode", regressor), ("ridge", Ridge())]).fit(numbers, spent)
    each = [member.predict(numbers) for member in voting.estimators_]
    assert_allclose(voting.predict(numbers), np.mean(each, axis=0))


@pytest.mark.parametrize(
    ("bagging", "target", "method"),
    [
        (BaggingRegressor(regressor, n_estimators=3, random_state=0), spent, "predict"),
        (BaggingClassifier(classifier, n_estimators=3, random_state=0), label, "predict_proba"),
    ],
    ids=["regressor", "classifier"],
)
def test_bagging_averages_members_of_different_seeds(bagging, target, method):
    X = numbers.to_numpy()
    bagging.fit(X, target)
    each = [getattr(member, method)(X) for member in bagging.estimators_]
    assert_allclose(getattr(bagging, method)(X), np.mean(each, axis=0))
    assert len({member.random_state for member in bagging.estimators_}) == 3


def test_permutation_importance_finds_the_columns():
    fitted = MoDEClassifier(**QUICK | {"max_epochs": 30}).fit(frame, label)
    importance = permutation_importance(fitted, frame, label, n_repeats=3, random_state=0)
    age, income, city = importance["importances_mean"]
    assert min(age, city) > income + 0.1


def test_transformed_target_regressor():
    wrapped = TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp)
    assert wrapped.fit(frame, spent).score(frame, spent) > 0.7
    assert (wrapped.predict(frame) > 0).all()


def test_multi_output_classifier():
    targets = np.column_stack([label, np.where(frame["age"] > 40, "old", "young")])
    multi = MultiOutputClassifier(classifier).fit(frame, targets)
    assert multi.predict(frame).shape == (240, 2)
    assert [probabilities.shape for probabilities in multi.predict_proba(frame)] == [(240, 2)] * 2
    assert multi.score(frame, targets) > 0.6


def test_stacking_classifier():
    stacking = StackingClassifier(
        [("mode", classifier)], final_estimator=LogisticRegression(), cv=2
    ).fit(frame, label)
    assert stacking.score(frame, label) > 0.8


def test_learning_curve():
    sizes, train, test = learning_curve(
        classifier, frame, label, train_sizes=[0.3, 1.0], cv=2, shuffle=True, random_state=0
    )
    assert_array_equal(sizes, [36, 120])
    assert train.shape == test.shape == (2, 2)
    assert test[1].mean() > 0.6


def test_learning_curve_by_partial_fit():
    _, _, test = learning_curve(
        classifier,
        frame,
        label,
        train_sizes=[0.3, 1.0],
        cv=2,
        exploit_incremental_learning=True,
    )
    assert np.isfinite(test).all()
