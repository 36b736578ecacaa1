"""One pass gives the same as the estimator's methods one by one."""

import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection._evaluation import forward

QUICK = {"n_experts": 3, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
X, y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.mark.parametrize("inference", ["mixture", "top_expert"])
@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("mixing", ["representation", "likelihood", "expected"])
def test_classes_equal_the_public_methods(mixing, gate, inference):
    estimator = MoDEClassifier(mixing=mixing, gate=gate, inference=inference, **QUICK).fit(X, NAMES)
    found = forward.evaluate(estimator, X)
    assert_array_equal(estimator.classes_[found.experts], estimator.expert_predict(X))
    assert_allclose(found.gate, estimator.gate_proba(X), atol=1e-12)
    assert_array_equal(found.route, estimator.route(X))
    assert estimator.inference == inference
    estimator.inference = "mixture"
    assert_array_equal(estimator.classes_[found.mixture], estimator.predict(X))
    with_log = forward.evaluate(estimator, X, log_proba=True)
    assert_allclose(np.exp(with_log.mixture_log_proba), estimator.predict_proba(X), atol=1e-6)
    assert_allclose(
        np.exp(with_log.expert_log_proba), estimator.expert_predict_proba(X), atol=1e-12
    )
    assert_array_equal(with_log.experts, found.experts)
    assert_array_equal(with_log.mixture, found.mixture)


@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_values_equal_the_public_methods(gate, n_outputs):
    target = X[:, 0] if n_outputs == 1 else X[:, :2]
    estimator = MoDERegressor(gate=gate, **QUICK).fit(X[:, 2:], target)
    found = forward.evaluate(estimator, X[:, 2:])
    shape = (len(X), 3, n_outputs)
    assert_allclose(found.experts, estimator.expert_predict(X[:, 2:]).reshape(shape), rtol=1e-12)
    assert_allclose(
        found.mixture, estimator.predict(X[:, 2:]).reshape(len(X), -1), rtol=1e-5, atol=1e-5
    )


def test_without_a_network_the_public_methods_are_used(six_rows):
    mixture, rows, _ = six_rows
    found = forward.evaluate(mixture, rows)
    assert_array_equal(found.route, [0, 0, 1, 1, 1, 2])
    assert_array_equal(found.experts[4], [2, 0, 0])
    assert_array_equal(found.mixture, [0, 1, 0, 0, 2, 2])


def test_the_network_runs_once_and_is_left_as_it_was():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    module = estimator.net_.module_
    calls = []
    handle = module.experts.register_forward_hook(lambda *arguments: calls.append(1))
    forward.evaluate(estimator, X)
    handle.remove()
    assert len(calls) == 1
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


def test_hooks_are_removed_if_prediction_fails():
    estimator = MoDEClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        forward.evaluate(estimator, X[:, :2])
    assert not estimator.net_.module_._forward_hooks
    assert not estimator.net_.module_._forward_pre_hooks


def test_predictions_of_other_threads_are_ignored():
    estimator = MoDEClassifier(gate="sparse", **QUICK).fit(X, y)
    module, others = estimator.net_.module_, []

    def elsewhere(*arguments):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: others.append(estimator.predict(X[:7])))
            thread.start()
            thread.join()

    handle = module.trunk.register_forward_hook(elsewhere)
    found = forward.evaluate(estimator, X)
    handle.remove()
    assert len(others[0]) == 7
    assert found.mixture.shape == (150,)


def test_predictions_of_another_type_raise():
    gate, experts = np.ones((2, 1)), np.array([["a"], ["b"]])
    with pytest.raises(ValueError, match="mixture must have labels of the same type"):
        forward.make_outputs(gate, experts, [0, 1], classes=np.array(["a", "b"]))
