"""The report: its figures are the instruments', its words follow from them, its page is safe."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection import expert_attention, expert_probing, gate_history, report
from skmode.inspection._report import _findings, _intervals, _pictures, _tables, _words, _write
from skmode.inspection._report._facts import describe, measure

QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0, "balance": 0.1}


class Page(HTMLParser):
    """What a report says, without a browser."""

    VOID = frozenset(["meta", "link", "img"])

    def __init__(self, text):
        super().__init__()
        self.source = text
        self.tags, self.open, self.ids = [], [], []
        self.tables, self.pieces, self.scripts = {}, [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables[attributes["id"].removesuffix("-table")] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append([attributes.get("data-key"), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.pieces.append(data)
            if {"th", "td"} & set(self.open):
                self.rows[-1][-1][1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def header(self, table):
        return [text.strip() for _, text in self.tables[table][0]]

    def words(self, table, column=0):
        return [row[column][1].strip() for row in self.tables[table][1:]]

    def numbers(self, table, column):
        return [float(row[column][0] or "nan") for row in self.tables[table][1:]]

    def matrix(self, table, first=1):
        return [[float(key or "nan") for key, _ in row[first:]] for row in self.tables[table][1:]]


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def pictures(page):
    """Roots of the embedded pictures."""
    prefix = "data:image/svg+xml;base64,"
    found = []
    for image in page.all("img"):
        assert image["src"].startswith(prefix)
        data = base64.b64decode(image["src"].removeprefix(prefix), validate=True)
        found.append(ElementTree.fromstring(data))
    return found


def look(estimator, X, y, **options):
    """Facts alone, without a page."""
    defaults = {
        "sample_weight": None,
        "tolerance": None,
        "n_repeats": 2,
        "max_samples": None,
        "random_state": 0,
    }
    return measure(estimator, X, y, **defaults | options)


def findings(estimator, X, y, margin=0.01, **options):
    found = _findings.all_findings(look(estimator, X, y, **options), margin)
    return {finding.title: finding for finding in found}


@pytest.fixture(scope="module")
def wine_page(wine, wine_mixture, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "wine.html"
    assert report(wine_mixture, *wine, path, n_repeats=2) == path
    return read(path)


@pytest.fixture(scope="module")
def diabetes_page(diabetes, diabetes_mixture, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "diabetes.html"
    report(diabetes_mixture, *diabetes, path, n_repeats=1)
    return read(path)


# Figures.


@pytest.mark.parametrize("task", ["classes", "values"])
def test_the_figures_are_those_of_expert_probing(task, request):
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


def test_attention_is_that_of_expert_attention(wine, wine_mixture, wine_page):
    attention = expert_attention(
        wine_mixture, *wine, n_repeats=2, random_state=np.random.RandomState(0)
    )
    names = wine_page.words("attention")
    assert sorted(names) == sorted(wine[0])
    assert wine_page.header("attention") == ["feature", "expert 0", "expert 1", "expert 2", "gate"]
    expected = 100 * attention.importances.loc[names].to_numpy()
    assert_allclose(wine_page.matrix("attention"), expected, atol=1e-8)


def test_the_training_is_that_of_gate_history(wine_mixture, wine_page):
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


def test_the_target_on_the_rows_of_each_expert(diabetes, diabetes_mixture, diabetes_page):
    X, y = diabetes
    route = diabetes_mixture.route(X)
    expected = [[np.sum(route == k), y[route == k].mean(), y[route == k].std()] for k in range(3)]
    assert_allclose(diabetes_page.matrix("classes"), expected, rtol=1e-8)


def test_who_is_right_where_the_two_differ(six_rows):
    mixture, X, y = six_rows
    facts = look(mixture, X, y)
    cells = [[cell.value for cell in row[1:]] for row in _tables.crossed(facts).rows]
    assert cells == [[2, 1], [1, 2]]  # rows 0 and 5, 3, 4, 1 and 2


def test_lots_and_gain_by_hand(six_rows):
    """Shares of right experts: 2/3, 1/3, 0, 1, 1/3, 1; row 2 has no right one."""
    facts = look(*six_rows)
    assert facts.lots == pytest.approx((2 / 3 + 1 / 3 + 1 + 1 / 3 + 1) / 5)
    # The gate chooses right on rows 0, 3 and 5, and wrongly on 1 and 4.
    assert facts.gate_gain.estimate == pytest.approx(3 / 5 - facts.lots)


# Intervals.


def test_the_interval_of_shares_by_hand():
    """Of 8 rows 3 are won and 1 is lost; half a row is added to each of four cells."""
    first = np.array([1, 1, 1, 0, 1, 1, 0, 0], dtype=bool)
    second = np.array([0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    found = _intervals.of_shares(first, second, np.ones(8))
    center, reach = 2 / 10, 1.959964 * np.sqrt((5 / 10 - 0.2**2) / 10)
    assert found == pytest.approx((2 / 8, center - reach, center + reach), abs=1e-6)
    doubled = _intervals.of_shares(first, second, np.full(8, 2.0))
    assert doubled == pytest.approx(found)


def test_no_difference_is_no_certainty():
    same = np.ones(20, dtype=bool)
    estimate, low, high = _intervals.of_shares(same, same, np.ones(20))
    assert estimate == 0
    assert low == -high < -0.05


@pytest.mark.parametrize("kind", ["shares", "errors", "means"])
def test_intervals_hold_the_truth_as_often_as_they_say(kind):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(600):
        draws = rng.random((120, 2))
        if kind == "shares":  # both right 0.6, one alone 0.15 and 0.1
            u = draws[:, 0]
            found = _intervals.of_shares(u < 0.75, (u < 0.6) | (u > 0.9), np.ones(120))
            truth = 0.05
        elif kind == "errors":
            common, noise = rng.normal(size=(2, 120, 2))
            first, second = common + 0.8 * noise, common
            found = _intervals.of_errors(first**2, second**2, np.ones(120))
            truth = np.sqrt(1.64) - 1
        else:
            found = _intervals.of_means(draws[:, 0] - 0.3, rng.random(120) + 0.5)
            truth = 0.2
        held.append(found.low <= truth <= found.high)
    assert 0.925 <= np.mean(held) <= 0.975


def test_weights_count_as_repetitions_do():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 50, 1))
    weight = rng.integers(1, 4, 50)
    once = _intervals.of_errors(first, second, weight.astype(float))
    often = _intervals.of_errors(
        first.repeat(weight, axis=0), second.repeat(weight, axis=0), np.ones(weight.sum())
    )
    assert once.estimate == pytest.approx(often.estimate)
    assert once.high - once.low > often.high - often.low  # repeated rows are not independent


def test_a_perfect_model_has_an_interval():
    nothing = np.zeros((9, 1))
    assert _intervals.of_errors(nothing, nothing, np.ones(9)) == (0, 0, 0)


# Findings.


def told(told_classifier, n, route, experts, mixture, n_experts=2):
    """Rows of two classes in turns, and answers that are right with "a"."""
    gate = np.full((n, n_experts), 0.1)
    gate[np.arange(n), route] = 0.9
    y = np.where(np.arange(n) // 2 % 2, "no", "yes")
    other = np.where(y == "no", "yes", "no")
    experts = np.where(np.asarray(experts) == "a", y[:, None], other[:, None])
    mixture = np.where(np.asarray(mixture) == "a", y, other)
    classifier = told_classifier(gate, experts, mixture, ["no", "yes"])
    return classifier, np.arange(float(n))[:, None], y


def answers(n, wrong):
    """n answers, of which the first ones are wrong."""
    return np.where(np.arange(n) < wrong, "b", "a")


def served(told_classifier, n, wrong_alone, wrong_together):
    halves = np.arange(n) % 2
    experts = np.tile(answers(n, wrong_alone)[:, None], (1, 2))
    return findings(*told(told_classifier, n, halves, experts, answers(n, wrong_together)))


@pytest.mark.parametrize(
    ("wrong_alone", "wrong_together", "kind", "title"),
    [
        (100, 99, "good", "The top expert alone may answer"),
        (60, 120, "good", "The top expert alone is even better than the mixture"),
        (200, 100, "act", "The top expert alone loses too much"),
        (115, 100, "watch", "These rows do not tell whether the top expert alone is good enough"),
    ],
)
def test_may_i_serve_the_top_expert(told_classifier, wrong_alone, wrong_together, kind, title):
    finding = served(told_classifier, 1000, wrong_alone, wrong_together)[title]
    assert finding.kind == kind
    evidence = finding.evidence.replace("\u00a0", " ")
    assert f"alone {100 - wrong_alone / 10:.1f} %" in evidence
    assert f"of the mixture {100 - wrong_together / 10:.1f} %" in evidence
    assert f"{abs(wrong_alone - wrong_together) / 10:.2f} percentage points" in evidence
    assert "95 % interval of the loss" in evidence


def test_the_margin_is_the_users(told_classifier):
    halves = np.arange(1000) % 2
    experts = np.tile(answers(1000, 200)[:, None], (1, 2))
    mixture = told(told_classifier, 1000, halves, experts, answers(1000, 100))
    assert "The top expert alone may answer" in findings(*mixture, margin=0.2)
    assert "The top expert alone loses too much" in findings(*mixture, margin=0.05)


def test_of_values_the_margin_is_a_share_of_the_error(told_regressor):
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    noise = 0.5 * rng.normal(size=400)
    gate = np.tile([0.8, 0.2], (400, 1))
    experts = (y + 1.1 * noise)[:, None].repeat(2, axis=1)
    mixture = told_regressor(gate, experts, y + noise)
    X = np.arange(400.0)[:, None]
    assert "The top expert alone may answer" in findings(mixture, X, y, margin=0.2)
    assert "The top expert alone loses too much" in findings(mixture, X, y, margin=0.05)


@pytest.mark.parametrize(
    ("wrong", "kind", "title"),
    [
        (300, "good", "The mixture is better than the same answer for every row"),
        (490, "act", "The mixture is not clearly better than the same answer for every row"),
        (600, "act", "The mixture is worse than the same answer for every row"),
    ],
)
@pytest.mark.parametrize("n_experts", [1, 2])
def test_is_it_better_than_no_model(told_classifier, wrong, kind, title, n_experts):
    """Of 1,000 rows of two classes in equal shares, one answer is right on half."""
    route = np.arange(1000) % n_experts
    experts = np.tile(answers(1000, wrong)[:, None], (1, n_experts))
    mixture = told(told_classifier, 1000, route, experts, answers(1000, wrong), n_experts)
    found = findings(*mixture)
    finding = found[title]
    assert finding.kind == kind
    evidence = finding.evidence.replace("\u00a0", " ")
    assert f"of the mixture {100 - wrong / 10:.1f} %" in evidence
    assert "the most frequent class for every row, 50.0 %" in evidence
    assert f"{'ahead' if wrong < 500 else 'behind'} by {abs(500 - wrong) / 10:.2f} " in evidence
    constant = mixture[2] == "no"
    right = np.arange(1000) >= wrong
    loss = _intervals.of_shares(right, constant, np.ones(1000))
    assert f"{100 * loss.low:.2f} to {100 * loss.high:.2f}".replace("-", "\u2212") in evidence
    advices = " ".join(each.advice for each in found.values())
    if kind == "act":
        assert next(iter(found)) == title
        assert "Serve it" not in advices
        assert "Serve the mixture" not in advices
    elif n_experts == 2:
        assert next(iter(found)) == "The top expert alone may answer"
        assert "Serve it" in advices


def test_a_mixture_worse_than_nothing_is_not_served_either(told_classifier):
    halves = np.arange(1000) % 2
    experts = np.tile(answers(1000, 900)[:, None], (1, 2))
    found = findings(*told(told_classifier, 1000, halves, experts, answers(1000, 600)))
    assert list(found)[:2] == [
        "The mixture is worse than the same answer for every row",
        "The top expert alone loses much against the mixture",
    ]
    assert not any("Serve the mixture" in each.advice for each in found.values())


def test_values_worse_than_the_mean(told_regressor, tmp_path):
    rng = np.random.default_rng(0)
    y, guess = rng.normal(size=(2, 400))
    gate = np.tile([0.8, 0.2], (400, 1))
    mixture = told_regressor(gate, guess[:, None].repeat(2, axis=1), guess)
    X = np.arange(400.0)[:, None]
    facts = look(mixture, X, y)
    assert facts.baseline == pytest.approx(y.std())
    error = np.sqrt(np.mean((y - guess) ** 2))
    assert facts.constant_loss.estimate == pytest.approx(y.std() - error)
    first = _findings.all_findings(facts, 0.01)[0]
    assert (first.kind, first.section) == ("act", "rows")
    assert "with the mean for every row, " in first.evidence
    page = read(report(mixture, X, y, tmp_path / "a.html"))
    assert page.words("costs")[-1] == "the mean for every row, against the mixture"
    assert page.numbers("costs", 1)[-1] == pytest.approx(y.std() - error)


def test_no_answer_is_of_a_class_that_training_did_not_see(wine, wine_mixture):
    X, y = wine
    facts = look(wine_mixture, X, y.replace({1: 9}))  # the most frequent one
    assert facts.baseline == pytest.approx((y == 0).mean())
    who = [row[0].text for row in _tables.scores(facts).rows][-1]
    assert who == (
        "without a model: the most frequent class of those that training saw for every row"
    )


def test_does_choosing_pay(told_classifier):
    halves = np.arange(400) % 2
    own = np.where(halves[:, None] == np.arange(2), "a", "b")  # right on their own rows alone
    title = "Choosing the expert row by row pays"
    assert title in findings(*told(told_classifier, 400, halves, own, answers(400, 0)))
    alike = np.tile(answers(400, 40)[:, None], (1, 2))
    found = findings(*told(told_classifier, 400, halves, alike, answers(400, 40)))
    assert found["One expert for every row would do about as well"].kind == "watch"
    small = findings(*told(told_classifier, 20, halves[:20], alike[:20], answers(20, 2)))
    assert "Whether choosing the expert row by row pays is not clear" in small


@pytest.mark.parametrize(
    ("right_of_own", "title"),
    [
        (1.0, "The gate knows whom to ask"),
        (0.0, "The gate chooses worse than by drawing lots"),
        (0.5, "The gate is no better than drawing lots, as far as these rows tell"),
    ],
)
def test_does_the_gate_choose(told_classifier, right_of_own, title):
    halves = np.arange(400) % 2
    right = np.where(np.arange(400) < 400 * right_of_own, halves, 1 - halves)
    experts = np.where(right[:, None] == np.arange(2), "a", "b")
    found = findings(*told(told_classifier, 400, halves, experts, answers(400, 0)))
    assert f"on {100 * right_of_own:.1f} % of" in found[title].evidence.replace("\u00a0", " ")
    assert "drawing lots would on 50.0 %" in found[title].evidence.replace("\u00a0", " ")


def test_nobody_is_right(told_classifier):
    wrong = np.full((40, 2), "b")
    found = findings(*told(told_classifier, 40, np.arange(40) % 2, wrong, answers(40, 40)))
    assert found["No expert is right on any of these rows"].kind == "act"
    assert "Most errors are of the experts, not of the gate" in found


@pytest.mark.parametrize(
    ("top", "other", "together", "title"),
    [
        ("b", "a", "b", "Most errors are rows that another expert would get right"),
        ("b", "b", "b", "Most errors are of the experts, not of the gate"),
        ("a", "b", "b", "Most errors come from mixing"),
        ("a", "a", "a", "The mixture makes no error on these rows"),
    ],
)
def test_whose_errors(told_classifier, top, other, together, title):
    experts = np.tile([top, other], (50, 1))
    mixture = np.full(50, together)
    assert title in findings(*told(told_classifier, 50, np.zeros(50, int), experts, mixture))


def test_the_largest_part_need_not_be_most(six_rows):
    found = findings(*six_rows)  # one of each kind
    assert any(title.startswith("The largest part of the errors") for title in found)


def test_who_takes_part(told_classifier):
    right = np.full((1000, 3), "a")

    def of(route):
        return findings(*told(told_classifier, 1000, route, right, answers(1000, 0), 3))

    assert "Every expert has rows" in of(np.arange(1000) % 3)
    assert "Expert 1 has hardly any rows" in of(2 * (np.arange(1000) % 2))
    both = of(np.zeros(1000, int))
    assert both["Expert 1 and expert 2 have hardly any rows"].kind == "watch"
    uneven = np.where(np.arange(1000) < 940, 2, np.arange(1000) % 2)
    assert "Expert 2 has nearly all rows" in of(uneven)
    few = np.where(np.arange(1000) < 20, 0, 1 + np.arange(1000) % 2)
    expected = "expert 0 (20 rows)"
    assert expected in of(few)["Some figures rest on few rows"].evidence.replace("\u00a0", " ")


def test_an_expert_that_is_beaten_on_its_own_rows(told_classifier):
    halves = np.arange(400) % 2
    experts = np.full((400, 2), "a")
    experts[(halves == 1) & (np.arange(400) % 3 == 0), 1] = "b"
    found = findings(*told(told_classifier, 400, halves, experts, answers(400, 0)))
    (item,) = found["Some experts are beaten on their own rows"].items
    text = item.replace("\u00a0", " ")
    assert text.startswith("On the rows of expert 1, expert 0 is better (100.0 % against 66.5 %")
    few = findings(
        *told(told_classifier, 40, halves[:40], experts[:40], answers(40, 0))
    )  # twenty rows each
    assert "No expert is clearly beaten on its own rows" in few


def test_how_alike(told_classifier):
    halves = np.arange(300) % 2
    same = np.tile(answers(300, 30)[:, None], (1, 2))
    found = findings(*told(told_classifier, 300, halves, same, answers(300, 30)))
    assert found["The experts are nearly copies of one another"].kind == "watch"
    same[100:150, 1] = "b"
    found = findings(*told(told_classifier, 300, halves, same, answers(300, 30)))
    assert "on 83.3 % of the rows" in found["The experts differ"].evidence.replace("\u00a0", " ")


def test_the_first_finding_is_about_serving_and_then_the_grave_ones(wine, wine_mixture):
    found = _findings.all_findings(look(wine_mixture, *wine), 0.01)
    assert found[0].section == "serving"
    order = [_findings.SEVERITY.index(finding.kind) for finding in found[1:]]
    assert order == sorted(order)
    assert len({finding.title for finding in found}) == len(found)
    assert all(finding.evidence and finding.advice for finding in found)


def test_features_that_stand_clear(wine, wine_mixture):
    facts = look(wine_mixture, *wine, n_repeats=3)
    items = {f.title: f for f in _findings.all_findings(facts, 0.01)}[
        "What matters most to each, by shuffling one feature at a time"
    ].items
    gate = facts.attention.importances["gate"]
    assert items[-1].startswith(f"The gate: “{gate.idxmax()}” (moves {100 * gate.max():.1f}")


@pytest.mark.parametrize(("n_repeats", "told"), [(1, "once"), (2, "twice")])
def test_one_shuffling_tells_nothing_of_chance(wine, wine_mixture, n_repeats, told):
    found = findings(wine_mixture, *wine, n_repeats=n_repeats)
    finding = found["What matters most to each, by shuffling one feature at a time"]
    assert finding.items == ()
    assert f"was shuffled {told}, which does not tell" in finding.evidence
    assert finding.advice == "Call the report with n_repeats=3 or more."


def test_the_chance_of_the_shuffling_is_that_of_a_sample(wine, wine_mixture):
    """Twice the deviation of three draws, by n - 1: 2.45 times that by n."""
    facts = look(wine_mixture, *wine, n_repeats=3)
    attention = facts.attention
    name = attention.importances.index[0]
    attention.importances.loc[:, "gate"] = 0.0
    for factor, named in ((2.4, False), (2.5, True)):
        attention.importances.loc[name, "gate"] = factor * 0.1
        attention.deviations.loc[name, "gate"] = 0.1
        last = _findings.looks(facts).items[-1]
        assert last.startswith(f"The gate: “{name}”" if named else "The gate: none clearly")


def test_experts_that_lost_their_rows(wine):
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(*wine)
    classifier.history_[0]["expert_usage"] = [0.4, 0.6]
    classifier.history_[-1]["expert_usage"] = [0.0, 1.0]
    found = findings(classifier, *wine)["Experts lost their rows in training"]
    assert "expert 0 had" in found.evidence.lower()
    assert "0.0\u00a0% in epoch 3" in found.evidence
    classifier.history_[-1]["expert_usage"] = [0.5, 0.5]
    assert "No expert lost its rows in training" in findings(classifier, *wine)


# Every kind of input.


def test_missing_values_in_a_pipeline(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": rng.normal(50, 9, 200),
            "income": rng.normal(3, 1, 200),
            "city": rng.choice(["Bern", "Köln"], 200),
        }
    )
    X.loc[::4, "income"] = np.nan
    X.loc[:8, "city"] = None
    y = np.where(X["age"] > 50, "old", "young")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    kinds = OneHotEncoder(handle_unknown="ignore")
    prepare = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (kinds, make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )
    pipeline = make_pipeline(prepare, MoDEClassifier(n_experts=2, **QUICK)).fit(X, y)
    page = read(report(pipeline, X, y, tmp_path / "a.html", n_repeats=1))
    assert "Pipeline (ColumnTransformer, MoDEClassifier): 2 experts" in page.text
    some = X.isna().any(axis=1)
    assert page.numbers("missing", 1) == [some.sum(), (~some).sum()]
    right = pipeline.predict(X) == y
    assert_allclose(page.numbers("missing", 3), [right[some].mean(), right[~some].mean()])
    assert sorted(page.words("attention")) == ["age", "city", "income"]
    assert "by “age” and “income”" in page.text or "by “income” and “age”" in page.text
    assert "50 rows without one of the two are not shown" in page.text


@pytest.mark.parametrize("kind", ["polars", "search", "weights", "outputs", "one expert", "told"])
def test_every_kind(kind, wine, diabetes, six_rows, tmp_path):
    X, y = wine
    options = {"n_repeats": 1}
    estimator = MoDEClassifier(n_experts=2, **QUICK)
    if kind == "polars":
        X = pl.from_pandas(X)
        X = X.with_columns(pl.when(pl.col("hue") > 1.2).then(None).otherwise(pl.col("hue")))
        X = X.rename({"hue": "color"})
    elif kind == "search":
        estimator = GridSearchCV(estimator, {"alpha": [1]}, cv=2)
    elif kind == "weights":
        options["sample_weight"] = np.random.default_rng(0).random(len(y))
    elif kind == "outputs":
        X, y = diabetes
        y = np.column_stack([y, -2 * y])
        estimator = MoDERegressor(n_experts=2, **QUICK)
    elif kind == "one expert":
        estimator.set_params(n_experts=1)
    else:
        estimator, X, y = six_rows
    page = read(report(estimator.fit(X, y), X, y, tmp_path / "a.html", **options))
    expected = {
        "polars": "some value is missing",
        "search": "GridSearchCV (MoDEClassifier)",
        "weights": "Rows count by their weights",
        "outputs": "mean of target 1",
        "one expert": "There is one expert, so the mixture is that expert",
        "told": "The estimator has recorded nothing of its training",
    }
    assert expected[kind] in page.text
    assert len(pictures(page)) == (1 if kind == "told" else 3)
    if kind == "weights":
        probing = expert_probing(estimator, X, y, sample_weight=options["sample_weight"])
        assert_allclose(page.numbers("experts", 2), probing.experts["share"], rtol=1e-8)
        assert "Shares count rows by their weights." in page.text
        written = {"".join(node.itertext()).strip() for node in pictures(page)[1].iter()}
        assert f"0: {100 * probing.experts.loc[0, 'share']:.0f} %" in written


def test_classes_that_training_did_not_see(wine, wine_mixture, tmp_path):
    X, y = wine
    y = y.replace({2: 9})
    page = read(report(wine_mixture, X, y, tmp_path / "a.html", n_repeats=1))
    rows = dict(zip(page.words("classes"), page.numbers("classes", 2), strict=True))
    assert rows["(classes unseen in training)"] == 0


def test_of_many_rows_some_are_drawn(wine, wine_mixture, tmp_path):
    page = read(report(wine_mixture, *wine, tmp_path / "a.html", n_repeats=1, max_samples=60))
    assert "Measured on 60 rows, drawn at random." in page.text
    assert "looked at on 178 rows" in page.text
    assert sum(page.numbers("experts", 1)) == 178


def test_rows_without_weight_are_not_drawn(wine, wine_mixture, tmp_path):
    weight = np.zeros(178)
    weight[[3, 90, 170]] = 1.0
    options = {"sample_weight": weight, "n_repeats": 1}
    page = read(report(wine_mixture, *wine, tmp_path / "a.html", max_samples=20, **options))
    assert "Measured on 3 rows, all that have a weight." in page.text
    page = read(report(wine_mixture, *wine, tmp_path / "b.html", max_samples=2, **options))
    assert "Measured on 2 rows, drawn at random." in page.text


def test_many_features_and_classes_are_cut(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 35))
    y = np.arange(200) % 33
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    assert len(page.words("attention")) == len(page.words("classes")) == 30
    assert "The most important 30 of 35 features." in page.text
    assert "The most frequent 30 of 33 classes." in page.text


# The map.


def test_the_map_has_the_columns_that_matter_to_the_gate():
    X = pd.DataFrame(
        {
            "flag": [0, 1] * 20,
            "word": list("ab") * 20,
            "a": np.arange(40.0),
            "b": np.arange(40) ** 2,
            "holes": [1.0, 2, 3, 4, 5, np.nan, np.nan, np.nan] * 5,
        }
    )
    columns = describe(X)
    assert columns.numeric.tolist() == [True, False, True, True, True]
    assert columns.missing.sum(axis=0).tolist() == [0, 0, 0, 0, 15]
    assert _pictures.map_axes(columns, np.array([9, 8, 1, 2, 3])) == (4, 3)
    assert _pictures.map_axes(columns, np.array([9, 8, 1, 2, -3])) == (3, 2)
    assert _pictures.map_axes(describe(X[:8]), np.arange(5)) is None  # too few rows


def test_names_that_are_numbers_are_names(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(80, 3)), columns=[2, 0, 1])
    y = X[2] > 0
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    axes = re.search(r"rows by “(\d)” and “(\d)”", page.text).groups()
    texts = ["".join(node.itertext()).strip() for node in pictures(page)[1].iter()]
    assert set(axes) <= set(texts)


def test_without_numbers_there_is_no_map(tmp_path):
    X = pd.DataFrame({"a": list("xyz") * 20, "b": list("uv") * 30})
    y = np.arange(60) % 2
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    assert "There is no map: it needs two columns of numbers" in page.text
    assert len(pictures(page)) == 2


# The page.

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$\\frac{",
    "\u202e\x00\x0b evil\n\n " + "long" * 60,
    "{{ 7 * 7 }}",
    "שלום",
    " ",
]
HOSTILE_CLASSES = ["</script><script>alert(3)</script>", "<b>&amp;", "\u202eclass\x07"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(150, len(HOSTILE))), columns=HOSTILE)
    y = np.array(HOSTILE_CLASSES)[np.arange(150) % 3]
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    return report(classifier, X, y, path, title="</title><script>alert(4)</script>", n_repeats=1)


def test_names_are_text_and_nothing_else(hostile):
    page = read(hostile)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert tags.count("title") == tags.count("style") == 1
    assert "b" not in tags
    attributes = {name for _, each in page.tags for name in each}
    assert not {name for name in attributes if name.startswith("on")}
    assert HOSTILE[0] in page.words("attention")
    assert HOSTILE[4] in page.words("attention")
    assert HOSTILE_CLASSES[0] in page.words("classes")
    assert HOSTILE_CLASSES[1] in page.words("classes")
    assert not {"\u202e", "\x00", "\x0b", "\x07"} & set(page.source)
    assert "(empty)" in page.words("attention")


def test_pictures_stand_whatever_the_names(hostile):
    for picture in pictures(read(hostile)):
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        assert not list(picture.iter("{http://www.w3.org/2000/svg}script"))


def test_pictures_have_their_own_proportions(wine_page):
    for image, picture in zip(wine_page.all("img"), pictures(wine_page), strict=True):
        for side in ("width", "height"):
            points = float(picture.get(side).removesuffix("pt"))
            assert int(image[side]) == pytest.approx(points * 96 / 72, abs=1)
        assert 300 < int(image["width"]) < 560


def test_dollars_make_no_formulas(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 2)), columns=["$\\frac{$", "price in $, per $"])
    y = X.iloc[:, 0] > 0
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    assert set(X) <= {"".join(node.itertext()).strip() for node in pictures(page)[1].iter()}


def test_hostile_parameters(wine, tmp_path):
    estimator = MoDEClassifier(n_experts=2, callbacks=[], **QUICK).fit(*wine)
    estimator.callbacks = [object()]  # whose repr has an address
    estimator.verbose = "<script>"
    page = read(report(estimator, *wine, tmp_path / "a.html", n_repeats=1))
    values = dict(zip(page.words("parameters"), page.words("parameters", 1), strict=True))
    assert values["callbacks"] == "((object))"
    assert values["verbose"] == "'<script>'"
    assert values["hidden_layer_sizes"] == "(8)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("  two \n words\t", "two words"),
        ("", "(empty)"),
        ("x" * 99, "x" * 59 + "…"),
        (3, "3"),
    ],
)
def test_names_are_harmless(value, expected):
    assert _words.name(value, 60) == expected
    assert expected.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_words.percent(0.12345), "12.3\u00a0%"),
        (_words.percent(-0.00001), "0.0\u00a0%"),
        (_words.percent(-0.5), "\u221250.0\u00a0%"),
        (_words.percent(float("nan")), "\u2013"),
        (_words.number(58.5), "58.50"),
        (_words.number(123456.7), "123,457"),
        (_words.number(5400.0), "5400"),
        (_words.fixed(-0.001, 2), "0.00"),
        (_words.count(1, "row"), "1\u00a0row"),
        (_words.count(1200, "class", "classes"), "1,200\u00a0classes"),
        (_words.listing([]), ""),
        (_words.listing(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_figures_as_people_read_them(text, expected):
    assert text == expected


def test_nothing_is_loaded_from_elsewhere(wine_page):
    links = [each[name] for _, each in wine_page.tags for name in ("src", "href") if name in each]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(wine_page.ids)
    assert "//" not in re.sub(r"base64,[\w+/=]+|// [^\n]*", "", wine_page.source)
    assert "url(" not in wine_page.source
    assert "@import" not in wine_page.source


def test_the_browser_may_run_this_script_alone(wine_page):
    (policy,) = [
        each["content"]
        for each in wine_page.all("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    (script,) = wine_page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_it_is_accessible(wine_page):
    assert wine_page.all("html") == [{"lang": "en"}]
    assert len(set(wine_page.ids)) == len(wine_page.ids)
    tags = [tag for tag, _ in wine_page.tags]
    assert tags.count("h1") == tags.count("main") == 1
    assert tags.count("table") == len(wine_page.tables) >= 11
    for table in wine_page.all("table"):
        assert table["aria-labelledby"] in wine_page.ids
    assert all(each.get("scope") in ("col", "row") for each in wine_page.all("th"))
    assert all(each["alt"] and each["width"] and each["height"] for each in wine_page.all("img"))
    for region in (each for each in wine_page.all("div") if each.get("role") == "region"):
        assert region["tabindex"] == "0"
        assert region["aria-labelledby"] in wine_page.ids
    assert tags.count("figcaption") == tags.count("img") == 3


def test_the_same_input_gives_the_same_file(wine, wine_mixture, tmp_path):
    paths = [tmp_path / "one.html", tmp_path / "two.html"]
    for path in paths:
        report(wine_mixture, *wine, path, n_repeats=1)
        matplotlib.rcParams["axes.grid"] = True  # the user's style is not the report's
    matplotlib.rcdefaults()
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_matplotlib_is_left_as_it_is(wine, wine_mixture, tmp_path):
    with matplotlib.rc_context({"font.size": 3.0}):
        before = dict(matplotlib.rcParams)
        report(wine_mixture, *wine, tmp_path / "a.html", n_repeats=1)
        assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


def test_the_wheel_has_the_template():
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        data = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    folder = os.path.dirname(_write.__file__)
    beside = {name for name in os.listdir(folder) if not name.endswith((".py", "__pycache__"))}
    assert beside == set(data["skmode.inspection._report"])


# The file.


def test_the_file_is_replaced_when_it_is_complete(wine, wine_mixture, tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            report(wine_mixture, *wine, path, n_repeats=1)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.html"]
    assert report(wine_mixture, *wine, str(path), n_repeats=1) == path
    assert "<!DOCTYPE html>" in path.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["a.html"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind there")
def test_others_may_read_it_as_any_new_file(wine, wine_mixture, tmp_path):
    (tmp_path / "usual").touch()
    path = report(wine_mixture, *wine, tmp_path / "a.html", n_repeats=1)
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("place", "options", "error", "message"),
    [
        ("no/such/a.html", {}, FileNotFoundError, "must lie in a folder that exists, got .*make"),
        (".", {}, IsADirectoryError, "must be that of a file, got the folder .*add a name"),
        ("a.html", {"margin": -1}, ValueError, "margin must be zero or more, got -1"),
        ("a.html", {"max_samples": 0}, ValueError, "max_samples must be at least 1, got 0"),
        ("a.html", {"tolerance": 1.0}, ValueError, "tolerance is for regression"),
        ("a.html", {"n_repeats": 0}, ValueError, "n_repeats .*at least 1, got 0"),
    ],
)
def test_errors_say_what_to_do(place, options, error, message, wine, wine_mixture, tmp_path):
    with pytest.raises(error, match=message):
        report(wine_mixture, *wine, tmp_path / place, **options)
    assert os.listdir(tmp_path) == []


def test_there_must_be_a_mixture(wine, tmp_path):
    with pytest.raises(TypeError, match="must be a fitted MoDEClassifier or MoDERegressor"):
        report(StandardScaler().fit(wine[0]), *wine, tmp_path / "a.html")


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_what_is_missing_is_named(package, tmp_path):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from skmode.inspection import report\n"
        f"report(None, None, None, {str(tmp_path / 'a.html')!r})\n"  # before any work
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "install skmode with its extra `report`" in ran.stderr
    assert os.listdir(tmp_path) == []
