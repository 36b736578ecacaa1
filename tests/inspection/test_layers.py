"""Linear probes on the layers of the experts."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier
from skmode.inspection import _layers, layer_probing


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
def test_the_last_layer_is_what_the_output_layer_reads(wine, activation):
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


def test_layers_between_are_computed_as_the_experts_do(wine):
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


def test_experts_of_the_users_own(wine):
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
def test_the_first_layer_that_does_as_well(score, classifies, tolerance, expected):
    layers = pd.DataFrame(
        {
            "layer": ["input", "hidden 1", "hidden 2"],
            "depth": [0, 1, 2],
            "score": [0.6, 0.9, 0.9] if classifies else [0.8, 0.9, 0.7],
        }
    )
    assert _layers._first_layer(layers, score, classifies, tolerance) == expected


def test_a_model_beside_it_on_common_domains(wine, wine_mixture):
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


def test_probes_train_on_some_rows_where_there_are_many(wine, wine_mixture):
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


def test_what_has_no_layers_is_refused(six_rows):
    mixture, X, y = six_rows
    with pytest.raises(TypeError, match="network in net_.module_, got ToldClassifier without one"):
        layer_probing(mixture, X, y, X_train=X, y_train=y)


def test_domains_have_an_owner(wine, wine_mixture):
    X, y = wine
    with pytest.raises(ValueError, match="domains must be \"own\" or a fitted .*, got 'theirs'"):
        layer_probing(wine_mixture, X, y, X_train=X, y_train=y, domains="theirs")


def test_looking_leaves_no_hooks(wine, wine_mixture):
    before = wine_mixture.predict(wine[0])
    everything(wine_mixture, wine[0])
    assert not any(part._forward_hooks for part in wine_mixture.net_.module_.modules())
    assert_array_equal(wine_mixture.predict(wine[0]), before)
