"""The findings follow from the figures."""

import re

import numpy as np
import pytest

from skmode import MoDEClassifier
from skmode.inspection import report
from skmode.inspection._report import intervals
from skmode.inspection._report.findings.attention import features
from skmode.inspection._report.findings.ranking import SEVERITY, all_findings
from skmode.inspection._report.tables import general as tables

QUICK = {
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "batch_size": 100,
    "random_state": 0,
    "balance": 0.1,
}


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


@pytest.mark.parametrize(
    ("wrong_alone", "wrong_together", "kind", "title"),
    [
        (100, 99, "good", "The top expert alone is good enough"),
        (60, 120, "good", "The top expert alone is even better than the mixture"),
        (200, 100, "act", "The top expert alone loses too much"),
        (115, 100, "watch", "It is not clear whether the top expert alone is good enough"),
    ],
)
def test_finding_on_serving_the_top_expert(
    told_classifier, wrong_alone, wrong_together, kind, title, findings
):
    halves = np.arange(1000) % 2
    experts = np.tile(answers(1000, wrong_alone)[:, None], (1, 2))
    mixture = told(told_classifier, 1000, halves, experts, answers(1000, wrong_together))
    finding = findings(*mixture)[title]
    assert finding.kind == kind
    evidence = finding.evidence.replace("\u00a0", " ")
    assert f"alone: {100 - wrong_alone / 10:.1f} %" in evidence
    assert f"of the mixture: {100 - wrong_together / 10:.1f} %" in evidence
    assert f"{abs(wrong_alone - wrong_together) / 10:.2f} percentage points" in evidence
    called = "loss" if wrong_alone >= wrong_together else "gain"
    found = re.search(f"95 % interval of the {called} (\\S+) to (\\S+?)\\)", evidence)
    low, high = (float(end.replace("\u2212", "-")) for end in found.groups())
    assert low <= abs(wrong_alone - wrong_together) / 10 <= high


def test_the_margin_can_be_chosen(told_classifier, findings):
    halves = np.arange(1000) % 2
    experts = np.tile(answers(1000, 200)[:, None], (1, 2))
    mixture = told(told_classifier, 1000, halves, experts, answers(1000, 100))
    assert "The top expert alone is good enough" in findings(*mixture, margin=0.2)
    assert "The top expert alone loses too much" in findings(*mixture, margin=0.05)


def test_regression_margin_is_a_share_of_the_error(told_regressor, findings):
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    noise = 0.5 * rng.normal(size=400)
    gate = np.tile([0.8, 0.2], (400, 1))
    experts = (y + 1.1 * noise)[:, None].repeat(2, axis=1)
    mixture = told_regressor(gate, experts, y + noise)
    X = np.arange(400.0)[:, None]
    assert "The top expert alone is good enough" in findings(mixture, X, y, margin=0.2)
    assert "The top expert alone loses too much" in findings(mixture, X, y, margin=0.05)


@pytest.mark.parametrize(
    ("wrong", "kind", "title"),
    [
        (300, "good", "The mixture is better than a constant prediction"),
        (490, "act", "The mixture is not clearly better than a constant prediction"),
        (600, "act", "The mixture is worse than a constant prediction"),
    ],
)
@pytest.mark.parametrize("n_experts", [1, 2])
def test_finding_on_constant_predictions(told_classifier, wrong, kind, title, n_experts, findings):
    """With two classes in equal shares, a constant is right on half of 1,000 rows."""
    route = np.arange(1000) % n_experts
    experts = np.tile(answers(1000, wrong)[:, None], (1, n_experts))
    mixture = told(told_classifier, 1000, route, experts, answers(1000, wrong), n_experts)
    found = findings(*mixture)
    finding = found[title]
    assert finding.kind == kind
    evidence = finding.evidence.replace("\u00a0", " ")
    assert f"of the mixture: {100 - wrong / 10:.1f} %" in evidence
    assert "the most frequent class is predicted for every row: 50.0 %" in evidence
    assert f"{'ahead' if wrong < 500 else 'behind'} by {abs(500 - wrong) / 10:.2f} " in evidence
    constant = mixture[2] == "no"
    right = np.arange(1000) >= wrong
    loss = intervals.of_shares(right, constant, np.ones(1000))
    assert f"{100 * loss.low:.2f} to {100 * loss.high:.2f}".replace("-", "\u2212") in evidence
    advices = " ".join(each.advice for each in found.values())
    if kind == "act":
        assert next(iter(found)) == title
        assert "Serve it" not in advices
        assert "Serve the mixture" not in advices
    elif n_experts == 2:
        assert next(iter(found)) == "The top expert alone is good enough"
        assert "Serve it" in advices


