"""The league's models: what a search does, and what can be exported to ONNX."""

import itertools
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import uniform
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_diabetes, load_iris

from benchmarks.tabular import _results
from benchmarks.tabular._fingerprint import Fingerprint
from benchmarks.tabular._measure import measure, measure_onnx
from benchmarks.tabular._models import TAUGHT, Contender, contenders, tuning
from benchmarks.tabular._models.spaces import FAMILIES, Family, LogInteger
from benchmarks.tabular._models.tuning import RandomSearch
from benchmarks.tabular._sets import TabularSet, load, split
from skmode import MoDEClassifier

IRIS = TabularSet("iris", "multiclass", 150, partial(load_iris, return_X_y=True, as_frame=True))
DIABETES = TabularSet(
    "diabetes", "regression", 442, partial(load_diabetes, return_X_y=True, as_frame=True)
)


def load_flowers():
    """Iris with a category."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    wide = np.where(X["petal width (cm)"] > 1, "wide", "narrow")
    return X.assign(width=pd.Categorical(wide)), y


def load_gaps():
    """Flowers with missing numbers."""
    X, y = load_flowers()
    X.iloc[::7, 0] = np.nan
    return X, y


FLOWERS = TabularSet("flowers", "multiclass", 150, load_flowers)
GAPS = TabularSet("gaps", "multiclass", 150, load_gaps)


def parts(table):
    return split(load(table), table.task, 0)


class Constant(RegressorMixin, BaseEstimator):
    """Predicts a number, and counts its fits."""

    fits = 0

    def __init__(self, value):
        self.value = value

    def fit(self, X, y):
        type(self).fits += 1
        return self

    def predict(self, X):
        return np.full(len(X), self.value)


CONSTANTS = Family(
    lambda task, split, train, value: Constant(value),
    {"value": uniform(500, 1000)},
    {"value": 150.0},
)


@pytest.fixture
def quick_fingerprint(monkeypatch):
    """The real one takes seconds of fits."""
    from benchmarks.tabular import _measure

    for module in (_results, _measure):
        monkeypatch.setattr(module, "fingerprint", lambda: Fingerprint("digest", (0.5,)))
        monkeypatch.setattr(module, "lesson", lambda task: (0.5,))


class TestSearch:
    def test_the_best_is_fitted_to_all_rows(self):
        train, _ = parts(DIABETES)
        search = RandomSearch(CONSTANTS, "regression", 0, n_trials=4).fit(*train)
        assert search.trials_[0].params == {"value": 150.0}
        assert len(search.trials_) == 4
        assert search.best_params_ == {"value": 150.0}
        spread = np.sqrt(np.mean((train.y - 150) ** 2))
        assert search.trials_[0].score == pytest.approx(-spread, rel=0.05)
        assert search.best_estimator_.value == 150

    def test_time_ends_the_search_but_not_the_first_trial(self):
        train, _ = parts(DIABETES)
        Constant.fits = 0
        search = RandomSearch(CONSTANTS, "regression", 0, n_trials=4, seconds=0).fit(*train)
        assert (len(search.trials_), search.n_folds_) == (1, 1)
        assert Constant.fits == 1 + 1

    def test_as_many_folds_as_leave_time_for_all_trials(self, monkeypatch):
        ticks = itertools.count(step=2)  # seconds, each time that the clock is read
        monkeypatch.setattr(tuning.time, "process_time", lambda: next(ticks))
        train, _ = parts(DIABETES)
        search = RandomSearch(CONSTANTS, "regression", 0, n_trials=4, seconds=25).fit(*train)
        # 25 seconds for 4 trials of 2 seconds a fit; the clock is read before each further fit.
        assert (len(search.trials_), search.n_folds_) == (4, 3)

    def test_seeded(self):
        train, _ = parts(DIABETES)
        one, two, other = (
            [
                trial.params
                for trial in RandomSearch(CONSTANTS, "regression", i, n_trials=3)
                .fit(*train)
                .trials_
            ]
            for i in (0, 0, 1)
        )
        assert one == two != other

    def test_whole_numbers_are_drawn_by_their_logarithms(self):
        drawn = LogInteger(1, 100).rvs(10_000, np.random.RandomState(0))
        assert (drawn.min(), drawn.max()) == (1, 100)
        assert np.mean(drawn <= 10) == pytest.approx(np.log(21) / np.log(201), abs=0.02)

    @pytest.mark.parametrize("name", sorted(FAMILIES))
    @pytest.mark.parametrize("table", [FLOWERS, DIABETES], ids=lambda table: table.name)
    def test_every_family(self, name, table, monkeypatch):
        module = contenders()[name].module
        pytest.importorskip(module)
        family = FAMILIES[name]
        if name == "mode":
            options = {"max_epochs": 2, "hidden_layer_sizes": (8,)}
            family = Family(
                family.make, family.space | {k: [v] for k, v in options.items()}, options
            )
        else:
            monkeypatch.setattr("benchmarks.tabular._models.tuning.MAX_TREES", 20)
        train, test = parts(table)
        search = RandomSearch(family, table.task, 0, n_trials=2).fit(*train)
        assert len(search.trials_) == 2
        json.dumps(search.best_params_)
        model = search.best_estimator_
        if family.trees:
            assert 1 <= search.best_params_[family.trees] <= 20
        regression = table.task == "regression"
        predictions = model.predict(test.X) if regression else model.predict_proba(test.X)
        assert len(predictions) == len(test.X)


@pytest.mark.usefixtures("quick_fingerprint")
def test_a_line_of_a_tuned_model_tells_its_search():
    def make(task, split, train):
        options = {"max_epochs": [1], "hidden_layer_sizes": [(8,)], "alpha": [0.0, 1.0]}
        family = Family(FAMILIES["mode"].make, options, {"max_epochs": 1})
        return RandomSearch(family, task, split, n_trials=2)

    tuned = Contender("mode_tuned", "MoDE, tuned", make, "skmode", top_expert=True)
    mixture, alone = measure(tuned, IRIS, 0, *parts(IRIS))
    assert (mixture["model"], alone["model"]) == ("mode_tuned", "mode_tuned_top_expert")
    assert mixture["trials"] == alone["trials"] == 2
    assert mixture["best_params"]["max_epochs"] == 1
    assert mixture["predict_microseconds"] > 0


def test_the_taught_have_a_teacher_and_the_plain_ones_none():
    train, _ = parts(IRIS)
    made = {
        name: contenders()[name].make("multiclass", 0, train) for name in (TAUGHT, "mlp_taught")
    }
    assert {model.teacher for model in made.values()} == {"ensemble"}
    assert made["mlp_taught"].n_experts == 1
    for name in ("mode_alpha_0", "mlp_small"):
        assert contenders()[name].make("multiclass", 0, train).teacher is None


def test_students_of_a_vote_share_its_predictions(tmp_path, monkeypatch):
    pytest.importorskip("catboost")
    pytest.importorskip("lightgbm")
    monkeypatch.setenv("SKMODE_LEAGUE_MEMORY", str(tmp_path))
    train, _ = parts(IRIS)
    made = [
        contenders()[name].make("multiclass", 0, train)
        for name in ("vote", "mode_vote", "mlp_vote")
    ]
    vote, several, single = made
    assert len(vote.estimators) == 6
    assert (several.n_experts, single.n_experts) == (4, 1)
    assert several.memory == single.memory == str(tmp_path)
    for network in dict(vote.estimators[2:]).values():
        assert (network.n_experts, network.teacher) == (1, None)


@pytest.mark.usefixtures("quick_fingerprint")
class TestOnnx:
    EXPORTED = (
        "linear",
        "hist_gradient_boosting",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("mlp", "random_forest")),
    )
    BOOSTED = ("lightgbm", "xgboost", "catboost")

    def lines(self, name, table):
        contender = contenders()[name]
        pytest.importorskip(contender.module)
        return list(measure_onnx(contender, table, 0, *parts(table)))

    @pytest.mark.parametrize("name", [*EXPORTED, *BOOSTED])
    @pytest.mark.parametrize("table", [IRIS, DIABETES], ids=lambda table: table.name)
    def test_graphs_predict_as_models_do(self, name, table):
        if name in ("lightgbm", "xgboost"):
            pytest.importorskip("onnxmltools")
        (line,) = self.lines(name, table)
        assert line["onnx_difference"] < 1e-4
        assert min(line["onnx_microseconds"], line["python_microseconds"], line["onnx_bytes"]) > 0

    @pytest.mark.slow
    def test_encoders_are_exported(self):
        (line,) = self.lines("linear", FLOWERS)
        assert line["onnx_difference"] < 1e-4

    @pytest.mark.parametrize("table", [IRIS, GAPS], ids=lambda table: table.name)
    @pytest.mark.slow
    def test_both_forms_of_ours(self, table):
        def make(task, split, train):
            return MoDEClassifier(max_epochs=1, random_state=0, device="cpu")

        ours = Contender("mode", "MoDE", make, "skmode", top_expert=True)
        lines = list(measure_onnx(ours, table, 0, *parts(table)))
        assert [line["model"] for line in lines] == ["mode", "mode_top_expert"]
        assert max(line["onnx_difference"] for line in lines) < 1e-4

    @pytest.mark.parametrize(
        ("name", "table", "reason"),
        [
            ("hist_gradient_boosting", FLOWERS, "no trees that split on categories"),
            ("lightgbm", FLOWERS, "no trees that split on categories"),
            ("catboost", FLOWERS, "no trees that split on categories"),
            ("linear", GAPS, "no SimpleImputer with indicators"),
        ],
        ids=lambda value: getattr(value, "name", value),
    )
    def test_what_cannot_be_exported_says_why(self, name, table, reason):
        (line,) = self.lines(name, table)
        assert reason in line["not_exported"]
        assert "onnx_microseconds" not in line
