"""The user's own validation rows, and splitters that choose them."""

import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    PredefinedSplit,
    TimeSeriesSplit,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skmode import MoDEClassifier, MoDERegressor

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0}
BOTH = pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])

# Parameters of fit beside those of gradient boosting.
OURS = ("target", "checkpoint", "groups", "soft_targets", "soft_targets_val", "X_unlabeled")

X, y = make_classification(160, 4, flip_y=0.1, random_state=0)
TRAIN, VALID = np.arange(100), np.arange(100, 160)
X_val, y_val = X[VALID], y[VALID]


class Watched(Callback):
    """Keep the numbers that each epoch is measured on."""

    def on_train_end(self, net, **kwargs):
        self.numbers = dict(net.callbacks_)["watch"].rows.inputs[0].numpy()


def held_out(estimator, table=X, **options):
    """Fit, and return the positions of the validation rows, in the order of the table."""
    estimator = clone(estimator).set_params(callbacks=[Watched()])
    estimator.fit(table, y[: len(table)], **options)
    found = estimator.callbacks[0].numbers
    return [int(np.flatnonzero((table.astype("f4") == row).all(axis=1))[0]) for row in found]


# How far the top expert is from the mixture.

TARGETS = {"values": y + X[:, 0], "column": (y + X[:, :1]), "columns": X[:, :2] * [1, 1000]}
LABELS = {"classes": np.digitize(X[:, 0], [-0.5, 0.5]), "strings": np.where(y, "yes", "no")}


@pytest.mark.parametrize("source", ["held out", "given", "teacher"])
@pytest.mark.parametrize("kind", [*TARGETS, *LABELS])
def test_routing_difference_is_of_the_validation_rows(kind, source):
    Estimator, target = (
        (MoDEClassifier, LABELS[kind]) if kind in LABELS else (MoDERegressor, TARGETS[kind])
    )
    options = {"X_val": X_val, "y_val": target[VALID]} if source == "given" else {}
    rows = TRAIN if source == "given" else np.arange(160)
    estimator = Estimator(**QUICK, validation_fraction=[(TRAIN, VALID)])
    if source == "given":
        estimator.set_params(validation_fraction=0.1)
    if source == "teacher":
        estimator.set_params(teacher="mixture")
    estimator.fit(X[rows], target[rows], **options)
    assert (estimator.refit_n_iter_ > 0) == (source != "given")
    predict = "predict_proba" if kind in LABELS else "predict"
    mixture, top = (
        getattr(estimator.set_params(inference=inference), predict)(X_val)
        for inference in ("mixture", "top_expert")
    )
    axis = 0 if kind in ("column", "columns") else None
    errors = np.abs(mixture - top)
    found = estimator.routing_difference_
    assert found.keys() == {"mean", "max"}
    assert_allclose(found["mean"], errors.mean(axis=axis), rtol=1e-4)
    assert_allclose(found["max"], errors.max(axis=axis), rtol=1e-4)
    assert np.min(found["mean"]) > 0


@BOTH
def test_without_validation_rows_there_is_no_routing_difference(Estimator):
    estimator = Estimator(**QUICK, early_stopping=True).fit(X, y)
    assert estimator.routing_difference_["max"] > 0
    again = estimator.set_params(early_stopping=False, warm_start=True).fit(X, y)
    assert again.routing_difference_ is None
    assert Estimator(**QUICK).partial_fit(X, y).routing_difference_ is None
    one = Estimator(**QUICK | {"n_experts": 1}, early_stopping=True).fit(X, y)
    assert one.routing_difference_ == pytest.approx({"mean": 0, "max": 0}, abs=1e-6)


# Rows of one's own.


