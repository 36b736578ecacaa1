"""Importance of features, by permutation and by integrated gradients."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import expert_attention
from skmode.inspection._attention import permutation
from skmode.inspection._attention.gradients import integrated_gradients

QUICK = {"n_experts": 3, "max_epochs": 8, "batch_size": 80, "random_state": 0, "balance": 0.1}


class Alone(ClassifierMixin, BaseEstimator):
    """One expert of a mixture, or the gate, as a classifier for scikit-learn to look at."""

    def __init__(self, answer):
        self.answer = answer
        self.classes_ = None

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.answer(X)


@pytest.fixture(scope="module")
def mixed():
    """Numbers, one of them with missing values, and a category."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "color": rng.choice(["red", "green", "blue"], 240),
            "size": rng.normal(5, 2, 240),
            "weight": rng.normal(size=240),
            "noise": rng.normal(size=240),
        }
    )
    y = (X["size"] > 5).astype(int) + (X["color"] == "red")
    X.loc[::7, "weight"] = np.nan
    return X, y


@pytest.mark.slow
def test_permutation_agrees_with_scikit_learn(wine, wine_mixture):
    X, y = wine
    found = expert_attention(wine_mixture, X, y, n_repeats=5, random_state=0)
    route = wine_mixture.route(X)
    for expert in range(3):
        own = route == expert
        alone = Alone(lambda X, expert=expert: wine_mixture.expert_predict(X)[:, expert])
        expected = permutation_importance(alone, X[own], y[own], n_repeats=5, random_state=1)
        error = np.hypot(expected.importances_std, found.deviations[expert]) / np.sqrt(5)
        assert np.all(
            np.abs(found.importances[expert] - expected.importances_mean) <= 5 * error + 1e-9
        )
    gate = permutation_importance(Alone(wine_mixture.route), X, route, n_repeats=5, random_state=1)
    error = np.hypot(gate.importances_std, found.deviations["gate"]) / np.sqrt(5)
    assert np.all(np.abs(found.importances["gate"] - gate.importances_mean) <= 5 * error + 1e-9)
    assert found.n_samples.to_dict() == {
        **dict(enumerate(np.bincount(route, minlength=3))),
        "gate": 178,
    }


