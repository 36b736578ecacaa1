"""What a user reads when a teacher, its folds or the rows beside X are at fault."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.datasets import make_classification
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skmode import MoDEClassifier, MoDERegressor, RoutingCollapseWarning

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 2,
    "batch_size": 60,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "teacher_weight": 0.9,
    "random_state": 0,
}
X, y = make_classification(
    240, 5, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.1, random_state=0
)
TABLE = pd.DataFrame(X, columns=list("abcde"))


def teach(teacher, target=y, **options):
    """Teach a classifier, or for floats a regressor."""
    Estimator = MoDERegressor if target.dtype.kind == "f" else MoDEClassifier
    fit_options = {name: options.pop(name) for name in ("groups", "X_unlabeled") if name in options}
    return Estimator(**QUICK | options, teacher=teacher).fit(X, target, **fit_options)


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        (X, X[:9, :3], "X has 3 features"),
        (X, np.full((9, 5), "a"), "could not convert string"),
        (X, X[0], "Expected 2D array"),
        (X, X[:0], "0 sample"),
        (X, X[:9] * np.inf, "infinity"),
        (TABLE, TABLE.iloc[:9, :3], "feature names"),
        (TABLE, TABLE.iloc[:9, ::-1], "same order"),
        (TABLE, TABLE.iloc[:0], "0 sample"),
        (TABLE, TABLE.iloc[:9].set_axis(list("abcdd"), axis=1), "must be unique"),
    ],
)
def test_errors_name_x_unlabeled(counting, table, more, message):
    with pytest.raises(ValueError, match=f"(?s)X_unlabeled must be as X is: .*{message}"):
        MoDEClassifier(**QUICK, teacher=counting).fit(table, y, X_unlabeled=more)
    assert counting.fits == []  # before the teacher took its time


@pytest.mark.parametrize("name", ["X_unlabeled", "X_val"])
def test_missing_values_that_the_teacher_cannot_read(name):
    others = {name: np.where(X[:9] > 0, np.nan, X[:9])}
    if name == "X_val":
        others["y_val"] = y[:9]
    with pytest.raises(ValueError, match="contains NaN") as raised:
        MoDEClassifier(**QUICK, teacher=LogisticRegression()).fit(X, y, **others)
    assert raised.value.__notes__ == [
        f"This happened while fold 1 of 5 of the teacher LogisticRegression predicted {name}."
    ]


class Fails(DecisionTreeClassifier):
    """Cannot predict."""

    def predict_proba(self, X):
        raise RuntimeError("no")


class FailsOnValues(DecisionTreeRegressor):
    """Cannot predict."""

    def predict(self, X):
        raise RuntimeError("no")


class FailsOnFewRows(DecisionTreeClassifier):
    """Cannot predict as many rows as a fold has."""

    def predict_proba(self, X):
        if len(X) < 100:
            raise RuntimeError("no")
        return super().predict_proba(X)


@pytest.mark.parametrize(
    ("teacher", "target", "note"),
    [
        (Fails(), y, "fold 1 of 3 of the teacher Fails predicted rows of X"),
        (FailsOnValues(), X[:, 0], "fold 1 of 3 of the teacher FailsOnValues predicted rows of X"),
        ([LogisticRegression(), FailsOnFewRows()], y, "fold 1 of 3 of the teacher FailsOnFewRows"),
    ],
)
def test_a_teacher_that_cannot_predict_is_named(teacher, target, note):
    with pytest.raises(RuntimeError, match="no") as raised:
        teach(teacher, target, teacher_cv=3)
    assert note in raised.value.__notes__[0]


class Secretive(LogisticRegression):
    """Has a parameter that nobody else should read."""

    def __init__(self, api_key="12345"):
        super().__init__()
        self.api_key = api_key


class NoEstimator:
    """Shows a secret, and cannot predict."""

    def fit(self, X, y):
        return self

    def __repr__(self):
        return "NoEstimator('12345')"


@pytest.mark.parametrize(
    ("teacher", "given", "got"),
    [
        (Secretive("12345"), {"soft_targets": np.eye(3)[y]}, "teacher=Secretive as well"),
        ([Secretive("12345")], {"soft_targets": np.eye(3)[y]}, "teacher=Secretive as"),
        (NoEstimator(), {}, "got an object of NoEstimator: pass an instance"),
        (LogisticRegression, {}, "got the class LogisticRegression: pass an instance"),
    ],
)
def test_messages_hold_no_parameters_of_a_teacher(teacher, given, got):
    with pytest.raises((TypeError, ValueError), match=got) as raised:
        MoDEClassifier(**QUICK, teacher=teacher).fit(X, y, **given)
    assert "12345" not in str(raised.value)


def test_probabilities_of_one_class():
    with pytest.raises(ValueError, match=r"of the second class make np.c_\[1 - p, p\]"):
        MoDEClassifier(**QUICK).fit(X, y > 0, soft_targets=np.full(240, 0.5))
    with pytest.raises(ValueError, match="for each class or target.$"):
        MoDEClassifier(**QUICK).fit(X, y, soft_targets=np.full(240, 0.5))


def test_prefit_is_no_way_to_divide_rows():
    with pytest.raises(ValueError, match=r"got 'prefit': .*teacher=FrozenEstimator\(model\)"):
        teach(LogisticRegression(), teacher_cv="prefit")


@pytest.mark.parametrize("wrap", [lambda vote: vote, lambda vote: make_pipeline(vote)])
def test_a_hard_vote_is_refused_after_one_fold(counting, wrap):
    with pytest.raises(TypeError, match='must have predict_proba, but fold 1 of 5.*voting="soft"'):
        teach(wrap(VotingClassifier([("tree", counting)])))
    assert len(counting.fits) == 1


def test_a_list_is_refused_after_one_fold_of_each(counting):
    with pytest.raises(
        TypeError, match="must have predict_proba, but fold 1 of 5 of the teacher V"
    ):
        teach([counting, VotingClassifier([("bayes", GaussianNB())])])
    assert len(counting.fits) == 1


def test_one_row_cannot_be_divided():
    model = MoDERegressor(**QUICK | {"early_stopping": False}, teacher=Ridge())
    with pytest.raises(ValueError, match="others to predict, got 1 sample to train on: pass more"):
        model.fit(X[:1], X[:1, 0])


def test_the_progress_names_the_mixture_that_is_compared(capsys):
    teach(LogisticRegression(), teacher_weight="auto", verbose=1)
    bars = capsys.readouterr().err.replace("\r", "\n").splitlines()
    compared = [bar for bar in bars if "MoDEClassifier, fold 5 of 5" in bar]
    assert compared
    assert all(bar.startswith("without teacher: ") for bar in compared)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (X[:, 0], {"teacher_cv": 500}, "rows to train on, 192, got 500: pass teacher_cv=192 or"),
        (y, {"teacher_cv": 100}, r"rows of the most frequent class, \d+, got 100: pass teacher_cv"),
        (
            X[:, 0],
            {"early_stopping": False, "groups": np.arange(240) % 3},
            "groups, 3, got 5: pass teacher_cv=3 or less, or ready predictions as soft_targets",
        ),
        (
            y,
            {"early_stopping": False, "groups": np.zeros(240)},
            "groups, 1, got 5: pass more groups",
        ),
    ],
)
def test_too_many_folds(target, options, message):
    teacher = Ridge() if target.dtype.kind == "f" else LogisticRegression()
    with pytest.raises(ValueError, match=f"teacher_cv must not exceed the number of {message}"):
        teach(teacher, target, **options)


@pytest.mark.parametrize(("n_rows", "cure"), [(4, r"teacher_cv=\d"), (1, "more of its rows")])
def test_a_class_with_fewer_rows_than_folds(n_rows, cure):
    labels = np.where(y == 2, 1, y)
    labels[:n_rows] = 9
    with pytest.warns(UserWarning, match=f"row in each of the 5 folds.*: pass {cure}") as warned:
        teach(LogisticRegression(), labels)
    assert not any("least populated" in str(each.message) for each in warned)


def test_the_warning_of_weights_says_how_metadata_is_routed():
    classifier = MoDEClassifier(**QUICK, teacher=KNeighborsClassifier())
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.warns(UserWarning, match=r"ask for them with set_fit_request\(sample_weight"),
    ):
        classifier.fit(X, y, sample_weight=np.linspace(1, 2, 240))


def test_unlabelled_rows_that_no_scaler_saw():
    model = MoDEClassifier(**QUICK, teacher=LogisticRegression())
    pipeline = make_pipeline(StandardScaler(), model)
    message = r"X_unlabeled should hold rows .* in 5 of 5 columns.*'x0'.*transform_input="
    with pytest.warns(UserWarning, match=message):
        pipeline.fit(100 + 10 * X, y, modeclassifier__X_unlabeled=100 + 10 * X)
    shifted = X.copy()
    shifted[:, :2] += 50
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", RoutingCollapseWarning)
        model.fit(X, y, X_unlabeled=shifted)


def test_no_number_of_processes():
    with pytest.raises(ValueError, match="'n_jobs' parameter of MoDEClassifier must be.*Got 0"):
        teach(LogisticRegression(), n_jobs=0)
    teach(LogisticRegression(), n_jobs=1)


def test_a_cache_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match=r"memory must name a folder that can be written, got .*file"):
        teach(LogisticRegression(), memory=str(file))


def test_a_teacher_that_is_no_estimator_of_scikit_learns():
    """It has neither tags nor get_params."""

    class Nearest:
        def fit(self, X, y):
            self.model = KNeighborsClassifier().fit(X, y)
            return self

        def predict(self, X):
            return self.model.predict(X)

        def predict_proba(self, X):
            return self.model.predict_proba(X)

    assert teach(Nearest()).teacher_names_ == ["Nearest"]