def test_fit_takes_what_gradient_boosting_takes():
    peer = inspect.signature(HistGradientBoostingClassifier.fit).parameters
    if "X_val" not in peer:
        pytest.skip(f"scikit-learn {sklearn.__version__} has no validation rows in fit")
    ours = dict(inspect.signature(MoDEClassifier.fit).parameters)
    ours["y"] = ours["y"].replace(default=inspect.Parameter.empty)  # a dataset has it inside
    assert [(each.name, each.kind, each.default) for each in peer.values()] == [
        (each.name, each.kind, each.default) for each in ours.values() if each.name not in OURS
    ]


@BOTH
def test_own_rows_are_measured_and_never_trained_on(Estimator):
    estimator = Estimator(**QUICK).fit(X[TRAIN], y[TRAIN], X_val=X_val, y_val=y_val)
    assert estimator.refit_n_iter_ == 0
    assert estimator.n_iter_ == 4  # no epoch is left for a refit
    score = estimator.validation_scores_["mixture"]
    assert score == pytest.approx(estimator.score(X_val, y_val), rel=1e-5)
    assert "valid_loss" in estimator.history_[0]
    alone = Estimator(**QUICK).fit(X[TRAIN], y[TRAIN])
    assert estimator.encoder_.columns_[0].center == alone.encoder_.columns_[0].center
    other = Estimator(**QUICK).fit(X[TRAIN], y[TRAIN], X_val=X_val + 1, y_val=1 - y_val)
    assert other.loss_curve_ == estimator.loss_curve_
    assert held_out(Estimator(**QUICK), X[TRAIN], X_val=X[:7], y_val=y[:7]) == list(range(7))


@BOTH
def test_own_rows_stop_training_and_choose_the_weights(Estimator):
    options = QUICK | {"max_epochs": 60, "n_iter_no_change": 2, "learning_rate": 0.05}
    wrong = Estimator(**options).fit(X[TRAIN], y[TRAIN], X_val=X_val, y_val=1 - y_val)
    assert wrong.n_iter_ < 10
    losses = [epoch["valid_loss"] for epoch in wrong.history_]
    assert np.argmin(losses) == len(losses) - 3


def test_own_rows_calibrate_and_choose_alpha():
    right, wrong = (
        MoDEClassifier(**QUICK, alpha="auto").fit(X[TRAIN], y[TRAIN], X_val=X_val, y_val=labels)
        for labels in (y_val, 1 - y_val)
    )
    assert right.temperature_ < 1 < wrong.temperature_
    assert right.alpha_ in (1, 10)


@pytest.mark.parametrize("class_weight", [{0: 1, 1: 9}, {1: 0.5}, "balanced"])
def test_classes_weigh_in_validation_as_in_training(class_weight):
    weight = np.linspace(0.5, 2, len(y))
    weight[3] = 0
    total = np.bincount(y[TRAIN], weights=weight[TRAIN])
    factors = total.mean() / total
    if class_weight != "balanced":
        factors = np.array([class_weight.get(label, 1) for label in (0, 1)])
    by_class = MoDEClassifier(**QUICK, class_weight=class_weight).fit(
        X[TRAIN], y[TRAIN], weight[TRAIN], X_val=X_val, y_val=y_val, sample_weight_val=weight[VALID]
    )
    weight *= factors[y]
    by_row = MoDEClassifier(**QUICK).fit(
        X[TRAIN], y[TRAIN], weight[TRAIN], X_val=X_val, y_val=y_val, sample_weight_val=weight[VALID]
    )
    losses = [[epoch["valid_loss"] for epoch in each.history_] for each in (by_class, by_row)]
    assert_allclose(*losses, rtol=1e-6)
    assert_allclose(by_class.predict_proba(X), by_row.predict_proba(X), rtol=1e-6)
    ones = VALID[y_val == 1]  # a class may be missing
    by_class.fit(X[TRAIN], y[TRAIN], X_val=X[ones], y_val=y[ones])


