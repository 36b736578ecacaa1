"""Expert probing, by hand and against scikit-learn's metrics."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import expert_probing, route_confusion
from skmode.inspection._evaluation import forward


def test_six_rows_by_hand(six_rows):
    probing = expert_probing(*six_rows)
    experts = probing.experts
    assert experts.index.tolist() == [0, 1, 2]
    assert experts["domain"].tolist() == [0, 1, 2]
    assert experts["n_samples"].tolist() == [2, 3, 1]
    assert_allclose(experts["share"], [2 / 6, 3 / 6, 1 / 6])
    # Right alone: expert 0 on rows 0 3 4 5, expert 1 on 0 1 3 5, expert 2 on 3 5.
    assert_allclose(experts["score"], [1 / 2, 1 / 3, 1])
    assert_allclose(experts["score_rest"], [3 / 4, 3 / 3, 1 / 5])
    # The mixture is right on rows 0 4 5.
    assert_allclose(experts["mixture_score"], [1 / 2, 1 / 3, 1])
    assert_allclose(experts["mixture_score_rest"], [2 / 4, 2 / 3, 2 / 5])
    assert probing.metric == "accuracy"
    assert probing.mixture_score == pytest.approx(3 / 6)
    assert probing.top_expert_score == pytest.approx(3 / 6)  # rows 0 3 5
    # Some expert is right on rows 0 1 3 4 5; the gate finds it on 0 3 5.
    assert probing.gate_recognition_accuracy == pytest.approx(3 / 5)
    assert probing.tolerance is None
    assert probing.route_confusion is None


def test_error_types_by_hand(six_rows):
    errors = expert_probing(*six_rows).error_types
    assert errors.index.tolist() == ["misrouted", "expert", "mixing"]
    assert errors["n_samples"].tolist() == [1, 1, 1]
    assert_allclose(errors["share"], 1 / 6)
    assert_allclose(errors["share_of_errors"], 1 / 3)
    mixture, X, y = six_rows
    weighted = expert_probing(mixture, X, y, sample_weight=[1, 4, 0, 2, 1, 0]).error_types
    assert_allclose(weighted["share"], [4 / 8, 0, 2 / 8])
    assert_allclose(weighted["share_of_errors"], [4 / 6, 0, 2 / 6])


def test_consistency_by_hand(six_rows):
    probing = expert_probing(*six_rows)
    # Experts 0 and 1 agree on rows 0 2 3 5, 0 and 2 on 1 2 3 5, 1 and 2 on 2 3 4 5.
    assert_allclose(probing.consistency, np.full((3, 3), 4 / 6) + np.eye(3) / 3)
    assert probing.mean_consistency == pytest.approx(4 / 6)


def test_score_matrix_by_hand(six_rows):
    matrix = expert_probing(*six_rows).score_matrix
    assert_allclose(matrix, [[1 / 2, 2 / 3, 1], [1, 1 / 3, 1], [0, 1 / 3, 1]])


def test_error_types_sum_to_all_errors(wine, wine_mixture):
    probing = expert_probing(wine_mixture, *wine)
    assert 0 < probing.mixture_score < 1
    assert probing.error_types["share"].sum() == pytest.approx(1 - probing.mixture_score)
    assert probing.error_types["share_of_errors"].sum() == pytest.approx(1)


def test_shares_of_errors_are_nan_without_errors(six_rows):
    mixture, X, _ = six_rows
    errors = expert_probing(mixture, X, mixture.mixture).error_types
    assert errors["n_samples"].tolist() == [0, 0, 0]
    assert errors["share_of_errors"].isna().all()


def test_scores_equal_scikit_learn(wine, wine_mixture):
    X, y = wine
    weight = np.random.default_rng(0).random(len(y))
    probing = expert_probing(wine_mixture, X, y, sample_weight=weight)
    route, alone = wine_mixture.route(X), wine_mixture.expert_predict(X)
    predicted = wine_mixture.predict(X)

    def accuracy(rows, prediction):
        return accuracy_score(y[rows], prediction[rows], sample_weight=weight[rows])

    for expert, row in probing.experts.iterrows():
        own = route == expert
        assert row["n_samples"] == own.sum()
        assert row["share"] == pytest.approx(weight[own].sum() / weight.sum())
        assert row["score"] == pytest.approx(accuracy(own, alone[:, expert]))
        assert row["score_rest"] == pytest.approx(accuracy(~own, alone[:, expert]))
        assert row["mixture_score"] == pytest.approx(accuracy(own, predicted))
        assert row["mixture_score_rest"] == pytest.approx(accuracy(~own, predicted))
    everywhere = np.full(len(y), True)
    assert probing.mixture_score == pytest.approx(accuracy(everywhere, predicted))
    top = alone[np.arange(len(y)), route]
    assert probing.top_expert_score == pytest.approx(accuracy(everywhere, top))


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_errors_of_regression_equal_scikit_learn(diabetes, n_outputs):
    X, y = diabetes
    y = y if n_outputs == 1 else np.column_stack([y, 100 * X[:, 0] ** 2])
    regressor = MoDERegressor(n_experts=3, max_epochs=4, random_state=0, balance=0.1)
    regressor.fit(X[::2], y[::2])
    weight = np.random.default_rng(0).random(len(y))
    probing = expert_probing(regressor, X, y, sample_weight=weight)
    route, alone = regressor.route(X), regressor.expert_predict(X)

    def error(rows, prediction):
        return root_mean_squared_error(y[rows], prediction[rows], sample_weight=weight[rows])

    assert probing.metric == "rmse"
    for expert, row in probing.experts.iterrows():
        own = route == expert
        assert row["score"] == pytest.approx(error(own, alone[:, expert]))
        assert row["score_rest"] == pytest.approx(error(~own, alone[:, expert]))
    everywhere = np.full(len(y), True)
    assert probing.mixture_score == pytest.approx(error(everywhere, regressor.predict(X)), rel=1e-5)
    if n_outputs == 1:
        assert probing.tolerance == pytest.approx(probing.mixture_score)


def test_regression_by_hand(told_regressor):
    y = np.array([0.0, 10.0, 20.0, 30.0])
    experts = np.array([[0, 5], [10, 13], [10, 19], [60, 60]], dtype=float)
    gate = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]
    mixture = told_regressor(gate, experts, np.array([1.0, 11.0, 14.0, 50.0]))
    probing = expert_probing(mixture, np.arange(4.0)[:, None], y, tolerance=2.0)
    # Right within 2: expert 0 on rows 0 1, expert 1 on row 2; the mixture on rows 0 1.
    assert probing.gate_recognition_accuracy == pytest.approx(1 / 3)
    assert probing.error_types["n_samples"].tolist() == [1, 1, 0]
    assert_allclose(probing.experts["score"], [np.sqrt((0 + 100 + 900) / 3), 3])
    assert_allclose(probing.experts["score_rest"], [0, np.sqrt((25 + 1 + 900) / 3)])
    # Squared distances of the two 25 9 81 0; the variance of y is 125.
    assert probing.consistency.loc[0, 1] == pytest.approx(1 - 115 / 4 / 250)


def test_weights_equal_repeated_rows(six_rows):
    mixture, X, y = six_rows
    counts = [2, 1, 3, 0, 1, 2]
    weighted = expert_probing(mixture, X, y, sample_weight=counts)
    repeated = expert_probing(mixture, np.repeat(X, counts, axis=0), np.repeat(y, counts))
    columns = ["share", "score", "score_rest", "mixture_score", "mixture_score_rest"]
    pd.testing.assert_frame_equal(weighted.experts[columns], repeated.experts[columns])
    pd.testing.assert_frame_equal(weighted.consistency, repeated.consistency)
    assert weighted.gate_recognition_accuracy == pytest.approx(repeated.gate_recognition_accuracy)
    assert weighted.top_expert_score == pytest.approx(repeated.top_expert_score)


def test_an_expert_without_rows_has_no_score(told_classifier):
    mixture = told_classifier([[0.9, 0.1]] * 2, [["a", "b"]] * 2, ["a", "a"], ["a", "b"])
    experts = expert_probing(mixture, np.arange(2.0)[:, None], ["a", "b"]).experts
    assert experts.loc[1, "n_samples"] == 0
    assert np.isnan(experts.loc[1, "score"])
    assert np.isnan(experts.loc[1, "mixture_score"])
    assert experts.loc[1, "score_rest"] == 0.5
    assert np.isnan(experts.loc[0, "score_rest"])


def test_domains_of_another_model_in_another_order(six_rows, told_classifier):
    mixture, X, y = six_rows
    # The same experts, the other way round.
    turned = told_classifier(
        mixture.gate[:, ::-1], mixture.experts[:, ::-1], mixture.mixture, ["a", "b", "c"]
    )
    own, common = expert_probing(mixture, X, y), expert_probing(turned, X, y, domains=mixture)
    assert common.experts["domain"].tolist() == [2, 1, 0]
    assert_allclose(common.experts["score"], own.experts["score"][::-1])
    assert_allclose(common.experts["share"], own.experts["share"][::-1])
    assert_allclose(common.score_matrix, own.score_matrix.to_numpy()[::-1])
    assert_allclose(common.route_confusion, np.diag([2, 3, 1])[:, ::-1] / 6)


def test_domains_of_a_model_with_fewer_experts(six_rows, told_classifier):
    mixture, X, y = six_rows
    gate = np.repeat([[1.0, 0.0], [0.0, 1.0]], [2, 4], axis=0)
    fewer = told_classifier(gate, mixture.experts[:, :2], mixture.mixture, ["a", "b", "c"])
    experts = expert_probing(mixture, X, y, domains=fewer).experts
    # Domains of 2 and 4 rows; expert 1 has three rows of the second, expert 2 one.
    assert experts["domain"].tolist() == [0, 1, 2]
    assert experts["n_samples"].tolist() == [2, 4, 0]
    assert np.isnan(experts.loc[2, "score"])
    more = expert_probing(fewer, X, y, domains=mixture).experts
    assert more["domain"].tolist() == [0, 1]


def test_route_confusion_equals_scikit_learn(wine, wine_mixture):
    X, y = wine
    other = MoDEClassifier(n_experts=3, max_epochs=3, balance=0.1, random_state=5).fit(X, y)
    weight = np.random.default_rng(0).random(len(y))
    confusion = route_confusion(wine_mixture, other, X, sample_weight=weight)
    expected = confusion_matrix(
        other.route(X),
        wine_mixture.route(X),
        labels=[0, 1, 2],
        sample_weight=weight,
        normalize="all",
    )
    assert_allclose(confusion, expected)
    probing = expert_probing(wine_mixture, X, y, domains=other, sample_weight=weight)
    assert_allclose(probing.route_confusion, expected)


def test_measures_equal_those_of_training(wine):
    """Without held-out rows, up to 512 training rows are measured after each epoch."""
    X, y = wine
    classifier = MoDEClassifier(
        n_experts=3, max_epochs=3, early_stopping=False, balance=0.1, random_state=0
    ).fit(X, y)
    probing, last = expert_probing(classifier, X, y), classifier.history_[-1]
    assert probing.mean_consistency == pytest.approx(last["consistency"], abs=1e-6)
    assert_allclose(probing.experts["share"], last["expert_usage"], atol=1e-6)


def test_consistency_of_regression_equals_that_of_training(diabetes):
    regressor = MoDERegressor(n_experts=3, max_epochs=3, early_stopping=False, random_state=0)
    regressor.fit(*diabetes)
    probing = expert_probing(regressor, *diabetes)
    assert probing.mean_consistency == pytest.approx(
        regressor.history_[-1]["consistency"], abs=1e-5
    )


def test_one_expert():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 2)), np.arange(40) % 2
    probing = expert_probing(MoDEClassifier(1, max_epochs=2, random_state=0).fit(X, y), X, y)
    assert probing.mean_consistency == 1
    assert probing.mixture_score == probing.top_expert_score == probing.experts.loc[0, "score"]
    assert probing.gate_recognition_accuracy == 1


def test_a_pipeline_equals_its_last_step(wine, wine_mixture):
    X, y = wine
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), wine_mixture)
    pipeline[0].fit(X)
    found = expert_probing(pipeline, X, y)
    expected = expert_probing(wine_mixture, pipeline[0].transform(X), y)
    pd.testing.assert_frame_equal(found.experts, expected.experts)


def test_inference_parameter_is_ignored(wine, wine_mixture):
    X, y = wine
    before = expert_probing(wine_mixture, X, y)
    wine_mixture.inference = "top_expert"
    try:
        after = expert_probing(wine_mixture, X, y)
    finally:
        wine_mixture.inference = "mixture"
    assert after.mixture_score == before.mixture_score
    assert after.top_expert_score == before.top_expert_score


def test_repr_shows_the_main_scores(six_rows):
    assert repr(expert_probing(*six_rows)) == (
        "<ExpertProbing of 3 experts: accuracy of the mixture 0.5, of the top expert 0.5, "
        "gate recognition accuracy 0.6, consistency 0.6667>"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domains": "mine"}, "domains must be \"own\" or a fitted estimator, got 'mine'"),
        ({"domains": None}, 'domains must be "own" or a fitted estimator, got None: choose'),
        ({"tolerance": 1.0}, "tolerance is for regression, .* got 1.0 for a classifier"),
        ({"sample_weight": [-1, 1, 1, 1, 1, 1]}, "[Nn]egative values in"),
    ],
)
def test_invalid_input_raises(six_rows, options, message):
    with pytest.raises(ValueError, match=message):
        expert_probing(*six_rows, **options)


def test_negative_tolerance_raises(diabetes, diabetes_mixture):
    with pytest.raises(ValueError, match="tolerance must be a distance, zero or more, got -1"):
        expert_probing(diabetes_mixture, *diabetes, tolerance=-1)


def test_different_numbers_of_rows_and_targets_raise(six_rows):
    mixture, X, y = six_rows
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        expert_probing(mixture, X, y[:5])


def test_unseen_labels_are_errors_of_the_experts(six_rows):
    mixture, X, _ = six_rows
    errors = expert_probing(mixture, X, ["a"] + ["d"] * 5).error_types
    assert_array_equal(errors["n_samples"], [0, 5, 0])


def test_labels_of_another_type_raise(wine):
    X, y = wine
    names = np.array(["low", "middle", "high"])[y]
    classifier = MoDEClassifier(n_experts=2, max_epochs=1, random_state=0).fit(X, names)
    with pytest.raises(ValueError, match=r"labels of the same type as .*, got \[0, 1, 2\]"):
        expert_probing(classifier, X, y)


def test_invalid_input_raises_before_prediction(six_rows, monkeypatch):
    mixture, X, y = six_rows
    monkeypatch.setattr(
        forward, "evaluate", lambda *arguments: pytest.fail("the rows were computed")
    )
    with pytest.raises(ValueError, match="domains must be .*, got 'mine'"):
        expert_probing(mixture, X, y, domains="mine")
    with pytest.raises(TypeError, match="domains must be .* got LogisticRegression without gate"):
        expert_probing(mixture, X, y, domains=LogisticRegression())
    with pytest.raises(ValueError, match=r"classes \['a', 'b', 'c'\], got \['d'\]: pass"):
        expert_probing(mixture, X, ["d"] * 6)


def test_an_invalid_reference_is_named_in_the_error(six_rows):
    mixture, X, _ = six_rows
    with pytest.raises(TypeError, match="reference must be .* got LogisticRegression without"):
        route_confusion(mixture, LogisticRegression(), X)