def test_permutation_by_hand(told_classifier, monkeypatch):
    """Only the first column is used; rows are reversed within their domains."""
    gate = [[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 4
    experts = [["a", "b"], ["b", "b"], ["a", "a"], ["a", "b"], ["a", "b"], ["a", "b"]]
    mixture = told_classifier(gate, experts, ["a"] * 6, ["a", "b"])
    X = np.column_stack([np.arange(6.0), np.zeros(6)])
    y = np.array(["a", "b", "a", "b", "b", "a"])

    def turned(domain, random_state):
        return np.concatenate([np.flatnonzero(domain == one)[::-1] for one in np.unique(domain)])

    class Reversing(np.random.RandomState):
        def permutation(self, n):
            return np.arange(n)[::-1]

    monkeypatch.setattr(permutation, "_permute_within", turned)
    found = expert_attention(mixture, X, y, n_repeats=1, random_state=Reversing())
    # Expert 0 is right on rows 0 and 1, turned round on none. Expert 1 says a b b b on rows 2 to 5:
    # three right of a b b a, turned round b b b a has three right again.
    assert_allclose(found.importances.loc["x0"], [1.0, 0.0, 4 / 6])
    assert_allclose(found.importances.loc["x1"], 0.0)
    assert found.unit == "drop in accuracy"


def test_experts_are_shuffled_within_their_domains():
    domain = np.array([0, 1, 0, 1, 1, 2])
    index = permutation._permute_within(domain, np.random.RandomState(0))
    assert sorted(index) == list(range(6))
    assert (domain[index] == domain).all()


def test_an_unused_feature_has_zero_importance(diabetes):
    X, y = diabetes
    X = np.column_stack([X, np.zeros(len(X))])
    regressor = MoDERegressor(**QUICK).fit(X, y)
    for method in ("permutation", "integrated_gradients"):
        found = expert_attention(regressor, X, y, method, random_state=0)
        assert_allclose(found.importances.iloc[-1], 0, atol=1e-9)
        assert (found.importances.iloc[:-1].max() > 0).all()


def test_regression_importances_are_in_units_of_the_target(diabetes):
    X, y = diabetes
    regressor = MoDERegressor(**QUICK).fit(X, y)
    one = expert_attention(regressor, X, y, random_state=0)
    thousands = MoDERegressor(**QUICK).fit(X, 1000 * y)
    other = expert_attention(thousands, X, 1000 * y, random_state=0)
    assert one.unit == "rise in RMSE, in units of the target"
    assert_allclose(other.importances[0], 1000 * one.importances[0], rtol=0.02, atol=20)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_tables_keep_their_types(mixed, kind):
    X, y = mixed
    table = X.astype({"color": "category"}) if kind == "pandas" else pl.from_pandas(X)
    classifier = MoDEClassifier(**QUICK).fit(table, y)
    found = expert_attention(classifier, table, y, random_state=0, n_repeats=3)
    assert found.importances.index.tolist() == ["color", "size", "weight", "noise"]
    assert (found.importances.loc[["color", "size"], 0] > 0.05).any()
    shuffled = permutation.ShuffledTable(table).shuffled(0, np.arange(240)[::-1])
    assert list(shuffled["color"]) == list(X["color"][::-1])
    assert shuffled["color"].dtype == table["color"].dtype
    assert list(table["color"]) == list(X["color"])


def test_a_custom_pandas_index_does_not_undo_the_shuffling(mixed):
    X, _ = mixed
    other = X.set_axis(np.arange(len(X))[::-1])
    shuffled = permutation.ShuffledTable(other).shuffled(1, np.roll(np.arange(len(X)), 1))
    assert_allclose(shuffled["size"], np.roll(X["size"], 1))


def top_output(estimator, X):
    """Probability of the class that the top expert predicts, or its value."""
    rows = np.arange(len(X))
    route = estimator.route(X)
    if isinstance(estimator, MoDERegressor):
        return estimator.expert_predict(X)[rows, route]
    probabilities = estimator.expert_predict_proba(X)[rows, route]
    return probabilities.max(axis=1)


def output_of_baseline(estimator, X, route):
    """The same for a row of medians and unknown categories, of the class predicted for X."""
    columns = estimator.encoder_.columns_
    base = pd.DataFrame(
        {c.name: [c.center if c.kind == "number" else "never seen"] for c in columns}
    )
    base = base if isinstance(X, pd.DataFrame) else base.to_numpy(dtype=float)
    if isinstance(estimator, MoDERegressor):
        return estimator.expert_predict(base)[0, route]
    predicted = estimator.expert_predict_proba(X)[np.arange(len(X)), route].argmax(axis=1)
    return estimator.expert_predict_proba(base)[0, route, predicted]


@pytest.mark.parametrize("embedding", ["periodic_bias", "piecewise_linear", None])
@pytest.mark.parametrize("gate", ["dense", pytest.param("sparse", marks=pytest.mark.slow)])
def test_attributions_sum_to_the_change_of_the_output(mixed, embedding, gate):
    X, y = mixed
    classifier = MoDEClassifier(
        numeric_embedding=embedding, gate=gate, activation="tanh", **QUICK
    ).fit(X, y)
    found = integrated_gradients(classifier, X, n_steps=64)
    route = classifier.route(X)
    assert (found.route == route).all()
    expected = top_output(classifier, X) - output_of_baseline(classifier, X, route)
    assert_allclose(found.experts.sum(axis=1), expected, atol=2e-4)
    if gate == "dense":
        base = pd.DataFrame(
            {"color": ["never seen"]}
            | {c.name: [c.center] for c in classifier.encoder_.numeric_columns}
        )
        at_base = classifier.gate_proba(base)[0, route]
        at_rows = classifier.gate_proba(X)[np.arange(len(X)), route]
        assert_allclose(found.gate.sum(axis=1), at_rows - at_base, atol=2e-4)


def test_attributions_of_regression_sum_up_in_units_of_the_target(diabetes):
    X, y = diabetes
    regressor = MoDERegressor(activation="tanh", **QUICK).fit(X, y)
    found = integrated_gradients(regressor, X, n_steps=64)
    expected = top_output(regressor, X) - output_of_baseline(regressor, X, regressor.route(X))
    assert_allclose(found.experts.sum(axis=1), expected, atol=0.05)


def test_attributions_of_linear_experts_are_weights_times_distances(diabetes):
    X, y = diabetes

    class Linear(torch.nn.Linear):
        def __init__(self, in_features):
            super().__init__(in_features, 4)

    regressor = MoDERegressor(expert_module=Linear, numeric_embedding=None, **QUICK).fit(X, y)
    found = integrated_gradients(regressor, X, n_steps=2)
    module = regressor.net_.module_
    numbers = torch.as_tensor(X, dtype=torch.float32)
    with torch.no_grad():
        read = module.trunk(numbers, torch.empty(len(X), 0, dtype=torch.int64)).numpy()
    row = 5
    expert = module.experts.expert(int(found.route[row]))
    slope = (module.head.weight @ expert.weight).detach().numpy()[0] * regressor.target_scale_
    assert_allclose(found.experts[row], slope * read[row], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_attributions_do_not_depend_on_the_mode_of_the_caller(mode, mixed):
    X, y = mixed
    classifier = MoDEClassifier(**QUICK | {"max_epochs": 1}).fit(X, y)
    expected = integrated_gradients(classifier, X[:20], n_steps=2).experts
    with mode():
        found = integrated_gradients(classifier, X[:20], n_steps=2).experts
    assert_array_equal(found, expected)


@pytest.mark.parametrize("column", ["color", "size", "weight"])
def test_change_in_one_column_is_attributed_to_it(mixed, column):
    X, y = mixed
    classifier = MoDEClassifier(**QUICK).fit(X, y)
    row = {c.name: c.center if c.kind == "number" else "?" for c in classifier.encoder_.columns_}
    row[column] = {"color": "red", "size": 9.0, "weight": np.nan}[column]
    found = integrated_gradients(classifier, pd.DataFrame([row]))
    others = [i for i, name in enumerate(X) if name != column]
    assert_allclose(found.experts[0, others], 0, atol=1e-7)
    assert abs(found.experts[0, list(X).index(column)]) > 1e-6


def test_importances_are_means_over_the_rows_of_each_expert(wine, wine_mixture):
    X, y = wine
    weight = np.random.default_rng(0).random(len(y))
    found = expert_attention(wine_mixture, X, y, "integrated_gradients", sample_weight=weight)
    by_row = integrated_gradients(wine_mixture, X)
    own = by_row.route == 1
    expected = np.average(np.abs(by_row.experts[own]), axis=0, weights=weight[own])
    assert_allclose(found.importances[1], expected, rtol=1e-6)
    expected = np.average(np.abs(by_row.gate), axis=0, weights=weight)
    assert_allclose(found.importances["gate"], expected, rtol=1e-6)


def test_shares_sum_to_one(wine, wine_mixture):
    found = expert_attention(wine_mixture, *wine, random_state=0)
    sums = found.shares().sum()
    assert_allclose(sums[sums > 0], 1)
    assert (found.shares() >= 0).all(axis=None)
    assert repr(found).startswith("<ExpertAttention by permutation. Most important feature of 0: ")


def test_an_expert_without_rows_has_nan_importances(wine):
    X, y = wine
    classifier = MoDEClassifier(n_experts=2, max_epochs=2, random_state=0).fit(X, y)
    with torch.no_grad():
        classifier.net_.module_.gate.layers[-1].bias += torch.tensor([0.0, 99.0])
    for method in ("permutation", "integrated_gradients"):
        found = expert_attention(classifier, X, y, method, n_repeats=1)
        assert found.importances[0].isna().all()
        assert found.importances[1].notna().all()
        assert repr(found)


def test_pipelines_shuffle_their_input_and_differentiate_the_last_step(mixed):
    X, y = mixed
    X = X.fillna(0.0)
    columns = make_column_transformer(
        (OneHotEncoder(), ["color"]), (StandardScaler(), ["size", "weight", "noise"])
    )
    pipeline = make_pipeline(columns, MoDEClassifier(**QUICK)).fit(X, y)
    found = expert_attention(pipeline, X, y, random_state=0, n_repeats=2)
    assert found.importances.index.tolist() == ["color", "size", "weight", "noise"]
    read = expert_attention(pipeline, X, y, "integrated_gradients").importances.index
    assert read.tolist()[0] == "onehotencoder__color_blue"
    assert len(read) == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("shap",), ValueError, '"permutation" or "integrated_gradients", got \'shap\''),
        (("integrated_gradients",), TypeError, 'got ToldClassifier without one: use method="perm'),
    ],
)
def test_invalid_input_raises(six_rows, arguments, error, message):
    with pytest.raises(error, match=message):
        expert_attention(*six_rows, *arguments)


