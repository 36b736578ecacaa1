"""Mixtures taught by other estimators, as users see it."""

import copy
import math
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification, make_regression
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    TimeSeriesSplit,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from skorch.callbacks import Callback, GradientNormClipping

from skmode import MoDEClassifier, MoDERegressor, TeacherSawRowsWarning
from skmode._estimators.rows import lessons
from skmode._estimators.rows.teaching import copy_unfitted
from skmode._training import trainer
from skmode._training.net import MixtureNet
from skmode.nn import Dropout

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
    pytest.mark.filterwarnings("error::skmode.TeacherSawRowsWarning"),
    pytest.mark.filterwarnings("ignore:With teacher_weight=.auto. a teacher teaches only"),
]

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 4,
    "batch_size": 60,
    "learning_rate": 0.02,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "teacher_weight": 0.9,
    "random_state": 0,
}
X, y = make_classification(
    240, 5, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.1, random_state=0
)
VALUES = X @ np.array([1.0, -2.0, 0.5, 0.0, 1.0]) + np.sin(3 * X[:, 0])


@pytest.fixture
def batches(monkeypatch):
    """Record the batches that a mixture learns from."""
    seen = []
    step = MixtureNet.train_step

    def train_step(net, batch, **kwargs):
        seen.append(batch)
        return step(net, batch, **kwargs)

    monkeypatch.setattr(MixtureNet, "train_step", train_step)
    return seen


def test_each_row_is_taught_by_models_that_did_not_see_it(counting, batches):
    classifier = MoDEClassifier(**QUICK, teacher=counting, keep_teacher=True, synthetic_rows=0)
    classifier.fit(X, y)
    fits = counting.fits
    assert len(fits) == len(classifier.teachers_) == 5
    seen = [set(map(bytes, rows)) for rows, _, _ in fits]
    trained = set.union(*seen)
    assert len(trained) == 192  # none of the 48 validation rows
    for row in trained:
        assert sum(row in each for each in seen) == 4
    inputs = {row.astype(np.float32).tobytes(): row for row in X}
    for batch in batches:
        for numbers, soft in zip(batch.inputs[0].numpy(), batch.soft_target.numpy(), strict=True):
            row = inputs[numbers.tobytes()]
            unseen = [
                model
                for model, each in zip(classifier.teachers_, seen, strict=True)
                if bytes(row) not in each
            ]
            assert len(unseen) == (1 if bytes(row) in trained else 5)
            expected = np.mean([model.predict_proba(row[None])[0] for model in unseen], axis=0)
            assert_allclose(np.exp(soft), expected, atol=1e-5)
        assert_allclose(batch.soft_weight, 0.9)


def test_made_up_rows_are_taught_by_the_teacher_alone(counting, batches):
    MoDEClassifier(**QUICK, teacher=counting, synthetic_rows=2).fit(X, y)
    assert {len(batch) for batch in batches} == {120, 24, 72 + 24, 24 + 12, 72, 48, 12 + 12} & {
        len(batch) for batch in batches
    }
    half = len(batches[0]) // 2
    assert_allclose(batches[0].soft_weight[:half], 0.9)
    assert_allclose(batches[0].soft_weight[half:], 1)


@pytest.mark.parametrize("Estimator", [MoDEClassifier, MoDERegressor])
@pytest.mark.parametrize("synthetic_rows", [0, 1])
def test_further_rows_make_the_refit_longer(synthetic_rows, Estimator, monkeypatch):
    """They keep the experts from fitting noise: so no dropout, and as many epochs as before."""
    options = QUICK | {"max_epochs": 12, "dropout": 0.5, "n_iter_no_change": 3}
    calls, refit = [], trainer.refit

    def record(net, rows, epochs, rate, *others):
        calls.append((epochs, rate / 0.02, dropouts(net)))
        return refit(net, rows, epochs, rate, *others)

    def dropouts(net):
        return {each.p for each in net.module_.modules() if isinstance(each, Dropout)}

    monkeypatch.setattr(trainer, "refit", record)
    classifies = Estimator is MoDEClassifier
    Tree = DecisionTreeClassifier if classifies else DecisionTreeRegressor
    model = Estimator(**options, teacher=Tree(max_depth=3), synthetic_rows=synthetic_rows)
    model.fit(X, y if classifies else X[:, 0] * X[:, 1])
    best = 1 + np.argmin([epoch["valid_loss"] for epoch in model.history_])
    if synthetic_rows:  # probabilities tell more than values do
        assert calls == [(best, 2 if classifies else 1, {0})]
    else:
        ((epochs, rate, dropout),) = calls
        assert epochs == max(2, math.ceil(0.3 * best))
        assert rate <= 1
        assert dropout == {0.5}
    assert dropouts(model.net_) == {0.5}


def test_teacher_sees_rows_as_they_were_passed(frame):
    seen = []

    class Teacher(HistGradientBoostingClassifier):
        def fit(self, X, y, sample_weight=None):
            seen.append((X, y))
            return super().fit(X, y, sample_weight)

        def predict_proba(self, X):
            seen.append((X, None))
            return super().predict_proba(X)

    frame["word"] = frame["word"].astype("category")
    labels = np.where(frame["b"] > 0, "yes", "no").astype(object)
    options = QUICK | {"validation_fraction": 0.1}
    teacher = Teacher(categorical_features="from_dtype", max_iter=3)
    classifier = MoDEClassifier(**options, teacher=teacher)
    classifier.fit(frame, labels, X_unlabeled=frame.iloc[:20])
    for rows, _ in seen:
        assert_array_equal(rows.dtypes, frame.dtypes)
        assert list(rows.columns) == list(frame.columns)
    assert set(seen[0][1]) == {"yes", "no"}
    assert classifier.predict_proba(frame).shape == (160, 2)


