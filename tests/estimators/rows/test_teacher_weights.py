"""How much a teacher counts, if it teaches at all: teacher_weight="auto"."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skmode import MoDEClassifier, MoDERegressor
from skmode._estimators.rows import lessons

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


def test_weight_by_the_rows_held_out(monkeypatch):
    monkeypatch.setattr(lessons, "FEW_VALIDATION_ROWS", 1)
    teacher = LogisticRegression()
    resolve, tried = MoDEClassifier._resolve_teacher_weights, []

    def record(*args, **kwargs):
        tried.append(resolve(*args, **kwargs))
        return tried[-1]

    monkeypatch.setattr(MoDEClassifier, "_resolve_teacher_weights", record)
    classifier = MoDEClassifier(**QUICK | {"teacher_weight": "auto"}, teacher=teacher).fit(X, y)
    (weights,) = tried
    assert weights[0] == 0
    assert 0.1 <= weights[1] <= 0.9
    losses = {
        weight: min(
            epoch["valid_loss"]
            for epoch in MoDEClassifier(**QUICK | {"teacher_weight": weight}, teacher=teacher)
            .fit(X, y)
            .history_
        )
        for weight in weights
    }
    assert classifier.teacher_weight_ == min(losses, key=losses.get)
    found = classifier.teacher_scores_
    assert {"plain", "constant"} <= set(found["loss"])
    lead = found["loss"]["plain"] - found["loss"]["teacher"]
    if lead > 0:
        kept = (found["loss"]["plain"] - found["loss"]["top_expert"]) / lead
        assert_allclose(found["kept"]["top_expert"], kept)
    classifier.set_params(warm_start=True, max_epochs=2).fit(X, y)
    assert classifier.partial_fit(X, y).teacher_weight_ == 0  # nobody taught
    small = MoDEClassifier(teacher=teacher, max_epochs=1, early_stopping=False).fit(X, y)
    assert 0.1 <= small.teacher_weight_ <= 0.9  # nothing is held out, so it is trusted


@pytest.mark.parametrize(
    ("teacher", "better"), [(LogisticRegression(), True), (DummyClassifier(), False)]
)
def test_weight_out_of_fold(teacher, better):
    """Few validation rows decide nothing: teacher and mixture are compared on the folds."""
    options = QUICK | {"teacher_weight": "auto"}
    trained, validated = np.arange(180), np.arange(180, 240)
    classifier = MoDEClassifier(**options | {"validation_fraction": [(trained, validated)]})
    classifier.set_params(teacher=teacher).fit(X, y)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    each = {}
    for name, model in {
        "teacher": teacher,
        "plain": MoDEClassifier(**QUICK | {"validation_fraction": 0.1}),
    }.items():
        predicted = cross_val_predict(
            model, X[trained], y[trained], cv=folds, method="predict_proba"
        )
        expected = log_loss(y[trained], predicted)
        assert classifier.out_of_fold_loss_[name] == pytest.approx(expected, rel=1e-5)
        each[name] = -np.log(predicted[np.arange(180), y[trained]])
    error = np.std(each["teacher"] - each["plain"]) / np.sqrt(180)
    assert classifier.out_of_fold_loss_["standard_error"] == pytest.approx(error, rel=1e-5)
    shares = np.bincount(y[trained]) / len(trained)
    noise = classifier.out_of_fold_loss_["teacher"] / -np.log(shares[y[trained]]).mean()
    # The validation rows are predicted as well, by a teacher that did not see them.
    assert classifier.teacher_weight_ == (pytest.approx(noise, abs=0.05) if better else 0)
    assert "plain" in classifier.teacher_scores_["loss"]
    assert classifier.set_params(teacher_weight=0.5).fit(X, y).out_of_fold_loss_ is None


def test_only_a_clearly_worse_teacher_is_refused():
    """A difference within two standard errors is chance: whoever passes a teacher has a reason."""
    options = QUICK | {"teacher_weight": "auto", "max_epochs": 8}
    outcomes = set()
    for regularization in (1e-3, 7e-3, 1.0):
        classifier = MoDEClassifier(**options, teacher=LogisticRegression(C=regularization))
        found = classifier.fit(X, y).out_of_fold_loss_
        behind = (found["teacher"] - found["plain"]) / found["standard_error"]
        assert (classifier.teacher_weight_ == 0) == (behind >= 2)
        outcomes.add("worse" if behind >= 2 else "level" if behind > 0 else "better")
    assert outcomes == {"worse", "level", "better"}


def test_a_teacher_that_is_no_better_than_a_constant_does_not_teach():
    """Also where no rows are held out that could tell."""
    options = QUICK | {"teacher_weight": "auto", "early_stopping": False}
    wrong = DummyRegressor(strategy="constant", constant=100.0)
    regressor = MoDERegressor(**options, teacher=wrong).fit(X, VALUES)
    assert regressor.teacher_weight_ == 0
    alone = MoDERegressor(**options).fit(X, VALUES)
    assert_allclose(regressor.predict(X), alone.predict(X))
    classifier = MoDEClassifier(**options).fit(X, y, soft_targets=np.eye(3)[(y + 1) % 3])
    assert classifier.teacher_weight_ == 0
    same = MoDERegressor(**options, teacher=LinearRegression()).fit(X, np.ones(len(X)))
    assert same.teacher_weight_ == 0.5  # a constant explains all


REFUSED = 'With teacher_weight="auto" a teacher teaches only if it helps, but {} does not: '


def test_a_refused_teacher_is_warned_of():
    options = QUICK | {"teacher_weight": "auto"}
    classifier = MoDEClassifier(**options, teacher=DummyClassifier(), warm_start=True)
    with pytest.warns(UserWarning, match=REFUSED.format("DummyClassifier")) as warned:
        classifier.fit(X, y)
    (message,) = [str(each.message) for each in warned]
    found = classifier.out_of_fold_loss_
    assert f"loss is {found['teacher']:.3g}, that of the mixture without it " in message
    assert f"{found['plain']:.3g}. So" in message
    assert "CalibratedClassifierCV; or pass a number such as 0.5 as teacher_weight" in message
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(X, y)  # a warm start keeps the weight
        MoDEClassifier(**options, teacher=LogisticRegression()).fit(X, y)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_constant_that_is_far_off_is_warned_of(early_stopping):
    options = QUICK | {"teacher_weight": "auto", "early_stopping": early_stopping}
    wrong = DummyRegressor(strategy="constant", constant=100.0)
    why = "out-of-fold loss is" if early_stopping else r"loss is .* times that of a constant"
    with pytest.warns(UserWarning, match=REFUSED.format("DummyRegressor") + f"its {why}.*improve"):
        MoDERegressor(**options, teacher=wrong).fit(X, VALUES)


def test_a_teacher_whom_the_validation_rows_refuse_is_warned_of():
    options = QUICK | {"teacher_weight": "auto"}
    soft = 0.7 / 3 + 0.3 * np.eye(3)[(y + (np.arange(240) % 3 == 0)) % 3]
    with pytest.warns(
        UserWarning,
        match=REFUSED.format("soft_targets") + r"with it the .* than the \d\S* without it; its own",
    ):
        MoDEClassifier(**options | {"max_epochs": 30}).fit(X, y, soft_targets=soft)


def test_a_teacher_without_weight_is_not_fitted(counting):
    options = QUICK | {"teacher_weight": 0, "early_stopping": False}
    groups = np.arange(240) // 3
    classifier = MoDEClassifier(**options, teacher=counting).fit(X, y, groups=groups)
    assert counting.fits == []
    assert classifier.teacher_weight_ == 0
    assert classifier.teacher_names_ == []
    alone = MoDEClassifier(**options).fit(X, y)
    assert_allclose(classifier.predict_proba(X), alone.predict_proba(X))
    with pytest.raises(TypeError, match="must be a classifier"):
        classifier.set_params(teacher=LinearRegression()).fit(X, y)


def test_weight_out_of_fold_of_values():
    options = QUICK | {"teacher_weight": "auto", "max_epochs": 1}
    weight = np.linspace(0, 2, len(X))
    regressor = MoDERegressor(**options, teacher=LinearRegression(), loss="absolute_error")
    regressor.fit(X, VALUES, sample_weight=weight)
    found = regressor.out_of_fold_loss_
    assert 0 < found["teacher"] < found["plain"]
    assert 0.1 < regressor.teacher_weight_ < 0.5


@pytest.mark.parametrize("before", [None, "mixture"])
def test_the_first_teacher_of_a_warm_start_has_its_own_weight(before):
    """The weight of a name says nothing of an estimator, nor the reverse."""
    options = QUICK | {"teacher_weight": "auto", "max_epochs": 2, "warm_start": True}
    classifier = MoDEClassifier(**options, teacher=before, refit_fraction=0.5).fit(X, y)
    assert classifier.teacher_weight_ == (0.5 if before else 0)
    classifier.set_params(teacher=LogisticRegression()).fit(X, y)
    weight = classifier.teacher_weight_
    assert 0.7 < weight < 0.8
    former = [] if before is None else [before]
    assert classifier.teacher_names_ == [*former, "LogisticRegression"]
    classifier.fit(X, y)
    assert classifier.teacher_weight_ == weight
    classifier.set_params(teacher=before).fit(X, y)
    assert classifier.teacher_weight_ == (0.5 if before else 0)


def test_a_warm_start_weighs_another_teacher_anew():
    options = QUICK | {"teacher_weight": "auto", "warm_start": True}
    classifier = MoDEClassifier(**options, teacher=DummyClassifier()).fit(X, y)
    assert classifier.teacher_weight_ == 0
    classifier.set_params(teacher=LogisticRegression(C=1e-3)).fit(X, y)
    assert classifier.out_of_fold_loss_ is not None
    assert classifier.teacher_weight_ == 0  # and with a parameter of another value:
    weight = classifier.set_params(teacher__C=1.0).fit(X, y).teacher_weight_
    assert 0.5 < weight < 0.9
    assert classifier.fit(X, y).teacher_weight_ == weight
    assert classifier.out_of_fold_loss_ is None  # it was not compared again
