"""Ready predictions of a teacher: what fit and report make of them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

from skmode import MoDEClassifier, MoDERegressor, TeacherSawRowsWarning
from skmode.inspection._report.measuring import measure

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
    pytest.mark.filterwarnings("ignore::skmode.TeacherSawRowsWarning"),
]

QUICK = {
    "n_experts": 2,
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "batch_size": 60,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "teacher_weight": 0.9,
    "random_state": 0,
}
X, y = make_classification(
    200, 5, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.1, random_state=0
)
VALUES = X @ np.array([1.0, -2.0, 0.5, 0.0, 1.0])
SOFT = np.random.default_rng(0).dirichlet(np.ones(3), size=len(y))
MEASURED = {
    "sample_weight": None,
    "tolerance": None,
    "n_repeats": 1,
    "max_samples": 50,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def fitted():
    """Return a classifier and a regressor that nobody taught, for a report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MoDEClassifier(**QUICK).fit(X, y), MoDERegressor(**QUICK).fit(X, VALUES)


def by_fit(fitted, target, soft_targets):
    """Teach by soft targets."""
    is_classifier = isinstance(fitted, MoDEClassifier)
    return (MoDEClassifier if is_classifier else MoDERegressor)(**QUICK).fit(
        X, target, soft_targets=soft_targets
    )


def by_report(fitted, target, soft_targets):
    """Compare with soft targets in a report."""
    return measure(fitted, X, target, soft_targets=soft_targets, **MEASURED)


each_reader = pytest.mark.parametrize("read", [by_fit, by_report])


@each_reader
@pytest.mark.parametrize(
    ("soft", "message"),
    [
        (3.0, r"must have shape \(200, 3\), got \(\): give one row for each row of X"),
        (scipy.sparse.csr_array(SOFT), r"must be a dense array .* got csr_array.*toarray\(\)"),
        (np.full((200, 3), "a"), "must be real numbers, got <U1 such as .'a'.*convert them"),
        (
            np.full((200, 3), 1e300),
            r"must be probabilities .*got \[1e\+300.* in row 0",
        ),
        (np.full((200, 3), 1e308), "must be probabilities that sum to one"),
        (SOFT + 1j, "must be real numbers, got complex128"),
        (SOFT[:, :, None], r"must have shape \(200, 3\), got \(200, 3, 1\)"),
        (SOFT[:-1], r"must have shape \(200, 3\), got \(199, 3\)"),
        (y, r"must have shape .* got \(200,\)"),
        (
            [[1, 0, 0], [1, 0]] * 100,
            "must be an array of numbers.*give all rows the same",
        ),
        (np.log(SOFT), "must be .*neither logits nor labels"),
        (np.where(SOFT > 0.9, np.nan, SOFT), "must be finite"),
        (
            pd.DataFrame(SOFT, columns=["a", "b", "c"]),
            "columns of soft_targets must be",
        ),
    ],
)
def test_refused_probabilities(fitted, read, soft, message):
    with pytest.raises((TypeError, ValueError), match=f"soft_targets {message}|The {message}"):
        read(fitted[0], y, soft)


@each_reader
@pytest.mark.parametrize(
    ("soft", "message"),
    [
        (3.0, r"must have shape \(200, 1\), got \(\)"),
        (scipy.sparse.csr_array(VALUES[:, None]), "must be a dense array or table"),
        (np.full(200, "a"), "must be real numbers"),
        (
            np.full(200, 1e300),
            "must lie within 1e.09 standard deviations.*units of y",
        ),
        (VALUES + 1j, "must be real numbers"),
        (VALUES[:, None, None], r"must .* got \(200, 1, 1\)"),
        (pd.Series(pd.date_range("2020", periods=200)), "must be real numbers, got datetime64"),
        (np.where(VALUES > 1, np.inf, VALUES), "must be finite"),
    ],
)
def test_refused_values(fitted, read, soft, message):
    with pytest.raises((TypeError, ValueError), match=f"soft_targets {message}"):
        read(fitted[1], VALUES, soft)


def test_a_report_reads_a_table_by_its_columns(fitted):
    expected = by_report(fitted[0], y, SOFT).teacher.predicted
    for names in ([2, 1, 0], ["2", "1", "0"]):
        table = pd.DataFrame(SOFT[:, ::-1], columns=names)
        assert_array_equal(by_report(fitted[0], y, table).teacher.predicted, expected)
    assert_array_equal(expected, SOFT.argmax(axis=1))


BOTH = pd.DataFrame({"a": VALUES, "b": 5 - 3 * X[:, 1]})


class PredictsTable(LinearRegression):
    """Predicts a table whose columns are in another order than the targets'."""

    def __init__(self, names=("a", "b")):
        super().__init__()
        self.names = names

    def predict(self, X):
        return pd.DataFrame(super().predict(X), columns=list(self.names)).iloc[:, ::-1]