def test_a_mixture_worse_than_constant_is_not_recommended(told_classifier, findings):
    halves = np.arange(1000) % 2
    experts = np.tile(answers(1000, 900)[:, None], (1, 2))
    found = findings(*told(told_classifier, 1000, halves, experts, answers(1000, 600)))
    assert list(found)[:2] == [
        "The mixture is worse than a constant prediction",
        "The top expert alone loses much against the mixture",
    ]
    assert not any("Serve the mixture" in each.advice for each in found.values())


def test_regression_worse_than_the_mean(told_regressor, tmp_path, read, look):
    rng = np.random.default_rng(0)
    y, guess = rng.normal(size=(2, 400))
    gate = np.tile([0.8, 0.2], (400, 1))
    mixture = told_regressor(gate, guess[:, None].repeat(2, axis=1), guess)
    X = np.arange(400.0)[:, None]
    facts = look(mixture, X, y)
    assert facts.baseline == pytest.approx(y.std())
    error = np.sqrt(np.mean((y - guess) ** 2))
    assert facts.constant_loss.estimate == pytest.approx(y.std() - error)
    first = all_findings(facts, 0.01)[0]
    assert (first.kind, first.section) == ("act", "rows")
    assert "when the mean is predicted for every row: " in first.evidence
    page = read(report(mixture, X, y, tmp_path / "a.html"))
    assert page.words("costs")[-1] == "the mean for every row, against the mixture"
    assert page.numbers("costs", 1)[-1] == pytest.approx(y.std() - error)


def test_constant_prediction_is_a_known_class(wine, wine_mixture, look):
    X, y = wine
    facts = look(wine_mixture, X, y.replace({1: 9}))  # the most frequent one
    assert facts.baseline == pytest.approx((y == 0).mean())
    who = [row[0].text for row in tables.scores(facts).rows][-1]
    assert who == "without a model: the most frequent known class for every row"


def test_finding_on_choosing_an_expert_per_row(told_classifier, findings):
    halves = np.arange(400) % 2
    own = np.where(halves[:, None] == np.arange(2), "a", "b")  # right on their own rows alone
    title = "Choosing an expert for each row pays off"
    assert title in findings(*told(told_classifier, 400, halves, own, answers(400, 0)))
    alike = np.tile(answers(400, 40)[:, None], (1, 2))
    found = findings(*told(told_classifier, 400, halves, alike, answers(400, 40)))
    assert found["A single expert does about as well as choosing one for each row"].kind == "watch"
    small = findings(*told(told_classifier, 20, halves[:20], alike[:20], answers(20, 2)))
    assert "It is not clear whether choosing an expert for each row pays off" in small


@pytest.mark.parametrize(
    ("right_of_own", "title"),
    [
        (1.0, "The gate chooses better than at random"),
        (0.0, "The gate chooses worse than at random"),
        (0.5, "The gate does not clearly choose better than at random"),
    ],
)
def test_finding_on_the_gate(told_classifier, right_of_own, title, findings):
    halves = np.arange(400) % 2
    right = np.where(np.arange(400) < 400 * right_of_own, halves, 1 - halves)
    experts = np.where(right[:, None] == np.arange(2), "a", "b")
    found = findings(*told(told_classifier, 400, halves, experts, answers(400, 0)))
    assert f"sends {100 * right_of_own:.1f} % to" in found[title].evidence.replace("\u00a0", " ")
    assert "Choosing at random would send 50.0 %" in found[title].evidence.replace("\u00a0", " ")


def test_findings_if_no_expert_is_right(told_classifier, findings):
    wrong = np.full((40, 2), "b")
    found = findings(*told(told_classifier, 40, np.arange(40) % 2, wrong, answers(40, 40)))
    assert found["No expert is right on any of these rows"].kind == "act"
    assert "Most errors are made by the experts, not by the gate" in found


