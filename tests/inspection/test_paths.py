"""Paths over alpha and the number of experts."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    fbeta_score,
    get_scorer,
    log_loss,
    make_scorer,
    mean_pinball_loss,
    root_mean_squared_error,
)
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import alpha_path, expert_probing, experts_path
from skmode.inspection._evaluation.forward import Outputs
from skmode.inspection._evaluation.targets import Target
from skmode.inspection._paths.metrics import scores
from skmode.inspection._paths.result import recommend

QUICK = {
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "batch_size": 100,
    "random_state": 0,
    "balance": 0.1,
}


def test_scores_equal_cross_validate(wine):
    X, y = wine
    classifier = MoDEClassifier(n_experts=3, **QUICK)
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    path = alpha_path(classifier, X, y, alphas=[0, 5], cv=cv)
    assert path.parameter == "alpha"
    assert path.folds["alpha"].tolist() == [0, 0, 0, 5, 5, 5]
    assert path.folds["fold"].tolist() == [0, 1, 2] * 2
    for alpha, found in path.folds.groupby("alpha"):
        expected = cross_val_score(clone(classifier).set_params(alpha=alpha), X, y, cv=cv)
        assert_allclose(found["mixture"], expected)


def test_measures_of_a_fold_equal_expert_probing(wine):
    X, y = wine
    classifier = MoDEClassifier(n_experts=3, **QUICK)
    cv = KFold(2, shuffle=True, random_state=0)
    fold = alpha_path(classifier, X, y, alphas=[1], cv=cv).folds.iloc[0]
    train, test = next(cv.split(X))
    classifier.fit(X.iloc[train], y.iloc[train])
    probing = expert_probing(classifier, X.iloc[test], y.iloc[test])
    assert fold["mixture"] == pytest.approx(probing.mixture_score)
    assert fold["top_expert"] == pytest.approx(probing.top_expert_score)
    assert fold["consistency"] == pytest.approx(probing.mean_consistency)
    assert fold["gate_recognition"] == pytest.approx(probing.gate_recognition_accuracy)
    shares = probing.experts["share"]
    shares = shares[shares > 0]
    assert fold["usage_entropy"] == pytest.approx(-(shares * np.log(shares)).sum())


def test_log_loss_of_the_top_expert_equals_scikit_learn(wine):
    X, y = wine
    classifier = MoDEClassifier(n_experts=3, **QUICK)
    cv = StratifiedKFold(2)
    path = alpha_path(classifier, X, y, alphas=[1], cv=cv, scoring="log_loss")
    assert path.metric == "log_loss"
    for (train, test), (_, fold) in zip(cv.split(X, y), path.folds.iterrows(), strict=True):
        classifier.fit(X.iloc[train], y.iloc[train])
        for inference in ("mixture", "top_expert"):
            classifier.inference = inference
            expected = log_loss(y.iloc[test], classifier.predict_proba(X.iloc[test]))
            assert fold[inference] == pytest.approx(expected, rel=1e-5)
        classifier.inference = "mixture"


def pinball(estimator, X, y):
    return -mean_pinball_loss(y, estimator.predict(X), alpha=0.9)


@pytest.mark.parametrize(
    "scoring",
    ["neg_log_loss", "f1_macro", "roc_auc_ovr", make_scorer(fbeta_score, beta=2, average="macro")],
)
def test_a_scorers_scores_are_those_of_cross_validation(wine, scoring):
    X, y = wine
    classifier = MoDEClassifier(n_experts=3, **QUICK)
    cv = StratifiedKFold(2)
    path = alpha_path(classifier, X, y, alphas=[1], cv=cv, scoring=scoring)
    assert_allclose(
        path.folds["mixture"], cross_val_score(classifier, X, y, cv=cv, scoring=scoring)
    )
    train, test = next(cv.split(X, y))
    classifier.fit(X.iloc[train], y.iloc[train]).set_params(inference="top_expert")
    expected = get_scorer(scoring)(classifier, X.iloc[test], y.iloc[test])
    assert path.folds["top_expert"].iloc[0] == pytest.approx(expected)
    assert path.metric == (scoring if isinstance(scoring, str) else repr(scoring))
    assert path.task == "classification"


@pytest.mark.parametrize("scoring", ["r2", "neg_root_mean_squared_error", pinball])
def test_scorers_of_values(diabetes, scoring):
    X, y = diabetes
    pipeline = make_pipeline(StandardScaler(), MoDERegressor(n_experts=2, **QUICK))
    path = experts_path(pipeline, X, y, n_experts=[1, 2], cv=KFold(2), scoring=scoring)
    for n_experts, found in path.folds.groupby("n_experts"):
        pipeline[-1].n_experts = n_experts
        expected = cross_val_score(pipeline, X, y, cv=KFold(2), scoring=scoring)
        assert_allclose(found["mixture"], expected)
    one = path.folds.query("n_experts == 1")
    assert_allclose(one["top_expert"], one["mixture"], rtol=1e-5)  # its top expert is all there is
    assert path.best == path.summary["top_expert", "mean"].idxmax()
    assert path.metric == getattr(scoring, "__name__", scoring)
    assert path.task == "regression"
    assert pipeline[-1].inference == "mixture"


@pytest.mark.slow
def test_a_scorer_recommends_as_the_same_metric_of_ours(wine):
    X, y = wine
    options = {"alphas": [0, 1, 10], "cv": StratifiedKFold(3)}
    classifier = MoDEClassifier(n_experts=2, **QUICK)
    ours = alpha_path(classifier, X, y, **options, scoring="log_loss")
    scorer = alpha_path(classifier, X, y, **options, scoring="neg_log_loss")
    assert_allclose(scorer.folds["top_expert"], -ours.folds["top_expert"], rtol=1e-5)
    assert (scorer.best, scorer.recommended) == (ours.best, ours.recommended)
    best = scorer.summary["top_expert", "mean"].max()
    assert f"the best neg_log_loss of the top expert, {best:.4g}" in scorer.reason


def test_a_scorer_gets_the_weights(wine):
    X, y = wine
    weight = np.linspace(0, 1, len(y))
    options = {"alphas": [1], "cv": StratifiedKFold(2), "sample_weight": weight}
    classifier = MoDEClassifier(n_experts=2, **QUICK)
    path = alpha_path(classifier, X, y, **options, scoring=make_scorer(accuracy_score))
    ours = alpha_path(classifier, X, y, **options)
    assert_allclose(path.folds["mixture"], ours.folds["mixture"])
    with pytest.raises(ValueError, match="scoring must take sample_weight .* or pass no sample_w"):
        alpha_path(classifier, X, y, **options, scoring=lambda estimator, X, y: 1.0)


def test_scorers_that_tell_nothing_are_refused(wine):
    classifier = MoDEClassifier(n_experts=2, **QUICK)
    for value in (np.nan, [1.0], None):
        with pytest.raises(ValueError, match="one finite number .*, got .*: choose another metric"):
            alpha_path(classifier, *wine, cv=2, scoring=lambda estimator, X, y, value=value: value)


def test_a_scorer_needs_inference(wine):
    class Plain(MoDEClassifier):
        def __init__(self, alpha=0.0):
            super().__init__(alpha=alpha)

    with pytest.raises(TypeError, match="A scorer needs a mixture with the parameter inference"):
        alpha_path(Plain(), *wine, scoring="f1_macro")


def test_regression_and_several_outputs(diabetes):
    X, y = diabetes
    y = np.column_stack([y, y**2])
    regressor = MoDERegressor(n_experts=2, **QUICK)
    cv = KFold(2)
    path = experts_path(regressor, X, y, n_experts=[2], cv=cv)
    assert path.metric == "rmse"
    train, test = next(cv.split(X))
    regressor.fit(X[train], y[train])
    for inference in ("mixture", "top_expert"):
        regressor.inference = inference
        expected = root_mean_squared_error(y[test], regressor.predict(X[test]))
        assert path.folds[inference].iloc[0] == pytest.approx(expected, rel=1e-5)


def test_summary_aggregates_the_folds(wine):
    path = alpha_path(MoDEClassifier(n_experts=2, **QUICK), *wine, alphas=[1, 0], cv=3)
    assert path.summary.index.tolist() == [0, 1]
    for measure in ("mixture", "top_expert", "consistency", "gate_recognition", "usage_entropy"):
        of_folds = path.folds.query("alpha == 1")[measure]
        found = path.summary.loc[1, measure]
        assert found["mean"] == pytest.approx(of_folds.mean())
        assert found["std"] == pytest.approx(np.std(of_folds, ddof=1))
        assert found["sem"] == pytest.approx(np.std(of_folds, ddof=1) / np.sqrt(3))
    assert path.reason in repr(path)


def test_weights_reach_training_and_scores():
    """With a deterministic estimator, a row of weight two equals two rows."""
    seen = []

    class Spy(ClassifierMixin, BaseEstimator):
        def __init__(self, alpha=0.0):
            self.alpha = alpha

        def fit(self, X, y, sample_weight=None):
            seen.append(sample_weight)
            self.classes_ = np.unique(y)
            return self

        def gate_proba(self, X):
            return np.ones((len(X), 1))

        def expert_predict(self, X):
            return self.predict(X)[:, None]

        def predict(self, X):
            return np.zeros(len(X), dtype=int)

    y = np.array([0, 1] * 4)
    weight = np.arange(8.0)
    cv = KFold(2)
    path = alpha_path(Spy(), weight[:, None], y, alphas=[0], cv=cv, sample_weight=weight)
    assert_allclose(seen[0], [4, 5, 6, 7])
    expected = [
        accuracy_score(y[test], np.zeros(4), sample_weight=weight[test]) for _, test in cv.split(y)
    ]
    assert_allclose(path.folds["mixture"], expected)
    pipeline = make_pipeline(StandardScaler(), Spy())
    seen.clear()
    alpha_path(pipeline, weight[:, None], y, alphas=[0], cv=cv, sample_weight=weight)
    assert_allclose(seen[0], [4, 5, 6, 7])


def test_pipelines(wine):
    X, y = wine
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**QUICK))
    path = experts_path(pipeline, X, y, n_experts=[1, 3], cv=2)
    assert path.folds.query("n_experts == 1")["usage_entropy"].tolist() == [0, 0]
    assert (path.folds.query("n_experts == 1")["consistency"] == 1).all()
    nested = make_pipeline(StandardScaler(), pipeline)
    again = experts_path(nested, X, y, n_experts=[1, 3], cv=2)
    assert again.folds.shape == path.folds.shape
    assert pipeline[-1].n_experts == 4  # the user's own is left alone


def table(means, errors, values):
    return pd.DataFrame({"mean": means, "sem": errors}, index=values)


def test_the_smallest_within_one_standard_error_is_recommended():
    accuracy = table([0.80, 0.88, 0.90, 0.89], [0.01, 0.05, 0.02, 0.01], [0.0, 0.1, 1.0, 10.0])
    best, recommended, reason = recommend(accuracy, "accuracy", "alpha")
    assert (best, recommended) == (1.0, 0.1)
    assert reason == (
        "alpha=0.1 is recommended: with 0.88 it is the smallest value within one standard error of "
        "alpha=1, which has the best accuracy of the top expert, 0.9 with a standard error of 0.02."
    )


def test_lower_errors_are_better():
    errors = table([5.0, 4.5, 4.0], [1, 1, 0.4], [1, 2, 4])
    best, recommended, reason = recommend(errors, "rmse", "n_experts")
    assert (best, recommended) == (4, 4)
    assert reason.endswith("; no smaller value comes within one standard error of it.")
    best, recommended, reason = recommend(table([3, 4], [1, 1], [1, 2]), "log_loss", "n_experts")
    assert (best, recommended) == (1, 1)
    assert reason == (
        "n_experts=1 is recommended: it has the best log loss of the top expert, 3 with a standard "
        "error of 1, and is the smallest value tried."
    )


def test_log_loss_of_a_zero_probability_equals_scikit_learn(told_classifier):
    log_proba = np.log([[1e-300, 1.0], [0.5, 0.5]])
    outputs = Outputs(
        np.ones((2, 1)),
        np.zeros(2, dtype=int),
        np.ones((2, 1), dtype=int),
        np.ones(2, dtype=int),
        log_proba[:, None],
        log_proba,
    )
    target = Target(np.array([0, 1]), np.ones(2), None)
    expected = log_loss([0, 1], np.exp(log_proba))
    assert_allclose(scores(outputs, target, "log_loss"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"alphas": []},
            r"values of alpha must be a sequence of different numbers, got \[\]",
        ),
        ({"alphas": [1, 1.0]}, "each once"),
        ({"alphas": 1.0}, "values of alpha must be a sequence of different numbers, got 1.0: pass"),
        ({"alphas": ["auto", 1]}, r"a sequence of different numbers, got \['auto', 1\]"),
        ({"sample_weight": np.zeros(178)}, "At least one row needs a positive sample_weight"),
        ({"scoring": "rmse"}, r"one of \['accuracy', 'log_loss'\] for classif.*, got 'rmse'"),
        ({"cv": [([0, 1], [2, 3])]}, "cv must give at least two folds, got 1"),
        ({"scoring": ["f1", "r2"]}, r"or a callable that takes estimator, X and y, got \['f1'"),
        ({"scoring": accuracy_score}, "got <function accuracy_score.*metric function rather than"),
    ],
)
def test_invalid_input_raises(wine, options, message):
    with pytest.raises(ValueError, match=message):
        alpha_path(MoDEClassifier(), *wine, **options)


def test_other_estimators_raise(wine):
    with pytest.raises(TypeError, match="the parameter alpha, got LogisticRegression: pass MoDE"):
        alpha_path(LogisticRegression(), *wine)


def test_estimators_with_another_alpha_raise_before_fit(wine):
    class Untouched(MLPClassifier):
        def fit(self, X, y):
            pytest.fail("it was fitted")

    for estimator in (Untouched(), make_pipeline(StandardScaler(), Untouched())):
        with pytest.raises(TypeError, match="must be a mixture of experts .*, got Untouched: pass"):
            alpha_path(estimator, *wine, alphas=[0.1, 1])