def test_a_regressor_reads_tables_by_the_columns_of_y():
    regressor = MoDERegressor(**QUICK)
    expected = regressor.fit(X, BOTH, soft_targets=BOTH.to_numpy()).predict(X)
    found = regressor.fit(X, BOTH, soft_targets=BOTH[["b", "a"]]).predict(X)
    assert_array_equal(found, expected)
    for y_of_report in (BOTH, BOTH.to_numpy()):
        measured = by_report(regressor, y_of_report, BOTH[["b", "a"]])
        assert_array_equal(measured.teacher.predicted, BOTH)
    with pytest.raises(ValueError, match="columns of soft_targets must be those of y"):
        by_report(regressor, BOTH, BOTH.set_axis(["a", "c"], axis=1))
    with pytest.raises(
        ValueError, match=r"columns of soft_targets must be those of y, \['a', 'b'\]"
    ):
        regressor.fit(X, BOTH, soft_targets=BOTH.set_axis(["a", "c"], axis=1))
    # A single target, and columns of y without names, leave nothing to mix up.
    regressor.fit(X, BOTH[["a"]], soft_targets=pd.DataFrame({"predicted": VALUES}))
    regressor.fit(X, BOTH.to_numpy(), soft_targets=BOTH[["b", "a"]])


def test_a_teacher_may_predict_tables():
    plain = MoDERegressor(**QUICK, teacher=LinearRegression()).fit(X, BOTH)
    taught = MoDERegressor(**QUICK, teacher=PredictsTable()).fit(X, BOTH)
    assert_allclose(taught.predict(X), plain.predict(X))
    with pytest.raises(ValueError, match="PredictsTable must be those of y"):
        taught.set_params(teacher__names=("a", "c")).fit(X, BOTH)


def test_validation_rows_have_soft_targets_of_their_own():
    train, valid = slice(0, 120), slice(120, 200)
    weight = np.where(np.arange(80) % 2, 2.0, 0.0)
    model = LogisticRegression().fit(X[valid], y[valid])
    soft = model.predict_proba(X)
    given = {
        "X_val": X[valid],
        "y_val": y[valid],
        "sample_weight_val": weight,
        "soft_targets": soft[train],
    }
    plain = MoDEClassifier(**QUICK).fit(X[train], y[train], **given)
    assert plain.teacher_scores_ is None
    judged = MoDEClassifier(**QUICK).fit(X[train], y[train], **given, soft_targets_val=soft[valid])
    assert_array_equal(judged.predict_proba(X), plain.predict_proba(X))
    score = model.score(X[valid][weight > 0], y[valid][weight > 0])
    assert_allclose(judged.teacher_scores_["score"]["teacher"], score, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"soft_targets_val": SOFT}, "got no soft_targets: pass soft_targets as well"),
        ({"soft_targets": SOFT, "soft_targets_val": SOFT}, "got no X_val"),
        (
            {"soft_targets": SOFT, "soft_targets_val": SOFT[:9], "X_val": X, "y_val": y},
            r"soft_targets_val must have shape \(200, 3\), got \(9, 3\)",
        ),
    ],
)
def test_soft_targets_of_validation_rows_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        MoDEClassifier(**QUICK).fit(X, y, **given)


@pytest.mark.slow
def test_predictions_in_sample_are_worse_than_out_of_fold():
    """The student learns the noise of the labels from a forest that has seen them."""
    rows, target = make_classification(
        1300, 8, n_informative=5, flip_y=0.4, class_sep=1.5, random_state=0
    )
    train, test = slice(0, 300), slice(300, 1300)
    forest = RandomForestClassifier(30, random_state=0)
    folds = cross_val_predict(forest, rows[train], target[train], method="predict_proba")
    leaking = forest.fit(rows[train], target[train]).predict_proba(rows[train])
    student = MoDEClassifier(
        2,
        teacher_weight=1.0,
        learning_rate=0.02,
        early_stopping=False,
        max_epochs=20,
        random_state=0,
    )
    losses = []
    for soft in (folds, leaking):
        student.fit(rows[train], target[train], soft_targets=soft)
        losses.append(log_loss(target[test], student.predict_proba(rows[test])))
    assert losses[0] < 0.97 * losses[1]


def test_a_class_that_is_missing_in_a_part_of_the_rows():
    part = y != 2
    with pytest.raises(ValueError, match=r"\(133, 2\), got \(133, 3\).*StratifiedKFold"):
        MoDEClassifier(**QUICK).fit(X[part], y[part], soft_targets=SOFT[part])


def test_sparse_validation_rows_of_any_kind_may_have_weights():
    given = {"y_val": y[150:], "sample_weight_val": np.r_[0.0, np.ones(len(y) - 151)]}
    options = QUICK | {"teacher": RandomForestClassifier(5, random_state=0)}
    losses = [
        MoDEClassifier(**options).fit(X[:150], y[:150], X_val=each, **given).teacher_scores_["loss"]
        for each in (X[150:], scipy.sparse.coo_array(X[150:]))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_one_weight_for_all_validation_rows():
    """A number, which scikit-learn takes as a weight of each row."""
    classifier = MoDEClassifier(**QUICK, teacher=LogisticRegression(), synthetic_rows=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherSawRowsWarning)
        classifier.fit(X[:120], y[:120], X_val=X[120:], y_val=y[120:], sample_weight_val=2.0)
    assert classifier.teacher_scores_ is not None