def test_rows_of_weight_zero_do_not_validate():
    weight = np.ones(60)
    weight[10:] = 0
    options = {"X_val": X_val, "y_val": y_val, "sample_weight_val": weight}
    assert held_out(MoDEClassifier(**QUICK), X, **options) == list(range(100, 110))


def test_tables_with_unseen_categories_and_missing_values():
    frame = pd.DataFrame({"number": X[:, 0], "kind": np.where(X[:, 1] > 0, "a", "b")})
    own = frame.iloc[VALID].copy()
    own.iloc[:5, 0] = np.nan
    own.iloc[:5, 1] = ["c", None, "", "a", "d"]
    classifier = MoDEClassifier(**QUICK).fit(
        frame.iloc[TRAIN], y[TRAIN], X_val=own, y_val=pd.Series(y_val)
    )
    score = classifier.validation_scores_["mixture"]
    assert score == pytest.approx(classifier.score(own, y_val), rel=1e-5)
    with pytest.raises(
        ValueError, match="X_val and y_val must be as X and y are: .* feature names"
    ):
        classifier.fit(frame.iloc[TRAIN], y[TRAIN], X_val=own[["kind", "number"]], y_val=y_val)


@BOTH
def test_a_warm_start_goes_on_with_other_validation_rows(Estimator):
    estimator = Estimator(**QUICK, warm_start=True).fit(X, y, X_val=X_val, y_val=y_val)
    estimator.fit(X, y, X_val=X[:20], y_val=y[:20])
    assert estimator.n_iter_ == 8
    estimator.fit(X, y)
    assert estimator.refit_n_iter_ > 0
    again = pickle.loads(pickle.dumps(estimator))
    assert_array_equal(again.predict(X), estimator.predict(X))


def test_several_targets():
    target = np.column_stack([y, X[:, 0]])
    regressor = MoDERegressor(**QUICK).fit(X, target, X_val=X_val, y_val=target[VALID])
    score = regressor.validation_scores_["mixture"]
    assert score == pytest.approx(regressor.score(X_val, target[VALID]), rel=1e-5)
    with pytest.raises(ValueError, match=r"y_val must have the 2 target\(s\) .*, got 1: pass"):
        regressor.fit(X, target, X_val=X_val, y_val=y_val)


OWN = {"X_val": X_val, "y_val": y_val}
GROUPS = np.repeat(np.arange(16), 10)


@BOTH
@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ({}, {"X_val": X_val}, "X_val needs y_val, got X_val alone: pass the targets"),
        ({}, {"y_val": y_val}, "y_val needs X_val, got none: pass the validation rows as X_val"),
        ({}, {"sample_weight_val": y_val}, "sample_weight_val needs X_val, got none"),
        ({"early_stopping": False}, OWN, "X_val needs early stopping, .* got early_stopping=False"),
        ({"validation_fraction": GroupKFold(3)}, OWN, "named once, got X_val and validation_fr"),
        ({}, OWN | {"y_val": y_val[:9]}, "X_val and y_val must be as .* numbers of samples"),
        ({}, OWN | {"X_val": X_val[:, 1:]}, "must be as X and y are: X has 3 features, but"),
        ({}, {"X_val": X[:0], "y_val": y[:0]}, "must be as X and y are: Found array with 0 sample"),
        ({}, OWN | {"y_val": np.full(60, np.nan)}, "Input y_val contains NaN"),
        ({}, OWN | {"sample_weight_val": y_val - 1.0}, "must be as X and y are: Negative values"),
        ({}, OWN | {"sample_weight_val": y_val * 0.0}, "(?i)as X and y are: .*at least one "),
        ({}, {"groups": GROUPS}, "groups are for a splitter, .*=0.1: pass .*=GroupShuffleSplit"),
        ({}, OWN | {"groups": GROUPS}, "groups are for a splitter, which keeps them together"),
        ({"validation_fraction": GroupKFold(3)}, {}, "got GroupKFold.* pass them to fit"),
        (
            {"validation_fraction": GroupKFold(3)},
            {"groups": GROUPS[1:]},
            "inconsistent numbers of samples",
        ),
        ({"validation_fraction": []}, {}, r"must give pairs .*, got \[\]: pass a splitter"),
        ({"validation_fraction": (TRAIN, VALID)}, {}, "validation_fraction must "),
        ({"validation_fraction": ([0, 1], [2, 3])}, {}, r"must give pairs .*, got \(\[0, 1\],"),
        ({"validation_fraction": [([0, 1], [1, 2])]}, {}, "none in both, got 2 and 2 with 1 in"),
        ({"validation_fraction": [([0, 1], [])]}, {}, "none in both, got 2 and 0 with 0"),
        ({"validation_fraction": [([0, 1], [160])]}, {}, "between 0 and 159, .*, got 160 to 160"),
        ({"validation_fraction": [([0, 1], [0.5])]}, {}, r"between 0 and 159, .*, got float64 \(1"),
    ],
)
def test_what_is_wrong_is_said(Estimator, parameters, options, message):
    with pytest.raises(ValueError, match=message):
        Estimator(**QUICK | parameters).fit(X, y, **options)