def test_counts_below_one_raise(six_rows):
    with pytest.raises(
        ValueError, match="must be whole numbers of at least 1, got 0 and 32: correct"
    ):
        expert_attention(*six_rows, n_repeats=0)
    with pytest.raises(ValueError, match="must be whole numbers of at least 1, got 1.5 and 32"):
        expert_attention(*six_rows, n_repeats=1.5)


def test_completeness_error_is_measured(wine, wine_mixture):
    X, _ = wine
    found = integrated_gradients(wine_mixture, X, n_steps=1)
    route = wine_mixture.route(X)
    change = top_output(wine_mixture, X) - output_of_baseline(wine_mixture, X, route)
    expected = np.abs(found.experts.sum(axis=1) - change)
    assert expected.max() > 1e-4
    assert_allclose(found.experts_error, expected, atol=1e-5)
    base = pd.DataFrame({c.name: [c.center] for c in wine_mixture.encoder_.columns_})
    at_base = wine_mixture.gate_proba(base)[0, route]
    change = wine_mixture.gate_proba(X)[np.arange(len(X)), route] - at_base
    assert_allclose(found.gate_error, np.abs(found.gate.sum(axis=1) - change), atol=1e-5)
    attention = expert_attention(wine_mixture, X, wine[1], "integrated_gradients", n_steps=1)
    assert attention.completeness_error == found.experts_error.max()
    assert attention.gate_completeness_error == found.gate_error.max()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_completeness_error_is_small_with_defaults(wine, diabetes):
    X, y = wine
    classifier = MoDEClassifier(n_experts=3, random_state=0, max_epochs=10).fit(X, y)
    found = expert_attention(classifier, X, y, "integrated_gradients")
    assert found.completeness_error < 0.01
    assert found.gate_completeness_error < 0.01
    X, y = diabetes
    regressor = MoDERegressor(n_experts=3, random_state=0, max_epochs=10).fit(X, y)
    found = expert_attention(regressor, X, y, "integrated_gradients")
    assert 0 < found.completeness_error < 0.05 * y.std()


