"""Linear probes on the layers of the experts."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier
from skmode.inspection import layer_probing
from skmode.inspection._layers import probing as _layers


class Tower(torch.nn.Module):
    """Two layers and an activation that is no module, so that its output is a layer of its own."""

    def __init__(self, in_features):
        super().__init__()
        self.first = torch.nn.Linear(in_features, 7)
        self.squash = torch.nn.Tanh()
        self.second = torch.nn.Linear(7, 5)

    def forward(self, x):
        return torch.relu(self.second(self.squash(self.first(x))))


def output_layer(classifier, hidden):
    head = classifier.net_.module_.head
    logits = hidden @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    return softmax(logits, axis=1)


def everything(classifier, X):
    return _layers.hidden_layers(classifier, X, [np.arange(len(X))] * classifier.n_experts)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_last_layer_is_the_input_of_the_output_layer(wine, activation):
    X, y = wine
    classifier = MoDEClassifier(
        n_experts=3, hidden_layer_sizes=(9, 6), activation=activation, max_epochs=3, random_state=0
    ).fit(X, y)
    layers = everything(classifier, X)
    assert [list(of_expert) for of_expert in layers] == [["input", "hidden 1", "hidden 2"]] * 3
    for expert, of_expert in enumerate(layers):
        assert [units.shape[1] for units in of_expert.values()][1:] == [9, 6]
        assert_allclose(
            output_layer(classifier, of_expert["hidden 2"]),
            classifier.expert_predict_proba(X)[:, expert],
            atol=1e-6,
        )


def test_hidden_layers_equal_those_of_the_experts(wine):
    X, y = wine
    classifier = MoDEClassifier(
        n_experts=2, hidden_layer_sizes=(9, 6), activation="tanh", max_epochs=2, random_state=0
    ).fit(X, y)
    layers, experts = everything(classifier, X), classifier.net_.module_.experts
    for expert, of_expert in enumerate(layers):
        first = experts.layers[0]
        by_hand = np.tanh(
            of_expert["input"] @ first.weight[expert].detach().double().numpy()
            + first.bias[expert].detach().double().numpy()
        )
        assert_allclose(of_expert["hidden 1"], by_hand, atol=1e-5)


def test_custom_experts(wine):
    X, y = wine
    classifier = MoDEClassifier(n_experts=2, expert_module=Tower, max_epochs=3, random_state=0)
    classifier.fit(X, y)
    for expert, of_expert in enumerate(everything(classifier, X)):
        assert list(of_expert) == ["input", "first", "squash", "second", "output"]
        assert_allclose(of_expert["squash"], np.tanh(of_expert["first"]), atol=1e-6)
        assert_allclose(of_expert["output"], of_expert["second"].clip(min=0))
        assert_allclose(
            output_layer(classifier, of_expert["output"]),
            classifier.expert_predict_proba(X)[:, expert],
            atol=1e-6,
        )


def test_rows_are_kept_block_by_block(wine, wine_mixture, monkeypatch):
    X, _ = wine
    rows_of = [np.array([3, 100, 177]), np.array([], dtype=int), np.arange(0, 178, 2)]
    whole = everything(wine_mixture, X)
    monkeypatch.setattr(_layers, "BLOCK_ROWS", 50)
    kept = _layers.hidden_layers(wine_mixture, X, rows_of)
    for rows, of_expert, of_all in zip(rows_of, kept, whole, strict=True):
        for name, units in of_expert.items():
            assert_allclose(units, of_all[name][rows], atol=1e-5)


def test_scores_are_those_of_a_probe_trained_by_hand(wine, wine_mixture):
    X, y = wine
    probing = layer_probing(wine_mixture, X[1::2], y[1::2], X_train=X[::2], y_train=y[::2])
    assert probing.metric == "accuracy"
    train, test = everything(wine_mixture, X[::2]), everything(wine_mixture, X[1::2])
    route = wine_mixture.route(X[1::2])
    assert len(probing.layers) == 9
    for row in probing.layers.itertuples():
        assert row.model == "estimator"
        own = route == row.expert
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(train[row.expert][row.layer], y[::2])
        predicted = probe.predict(test[row.expert][row.layer][own])
        assert row.score == accuracy_score(y[1::2][own], predicted)
        assert row.width == train[row.expert][row.layer].shape[1]


def test_regression(diabetes, diabetes_mixture):
    X, y = diabetes
    probing = layer_probing(diabetes_mixture, X[1::2], y[1::2], X_train=X[::2], y_train=y[::2])
    assert probing.metric == "rmse"
    row = probing.layers.iloc[-1]
    train, test = everything(diabetes_mixture, X[::2]), everything(diabetes_mixture, X[1::2])
    own = diabetes_mixture.route(X[1::2]) == row["expert"]
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))
    probe.fit(train[row["expert"]][row["layer"]], y[::2])
    predicted = probe.predict(test[row["expert"]][row["layer"]][own])
    assert row["score"] == pytest.approx(root_mean_squared_error(y[1::2][own], predicted))


@pytest.mark.parametrize(
    ("score", "classifies", "tolerance", "expected"),
    [
        (0.85, True, 0.01, ("hidden 1", 1)),
        (0.95, True, 0.01, (None, pd.NA)),
        (0.91, True, 0.01, ("hidden 1", 1)),
        (0.80, True, 0.20, ("input", 0)),
        (0.85, False, 0.0, ("input", 0)),
        (0.69, False, 0.02, ("hidden 2", 2)),
    ],
)
def test_first_layer_that_reaches_the_bar(score, classifies, tolerance, expected):
    layers = pd.DataFrame(
        {
            "layer": ["input", "hidden 1", "hidden 2"],
            "depth": [0, 1, 2],
            "score": [0.6, 0.9, 0.9] if classifies else [0.8, 0.9, 0.7],
        }
    )
    assert _layers._first_layer(layers, score, classifies, tolerance) == expected


@pytest.mark.slow
def test_reference_on_common_domains(wine, wine_mixture):
    X, y = wine
    other = MoDEClassifier(n_experts=3, max_epochs=3, balance=0.1, random_state=1)
    other.fit(X[::2], y[::2])
    probing = layer_probing(
        wine_mixture,
        X[1::2],
        y[1::2],
        X_train=X[::2],
        y_train=y[::2],
        domains=other,
        reference=other,
    )
    assert probing.experts["model"].tolist() == ["estimator"] * 3 + ["reference"] * 3
    of_model = probing.experts.groupby("model")["n_samples"].apply(sorted)
    sizes = sorted(np.bincount(other.route(X[1::2]), minlength=3))
    assert of_model["estimator"] == of_model["reference"] == sizes
    assert "reference" in repr(probing)


@pytest.fixture(scope="module")
def moons():
    """Half moons: a mixture that divides them well, and one that hardly trained."""
    X, y = make_moons(800, noise=0.15, random_state=0)
    options = {"n_experts": 2, "numeric_embedding": None, "balance": 0.1, "random_state": 0}
    good = MoDEClassifier(max_epochs=40, batch_size=100, learning_rate=0.02, **options).fit(
        X[:400], y[:400]
    )
    weak = MoDEClassifier(max_epochs=1, early_stopping=False, **options).fit(X[:400], y[:400])
    return (X[400:], y[400:]), {"X_train": X[:400], "y_train": y[:400]}, good, weak


@pytest.mark.slow
def test_a_weak_reference_does_not_solve_the_task_earlier(moons):
    rows, options, good, weak = moons
    found = layer_probing(good, *rows, reference=weak, domains=good, **options)
    of_good, of_weak = (
        found.experts.query("model == @name") for name in ("estimator", "reference")
    )
    assert (of_weak["score"] < 0.9).all()
    assert of_good["bar"].tolist() == of_good["score"].tolist()
    bars = dict(zip(of_good["domain"], of_good["score"], strict=True))
    assert of_weak["bar"].tolist() == [bars[domain] for domain in of_weak["domain"]]
    assert of_good["first_depth"].notna().all()
    assert of_weak["first_depth"].isna().all()
    assert "estimator: 2 of 2 tasks solved at depth" in repr(found)
    assert repr(found).endswith("; reference: 0 of 2 tasks solved>")
    # The other way round the same scores are to be reached.
    turned = layer_probing(weak, *rows, reference=good, domains=good, **options)
    assert turned.experts["bar"].tolist() == [*of_weak["bar"], *of_good["bar"]]


def test_own_domains_use_the_scores_of_the_own_experts(moons):
    rows, options, good, weak = moons
    found = layer_probing(good, *rows, reference=weak, **options).experts
    assert found["bar"].equals(found["score"])


def test_bars_are_the_better_score_on_each_domain():
    experts = pd.DataFrame(
        {
            "domain": pd.array([0, 1, 2, 1, 0, pd.NA], dtype="Int64"),
            "score": [0.9, 0.6, np.nan, 0.8, 0.7, np.nan],
        }
    )
    nan = np.nan
    assert_allclose(_layers._common_bars(experts, "accuracy"), [0.9, 0.8, nan, 0.8, 0.9, nan])
    assert_allclose(_layers._common_bars(experts, "rmse"), [0.7, 0.6, nan, 0.6, 0.7, nan])


def test_a_reference_of_fewer_experts(wine, wine_mixture):
    X, y = wine
    fewer = MoDEClassifier(n_experts=2, max_epochs=3, balance=0.1, random_state=1).fit(X, y)
    found = layer_probing(wine_mixture, X, y, X_train=X, y_train=y, reference=fewer, domains=fewer)
    without = found.experts[found.experts["n_samples"].fillna(0) == 0]
    assert without["model"].tolist() == ["estimator"]
    assert without[["bar", "first_depth"]].isna().all(axis=None)
    assert repr(found).startswith("<LayerProbing, estimator: ")
    assert " of 2 tasks solved" in repr(found)
    assert " of 3 " not in repr(found)


@pytest.mark.slow
def test_an_expert_without_rows_has_no_layer(wine):
    X, y = wine
    classifier = MoDEClassifier(n_experts=2, max_epochs=2, random_state=0).fit(X, y)
    with torch.no_grad():
        classifier.net_.module_.gate.layers[-1].bias += torch.tensor([99.0, 0.0])
    probing = layer_probing(classifier, X, y, X_train=X, y_train=y)
    idle = probing.experts.iloc[1]
    assert idle["n_samples"] == 0
    assert pd.isna(idle["first_layer"])
    assert probing.layers.query("expert == 1")["score"].isna().all()


@pytest.mark.slow
def test_max_train_samples_limits_the_training_rows(wine, wine_mixture):
    X, y = wine
    seen = []

    class Counting(LogisticRegression):
        def fit(self, X, y):
            seen.append(len(X))
            return super().fit(X, y)

    options = {"X_train": X, "y_train": y, "probe": Counting(max_iter=5000)}
    layer_probing(wine_mixture, X, y, max_train_samples=80, random_state=0, **options)
    assert set(seen) == {80}
    seen.clear()
    layer_probing(wine_mixture, X, y, max_train_samples=None, **options)
    assert set(seen) == {178}


def test_estimators_without_network_raise(six_rows):
    mixture, X, y = six_rows
    with pytest.raises(TypeError, match="network in net_.module_, got ToldClassifier without one"):
        layer_probing(mixture, X, y, X_train=X, y_train=y)


def test_invalid_domains_raise(wine, wine_mixture):
    X, y = wine
    with pytest.raises(ValueError, match="domains must be \"own\" or a fitted .*, got 'theirs'"):
        layer_probing(wine_mixture, X, y, X_train=X, y_train=y, domains="theirs")


def test_no_hooks_remain(wine, wine_mixture):
    before = wine_mixture.predict(wine[0])
    everything(wine_mixture, wine[0])
    assert not any(part._forward_hooks for part in wine_mixture.net_.module_.modules())
    assert_array_equal(wine_mixture.predict(wine[0]), before)


def repeated(X, y, weight):
    """Each row as many times as its weight says."""
    index = np.repeat(np.arange(len(y)), weight)
    return X.iloc[index], y.iloc[index]


@pytest.mark.slow
def test_weight_two_equals_repeating_the_row(wine, wine_mixture):
    X, y = wine
    rng = np.random.default_rng(0)
    weight, train_weight = rng.integers(0, 3, 89), rng.integers(0, 3, 89)
    options = {"probe": LogisticRegression(C=0.01, max_iter=2000)}
    weighed = layer_probing(
        wine_mixture,
        X[1::2],
        y[1::2],
        X_train=X[::2],
        y_train=y[::2],
        sample_weight=weight,
        sample_weight_train=train_weight,
        **options,
    )
    X_train, y_train = repeated(X[::2], y[::2], train_weight)
    test = repeated(X[1::2], y[1::2], weight)
    expected = layer_probing(wine_mixture, *test, X_train=X_train, y_train=y_train, **options)
    assert_allclose(weighed.layers["score"], expected.layers["score"])
    assert_allclose(weighed.experts["score"], expected.experts["score"])
    assert_array_equal(weighed.experts["first_layer"], expected.experts["first_layer"])
    plain = layer_probing(wine_mixture, X[1::2], y[1::2], X_train=X[::2], y_train=y[::2], **options)
    assert not np.allclose(weighed.layers["score"], plain.layers["score"])


def test_weights_of_regression(diabetes, diabetes_mixture):
    X, y = diabetes
    weight = np.random.default_rng(0).integers(1, 3, 221)
    index = np.repeat(np.arange(221), weight)
    options = {"X_train": X[::2], "y_train": y[::2]}
    test_X, test_y = X[1::2], y[1::2]
    found = layer_probing(diabetes_mixture, test_X, test_y, sample_weight=weight, **options)
    expected = layer_probing(diabetes_mixture, test_X[index], test_y[index], **options)
    assert_allclose(found.layers["score"], expected.layers["score"])
    assert_allclose(found.experts["score"], expected.experts["score"])


def test_probe_uses_weights_and_drops_rows_without_weight(wine, wine_mixture):
    X, y = wine
    some = np.arange(178) % 3 > 0
    options = {"max_train_samples": 50, "random_state": 0}
    weighed = layer_probing(
        wine_mixture, X, y, X_train=X, y_train=y, sample_weight_train=some, **options
    )
    without = layer_probing(wine_mixture, X, y, X_train=X[some], y_train=y[some], **options)
    assert_allclose(weighed.layers["score"], without.layers["score"])


def test_rows_of_a_domain_without_weight_have_no_score(wine, wine_mixture):
    X, y = wine
    weight = (wine_mixture.route(X) != 1).astype(float)
    found = layer_probing(wine_mixture, X, y, X_train=X, y_train=y, sample_weight=weight)
    assert found.layers.query("expert == 1")["score"].isna().all()
    assert found.layers.query("expert != 1")["score"].notna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -5}, "tolerance must be zero or more, got -5: pass a number"),
        ({"tolerance": np.nan}, "tolerance must be zero or more, got nan"),
        ({"max_train_samples": 0}, "must be a whole number of at least 1, or None .*, got 0"),
        ({"max_train_samples": 2.5}, "must be a whole number of at least 1, or None .*, got 2.5"),
        (
            {"max_train_samples": 1},
            r"must contain at least two classes, got \[.\] in 1 rows: pass more",
        ),
        ({"y_train": np.zeros(178, dtype=int)}, r"at least two classes, got \[0\] in 178 rows"),
        ({"sample_weight_train": np.arange(178) < 30}, r"two classes, got \[0\] in 30 rows"),
        ({"y_train": np.full(178, "a")}, "y must have labels of the same type"),
        ({"domains": None}, 'domains must be "own" or a fitted estimator, got None'),
        ({"sample_weight": np.zeros(178)}, "At least one row needs a positive sample_weight"),
    ],
)
def test_invalid_input_raises(wine, wine_mixture, options, message):
    X, y = wine
    with pytest.raises(ValueError, match=message):
        layer_probing(
            wine_mixture, X, y, **{"X_train": X, "y_train": y, "random_state": 0} | options
        )


def test_an_invalid_reference_is_named_in_the_error(wine, wine_mixture):
    X, y = wine
    with pytest.raises(TypeError, match="reference must be .* got LogisticRegression without gate"):
        layer_probing(wine_mixture, X, y, X_train=X, y_train=y, reference=LogisticRegression())