def test_classes_of_validation_rows_must_be_known():
    with pytest.raises(
        ValueError, match=r"y_val may only hold the classes of y, \[0, 1\], got \[2"
    ):
        MoDEClassifier(**QUICK).fit(X, y, X_val=X_val, y_val=y_val + 1)
    labels = np.array(["no", "yes"], dtype=object)
    missing = labels[y_val]
    missing[4] = None
    with pytest.raises(ValueError, match=r"Input y_val contains NaN\. .* none in row 4: drop such"):
        MoDEClassifier(**QUICK).fit(X, labels[y], X_val=X_val, y_val=missing)


# Splitters.


@BOTH
@pytest.mark.parametrize(
    ("cv", "expected"),
    [
        ([(TRAIN, VALID)], VALID),
        ([(np.arange(160) < 150, np.arange(160) >= 150)], np.arange(150, 160)),
        ([(VALID, TRAIN), (np.arange(50), np.arange(90, 95))], np.arange(90, 95)),
        (TimeSeriesSplit(3), np.arange(120, 160)),
        (TimeSeriesSplit(3, gap=10, test_size=5), np.arange(155, 160)),
        (PredefinedSplit(np.where(np.arange(160) < 30, 0, -1)), np.arange(30)),
    ],
)
def test_rows_of_a_splitter(Estimator, cv, expected):
    assert held_out(Estimator(**QUICK, validation_fraction=cv)) == expected.tolist()


@pytest.mark.parametrize("cv", [GroupShuffleSplit(2, test_size=0.2, random_state=0), GroupKFold(4)])
def test_groups_stay_together(cv):
    found = held_out(MoDEClassifier(**QUICK, validation_fraction=cv), groups=GROUPS)
    assert found == list(cv.split(X, y, GROUPS))[-1][1].tolist()
    assert np.bincount(GROUPS[found]).max() == np.bincount(GROUPS[found])[GROUPS[found[0]]] == 10


def test_positions_count_rows_of_weight_zero():
    weight = np.ones(160)
    weight[:100:2] = weight[110:150] = 0
    classifier = MoDEClassifier(**QUICK, validation_fraction=[(TRAIN, VALID)])
    expected = [*range(100, 110), *range(150, 160)]
    assert held_out(classifier, sample_weight=weight) == expected
    weight[100:] = 0
    with pytest.raises(ValueError, match="At least one of the validation rows needs a positive"):
        classifier.fit(X, y, sample_weight=weight)