def test_too_few_steps_warn(wine):
    X, y = wine
    classifier = MoDEClassifier(
        n_experts=2, random_state=0, max_epochs=60, batch_size=80, alpha=0
    ).fit(X, y)
    with pytest.warns(UserWarning, match=r"off by up to \d+\.\d+ \(prob.*n_steps=1: raise n_steps"):
        found = expert_attention(classifier, X, y, "integrated_gradients", n_steps=1)
    assert found.completeness_error > 0.05


def test_permutation_has_no_completeness_error(six_rows):
    found = expert_attention(*six_rows, n_repeats=1, random_state=0)
    assert found.completeness_error is None
    assert found.gate_completeness_error is None


def test_the_unit_of_several_outputs(diabetes):
    X, y = diabetes
    y = np.column_stack([y, y**2])
    regressor = MoDERegressor(n_experts=2, max_epochs=1, random_state=0).fit(X, y)
    found = expert_attention(regressor, X, y, "integrated_gradients")
    assert found.unit == "standard deviations of the target"


def names_read(estimator, X, y):
    estimator.fit(X, y)
    found = expert_attention(estimator, X, y, "integrated_gradients", n_steps=1)
    return found.importances.index.tolist()


@pytest.mark.filterwarnings("ignore:The attributions of a row")
def test_names_behind_nested_pipelines(wine):
    X, y = wine
    mixture = MoDEClassifier(n_experts=2, max_epochs=1, random_state=0)
    inner = make_pipeline(PCA(3), mixture)
    components = ["pca0", "pca1", "pca2"]
    assert names_read(make_pipeline(StandardScaler(), inner), X, y) == components
    search = GridSearchCV(inner, {"modeclassifier__alpha": [0.0]}, cv=2)
    assert names_read(make_pipeline(StandardScaler(), search), X, y) == components
    kept = make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), mixture))
    assert names_read(kept, X, y) == list(X)
    alone = make_pipeline(make_pipeline(mixture))
    assert names_read(alone, X, y) == list(X)


@pytest.mark.filterwarnings("ignore:The attributions of a row")
def test_names_are_generic_if_a_step_has_no_names(wine):
    X, y = wine
    mixture = MoDEClassifier(n_experts=2, max_epochs=1, random_state=0)
    turn = FunctionTransformer(lambda X: np.asarray(X)[:, ::-1])  # tells no names
    general = [f"x{i}" for i in range(13)]
    assert (
        names_read(make_pipeline(StandardScaler(), make_pipeline(turn, mixture)), X, y) == general
    )
    assert (
        names_read(make_pipeline(turn, make_pipeline(StandardScaler(), mixture)), X, y) == general
    )


