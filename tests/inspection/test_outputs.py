"""One pass yields what the estimators' own methods yield one by one."""

import threading

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import _outputs

QUICK = {"n_experts": 3, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
X, y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.mark.parametrize("inference", ["mixture", "top_expert"])
@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
def test_classes_are_those_of_the_public_methods(mixing, gate, inference):
    estimator = MoDEClassifier(mixing=mixing, gate=gate, inference=inference, **QUICK).fit(X, NAMES)
    found = _outputs.look(estimator, X)
    assert_array_equal(estimator.classes_[found.experts], estimator.expert_predict(X))
    assert_allclose(found.gate, estimator.gate_proba(X), atol=1e-12)
    assert_array_equal(found.route, estimator.route(X))
    assert estimator.inference == inference
    estimator.inference = "mixture"
    assert_array_equal(estimator.classes_[found.mixture], estimator.predict(X))
    with_log = _outputs.look(estimator, X, log_proba=True)
    assert_allclose(np.exp(with_log.mixture_log_proba), estimator.predict_proba(X), atol=1e-6)
    assert_allclose(
        np.exp(with_log.expert_log_proba), estimator.expert_predict_proba(X), atol=1e-12
    )
    assert_array_equal(with_log.experts, found.experts)
    assert_array_equal(with_log.mixture, found.mixture)


@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_values_are_those_of_the_public_methods(gate, n_outputs):
    target = X[:, 0] if n_outputs == 1 else X[:, :2]
    estimator = MoDERegressor(gate=gate, **QUICK).fit(X[:, 2:], target)
    found = _outputs.look(estimator, X[:, 2:])
    shape = (len(X), 3, n_outputs)
    assert_allclose(found.experts, estimator.expert_predict(X[:, 2:]).reshape(shape), rtol=1e-12)
    assert_allclose(
        found.mixture, estimator.predict(X[:, 2:]).reshape(len(X), -1), rtol=1e-5, atol=1e-5
    )


def test_an_estimator_without_a_network_answers_by_its_methods(six_rows):
    mixture, rows, _ = six_rows
    found = _outputs.look(mixture, rows)
    assert_array_equal(found.route, [0, 0, 1, 1, 1, 2])
    assert_array_equal(found.experts[4], [2, 0, 0])
    assert_array_equal(found.mixture, [0, 1, 0, 0, 2, 2])


def test_the_network_runs_once_and_is_left_as_it_was():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    module = estimator.net_.module_
    calls = []
    handle = module.experts.register_forward_hook(lambda *arguments: calls.append(1))
    _outputs.look(estimator, X)
    handle.remove()
    assert len(calls) == 1
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


def test_hooks_go_where_prediction_fails():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        _outputs.look(estimator, X[:, :2])
    assert not estimator.net_.module_._forward_hooks
    assert not estimator.net_.module_._forward_pre_hooks


def test_predictions_of_other_threads_stay_out():
    estimator = MoDEClassifier(gate="sparse", **QUICK).fit(X, y)
    module, others = estimator.net_.module_, []

    def elsewhere(*arguments):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: others.append(estimator.predict(X[:7])))
            thread.start()
            thread.join()

    handle = module.trunk.register_forward_hook(elsewhere)
    found = _outputs.look(estimator, X)
    handle.remove()
    assert len(others[0]) == 7
    assert found.mixture.shape == (150,)


def test_the_mixture_is_found_in_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**QUICK))
    search = GridSearchCV(pipeline, {"modeclassifier__alpha": [1.0]}, cv=2).fit(X, y)
    mixture, rows = _outputs.unwrap(search, X)
    assert mixture is search.best_estimator_[-1]
    assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    alone = make_pipeline(MoDEClassifier(**QUICK)).fit(X, y)
    assert _outputs.unwrap(alone, X)[1] is X


def test_other_estimators_are_refused():
    with pytest.raises(
        TypeError, match="LogisticRegression without gate_proba, expert_predict: pass the mixture"
    ):
        _outputs.unwrap(LogisticRegression(), X)


def test_a_mixture_must_be_fitted():
    with pytest.raises(NotFittedError):
        _outputs.unwrap(MoDEClassifier(), X)