@BOTH
def test_a_splitter_holds_out_of_few_rows_and_the_refit_learns_them(Estimator):
    few = np.arange(60)
    cv = TimeSeriesSplit(2)
    estimator = Estimator(**QUICK, validation_fraction=cv).fit(X[few], y[few])
    assert estimator.validation_scores_ is not None
    assert estimator.refit_n_iter_ > 0
    assert Estimator(**QUICK).fit(X[few], y[few]).validation_scores_ is None
    quiet = Estimator(**QUICK, validation_fraction=cv, early_stopping=False).fit(X[few], y[few])
    assert quiet.validation_scores_ is None
    assert Estimator(**QUICK, validation_fraction=cv).partial_fit(X, y).validation_scores_ is None


def test_a_class_may_have_validation_rows_only():
    labels = y.copy()
    labels[150:] = 2
    classifier = MoDEClassifier(
        **QUICK, validation_fraction=[(np.arange(140), np.arange(140, 160))]
    )
    assert classifier.fit(X, labels).classes_.tolist() == [0, 1, 2]


# Through scikit-learn's tools.


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_a_pipeline_transforms_the_validation_rows():
    if "transform_input" not in inspect.signature(Pipeline).parameters:
        pytest.skip(f"Pipelines of scikit-learn {sklearn.__version__} have no transform_input")
    classifier = MoDEClassifier(**QUICK).set_fit_request(X_val=True, y_val=True)
    pipeline = make_pipeline(StandardScaler(), classifier, transform_input=["X_val"])
    pipeline.fit(100 + 50 * X[TRAIN], y[TRAIN], X_val=100 + 50 * X_val, y_val=y_val)
    score = pipeline[-1].validation_scores_["mixture"]
    assert score == pytest.approx(pipeline.score(100 + 50 * X_val, y_val), rel=1e-5)
    assert pipeline[-1].refit_n_iter_ == 0


def test_validation_rows_that_no_scaler_saw_are_warned_of():
    own = {"X_val": 100 + 50 * X_val, "y_val": y_val}
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**QUICK))
    with pytest.warns(UserWarning, match="X_val should hold rows such as those of X, but most of"):
        pipeline.fit(
            100 + 50 * X[TRAIN], y[TRAIN], **{f"modeclassifier__{k}": v for k, v in own.items()}
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "X_val should hold rows")
        MoDEClassifier(**QUICK).fit(100 + 50 * X[TRAIN], y[TRAIN], **own)


@pytest.mark.usefixtures("routing")
def test_searches_and_cross_validation_route_groups_and_rows():
    cv = GroupKFold(2)
    splitter = GroupShuffleSplit(1, test_size=0.25, random_state=0)
    classifier = MoDEClassifier(**QUICK, validation_fraction=splitter).set_fit_request(groups=True)
    search = GridSearchCV(classifier, {"alpha": [0, 1]}, cv=cv).fit(X, y, groups=GROUPS)
    assert search.best_estimator_.refit_n_iter_ > 0
    found = cross_validate(
        classifier, X, y, cv=cv, params={"groups": GROUPS}, return_estimator=True
    )
    assert all(each.validation_scores_ for each in found["estimator"])
    own = MoDEClassifier(**QUICK).set_fit_request(X_val=True, y_val=True)
    found = cross_validate(own, X, y, cv=2, params=OWN, return_estimator=True)
    for each in found["estimator"]:
        score = each.validation_scores_["mixture"]
        assert score == pytest.approx(each.score(X_val, y_val), rel=1e-5)


def test_a_splitter_is_a_parameter_like_others():
    cv = TimeSeriesSplit(3)
    classifier = MoDEClassifier(**QUICK, validation_fraction=cv)
    assert classifier.get_params()["validation_fraction"] is cv
    assert "TimeSeriesSplit" in repr(classifier)
    search = GridSearchCV(
        classifier, {"validation_fraction": [0.2, TimeSeriesSplit(2)]}, cv=2, error_score="raise"
    )
    assert search.fit(X, y).best_estimator_.validation_scores_
    again = pickle.loads(pickle.dumps(clone(classifier).fit(X, y)))
    assert again.validation_fraction.n_splits == 3