@pytest.mark.parametrize("kind", ["polars", "sparse", "list", "float32"])
def test_containers(kind):
    rows = np.where(np.abs(X) > 0.5, X, 0)
    teacher = DecisionTreeClassifier(max_depth=3)
    if kind == "polars":
        rows = pl.DataFrame(rows, schema=list("abcde"))
        teacher = make_pipeline(StandardScaler(), teacher)
    elif kind == "sparse":
        rows = scipy.sparse.coo_array(rows)
    elif kind == "list":
        rows = rows.tolist()
    else:
        rows = rows.astype(np.float32)
    classifier = MoDEClassifier(**QUICK, teacher=teacher).fit(rows, y, X_unlabeled=rows)
    assert classifier.teacher_scores_["score"]["mixture"] > 0.3


def test_weights_reach_teachers_that_take_them(counting):
    weight = np.where(np.arange(240) % 3, 1.0, 0.0) * np.linspace(0.5, 2, 240)
    classifier = MoDEClassifier(**QUICK, teacher=counting).fit(X, y, sample_weight=weight)
    by_row = {bytes(row): w for row, w in zip(X, weight, strict=True)}
    for rows, _, weights in counting.fits:
        assert_allclose(weights, [by_row[bytes(row)] for row in rows])
        assert weights.min() > 0
    counting.fits.clear()
    piped = Pipeline([("scale", StandardScaler()), ("tree", counting)])
    classifier.set_params(teacher=piped).fit(X, y, sample_weight=weight)
    assert all(weights.min() > 0 for _, _, weights in counting.fits)
    counting.fits.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        requested = clone(counting).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        classifier.set_params(teacher=make_pipeline(scaler, requested))
        classifier.fit(X, y, sample_weight=weight)
    assert all(weights.min() > 0 for _, _, weights in counting.fits)
    with pytest.warns(UserWarning, match=r"KNeighborsClassifier takes no.*: pass a teacher that"):
        classifier.set_params(teacher=KNeighborsClassifier()).fit(X, y, sample_weight=weight)


def test_rows_without_weight_are_as_if_they_were_not_there():
    weight = np.where(np.arange(240) % 4, 1.0, 0.0)
    kept = weight > 0
    teacher = DecisionTreeClassifier(max_depth=3, random_state=0)
    classifier = MoDEClassifier(**QUICK, teacher=teacher)
    soft = RandomForestClassifier(10, random_state=0).fit(X[::2], y[::2]).predict_proba(X)
    whole = clone(classifier).fit(X, y, sample_weight=weight).predict_proba(X)
    assert_array_equal(whole, clone(classifier).fit(X[kept], y[kept]).predict_proba(X))
    classifier.set_params(teacher=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherSawRowsWarning)
        whole = clone(classifier).fit(X, y, sample_weight=weight, soft_targets=soft)
        part = clone(classifier).fit(X[kept], y[kept], soft_targets=soft[kept])
    assert_array_equal(whole.predict_proba(X), part.predict_proba(X))


def test_class_weight_applies_to_the_teacher(batches):
    """A weight moves its probabilities as it moves the targets', so both teach the same."""
    teacher = LogisticRegression()
    options = QUICK | {"synthetic_rows": 0}
    plain = MoDEClassifier(**options, teacher=teacher).fit(X, y, X_unlabeled=X[:90])
    first = batches[0]
    batches.clear()
    weighted = MoDEClassifier(**options, teacher=teacher, class_weight={0: 3.0})
    weighted.fit(X, y, X_unlabeled=X[:90])
    odds = first.soft_target[:, 0] - first.soft_target[:, 1]
    moved = batches[0].soft_target[:, 0] - batches[0].soft_target[:, 1]
    assert_allclose(moved - odds, np.log(3), atol=1e-4)
    unlabelled = batches[0].soft_weight == 1
    assert 10 < unlabelled.sum() < 60
    share = first.soft_target.exp()[unlabelled, 0]
    weight = batches[0].sample_weight[unlabelled]
    assert_allclose(weight / weight[0], (1 + 2 * share) / (1 + 2 * share[0]), rtol=1e-4)
    assert plain.teacher_weight_ == 0.9


def test_a_class_that_a_fold_misses():
    labels = y.copy()
    labels[0] = 7
    teacher = DecisionTreeClassifier(max_depth=3)
    classifier = MoDEClassifier(**QUICK, teacher=teacher, keep_teacher=True).fit(X, labels)
    assert len({len(model.classes_) for model in classifier.teachers_}) == 2
    assert np.isfinite(classifier.predict_proba(X)).all()


@pytest.mark.slow
def test_lists_are_averaged(batches):
    teachers = [DecisionTreeClassifier(max_depth=3, random_state=0), LogisticRegression()]
    both = MoDEClassifier(**QUICK, teacher=teachers, synthetic_rows=0).fit(X, y)
    assert both.teacher_names_ == ["DecisionTreeClassifier", "LogisticRegression"]
    mean = batches[0].soft_target.exp()
    each = []
    for teacher in teachers:
        batches.clear()
        MoDEClassifier(**QUICK, teacher=teacher, synthetic_rows=0).fit(X, y)
        each.append(batches[0].soft_target.exp())
    assert_allclose(mean, (each[0] + each[1]) / 2, atol=1e-5)


