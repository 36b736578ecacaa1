"""The figures of the report equal those of the inspection functions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmode.inspection import expert_attention, expert_probing, gate_history
from skmode.inspection._report.tables import general as tables


@pytest.mark.parametrize("task", ["classes", pytest.param("values", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_figures_equal_expert_probing(task, request):
    kind = {"classes": "wine", "values": "diabetes"}[task]
    X, y = request.getfixturevalue(kind)
    mixture = request.getfixturevalue(f"{kind}_mixture")
    page = request.getfixturevalue(f"{kind}_page")
    probing = expert_probing(mixture, X, y)
    experts = probing.experts
    columns = ["n_samples", "share", "score", "score_rest", "mixture_score"]
    for place, column in enumerate(columns, start=1):
        expected = experts[column].to_numpy(dtype=float)
        assert_allclose(page.numbers("experts", place), expected, rtol=1e-8, err_msg=column)
    overall = [probing.mixture_score, probing.top_expert_score]
    assert_allclose(page.numbers("scores", 1)[:2], overall)
    assert_allclose(page.matrix("matrix"), probing.score_matrix, rtol=1e-8)
    assert_allclose(page.matrix("consistency"), probing.consistency, rtol=1e-8)
    assert_allclose(page.numbers("errors", 1), probing.error_types["n_samples"])
    assert_allclose(page.numbers("errors", 3), probing.error_types["share_of_errors"])
    assert page.numbers("recognition", 1)[0] == pytest.approx(probing.gate_recognition_accuracy)


def test_attention_equals_expert_attention(wine, wine_mixture, wine_page):
    attention = expert_attention(
        wine_mixture, *wine, n_repeats=2, random_state=np.random.RandomState(0)
    )
    names = wine_page.words("attention")
    assert sorted(names) == sorted(wine[0])
    assert wine_page.header("attention") == ["feature", "expert 0", "expert 1", "expert 2", "gate"]
    expected = 100 * attention.importances.loc[names].to_numpy()
    assert_allclose(wine_page.matrix("attention"), expected, atol=1e-8)


def test_history_equals_gate_history(wine_mixture, wine_page):
    history = gate_history(wine_mixture)
    assert wine_page.header("history") == ["measure", "epoch 1", "epoch 2", "epoch 4"]
    rows = dict(zip(wine_page.words("history"), wine_page.matrix("history"), strict=True))
    epochs = [1, 2, 4]
    assert_allclose(
        rows["consistency of the experts"], history.measures.loc[epochs, "consistency"], rtol=1e-8
    )
    assert_allclose(rows["share of expert 1"], history.usage.loc[epochs, 1], rtol=1e-8)


def test_every_expert_alone_on_all_rows(wine, wine_mixture, wine_page):
    X, y = wine
    alone = (wine_mixture.expert_predict(X) == y.to_numpy()[:, None]).mean(axis=0)
    assert_allclose(wine_page.numbers("experts", 6), alone)
    who = wine_page.words("scores")[2]
    assert who == f"expert {alone.argmax()} for every row, the best single one"
    assert wine_page.numbers("scores", 1)[2] == pytest.approx(alone.max())
    assert wine_page.numbers("scores", 1)[3] == pytest.approx(y.value_counts(normalize=True).max())


def test_classes_and_where_they_go(wine, wine_mixture, wine_page):
    X, y = wine
    route, right = wine_mixture.route(X), wine_mixture.predict(X) == y
    for place, label in enumerate(wine_page.words("classes")):
        members = y == int(label)
        key = [float(key) for key, _ in wine_page.tables["classes"][place + 1][1:]]
        shares = np.bincount(route[members], minlength=3) / members.sum()
        assert_allclose(key, [members.sum(), right[members].mean(), *shares], rtol=1e-8)
    assert wine_page.numbers("classes", 1) == sorted(wine_page.numbers("classes", 1), reverse=True)


@pytest.mark.slow
def test_the_target_on_the_rows_of_each_expert(diabetes, diabetes_mixture, diabetes_page):
    X, y = diabetes
    route = diabetes_mixture.route(X)
    expected = [[np.sum(route == k), y[route == k].mean(), y[route == k].std()] for k in range(3)]
    assert_allclose(diabetes_page.matrix("classes"), expected, rtol=1e-8)


def test_cross_table_of_top_expert_and_mixture(six_rows, look):
    mixture, X, y = six_rows
    facts = look(mixture, X, y)
    cells = [[cell.value for cell in row[1:]] for row in tables.crossed(facts).rows]
    assert cells == [[2, 1], [1, 2]]  # rows 0 and 5, 3, 4, 1 and 2


def test_chance_recognition_and_gain_by_hand(six_rows, look):
    """Shares of right experts: 2/3, 1/3, 0, 1, 1/3, 1; row 2 has no right one."""
    facts = look(*six_rows)
    assert facts.chance_recognition == pytest.approx((2 / 3 + 1 / 3 + 1 + 1 / 3 + 1) / 5)
    # The gate chooses right on rows 0, 3 and 5, and wrongly on 1 and 4.
    assert facts.gate_gain.estimate == pytest.approx(3 / 5 - facts.chance_recognition)
