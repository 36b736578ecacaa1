"""The gate from epoch to epoch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import GateRecognition, expert_probing, gate_history

QUICK = {"n_experts": 3, "max_epochs": 4, "random_state": 0, "balance": 0.1}


def test_result_equals_history_attribute(wine):
    classifier = MoDEClassifier(early_stopping=True, refit_fraction=0, **QUICK).fit(*wine)
    history = gate_history(classifier)
    assert history.measures.index.tolist() == [1, 2, 3, 4]
    assert history.measures.columns.tolist() == [
        "gate_entropy",
        "usage_entropy",
        "consistency",
        "mixture_score",
        "top_expert_score",
    ]
    records = classifier.history_
    assert_allclose(history.usage, [record["expert_usage"] for record in records])
    for name, key in {"consistency": "consistency", "mixture_score": "valid_score_mixture"}.items():
        assert_allclose(history.measures[name], [record[key] for record in records])
    shares = history.usage.iloc[0]
    shares = shares[shares > 0]
    expected = -(shares * np.log(shares)).sum()
    assert history.measures["usage_entropy"].iloc[0] == pytest.approx(expected)
    assert history.held_out
    assert history.metric == "accuracy"
    assert repr(history) == "<GateHistory of 4 epochs and 3 experts, on validation rows>"


def test_without_validation_rows_there_are_no_scores(wine):
    history = gate_history(MoDEClassifier(early_stopping=False, **QUICK).fit(*wine))
    assert "mixture_score" not in history.measures
    assert not history.held_out


@pytest.mark.parametrize("weighted", [False, True])
def test_recognition_equals_expert_probing(wine, weighted):
    X, y = wine
    weight = np.random.default_rng(0).random(len(y)) + 0.1 if weighted else None
    classifier = MoDEClassifier(early_stopping=False, callbacks=[GateRecognition()], **QUICK)
    classifier.fit(X, y, sample_weight=weight)
    history = gate_history(classifier)
    assert history.measures["gate_recognition"].between(0, 1).all()
    probing = expert_probing(classifier, X, y, sample_weight=weight)
    last = history.measures["gate_recognition"].iloc[-1]
    assert last == pytest.approx(probing.gate_recognition_accuracy, abs=1e-6)


def test_recognition_of_regression_equals_expert_probing(diabetes):
    regressor = MoDERegressor(early_stopping=False, callbacks=[GateRecognition()], **QUICK)
    regressor.fit(*diabetes)
    last = gate_history(regressor).measures["gate_recognition"].iloc[-1]
    probing = expert_probing(regressor, *diabetes)
    assert last == pytest.approx(probing.gate_recognition_accuracy, abs=0.005)
    assert gate_history(regressor).metric == "r2"


def test_the_callback_does_not_change_the_training(wine):
    X, y = wine
    plain = MoDEClassifier(early_stopping=True, dropout=0.1, **QUICK)
    watched = clone(plain).set_params(callbacks=[GateRecognition()])
    assert_array_equal(clone(watched).fit(X, y).predict_proba(X), plain.fit(X, y).predict_proba(X))


def test_the_last_step_of_a_pipeline_is_read(wine):
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**QUICK)).fit(*wine)
    assert len(gate_history(pipeline).usage) == pipeline[-1].n_iter_


def test_estimators_without_history_raise(six_rows):
    with pytest.raises(ValueError, match="epoch in history_, got a ToldClassifier with none"):
        gate_history(six_rows[0])


def test_callback_in_another_net_raises(wine):
    import torch

    net = NeuralNetClassifier(
        torch.nn.Linear(2, 2), callbacks=[GateRecognition()], max_epochs=1, verbose=0
    )
    with pytest.raises(RuntimeError, match="got NeuralNetClassifier: pass it in"):
        net.fit(np.zeros((10, 2), dtype=np.float32), np.arange(10) % 2)