def test_regression_with_one_and_several_targets(batches):
    teacher = Ridge()
    regressor = MoDERegressor(**QUICK, teacher=teacher).fit(X, VALUES)
    assert regressor.teacher_scores_["score"]["teacher"] > 0.8
    soft = batches[0].soft_target.numpy()
    assert np.corrcoef(soft[:60, 0], batches[0].target[:60, 0])[0, 1] > 0.9
    Y = np.column_stack([VALUES, 5 - 3 * X[:, 1]])
    both = MoDERegressor(**QUICK, teacher=[teacher, RandomForestRegressor(5)]).fit(X, Y)
    assert both.predict(X).shape == (240, 2)


def test_a_teacher_of_one_target_says_what_helps():
    class OneTarget(LinearRegression):
        def fit(self, X, y):
            if np.ndim(y) > 1:
                raise ValueError("y must be one-dimensional")
            return super().fit(X, y)

    Y = np.column_stack([VALUES, VALUES])
    with pytest.raises(ValueError, match="one-dimensional") as raised:
        MoDERegressor(**QUICK, teacher=OneTarget()).fit(X, Y)
    notes = " ".join(raised.value.__notes__)
    assert "MultiOutputRegressor" in notes
    assert "fold 1 of 5 of the teacher OneTarget" in notes


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (LinearSVC(), "CalibratedClassifierCV"),
        (VotingClassifier([("a", LogisticRegression())]), 'voting="soft"'),
        (Ridge(), "must be a classifier, got Ridge, which is a regressor: pass one such as Hist"),
        ([], "must name at least one"),
        ([LogisticRegression()] * 2 + [3], "must be an estimator"),
        ([LogisticRegression(), "ensemble"], 'teacher="ensemble"'),
        (LogisticRegression, "pass an instance"),
        (make_pipeline(StandardScaler(), RandomForestRegressor()), "let it teach a MoDERegressor"),
    ],
)
def test_refused_teachers(teacher, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MoDEClassifier(**QUICK, teacher=teacher).fit(X, y)


@pytest.mark.parametrize(
    "inside",
    [lambda stack: stack, lambda stack: [stack], make_pipeline],
    ids=["alone", "in a list", "in a Pipeline"],
)
def test_a_stack_with_the_default_final_estimator_teaches(inside):
    """Before it is fitted it has neither predict nor predict_proba."""
    base = [("tree", DecisionTreeClassifier(max_depth=3)), ("linear", LogisticRegression())]
    teacher = inside(StackingClassifier(base, cv=2))
    taught = MoDEClassifier(**QUICK, teacher=teacher, teacher_cv=2).fit(X, y)
    assert taught.teacher_scores_["score"]["teacher"] > 0.6


def test_a_classifier_cannot_teach_values():
    with pytest.raises(TypeError, match="must be a regressor.*let it teach a MoDEClassifier"):
        MoDERegressor(**QUICK, teacher=LogisticRegression()).fit(X, VALUES)


def test_predictions_that_are_not_finite_name_fold_and_teacher():
    class Broken(DecisionTreeClassifier):
        def predict_proba(self, X):
            return super().predict_proba(X) * np.nan

    with pytest.raises(ValueError, match="fold 1 of 3 of the teacher Broken must be finite"):
        MoDEClassifier(**QUICK, teacher=Broken(), teacher_cv=3).fit(X, y)


def test_groups_stay_together(counting):
    groups = np.arange(240) // 8
    of_row = {bytes(row): group for row, group in zip(X, groups, strict=True)}
    splitter = GroupShuffleSplit(1, test_size=0.1, random_state=0)
    options = QUICK | {"validation_fraction": splitter}
    for cv in (4, GroupKFold(4)):
        counting.fits.clear()
        MoDEClassifier(**options, teacher=counting, teacher_cv=cv).fit(X, y, groups=groups)
        whole = {of_row[bytes(row)] for rows, _, _ in counting.fits for row in rows}
        fitted = [{of_row[bytes(row)] for row in rows} for rows, _, _ in counting.fits]
        assert len(fitted) == 4
        assert all(len(whole - each) > 0 for each in fitted)
        assert sum(len(whole - each) for each in fitted) == len(whole)


def test_folds_of_the_users_own(counting, batches):
    folds = [(np.arange(100), np.arange(100, 200)), (np.arange(100, 200), np.arange(100))]
    classifier = MoDEClassifier(**QUICK, teacher=counting, teacher_cv=folds, synthetic_rows=0)
    classifier.fit(X, y)
    assert len(counting.fits) == 2
    # Rows 200 to 239 that are trained on have no prediction: the target alone teaches them.
    weights = np.concatenate([batch.soft_weight for batch in batches[: len(batches) // 2]])
    assert set(np.round(weights, 3)) == {0.0, np.float32(0.9).round(3)}
    MoDEClassifier(**QUICK, teacher=counting, teacher_cv=TimeSeriesSplit(3)).fit(X, y)
    with pytest.raises(ValueError, match="teacher_cv must give folds"):
        classifier.set_params(teacher_cv=[(np.arange(50), np.arange(50))]).fit(X, y)
    with pytest.raises(ValueError, match=r"teacher_cv must divide 192 rows.*Ask for fewer folds"):
        classifier.set_params(teacher_cv=KFold(200)).fit(X, y)
    with pytest.raises(ValueError, match="positions in teacher_cv must lie between 0 and 239"):
        classifier.set_params(teacher_cv=[([0, 1], [400])]).fit(X, y)


@pytest.mark.parametrize("name", ["X_val", "X_unlabeled"])
def test_a_teacher_gets_no_column_of_another_kind(name):
    """The mixture matches 101 and "101"; a teacher would take all of them as unseen."""
    codes = np.random.default_rng(0).integers(100, 103, len(y))
    table = pd.DataFrame({"code": codes, "x": X[:, 0]})
    others = {name: table.assign(code=codes.astype(str))}
    if name == "X_val":
        others["y_val"] = y
    with pytest.raises(ValueError, match=f"reads {name} as it is.*strings in column 'code'"):
        MoDEClassifier(**QUICK, teacher=LogisticRegression()).fit(table, y, **others)


def test_validation_rows_may_be_lists():
    found = MoDEClassifier(**QUICK, teacher=LogisticRegression()).fit(
        X[:200].tolist(), y[:200].tolist(), X_val=X[200:].tolist(), y_val=y[200:].tolist()
    )
    assert found.teacher_scores_ is not None


@pytest.mark.parametrize("sparse", ["X_unlabeled", pytest.param("X", marks=pytest.mark.slow)])
def test_one_of_rows_and_unlabeled_rows_may_be_sparse(sparse):
    forms = {"X": X, "X_unlabeled": X[:30]}
    forms[sparse] = scipy.sparse.csr_array(forms[sparse])
    options = QUICK | {"teacher": LogisticRegression(), "synthetic_rows": 0}
    dense = MoDEClassifier(**options).fit(X, y, X_unlabeled=X[:30])
    found = MoDEClassifier(**options).fit(forms["X"], y, X_unlabeled=forms["X_unlabeled"])
    assert_allclose(found.predict_proba(X), dense.predict_proba(X), atol=1e-5)


def test_groups_need_one_for_each_row():
    splitter = GroupShuffleSplit(1, test_size=0.1, random_state=0)
    for options in ({"validation_fraction": splitter}, {"early_stopping": False}):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            MoDEClassifier(**QUICK | options, teacher=LogisticRegression()).fit(
                X, y, groups=np.arange(30)
            )


@pytest.mark.parametrize("weight", [0, "auto"])
def test_a_teacher_without_weight_is_not_named(weight):
    options = QUICK | {"teacher_weight": weight}
    classifier = MoDEClassifier(**options, teacher=DummyClassifier()).fit(X, y)
    assert classifier.teacher_weight_ == 0
    assert classifier.teacher_names_ == []


def test_a_failed_warm_start_keeps_the_teacher_of_the_model():
    classifier = MoDEClassifier(**QUICK, teacher=DecisionTreeClassifier(max_depth=3))
    classifier.set_params(warm_start=True, teacher_weight=0.5, keep_teacher=True).fit(X, y)
    before, names = classifier.teachers_, classifier.teacher_names_
    few = LogisticRegression().fit(X[:, :2], y)
    with pytest.raises(ValueError, match="features"):
        classifier.set_params(teacher=FrozenEstimator(few)).fit(X, y)
    assert classifier.teacher_names_ == names == ["DecisionTreeClassifier"]
    assert classifier.teachers_ == before


def test_memory_tells_equal_teachers_apart(tmp_path):
    forests = [RandomForestClassifier(3), RandomForestClassifier(3)]
    options = QUICK | {"teacher": forests, "teacher_cv": 2, "keep_teacher": True}
    found = MoDEClassifier(**options, memory=str(tmp_path)).fit(X, y).teachers_
    assert not np.array_equal(found[0].predict_proba(X), found[2].predict_proba(X))


def test_groups_are_not_torn_apart_by_validation_rows(counting):
    with pytest.raises(ValueError, match="groups are for a splitter"):
        MoDEClassifier(**QUICK, teacher=counting).fit(X, y, groups=np.arange(240) // 8)


@pytest.mark.parametrize("names", [[2, 1, 0], ["2", "1", "0"]])
def test_a_table_of_soft_targets_names_its_classes(names):
    soft = np.random.default_rng(0).dirichlet(np.ones(3), size=len(y))
    named = pd.DataFrame(soft[:, ::-1], columns=names)
    expected = MoDEClassifier(**QUICK).fit(X, y, soft_targets=soft)
    found = MoDEClassifier(**QUICK).fit(X, y, soft_targets=named)
    assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    with pytest.raises(ValueError, match="must be those of y"):
        MoDEClassifier(**QUICK).fit(X, y, soft_targets=named.set_axis(["a", "b", "c"], axis=1))


def test_soft_targets_in_the_place_of_a_teacher(batches):
    soft = np.eye(3)[y] * 0.7 + 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherSawRowsWarning)
        classifier = MoDEClassifier(**QUICK).fit(X, y, soft_targets=soft)
    assert classifier.teacher_names_ == ["soft_targets"]
    assert_allclose(batches[0].soft_target.exp().max(dim=1).values, 0.8, atol=1e-6)
    assert len(batches[0]) == 60  # no rows are made up, because nobody could label them
    with pytest.raises(ValueError, match="leave out soft_targets"):
        classifier.set_params(teacher="mixture").fit(X, y, soft_targets=soft)
    classifier.set_params(teacher=None)
    for wrong, message in [
        (soft[:-1], r"must have shape \(240, 3\), got \(239, 3\)"),
        (soft[:, :2], r"must have shape \(240, 3\)"),
        (np.log(soft), "probabilities that sum to one"),
        (soft * np.nan, "must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            classifier.fit(X, y, soft_targets=wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherSawRowsWarning)
        regressor = MoDERegressor(**QUICK).fit(X, VALUES, soft_targets=VALUES + 0.1)
    assert regressor.teacher_names_ == ["soft_targets"]


def test_made_up_rows_have_categories_that_training_knows(batches):
    sizes = np.random.default_rng(0).choice([0.5, 1.5, 2.5], size=len(y))
    table = np.column_stack([X[:, :2], sizes])
    classifier = MoDEClassifier(
        **QUICK, teacher=LogisticRegression(), categorical_features=[2], synthetic_rows=2
    )
    classifier.fit(table, y)
    codes = np.concatenate([batch.inputs[1] for batch in batches])
    assert set(codes.ravel()) == {1, 2, 3}  # 0 is a category that training did not see


def test_unlabelled_rows(counting, batches):
    more = X[:50] + 0.01
    classifier = MoDEClassifier(**QUICK, teacher=counting, synthetic_rows=0)
    classifier.fit(X, y, X_unlabeled=more)
    known = {row.astype(np.float32).tobytes() for row in more}
    found = [
        (row.numpy().tobytes(), float(weight))
        for batch in batches
        for row, weight in zip(batch.inputs[0], batch.soft_weight, strict=True)
    ]
    assert {row for row, weight in found if weight == 1} == known
    for teacher in (None, "mixture"):
        with pytest.raises(ValueError, match="X_unlabeled needs a teacher"):
            MoDEClassifier(**QUICK, teacher=teacher).fit(X, y, X_unlabeled=more)
    with pytest.raises(ValueError, match="features"):
        classifier.fit(X, y, X_unlabeled=more[:, :3])


def test_unlabelled_rows_in_a_pipeline(batches):
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = MoDEClassifier(
            **QUICK, teacher=LogisticRegression(), synthetic_rows=0
        ).set_fit_request(X_unlabeled=True)
        steps = [("scale", StandardScaler()), ("model", classifier)]
        Pipeline(steps, transform_input=["X_unlabeled"]).fit(X, y, X_unlabeled=X[:30])
    scaled = StandardScaler().fit(X).transform(X[:30]).astype(np.float32)
    found = {
        row.numpy().tobytes()
        for batch in batches
        for row in batch.inputs[0][batch.soft_weight == 1]
    }
    assert found == {row.tobytes() for row in scaled}


def test_validation_rows_of_the_users_own(counting, batches):
    classifier = MoDEClassifier(**QUICK | {"validation_fraction": 0.1}, teacher=counting)
    weight = np.where(np.arange(60) % 2, 1.0, 0.0)
    classifier.fit(X[:180], y[:180], X_val=X[180:], y_val=y[180:], sample_weight_val=weight)
    assert sum(len(rows) for rows, _, _ in counting.fits) == 4 * 180
    assert 0 < classifier.teacher_scores_["score"]["teacher"] <= 1
    forest = RandomForestClassifier(30, random_state=0).fit(X[:180], y[:180])
    classifier.set_params(teacher=FrozenEstimator(forest))
    with pytest.warns(TeacherSawRowsWarning):
        classifier.fit(X[:180], y[:180], X_val=X[180:], y_val=y[180:])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: make_pipeline(StandardScaler(with_mean=False, with_std=False), model),
        lambda model: VotingClassifier([("forest", model)], voting="soft"),
    ],
)
def test_a_vote_of_frozen_models_may_have_seen_the_rows(wrap):
    rows, target = X[:180], y[:180]
    forest = RandomForestClassifier(30, random_state=0).fit(rows, target)
    given = {"X_val": X[180:], "y_val": y[180:]}
    student = MoDEClassifier(**QUICK | {"validation_fraction": 0.1})
    with pytest.warns(TeacherSawRowsWarning):
        student.set_params(teacher=wrap(FrozenEstimator(forest))).fit(rows, target, **given)
    student.set_params(teacher=wrap(forest)).fit(rows, target, **given)


def noisy(n_rows, seed):
    return make_classification(
        n_rows, 8, n_informative=5, flip_y=0.3, class_sep=1.5, shuffle=True, random_state=seed
    )


@pytest.mark.parametrize("classifies", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_frozen_teachers_that_saw_the_rows(classifies):
    """One that did not see them does not warn."""
    if classifies:
        rows, target = noisy(800, 0)
        forest, student = RandomForestClassifier(40, random_state=0), MoDEClassifier(**QUICK)
    else:
        rows, target = make_regression(800, 6, noise=60.0, random_state=0)
        forest, student = RandomForestRegressor(40, random_state=0), MoDERegressor(**QUICK)
    student.set_params(max_epochs=8)
    first, second = slice(0, 400), slice(400, 800)
    frozen = FrozenEstimator(clone(forest).fit(rows[first], target[first]))
    student.set_params(teacher=frozen).fit(rows[second], target[second])  # warns not
    with pytest.warns(TeacherSawRowsWarning, match="its loss on them is .* less than half of"):
        student.fit(rows[first], target[first])
    student.set_params(teacher=forest).fit(rows[first], target[first])


@pytest.mark.slow
def test_a_leaking_teacher_is_worse_than_one_that_is_fitted_on_folds():
    """The student learns the noise of the labels from a forest that has seen them."""
    rows, target = make_classification(
        1300, 8, n_informative=5, flip_y=0.4, class_sep=1.5, random_state=0
    )
    forest = RandomForestClassifier(30, random_state=0)
    train, test = slice(0, 300), slice(300, 1300)
    options = {"early_stopping": False, "max_epochs": 40, "n_experts": 2, "random_state": 0}
    student = MoDEClassifier(**options, teacher_weight=1.0, synthetic_rows=0)
    frozen = FrozenEstimator(clone(forest).fit(rows[train], target[train]))
    losses = []
    for teacher in (forest, frozen):
        student.set_params(teacher=teacher).fit(rows[train], target[train])
        losses.append(log_loss(target[test], student.predict_proba(rows[test])))
    assert losses[0] < 0.95 * losses[1]


def test_a_frozen_teacher_is_used_as_it_is(batches):
    model = LogisticRegression().fit(X, y)
    classifier = MoDEClassifier(**QUICK, teacher=FrozenEstimator(model), keep_teacher=True)
    classifier.fit(X, y)
    assert classifier.teachers_[0].estimator is model
    batch = batches[0]
    expected = model.predict_proba(batch.inputs[0].numpy())
    assert_allclose(batch.soft_target.exp(), expected, atol=1e-4)


@pytest.mark.slow
def test_a_search_fits_the_teacher_once_for_each_training_part(counting, tmp_path):
    classifier = MoDEClassifier(**QUICK, teacher=counting, memory=str(tmp_path), teacher_cv=3)
    search = GridSearchCV(classifier, {"alpha": [0.0, 1.0, 10.0]}, cv=2, refit=False)
    search.fit(X, y)
    assert len(counting.fits) == 2 * 3
    search.set_params(estimator__memory=None).fit(X, y)
    assert len(counting.fits) == 2 * 3 + 2 * 3 * 3


def test_joblib_memory_and_parallel_fits(tmp_path):
    teacher = DecisionTreeClassifier(max_depth=3, random_state=0)
    alone = MoDEClassifier(**QUICK, teacher=teacher).fit(X, y).predict_proba(X)
    memory = joblib.Memory(tmp_path, verbose=0)
    cached = MoDEClassifier(**QUICK, teacher=teacher, memory=memory, n_jobs=2)
    with joblib.parallel_config("threading"):
        assert_array_equal(cached.fit(X, y).predict_proba(X), alone)
        assert_array_equal(cached.fit(X, y).predict_proba(X), alone)


def test_progress_names_the_fold(capsys):
    teacher = DecisionTreeClassifier(max_depth=3)
    MoDEClassifier(**QUICK | {"max_epochs": 1}, teacher=teacher, verbose=1).fit(X, y)
    assert "DecisionTreeClassifier, fold 5 of 5" in capsys.readouterr().err


@pytest.mark.slow
def test_pickles_hold_no_model():
    plain = len(pickle.dumps(MoDEClassifier(**QUICK).fit(X, y)))
    forest = RandomForestClassifier(30, random_state=0)
    fitted = clone(forest).fit(X, y)
    for teacher in (forest, fitted, [fitted, forest]):
        taught = MoDEClassifier(**QUICK, teacher=teacher).fit(X, y)
        assert len(pickle.dumps(taught)) < 1.1 * plain + 4000
    assert hasattr(fitted, "estimators_")  # the user's own is untouched
    kept = MoDEClassifier(**QUICK, teacher=forest, keep_teacher=True).fit(X, y)
    assert len(pickle.loads(pickle.dumps(kept)).teachers_) == 5


def test_pickles_name_a_frozen_teacher():
    rows, target = noisy(480, 3)
    frozen = FrozenEstimator(LogisticRegression().fit(rows[240:], target[240:]))
    taught = MoDEClassifier(**QUICK, teacher=[frozen]).fit(rows[:240], target[:240])
    again = pickle.loads(pickle.dumps(taught))
    assert_array_equal(again.predict_proba(rows), taught.predict_proba(rows))
    assert taught.teacher == [frozen]
    assert clone(again).get_params()["teacher"][0].name == "LogisticRegression"
    with pytest.raises(ValueError, match=r"frozen LogisticRegression.*set_params\(teacher="):
        again.fit(rows, target)
    again.set_params(teacher=None).fit(rows, target)
    unfitted = pickle.loads(pickle.dumps(MoDEClassifier(teacher=frozen)))
    assert hasattr(unfitted.teacher.estimator, "coef_")  # as worker processes need it


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: make_pipeline(StandardScaler(with_mean=False, with_std=False), model),
        lambda model: [VotingClassifier([("forest", model)], voting="soft")],
        lambda model: CalibratedClassifierCV(model),
    ],
    ids=["pipeline", "vote in a list", "calibrated"],
)
def test_pickles_name_frozen_parts_of_a_teacher(wrap):
    forest = RandomForestClassifier(30, random_state=0).fit(X[:80], y[:80])
    teacher = wrap(FrozenEstimator(forest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherSawRowsWarning)
        taught = MoDEClassifier(**QUICK, teacher=teacher).fit(X[80:], y[80:])
    dumped = pickle.dumps(taught)
    assert len(dumped) < len(pickle.dumps(forest)) / 2
    assert taught.teacher is teacher
    again = pickle.loads(dumped)
    assert_array_equal(again.predict_proba(X), taught.predict_proba(X))
    repr(again)
    with pytest.raises(ValueError, match=r"place of the frozen RandomForestClassifier"):
        again.fit(X, y)
    whole = pickle.loads(pickle.dumps(taught.set_params(keep_teacher=True)))
    whole.fit(X[80:], y[80:])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_keep_the_teacher(duplicate):
    forest = RandomForestClassifier(3, random_state=0).fit(X[:120], y[:120])
    options = QUICK | {"keep_teacher": False, "warm_start": True, "max_epochs": 1}
    taught = MoDEClassifier(**options, teacher=[FrozenEstimator(forest)]).fit(X[120:], y[120:])
    copied = duplicate(taught)
    assert_array_equal(copied.teacher[0].predict(X), forest.predict(X))
    assert_array_equal(copied.predict_proba(X), taught.predict_proba(X))
    assert (copied.teacher[0].estimator is forest) == (duplicate is copy.copy)
    before = taught.predict_proba(X)
    copied.fit(X[120:], y[120:])
    if duplicate is copy.deepcopy:
        assert_array_equal(taught.predict_proba(X), before)
    fitted = RandomForestClassifier(3).fit(X, y)
    assert hasattr(duplicate(taught.set_params(teacher=fitted)).teacher, "estimators_")


def test_pickles_hold_the_teacher_if_asked():
    frozen = FrozenEstimator(LogisticRegression().fit(X[:120], y[:120]))
    taught = MoDEClassifier(**QUICK, teacher=frozen, keep_teacher=True).fit(X[120:], y[120:])
    again = pickle.loads(pickle.dumps(taught))
    assert again.teachers_[0] is again.teacher
    assert_array_equal(again.fit(X[120:], y[120:]).predict(X), taught.predict(X))


def test_parameters_of_the_teacher(counting):
    classifier = MoDEClassifier(**QUICK, teacher=counting)
    assert classifier.get_params()["teacher__depth"] == 3
    classifier.set_params(teacher__depth=1)
    assert clone(classifier).teacher.depth == 1
    search = GridSearchCV(classifier, {"teacher__depth": [1, 4]}, cv=2).fit(X, y)
    assert search.best_params_["teacher__depth"] in (1, 4)
    assert not hasattr(counting, "classes_")


@pytest.mark.slow
def test_fidelity():
    teacher = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    classifier = MoDEClassifier(**QUICK | {"max_epochs": 20}, teacher=teacher).fit(X, y)
    found = classifier.teacher_scores_
    assert set(found["loss"]) == {"teacher", "mixture", "top_expert", "constant"}
    assert found["loss"]["teacher"] < found["loss"]["constant"]
    lead = found["loss"]["constant"] - found["loss"]["teacher"]
    kept = (found["loss"]["constant"] - found["loss"]["mixture"]) / lead
    assert_allclose(found["kept"]["mixture"], kept)
    assert found["score"]["mixture"] == pytest.approx(classifier.validation_scores_["mixture"])
    plain = classifier.set_params(teacher=None).fit(X, y)
    assert plain.teacher_scores_ is None
    assert plain.teacher_names_ == []
    assert classifier.set_params(teacher=teacher, early_stopping=False).fit(X, y)
    assert classifier.teacher_scores_ is None
    assert classifier.teacher_names_ == ["HistGradientBoostingClassifier"]


@pytest.mark.filterwarnings("ignore:Training interrupted by user")
@pytest.mark.parametrize(
    "whose", ["plain", "teacher", "second alpha", "pipeline", "search", "calibrated"]
)
def test_an_interrupted_fold_ends_the_fit(whose, tmp_path, monkeypatch):
    """A mixture that a user cut short must not be compared, nor kept in the cache."""
    step, steps = MixtureNet.train_step, []
    whole = MoDEClassifier(**QUICK | {"n_experts": 3, "random_state": 0})
    teacher = {
        "plain": LogisticRegression(),
        "teacher": whole,
        "pipeline": make_pipeline(StandardScaler(), whole),
        "second alpha": clone(whole).set_params(alpha="auto", max_epochs=1),
        "search": GridSearchCV(whole, {"alpha": [0.0, 1.0]}, cv=2),
        "calibrated": CalibratedClassifierCV(whole, cv=2),
    }[whose]
    options = QUICK | {"teacher_weight": "auto", "memory": str(tmp_path), "teacher": teacher}

    def train_step(net, batch, **kwargs):
        steps.append(net)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return step(net, batch, **kwargs)

    expected = MoDEClassifier(**options | {"memory": None}).fit(X, y).out_of_fold_loss_
    with monkeypatch.context() as patch:
        patch.setattr(MixtureNet, "train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            MoDEClassifier(**options).fit(X, y)
    assert len(steps) == 5
    again = MoDEClassifier(**options).fit(X, y)
    assert again.out_of_fold_loss_ == pytest.approx(expected)


def test_the_comparison_runs_no_callback_but_clipping():
    begun = {"count": 0, "clip": 0}

    class Count(Callback):
        def on_train_begin(self, net, **kwargs):
            begun["count"] += 1

    class Clip(GradientNormClipping):
        def on_train_begin(self, net, **kwargs):
            begun["clip"] += 1

    options = QUICK | {"teacher_weight": "auto", "callbacks": [Count(), Clip(1.0)]}
    MoDEClassifier(**options, teacher=LogisticRegression(), refit_fraction=0).fit(X, y)
    assert begun["count"] == begun["clip"] - 5  # five folds


def test_warm_start_and_partial_fit(counting):
    classifier = MoDEClassifier(**QUICK, teacher=counting, warm_start=True).fit(X, y)
    before = classifier.n_iter_
    assert classifier.fit(X, y).n_iter_ > before
    counting.fits.clear()
    MoDEClassifier(**QUICK, teacher=counting).partial_fit(X, y)
    assert counting.fits == []


def test_a_mixture_that_learns_on_remembers_who_taught_it():
    teacher = LogisticRegression()
    classifier = MoDEClassifier(**QUICK, teacher=teacher, warm_start=True).fit(X, y)
    assert classifier.partial_fit(X, y).teacher_names_ == ["LogisticRegression"]
    classifier.set_params(teacher=None).fit(X, y)
    assert classifier.teacher_names_ == ["LogisticRegression"]
    classifier.set_params(teacher=DecisionTreeClassifier(max_depth=3)).fit(X, y).fit(X, y)
    assert classifier.teacher_names_ == ["LogisticRegression", "DecisionTreeClassifier"]
    assert classifier.set_params(warm_start=False, teacher=None).fit(X, y).teacher_names_ == []


def test_a_warm_start_keeps_the_weight_that_was_found():
    options = QUICK | {"teacher_weight": "auto", "warm_start": True}
    classifier = MoDEClassifier(**options, teacher=DummyClassifier()).fit(X, y)
    assert classifier.teacher_weight_ == 0
    assert classifier.fit(X, y).teacher_weight_ == 0


def test_a_teacher_that_cannot_be_cloned(counting):
    class Stubborn(DecisionTreeClassifier):
        def __init__(self, names=("a",)):
            super().__init__(max_depth=3)
            self.names = list(names)

        @classmethod
        def _get_param_names(cls):
            return ["names"]

    with pytest.raises(RuntimeError, match="Cannot clone"):
        clone(Stubborn(["a"]))
    for weight in (0.9, "auto"):
        options = QUICK | {"teacher_weight": weight}
        taught = MoDEClassifier(**options, teacher=Stubborn(["a"])).fit(X, y)
        assert (taught.out_of_fold_loss_ is None) == (weight == 0.9)
    vote = VotingClassifier([("a", Stubborn().fit(X, y)), ("b", LogisticRegression())])
    for each in (copy_unfitted(vote.estimators[0][1]), copy_unfitted(vote).estimators[0][1]):
        assert each.get_params() == {"names": ["a"]}
        assert not hasattr(each, "tree_")


def test_a_callback_that_cannot_be_cloned():
    class Counts(Callback):
        def __init__(self):
            self.epochs = 0

        def on_epoch_end(self, net, **kwargs):
            self.epochs += 1

    counts = Counts()
    with pytest.raises(TypeError):
        clone(counts)
    options = QUICK | {"teacher_weight": "auto", "callbacks": [counts], "refit_fraction": 0}
    taught = MoDEClassifier(**options, teacher=LogisticRegression()).fit(X, y)
    assert taught.out_of_fold_loss_ is not None
    assert counts.epochs >= 4


def test_a_fit_that_fails_in_the_teacher_leaves_no_half_fit():
    class Fails(DecisionTreeClassifier):
        def fit(self, X, y, sample_weight=None):
            raise RuntimeError("no")

    classifier = MoDEClassifier(**QUICK).fit(X, y)
    with pytest.raises(RuntimeError, match="no"):
        classifier.set_params(teacher=Fails()).fit(X, y)
    assert not hasattr(classifier, "net_")


def test_experts_predict_as_the_teacher_does():
    """One that predicts the same for all rows makes experts that do so."""
    options = QUICK | {"max_epochs": 20, "calibration": None, "inference": "top_expert"}
    dull = MoDEClassifier(**options | {"teacher_weight": 1}, teacher=DummyClassifier()).fit(X, y)
    plain = MoDEClassifier(**options).fit(X, y)
    spreads = [each.expert_predict_proba(X).std(axis=0).mean() for each in (dull, plain)]
    assert spreads[0] < 0.2 * spreads[1]
    deaf = MoDEClassifier(**options | {"teacher_weight": 0}, teacher=DummyClassifier()).fit(X, y)
    assert_allclose(deaf.predict_proba(X), plain.predict_proba(X), atol=1e-3)


def test_pipelines_as_teachers_read_categories(frame):
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["kind", "word"]),
        remainder="passthrough",
    )
    teacher = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=3))
    labels = (frame["b"] > 0).to_numpy()
    classifier = MoDEClassifier(**QUICK, teacher=teacher).fit(frame, labels)
    assert classifier.teacher_names_ == [
        "Pipeline(ColumnTransformer, HistGradientBoostingClassifier)"
    ]
    assert isinstance(frame, pd.DataFrame)
    assert lessons.SEEN_SHARE == 0.5
