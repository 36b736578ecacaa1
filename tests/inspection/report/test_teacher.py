"""The report's section on a teacher."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode.inspection import report
from skmode.inspection._report.tables.teacher import fidelity


def test_classes(wine, wine_mixture, tmp_path, read, no_pictures):
    X, y = wine
    teacher = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(X, y)
    soft = teacher.predict_proba(X)
    path = report(wine_mixture, X, y, tmp_path / "r.html", n_repeats=1, soft_targets=soft)
    page = read(path)
    assert "How much of the teacher was kept?" in page.text
    top = wine_mixture.expert_predict(X)[np.arange(len(X)), wine_mixture.route(X)]
    scores = [teacher.score(X, y), (wine_mixture.predict(X) == y).mean(), (top == y).mean()]
    assert_allclose(page.numbers("fidelity", 1), scores)
    assert page.numbers("fidelity", 2)[2] == pytest.approx((top == teacher.predict(X)).mean())
    assert page.numbers("fidelity", 3)[0] == 1
    assert page.numbers("disagreement", 2) == sorted(page.numbers("disagreement", 2))[::-1]
    assert sum(page.numbers("disagreement", 1)) == len(X)
    of_all = page.numbers("asked", 2)
    assert_allclose([of_all[0], of_all[-1]], [scores[2], scores[0]])
    assert page.numbers("asked", 0) == [0, 0.05, 0.1, 0.2, 0.5, 1]
    proba = wine_mixture.expert_predict_proba(X)[np.arange(len(X)), wine_mixture.route(X)]
    least = page.numbers("asked", 1)[2]
    assert (proba.max(axis=1) <= least).mean() == pytest.approx(0.1, abs=0.02)


def test_values(diabetes, diabetes_mixture, tmp_path, read, no_pictures):
    X, y = diabetes
    predicted = Ridge().fit(X, y).predict(X)
    path = report(diabetes_mixture, X, y, tmp_path / "r.html", n_repeats=1, soft_targets=predicted)
    page = read(path)
    assert page.numbers("fidelity", 1)[0] == pytest.approx(root_mean_squared_error(y, predicted))
    assert page.numbers("fidelity", 2)[0] == 0
    assert page.numbers("asked", 2)[-1] == pytest.approx(page.numbers("fidelity", 1)[0])


def test_a_teacher_without_a_lead_has_no_share_of_it(wine, wine_mixture, look):
    X, y = wine
    wrong = np.eye(3)[(y + 1) % 3]
    table = fidelity(look(wine_mixture, X, y, soft_targets=wrong))
    assert np.isnan([row[3].value for row in table.rows]).all()


def test_an_error_above_that_of_a_constant_is_no_lead(diabetes, diabetes_mixture, look):
    X, y = diabetes
    table = fidelity(look(diabetes_mixture, X, y, soft_targets=-y))
    assert np.isnan([row[3].value for row in table.rows]).all()


def test_findings(wine, wine_mixture, findings):
    X, y = wine
    perfect = np.eye(3)[y]
    found = findings(wine_mixture, X, y, soft_targets=perfect, margin=0.5)
    assert "The top expert is as good as the teacher" in found
    found = findings(wine_mixture, X, y)
    assert not any("teacher" in title for title in found)


def test_no_section_without_a_teacher(wine_page):
    assert "teacher" not in wine_page.ids


@pytest.mark.parametrize("shape", [(178,), (178, 2), (10, 3)])
def test_wrong_shapes(wine, wine_mixture, look, shape):
    with pytest.raises(ValueError, match=r"soft_targets must have shape \(178, 3\)"):
        look(wine_mixture, *wine, soft_targets=np.ones(shape))