def test_weights_must_not_all_be_zero(six_rows):
    mixture, _, labels = six_rows
    with pytest.raises(ValueError, match="positive sample_weight, got zeros only: pass weights"):
        _outputs.check_target(mixture, labels, np.zeros(6))


def test_a_class_that_training_did_not_see_has_no_position(six_rows):
    mixture, _, _ = six_rows
    found = _outputs.check_target(mixture, ["a", "zebra", "0", "c"], None)
    assert_array_equal(found.values, [0, -1, -1, 2])


def test_values_are_scaled_as_in_training_or_by_the_rows(told_regressor):
    estimator = MoDERegressor(**QUICK).fit(X[:, 1:], X[:, 0])
    found = _outputs.check_target(estimator, X[:5, 0], None)
    assert_allclose(found.scale, X[:, 0].std())
    told = told_regressor(np.ones((5, 1)), X[:5, :1], X[:5, 0])
    weight = np.array([0, 0, 1, 0, 1])
    assert_allclose(_outputs.check_target(told, X[:5, 0], weight).scale, X[[2, 4], 0].std())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, 2],
            r"y must hold labels of one kind, that of the classes \['a', 'b', 'c'\], got \[",
        ),
        (["a", 1, "b"], r"labels of one kind, .*, got \['a', 1, 'b'\]: convert them"),
        (["a", None, "b"], "y must hold a label for each row, got 1 missing: leave out"),
        (["a", np.nan, pd.NA], "y must hold a label for each row, got 2 missing"),
        (
            list("defgh"),
            r"one of the classes \['a', 'b', 'c'\] .*, got \['d', 'e', 'f', 'g', ...\]",
        ),
    ],
)
def test_labels_are_checked(labels, message):
    with pytest.raises(ValueError, match=message):
        _outputs.make_target(np.array(labels, dtype=object), None, classes=np.array(list("abc")))


def test_numbers_are_labels_of_any_type_but_not_missing():
    classes = np.array([0, 1, 2])
    found = _outputs.make_target([0.0, 2.0, 7.0], None, classes=classes)
    assert_array_equal(found.values, [0, 2, -1])
    with pytest.raises(ValueError, match="y must hold a label for each row, got 1 missing"):
        _outputs.make_target([0.0, np.nan], None, classes=classes)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(list("acb"), dtype="string"),
        pd.Series(pd.Categorical(list("acb"))),
        np.array(list("acb"), dtype=object),
        list("acb"),
    ],
)
def test_texts_are_labels_of_any_type(labels):
    found = _outputs.make_target(labels, None, classes=np.array(list("abc")))
    assert_array_equal(found.values, [0, 2, 1])


def test_predictions_of_another_kind_are_refused():
    gate, experts = np.ones((2, 1)), np.array([["a"], ["b"]])
    with pytest.raises(ValueError, match="mixture must hold labels of one kind"):
        _outputs.make_outputs(gate, experts, [0, 1], classes=np.array(["a", "b"]))


def test_a_search_must_keep_its_best():
    search = GridSearchCV(MoDEClassifier(**QUICK), {"alpha": [0.0]}, cv=2, refit=False)
    for given in (search, make_pipeline(StandardScaler().fit(X), search)):
        with pytest.raises(NotFittedError, match="must be fitted, got GridSearchCV that is not"):
            _outputs.unwrap(given, None)
    with pytest.raises(NotFittedError, match="refit=False: fit it with refit=True, or pass"):
        _outputs.unwrap(search.fit(X, y), X)


def test_weights_go_to_the_last_step():
    weight = np.ones(3)
    pipeline = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), MoDEClassifier()))
    name = "pipeline__modeclassifier__sample_weight"
    assert list(_outputs.weight_arguments(pipeline, weight)) == [name]
    assert list(_outputs.weight_arguments(GridSearchCV(pipeline, {}), weight)) == [name]
    target = TransformedTargetRegressor(MoDERegressor())
    assert list(_outputs.weight_arguments(target, weight)) == ["sample_weight"]
    with pytest.raises(TypeError, match="that of KNeighborsClassifier takes none: choose another"):
        _outputs.weight_arguments(make_pipeline(KNeighborsClassifier()), weight)