def test_repr_names_no_feature_if_none_matters(told_classifier):
    mixture = told_classifier([[0.9, 0.1]] * 3, [["a", "b"]] * 3, ["a"] * 3, ["a", "b"])
    X = np.arange(3.0)[:, None]
    found = expert_attention(mixture, X, ["a", "b", "a"], n_repeats=2, random_state=0)
    assert (found.importances[[0, "gate"]] == 0).all(axis=None)
    assert repr(found).endswith("Most important feature of 0: none, gate: none>")


@pytest.fixture(scope="module")
def wide():
    """More columns than are predicted as whole rows: numbers and a category."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(150, 40))).rename(columns=str)
    X["color"] = rng.choice(["red", "green", "blue"], 150)
    X.loc[::5, "3"] = np.nan
    return X, (X["0"] + (X["color"] == "red") > 0.5).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(MoDEClassifier(**QUICK), id="classes", marks=pytest.mark.slow),
        pytest.param(
            MoDEClassifier(
                **QUICK, gate="sparse", gate_hidden_layer_sizes=(8,), gate_temperature=2.0
            ),
            id="sparse gate",
        ),
        pytest.param(
            MoDEClassifier(
                **QUICK, numeric_embedding=None, mixing="representation", activation="relu"
            ),
            id="representation",
            marks=pytest.mark.slow,
        ),
        pytest.param(MoDERegressor(**QUICK), id="values", marks=pytest.mark.slow),
    ],
)
def test_many_columns_are_shuffled_without_predicting_whole_rows(estimator, wide, monkeypatch):
    X, y = wide
    estimator.fit(X, y)
    passes = []
    estimator.net_.module_.trunk.register_forward_hook(lambda *_: passes.append(1))
    few = expert_attention(estimator, X, y, random_state=0, n_repeats=2)
    assert len(passes) < 5  # not one for each of 41 columns
    monkeypatch.setattr(permutation, "FEW_COLUMNS", 1000)
    whole = expert_attention(estimator, X, y, random_state=0, n_repeats=2)
    assert_allclose(few.importances, whole.importances, atol=1e-6)
    assert_allclose(few.deviations, whole.deviations, atol=1e-6)


def test_experts_of_ones_own_are_predicted_as_whole_rows(wide):
    X, y = wide
    classifier = MoDEClassifier(
        n_experts=2, expert_module=lambda width: torch.nn.Linear(width, 4), max_epochs=1
    ).fit(X, y)
    found = expert_attention(classifier, X, y, random_state=0, n_repeats=1)
    assert found.importances.shape == (41, 3)


@pytest.mark.parametrize("max_samples", [60, 0.4])
@pytest.mark.parametrize("method", ["permutation", "integrated_gradients"])
def test_rows_are_drawn(method, max_samples, wide):
    X, y = wide
    classifier = MoDEClassifier(**QUICK).fit(X, y)
    found = expert_attention(
        classifier, X, y, method, max_samples=max_samples, n_repeats=1, random_state=0
    )
    assert found.n_samples["gate"] == 60


@pytest.mark.parametrize("max_samples", [0, 1.5, 0.0, True, -1, None, "all"])
def test_max_samples_out_of_range_is_an_error(max_samples, wide):
    X, y = wide
    with pytest.raises(ValueError, match="max_samples must be a number of rows"):
        expert_attention(MoDEClassifier(), X, y, max_samples=max_samples)


def test_a_progress_bar_over_the_features(wine, wine_mixture, capsys):
    X, y = wine
    expert_attention(wine_mixture, X, y, n_repeats=1, random_state=0)
    assert not capsys.readouterr().err
    expert_attention(wine_mixture, X, y, n_repeats=1, random_state=0, verbose=1)
    assert "expert_attention: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["permutation", "integrated_gradients"])
def test_sparse_rows(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5)) * (rng.random((120, 5)) < 0.5)
    y = (X[:, 0] > 0).astype(int)
    classifier = MoDEClassifier(**QUICK).fit(X, y)
    dense = expert_attention(classifier, X, y, method, random_state=0)
    sparse = expert_attention(classifier, scipy.sparse.coo_array(X), y, method, random_state=0)
    pd.testing.assert_frame_equal(sparse.importances, dense.importances)
