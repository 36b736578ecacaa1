"""Custom experts in the estimators."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from torch import nn

from skmode import MoDEClassifier, MoDERegressor
from skmode.nn import MLPExperts, ModuleExperts

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")


class GatedUnit(nn.Module):
    """A gated linear unit."""

    def __init__(self, in_features, width=16):
        super().__init__()
        self.linear = nn.Linear(in_features, 2 * width)

    def forward(self, x):
        return nn.functional.glu(self.linear(x))


class Residual(nn.Module):
    """A normalised residual block with dropout."""

    def __init__(self, in_features, width=16):
        super().__init__()
        self.enter = nn.Linear(in_features, width)
        self.block = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1)
        )

    def forward(self, x):
        x = self.enter(x)
        return x + self.block(x)


class Branching(nn.Module):
    """Control flow that looks at values, which vmap cannot follow."""

    def __init__(self, in_features):
        super().__init__()
        self.linear = nn.Linear(in_features, 8)

    def forward(self, x):
        hidden = self.linear(x)
        return hidden if hidden.isfinite().all() else hidden.nan_to_num()


class Returns(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, in_features, function):
        super().__init__()
        self.linear = nn.Linear(in_features, 4)
        self.function = function

    def forward(self, x):
        return self.function(self.linear(x))


def lazy(in_features):
    return nn.Sequential(nn.LazyLinear(8), nn.Tanh())


class Widening:
    """Makes modules of growing width."""

    def __init__(self):
        self.width = 3

    def __call__(self, in_features):
        self.width += 1
        return nn.Linear(in_features, self.width)


MADE = nn.Linear(32, 4)
QUICK = {
    "n_experts": 3,
    "max_epochs": 4,
    "batch_size": 100,
    "early_stopping": False,
    "random_state": 0,
}
MODULES = [GatedUnit, Residual, Branching, lazy, partial(nn.Linear, out_features=5)]
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 4))
y = (X[:, 0] * X[:, 1] > 0).astype(int)


def fit(expert_module, **parameters):
    return MoDEClassifier(**QUICK | parameters, expert_module=expert_module).fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("expert_module", [GatedUnit, Residual])
def test_custom_experts_learn_a_real_classification(expert_module):
    train_X, test_X, train_y, test_y = train_test_split(
        *load_breast_cancer(return_X_y=True), random_state=0
    )
    classifier = MoDEClassifier(expert_module=expert_module, max_epochs=40, random_state=0)
    classifier.fit(train_X, train_y)
    assert isinstance(classifier.net_.module_.experts, ModuleExperts)
    for inference in ("mixture", "top_expert"):
        assert classifier.set_params(inference=inference).score(test_X, test_y) > 0.94


@pytest.mark.slow
def test_custom_experts_learn_a_real_regression():
    train_X, test_X, train_y, test_y = train_test_split(
        *load_diabetes(return_X_y=True), random_state=0
    )
    own, default = (
        MoDERegressor(expert_module=module, random_state=0).fit(train_X, train_y)
        for module in (Residual, None)
    )
    assert own.score(test_X, test_y) > default.score(test_X, test_y) - 0.1


@BOTH
@pytest.mark.parametrize("expert_module", MODULES, ids=lambda m: getattr(m, "__name__", "partial"))
@pytest.mark.parametrize("mixing", ["representation", "likelihood"])
def test_top_expert_is_the_users_module_under_the_output_layer(Estimator, expert_module, mixing):
    estimator = Estimator(
        **QUICK, mixing=mixing, expert_module=expert_module, inference="top_expert"
    ).fit(X, y)
    module = estimator.net_.module_
    numbers, codes = map(torch.as_tensor, estimator.encoder_.transform(X))
    with torch.no_grad():
        hidden = module.trunk(numbers, codes)
        alone = [module.head(module.experts.expert(i)(hidden)) for i in range(3)]
        outputs = torch.stack(alone)[torch.as_tensor(estimator.route(X)), torch.arange(200)]
    if Estimator is MoDEClassifier:
        assert_allclose(estimator.predict_proba(X), outputs.softmax(dim=1), rtol=1e-4, atol=1e-6)
    else:
        expected = outputs[:, 0].numpy() * estimator.target_scale_ + estimator.target_mean_
        assert_allclose(estimator.predict(X), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(alone[0], alone[1])


@pytest.mark.parametrize("expert_module", MODULES, ids=lambda m: getattr(m, "__name__", "partial"))
def test_random_state_decides_the_weights(expert_module):
    first, again, other = (fit(expert_module, random_state=seed) for seed in (0, 0, 1))
    assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    assert not np.allclose(first.predict_proba(X), other.predict_proba(X))


@BOTH
def test_custom_experts_train_in_double_precision_on_small_tables(Estimator):
    estimator = Estimator(**QUICK, expert_module=Residual).fit(X[:60], y[:60])
    assert {p.dtype for p in estimator.net_.module_.parameters()} == {torch.float64}
    assert np.isfinite(estimator.predict(X)).all()


def test_modules_of_another_precision_are_converted():
    classifier = fit(lambda in_features: GatedUnit(in_features).double())
    assert {p.dtype for p in classifier.net_.module_.parameters()} == {torch.float32}


def test_sparse_gate_computes_the_chosen_experts_alone():
    classifier = fit(GatedUnit, gate="sparse", top_k=2)
    gate, experts = classifier.gate_proba(X), classifier.expert_predict_proba(X)
    assert ((gate > 0).sum(axis=1) == 2).all()
    assert np.isfinite(experts).all()
    classifier.set_params(inference="top_expert")
    expected = experts[np.arange(200), classifier.route(X)]
    assert_allclose(classifier.predict_proba(X), expected, rtol=1e-4)


def test_layers_may_be_empty_with_custom_experts():
    same = fit(GatedUnit, hidden_layer_sizes=(), dropout=0.9)
    assert_array_equal(same.predict_proba(X), fit(GatedUnit).predict_proba(X))
    assert isinstance(fit(None).net_.module_.experts, MLPExperts)


@pytest.mark.parametrize("expert_module", [GatedUnit, partial(GatedUnit, width=8), lazy])
def test_custom_experts_survive_clone_and_pickle(expert_module):
    estimator = MoDEClassifier(**QUICK, expert_module=expert_module)
    fitted = clone(estimator).fit(X, y)
    assert_array_equal(fitted.predict_proba(X), fit(expert_module).predict_proba(X))
    other = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_grid_search_over_experts():
    search = GridSearchCV(
        MoDEClassifier(**QUICK), {"expert_module": [None, GatedUnit, partial(GatedUnit, width=4)]},
        cv=2,
    ).fit(X, y)  # fmt: skip
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("expert_module", [GatedUnit, partial(GatedUnit, width=8)])
def test_warm_start_continues_with_custom_experts(expert_module):
    classifier = pickle.loads(pickle.dumps(fit(expert_module, warm_start=True))).fit(X, y)
    assert classifier.n_iter_ == 8
    # An equal partial is no other network.
    if isinstance(expert_module, partial):
        classifier.set_params(expert_module=partial(GatedUnit, width=8)).fit(X, y)
        assert classifier.n_iter_ == 12


@pytest.mark.parametrize("other", [None, Residual, partial(GatedUnit, width=9), lambda n: None])
def test_warm_start_cannot_change_the_experts(other):
    classifier = fit(partial(GatedUnit, width=8), warm_start=True).set_params(expert_module=other)
    with pytest.raises(ValueError, match=r"expert_module must stay .*warm_start=False"):
        classifier.fit(X, y)


@pytest.mark.parametrize(
    ("expert_module", "error", "message"),
    [
        (
            nn.Linear(5, 4),
            TypeError,
            "must be a class or function that makes an expert .* instance of Linear: pass the",
        ),
        (
            nn.Linear,
            TypeError,
            r"must take one argument, in_features \(here \d+\), .*out_features'.*: bind other",
        ),
        (np.zeros, TypeError, r"must return a torch.nn.Module, got ndarray: return an instance"),
        (
            lambda in_features: nn.Linear(7, 4),
            ValueError,
            r"map \(n_samples, 32\) to \(n_samples, width\), but Linear failed on shape \(2, 32\) "
            "with mat1.*: build it for in_features inputs",
        ),
        (
            partial(Returns, function=lambda x: (x, x)),
            TypeError,
            "must return a tensor, got tuple from Returns: return only the representation",
        ),
        (
            partial(Returns, function=lambda x: x.sum(dim=1)),
            ValueError,
            r"\(n_samples, width\), got \(2,\) from Returns for shape \(2, 32\): return one row",
        ),
        (
            partial(Returns, function=lambda x: x.mean(dim=0, keepdim=True)),
            ValueError,
            r"\(n_samples, width\), got \(1, 4\) from Returns for shape \(2, 32\): return one row",
        ),
        (
            partial(Returns, function=lambda x: x - x.mean(dim=0)),
            ValueError,
            "must treat each row alone, got a difference of .* of one and of two from Returns: in",
        ),
        (
            lambda n: nn.Sequential(nn.Linear(n, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            ValueError,
            r"must treat each row alone, got ValueError \(Expected more .*track_running_stats=True",
        ),
        (
            partial(Returns, function=lambda x: x.squeeze(0)),
            ValueError,
            r"must treat each row alone, got shape \(4,\) for a batch of one from Returns",
        ),
        (
            partial(Returns, function=lambda x: x / 0),
            ValueError,
            "must return finite floating-point numbers, got values that are not finite from Ret",
        ),
        (
            partial(Returns, function=lambda x: x.argsort()),
            ValueError,
            r"must return finite floating-point numbers, got torch.int64 from Returns for inputs",
        ),
        (
            partial(Returns, function=lambda x: x.double()),
            ValueError,
            "must return torch.float32 for inputs of this type, got torch.float64 from Returns: ",
        ),
        (
            Widening(),
            ValueError,
            r"must all return the same width, got \[4, 5, 6\]: end each with a layer of one width",
        ),
        (
            lambda in_features: MADE,
            ValueError,
            "must return a new module in each call, got the same Linear twice: create it inside",
        ),
    ],
)
def test_invalid_experts_are_an_error(expert_module, error, message):
    with pytest.raises(error, match=message):
        fit(expert_module)


def test_failed_construction_leaves_an_unfitted_estimator():
    classifier = MoDEClassifier(**QUICK, expert_module=nn.Linear)
    with pytest.raises(TypeError, match="expert_module"):
        classifier.fit(X, y)
    assert not hasattr(classifier, "net_")
    classifier.set_params(expert_module=GatedUnit).fit(X, y)
    with pytest.raises(TypeError, match="expert_module"):
        classifier.set_params(expert_module=nn.Linear).fit(X[:, :2], y)
    with pytest.raises(NotFittedError):
        classifier.predict(X[:, :2])