@pytest.mark.parametrize(
    ("top", "other", "together", "title"),
    [
        ("b", "a", "b", "Most errors are rows that another expert would get right"),
        ("b", "b", "b", "Most errors are made by the experts, not by the gate"),
        ("a", "b", "b", "Most errors come from mixing"),
        ("a", "a", "a", "The mixture makes no error on these rows"),
    ],
)
def test_finding_on_the_reason_of_errors(told_classifier, top, other, together, title, findings):
    experts = np.tile([top, other], (50, 1))
    mixture = np.full(50, together)
    assert title in findings(*told(told_classifier, 50, np.zeros(50, int), experts, mixture))


def test_most_frequent_errors_may_be_less_than_half(six_rows, findings):
    found = findings(*six_rows)  # one of each kind
    assert any(title.startswith("The most frequent errors") for title in found)


def test_finding_on_usage(told_classifier, findings):
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


def test_an_expert_that_is_beaten_on_its_own_rows(told_classifier, findings):
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


def test_finding_on_consistency(told_classifier, findings):
    halves = np.arange(300) % 2
    same = np.tile(answers(300, 30)[:, None], (1, 2))
    found = findings(*told(told_classifier, 300, halves, same, answers(300, 30)))
    assert found["The experts are nearly copies of one another"].kind == "watch"
    same[100:150, 1] = "b"
    found = findings(*told(told_classifier, 300, halves, same, answers(300, 30)))
    assert "on 83.3 % of the rows" in found["The experts differ"].evidence.replace("\u00a0", " ")


def test_serving_comes_first_and_then_the_urgent_findings(wine, wine_mixture, look):
    found = all_findings(look(wine_mixture, *wine), 0.01)
    assert found[0].section == "serving"
    order = [SEVERITY.index(finding.kind) for finding in found[1:]]
    assert order == sorted(order)
    assert len({finding.title for finding in found}) == len(found)
    assert all(finding.evidence and finding.advice for finding in found)


def test_clearly_important_features_are_named(wine, wine_mixture, look):
    facts = look(wine_mixture, *wine, n_repeats=3)
    items = {f.title: f for f in all_findings(facts, 0.01)}[
        "Which features matter most to each expert and to the gate"
    ].items
    gate = facts.attention.importances["gate"]
    assert items[-1].startswith(f"The gate: “{gate.idxmax()}” (moves {100 * gate.max():.1f}")


@pytest.mark.parametrize(("n_repeats", "told"), [(1, "once"), (2, "twice")])
def test_one_shuffling_names_no_feature(wine, wine_mixture, n_repeats, told, findings):
    found = findings(wine_mixture, *wine, n_repeats=n_repeats)
    finding = found["Which features matter most to each expert and to the gate"]
    assert finding.items == ()
    assert f"was shuffled only {told}. That cannot tell" in finding.evidence
    assert finding.advice == "Call the report with n_repeats=3 or more."


def test_clear_importances_use_the_sample_standard_deviation(wine, wine_mixture, look):
    """Two standard deviations with n - 1 are 2.45 with n, for three draws."""
    facts = look(wine_mixture, *wine, n_repeats=3)
    attention = facts.attention
    name = attention.importances.index[0]
    attention.importances.loc[:, "gate"] = 0.0
    for factor, named in ((2.4, False), (2.5, True)):
        attention.importances.loc[name, "gate"] = factor * 0.1
        attention.deviations.loc[name, "gate"] = 0.1
        last = features(facts).items[-1]
        assert last.startswith(f"The gate: “{name}”" if named else "The gate: no feature stands")


def test_experts_that_lost_their_rows(wine, findings):
    classifier = MoDEClassifier(n_experts=2, refit_fraction=0, **QUICK).fit(*wine)
    classifier.history_[0]["expert_usage"] = [0.4, 0.6]
    classifier.history_[-1]["expert_usage"] = [0.0, 1.0]
    found = findings(classifier, *wine)["Experts lost their rows in training"]
    assert "expert 0 had" in found.evidence.lower()
    assert "0.0\u00a0% in epoch 3" in found.evidence
    classifier.history_[-1]["expert_usage"] = [0.5, 0.5]
    assert "No expert lost its rows in training" in findings(classifier, *wine)
