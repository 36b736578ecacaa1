"""The scikit-learn contract of both estimators."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmode import MoDEClassifier, MoDERegressor

QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}
SMALL = {"n_experts": 3, "hidden_layer_sizes": (16,), "max_epochs": 20}
BOTH = pytest.mark.parametrize(
    "estimator", [MoDEClassifier(**QUICK), MoDERegressor(**QUICK)], ids=type
)

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = (X[:, 0] > 0).astype(int)
frame = pd.DataFrame(X, columns=["a", "b", "c"])


# The checks train on a handful of rows, some of them alike.
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")


def repetitions_are_slow(checks):
    """Mark the checks that repeat another one with rows in another container."""
    cases = []
    for estimator, check in checks.args[1]:
        repeats = "readonly_memmap" in check.keywords or "sparse_matrix" in check.func.__name__
        marks = [pytest.mark.slow] if repeats else []
        cases.append(pytest.param(estimator, check, marks=marks))
    return pytest.mark.parametrize(checks.args[0], cases, **checks.kwargs)


def run_check(estimator, check):
    """Run a check, for fewer epochs unless it needs a model that has learnt."""
    if not any(part in check.func.__name__ for part in ("train", "class_weight")):
        estimator = clone(estimator).set_params(max_epochs=3)
    check(estimator)


@repetitions_are_slow(
    parametrize_with_checks([MoDEClassifier(max_epochs=15), MoDERegressor(max_epochs=15)])
)
def test_scikit_learn_checks(estimator, check):
    run_check(estimator, check)


@pytest.mark.slow
@parametrize_with_checks(
    [
        MoDEClassifier(
            **SMALL, mixing="representation", gate="sparse", top_k=1, inference="top_expert"
        ),
        MoDERegressor(
            **SMALL, mixing="expected", loss="huber", numeric_embedding="piecewise_linear"
        ),
    ]
)
def test_scikit_learn_checks_with_other_parameters(estimator, check):
    run_check(estimator, check)


TAUGHT = {"teacher_cv": 2, "teacher_weight": 0.5, "synthetic_rows": 1}
# As in scikit-learn's own searches: rows that are repeated may be in several folds.
BY_FOLDS = {
    f"check_sample_weight_equivalence_on_{kind}_data": "folds divide repeated rows"
    for kind in ("dense", "sparse")
}


@pytest.mark.slow
@parametrize_with_checks(
    [
        MoDEClassifier(
            **SMALL,
            teacher=HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2),
            **TAUGHT,
        ),
        MoDERegressor(
            **SMALL, teacher=HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=2), **TAUGHT
        ),
    ],
    expected_failed_checks=lambda _: BY_FOLDS,
)
def test_scikit_learn_checks_with_a_teacher(estimator, check):
    run_check(estimator, check)


def test_tags_are_those_of_the_teachers():
    boosting, forest = HistGradientBoostingRegressor(), RandomForestRegressor()
    for teacher, reads_all in (
        (forest, True),
        (boosting, False),
        ([forest, boosting], False),
        (RandomForestRegressor, True),  # a class, which only `fit` refuses
        ("ensemble", True),
    ):
        tags = get_tags(MoDERegressor(teacher=teacher))
        assert tags.input_tags.sparse == tags.target_tags.multi_output == reads_all
    imputing = make_pipeline(SimpleImputer(), LinearRegression())
    assert get_tags(MoDERegressor(teacher=imputing)).input_tags.allow_nan


@BOTH
def test_parameters_survive_clone(estimator):
    changed = clone(estimator).set_params(alpha=3.0, gate="sparse", hidden_layer_sizes=[4, 5])
    assert clone(changed).get_params() == changed.get_params()


@BOTH
def test_get_params_and_set_params_round_trip(estimator):
    parameters = estimator.get_params()
    assert type(estimator)().set_params(**parameters).get_params() == parameters


@BOTH
def test_every_parameter_is_documented_and_constrained(estimator):
    names = set(estimator.get_params())
    assert names == set(estimator._parameter_constraints)
    assert all(f"\n    {name} : " in type(estimator).__doc__ for name in names)


@BOTH
def test_tags_allow_missing_values_categories_and_sparse_rows(estimator):
    tags = get_tags(estimator).input_tags
    assert tags.allow_nan
    assert tags.categorical
    assert tags.sparse


def test_tags_tell_what_the_targets_may_be():
    assert is_classifier(MoDEClassifier())
    assert is_regressor(MoDERegressor())
    assert get_tags(MoDEClassifier()).classifier_tags.multi_class
    assert get_tags(MoDERegressor()).target_tags.multi_output
    assert not get_tags(MoDEClassifier()).target_tags.multi_output


@BOTH
def test_html_representation_names_the_estimator(estimator):
    assert type(estimator).__name__ in estimator._repr_html_()
    assert type(estimator).__name__ in clone(estimator).fit(X, y)._repr_html_()


@BOTH
def test_set_output_around_it_in_a_pipeline(estimator):
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).set_output(transform="pandas")
    assert_array_equal(pipeline.fit(frame, y)[-1].feature_names_in_, ["a", "b", "c"])
    assert isinstance(pipeline.predict(frame), np.ndarray)


@BOTH
def test_cross_validate_routes_weights_to_fit(estimator):
    weight = np.where(np.arange(60) % 2, 1.0, 3.0)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = clone(estimator).set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        result = cross_validate(
            estimator, X, y, params={"sample_weight": weight}, cv=2, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
    train, test = (result["indices"][part][0] for part in ("train", "test"))
    alone = clone(estimator).fit(X[train], y[train], sample_weight=weight[train])
    assert result["test_score"][0] == alone.score(X[test], y[test], sample_weight=weight[test])
    assert_array_equal(result["estimator"][0].loss_curve_, alone.loss_curve_)


@BOTH
def test_grid_search_routes_weights_to_fit(estimator):
    weight = np.where(np.arange(60) % 2, 1.0, 3.0)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = clone(estimator).set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=False)
        search = GridSearchCV(estimator, {"alpha": [0.0, 1.0]}, cv=2)
        search.fit(X, y, sample_weight=weight)
    alone = clone(search.best_estimator_).fit(X, y, sample_weight=weight)
    assert_array_equal(search.best_estimator_.loss_curve_, alone.loss_curve_)


@BOTH
def test_names_and_number_of_features_are_kept(estimator):
    estimator = clone(estimator).fit(frame, y)
    assert_array_equal(estimator.feature_names_in_, ["a", "b", "c"])
    assert estimator.n_features_in_ == 3


@BOTH
@pytest.mark.parametrize("method", ["predict", "gate_proba", "route", "expert_predict"])
def test_other_feature_names_are_an_error(estimator, method):
    estimator = clone(estimator).fit(frame, y)
    with pytest.raises(ValueError, match="feature names should match"):
        getattr(estimator, method)(frame.rename(columns={"a": "z"}))


@BOTH
def test_features_in_another_order_are_an_error(estimator):
    estimator = clone(estimator).fit(frame, y)
    with pytest.raises(ValueError, match="must be in the same order"):
        estimator.predict(frame[["b", "a", "c"]])


@BOTH
def test_missing_feature_is_an_error(estimator):
    estimator = clone(estimator).fit(X, y)
    with pytest.raises(ValueError, match="X has 2 features, but .* is expecting 3"):
        estimator.predict(X[:, :2])


@BOTH
def test_array_after_a_table_warns_and_gives_the_same(estimator):
    estimator = clone(estimator).fit(frame, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert_array_equal(estimator.predict(X), estimator.predict(frame))


@BOTH
@pytest.mark.parametrize("method", ["predict", "gate_proba", "route", "expert_predict"])
def test_unfitted_estimator_says_so(estimator, method):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(clone(estimator), method)(X)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba", "expert_predict_proba"])
def test_unfitted_classifier_says_so(method):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(MoDEClassifier(), method)(X)


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_experts", 0),
        ("n_experts", 2.5),
        ("alpha", -1),
        ("alpha", "best"),
        ("distillation", "median"),
        ("mixing", "average"),
        ("gate", "soft"),
        ("top_k", 0),
        ("gate_hidden_layer_sizes", 0),
        ("gate_temperature", 0),
        ("balance", -0.1),
        ("hidden_layer_sizes", 0),
        ("activation", "swish"),
        ("dropout", 1.0),
        ("dropout", "some"),
        ("expert_module", "mlp"),
        ("numeric_embedding", "linear"),
        ("categorical_features", 3),
        ("inference", "best"),
        ("optimizer", "lbfgs"),
        ("learning_rate", 0),
        ("learning_rate_schedule", "step"),
        ("weight_decay", -1),
        ("weight_averaging", 1.0),
        ("weight_averaging", -0.1),
        ("batch_size", 0),
        ("max_epochs", 0),
        ("early_stopping", "never"),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("refit_fraction", 1.1),
        ("refit_fraction", -0.1),
        ("callbacks", "print"),
        ("device", 0),
        ("precision", "float16"),
        ("random_state", "seed"),
        ("warm_start", "yes"),
        ("verbose", -1),
    ],
)
def test_wrong_parameter_is_named(estimator, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MoDE"):
        clone(estimator).set_params(**{name: value}).fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (MoDEClassifier(class_weight="even"), "class_weight"),
        (MoDERegressor(loss="poisson"), "loss"),
        (MoDERegressor(loss="quantile", quantile=1.0), "quantile"),
    ],
)
def test_wrong_parameter_of_one_estimator_is_named(estimator, name):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MoDE"):
        estimator.fit(X, y)


@BOTH
def test_top_k_above_the_number_of_experts_is_an_error(estimator):
    estimator = clone(estimator).set_params(gate="sparse", top_k=3)
    with pytest.raises(ValueError, match="top_k must lie between 1 and n_experts=2, got 3"):
        estimator.fit(X, y)


@BOTH
@pytest.mark.parametrize("name", ["hidden_layer_sizes", "gate_hidden_layer_sizes"])
@pytest.mark.parametrize("sizes", [(8, 0), (2.5,), ("8",)])
def test_layer_sizes_must_be_positive_integers(estimator, name, sizes):
    with pytest.raises(ValueError, match=f"^{name} must hold positive integers"):
        clone(estimator).set_params(**{name: sizes}).fit(X, y)


@BOTH
def test_experts_need_a_layer(estimator):
    with pytest.raises(ValueError, match="hidden_layer_sizes must name at least one layer"):
        clone(estimator).set_params(hidden_layer_sizes=()).fit(X, y)


@BOTH
def test_one_number_is_one_layer(estimator):
    one = clone(estimator).set_params(hidden_layer_sizes=8).fit(X, y)
    assert_array_equal(one.predict(X), clone(estimator).fit(X, y).predict(X))
