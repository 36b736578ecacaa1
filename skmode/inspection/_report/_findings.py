"""What the figures mean, in plain language, and what to do about it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skmode.inspection._report import _tables, _words
from skmode.inspection._report._facts import FEW_ROWS, Facts
from skmode.inspection._report._intervals import Interval

# Share of the rows below which an expert hardly takes part, and above which it takes all.
IDLE = 0.01
ALMOST_ALL = 0.9

# Consistency above which experts are called copies of one another.
COPIES = 0.99

# Deviations of the shufflings above which an importance is more than chance, and how many
# shufflings it takes to know that deviation.
CLEAR = 2
FEW_REPEATS = 3


class Finding(NamedTuple):
    """One finding.

    Attributes
    ----------
    kind : {"good", "note", "watch", "act"}
        Whether something is to be done.
    title : str
        What was found.
    evidence : str
        The figures that it rests on.
    advice : str
        What to do.
    section : str
        Where the figures stand.
    items : tuple of str, default=()
        More of what it rests on, one thing each.
    """

    kind: str
    title: str
    evidence: str
    advice: str
    section: str
    items: tuple[str, ...] = ()


SEVERITY = ("act", "watch", "note", "good")


def all_findings(facts: Facts, margin: float) -> list[Finding]:
    """Every finding: may it be served, then what is to be done, then the rest.

    Before all of them stands that the mixture is no better than a constant answer, if it is not.
    """
    found = []
    if facts.n_experts > 1:
        found.append(single(facts, margin))
        found += [make(facts) for make in (usage, beaten, gate, alike)]
    found += [reasons(facts), looks(facts)]
    found += [finding for make in (few_rows, lost) if (finding := make(facts)) is not None]
    if facts.beats_constant:
        found.append(worth(facts))
    found.sort(key=lambda finding: SEVERITY.index(finding.kind))
    first = [] if facts.beats_constant else [worth(facts)]
    return [*first, serving(facts, margin), *found]


def worth(facts: Facts) -> Finding:
    """Is the mixture better than the same answer for every row?"""
    loss, answer = facts.constant_loss, _tables.constant(facts)
    evidence = (
        f"{_name(facts)} of the mixture {_score(facts, facts.probing.mixture_score)}; without a "
        f"model, with {answer} for every row, {_score(facts, facts.baseline)}. The mixture is "
        f"{_lead(facts, loss)} on {_words.count(facts.n_samples, 'row')}. That answer was picked "
        "on these rows, which flatters it."
    )
    if facts.beats_constant:
        return Finding(
            "good",
            "The mixture is better than the same answer for every row",
            evidence,
            "Nothing to do.",
            "rows",
        )
    advice = (
        "Serve neither mixture nor expert yet. Check that these rows and this target are those "
        "that the estimator was trained for, then train with fewer epochs, more rows or better "
        "features"
    )
    if loss.high >= 0:
        advice += ", or look at more rows"
    if facts.classifies:
        advice += (
            ". Where nearly all rows are of one class accuracy says little: compare the log loss "
            "of the probabilities"
        )
    return Finding(
        "act",
        "The mixture is worse than the same answer for every row"
        if loss.high < 0
        else "The mixture is not clearly better than the same answer for every row",
        evidence,
        f"{advice}.",
        "rows",
    )


def serving(facts: Facts, margin: float) -> Finding:
    """May the top expert answer alone?"""
    loss, limit = facts.top_loss, _limit(facts, margin)
    top, mixture = facts.probing.top_expert_score, facts.probing.mixture_score
    evidence = (
        f"{_name(facts)} of the top expert alone {_score(facts, top)}, of the mixture "
        f"{_score(facts, mixture)}: {_loss(facts, loss)} on {_words.count(facts.n_samples, 'row')}."
        f" A loss of up to {_amount(facts, limit)} is called small here."
    )
    if facts.n_experts == 1:
        return Finding(
            "note",
            "There is one expert, so the mixture is that expert",
            evidence,
            "Train with n_experts above 1 for a mixture; skmode.inspection.experts_path compares "
            "several.",
            "serving",
        )
    if not facts.beats_constant and (loss.high <= limit or loss.low > limit):
        much = "little" if loss.high <= limit else "much"
        return Finding(
            "note",
            f"The top expert alone loses {much} against the mixture",
            evidence,
            "Nothing, while the mixture itself is not clearly better than the same answer for "
            "every row.",
            "serving",
        )
    if loss.high <= limit:
        better = "The top expert alone is even better than the mixture"
        title = better if loss.high < 0 else "The top expert alone may answer"
        advice = (
            'Serve it: inference="top_expert", and skmode.onnx.export writes a graph that computes '
            "one expert a row."
        )
        return Finding("good", title, evidence, advice, "serving")
    if loss.low > limit:
        return Finding(
            "act",
            "The top expert alone loses too much",
            evidence,
            'Serve the mixture (skmode.onnx.export with routing="mixture"), or train with a '
            "larger alpha, which makes experts better alone: skmode.inspection.alpha_path tries "
            "several.",
            "serving",
        )
    return Finding(
        "watch",
        "These rows do not tell whether the top expert alone is good enough",
        evidence,
        "Look at more rows that training did not see, or decide whether a loss of "
        f"{_amount(facts, loss.high)} would be bearable.",
        "serving",
    )


def single(facts: Facts, margin: float) -> Finding:
    """Are several experts needed?"""
    loss = facts.single_loss
    evidence = (
        f"Expert {facts.single} alone on all rows: {_name(facts, small=True)} "
        f"{_score(facts, facts.alone[facts.single])}; each row's top expert: "
        f"{_score(facts, facts.probing.top_expert_score)}; {_loss(facts, loss)}. It was picked on "
        "these rows, which flatters it."
    )
    if loss.low > 0:
        return Finding(
            "good",
            "Choosing the expert row by row pays",
            evidence,
            "Keep the gate.",
            "serving",
        )
    if loss.high <= _limit(facts, margin):
        return Finding(
            "watch",
            "One expert for every row would do about as well",
            evidence,
            "Train with n_experts=1 and compare by skmode.inspection.compare: it may be all that "
            "this table needs. Distillation from the others may still have made this expert good.",
            "serving",
        )
    return Finding(
        "note",
        "Whether choosing the expert row by row pays is not clear",
        evidence,
        "Look at more rows, or compare with n_experts=1 by skmode.inspection.compare.",
        "serving",
    )


def usage(facts: Facts) -> Finding:
    """Do all experts take part?"""
    shares = facts.probing.experts["share"].to_numpy(dtype=float)
    idle = np.flatnonzero(shares < IDLE)
    most = int(shares.argmax())
    spread = _words.listing([f"expert {k} {_words.percent(s)}" for k, s in enumerate(shares)])
    evidence = f"Shares of the rows: {spread}." if len(shares) <= 8 else (
        f"The largest share of the rows is {_words.percent(shares.max())} (expert {most}), the "
        f"smallest {_words.percent(shares.min())} (expert {shares.argmin()})."
    )  # fmt: skip
    advice = (
        "A larger balance, such as 0.1, spreads the rows; fewer experts (n_experts) do if the "
        "scores stay."
    )
    if len(idle):
        them = _words.listing([f"expert {k}" for k in idle])
        verb = "has" if len(idle) == 1 else "have"
        title = f"{them[0].upper()}{them[1:]} {verb} hardly any rows"
        return Finding("watch", title, evidence, advice, "experts")
    if shares.max() > ALMOST_ALL:
        return Finding("watch", f"Expert {most} has nearly all rows", evidence, advice, "experts")
    return Finding("good", "Every expert has rows", evidence, "Nothing to do.", "experts")


def few_rows(facts: Facts) -> Finding | None:
    """Which figures rest on next to nothing?"""
    rows = facts.probing.experts["n_samples"].to_numpy(dtype=int)
    few = [f"expert {k} ({_words.count(int(n), 'row')})" for k, n in enumerate(rows) if 0 < n < 50]
    if not few:
        return None
    return Finding(
        "watch",
        "Some figures rest on few rows",
        f"Own rows: {_words.listing(few)}.",
        "Do not read much into scores and attention of these experts; look at more rows.",
        "experts",
    )


def beaten(facts: Facts) -> Finding:
    """Is each expert the best one for its rows?"""
    matrix = facts.probing.score_matrix.to_numpy()
    if not facts.better:
        own = np.diag(matrix)
        others = _mean_of_others(matrix)
        known = ~np.isnan(own)
        weight = facts.probing.experts["share"].to_numpy(dtype=float)[known]
        return Finding(
            "good",
            "No expert is clearly beaten on its own rows",
            f"On their own rows the experts have {_name(facts, small=True)} "
            f"{_score(facts, np.average(own[known], weights=weight))}, the others on the same rows "
            f"{_score(facts, np.average(others[known], weights=weight))} on average. Experts with "
            f"fewer than {FEW_ROWS} rows are not compared.",
            "Nothing to do. Where the two figures are close the experts are alike.",
            "experts",
        )
    parts = [
        f"On the rows of expert {b.domain}, expert {b.other} is better "
        f"({_score(facts, matrix[b.other, b.domain])} against "
        f"{_score(facts, matrix[b.domain, b.domain])}, {_loss(facts, b.loss)})."
        for b in facts.better
    ]
    return Finding(
        "watch",
        "Some experts are beaten on their own rows",
        f"{_words.count(len(parts), 'expert')} of {facts.n_experts}. The intervals allow for all "
        "pairs that were tried.",
        "The gate sends these rows to the wrong expert: train longer, or with a gate of its own "
        "hidden layer (gate_hidden_layer_sizes).",
        "experts",
        tuple(parts),
    )


def gate(facts: Facts) -> Finding:
    """Does the gate choose, or draw lots?"""
    gain = facts.gate_gain
    if gain is None:
        return Finding(
            "act",
            "No expert is right on any of these rows",
            "Rows that at least one expert gets right alone: 0.",
            "Check that these are the rows and the target that the estimator was trained for.",
            "gate",
        )
    value = facts.probing.gate_recognition_accuracy
    evidence = (
        f"Where at least one expert is right alone, the gate chooses a right one on "
        f"{_words.percent(value)} of the rows (gate recognition accuracy); drawing lots would on "
        f"{_words.percent(facts.lots)}. The difference is {_points(gain.estimate)}, "
        f"{_words.INTERVAL} {_points_range(gain)}."
    )
    if gain.low > 0:
        return Finding("good", "The gate knows whom to ask", evidence, "Nothing to do.", "gate")
    if gain.high < 0:
        return Finding(
            "act",
            "The gate chooses worse than by drawing lots",
            evidence,
            "Check that these rows resemble those of training; if they do, train anew with a "
            "smaller learning rate or more rows.",
            "gate",
        )
    return Finding(
        "watch",
        "The gate is no better than drawing lots, as far as these rows tell",
        evidence,
        "Where experts are alike, any choice is as good, and fewer experts will do. Otherwise "
        "look at more rows.",
        "gate",
    )


REASONS = {
    "misrouted": (
        "Most errors are rows that another expert would get right",
        "A larger alpha lets experts learn from one another, a gate with a hidden layer "
        "(gate_hidden_layer_sizes) chooses more finely. With many experts some are right by "
        "luck: compare with the gate that draws lots.",
    ),
    "expert": (
        "Most errors are of the experts, not of the gate",
        "No gate could mend these rows. Better features, more rows or other experts "
        "(hidden_layer_sizes) might.",
    ),
    "mixing": (
        "Most errors come from mixing",
        'On these rows the top expert is right alone: inference="top_expert" asks it only, and '
        'mixing="expected" trains the experts to answer alone.',
    ),
}


def reasons(facts: Facts) -> Finding:
    """Whose are the errors?"""
    table = facts.probing.error_types
    if not table["n_samples"].sum():
        return Finding(
            "note",
            "The mixture makes no error on these rows",
            f"Wrong: 0 of {_words.count(facts.n_samples, 'row')}.",
            "Check that these are rows that training did not see.",
            "gate",
        )
    largest = str(table["share"].idxmax())
    title, advice = REASONS[largest]
    if table.loc[largest, "share_of_errors"] <= 0.5:
        title = title.replace("Most", "The largest part of the")
    parts = [
        f"{kind} {_words.percent(row['share_of_errors'])} "
        f"({_words.count(int(row['n_samples']), 'row')})"
        for kind, row in table.iterrows()
    ]
    return Finding("note", title, f"Of the errors: {_words.listing(parts)}.", advice, "gate")


def alike(facts: Facts) -> Finding:
    """How much do the experts differ?"""
    matrix = facts.probing.consistency.to_numpy()
    i, j = np.unravel_index(np.where(np.eye(len(matrix)), np.inf, matrix).argmin(), matrix.shape)
    mean = facts.probing.mean_consistency
    first, second = sorted((int(i), int(j)))
    if facts.classifies:
        evidence = (
            f"Two experts predict the same class on {_words.percent(mean)} of the rows on average; "
            f"the least alike, experts {first} and {second}, on {_words.percent(matrix[i, j])}."
        )
    else:
        evidence = (
            f"Consistency of two experts is {_words.fixed(mean, 3)} on average (1: the same "
            f"values, 0: as far apart as strangers); of the least alike, experts {first} and "
            f"{second}, {_words.fixed(matrix[i, j], 3)}."
        )
    if mean >= COPIES:
        return Finding(
            "watch",
            "The experts are nearly copies of one another",
            evidence,
            "Fewer experts would do, or a smaller alpha if each should have a field of its own.",
            "alike",
        )
    return Finding(
        "note",
        "The experts differ",
        evidence,
        "A larger alpha makes them more alike and each better on the others' rows, a smaller one "
        "lets them specialise.",
        "alike",
    )


def looks(facts: Facts) -> Finding:
    """What matters to gate and experts?"""
    title = "What matters most to each, by shuffling one feature at a time"
    advice = (
        "Check that these are features that may decide, and that they are known when the model "
        "answers. Shuffling underrates features that repeat one another."
    )
    n_repeats = facts.n_repeats
    if n_repeats < FEW_REPEATS:
        return Finding(
            "note",
            title,
            f"Every feature was shuffled {'once' if n_repeats == 1 else 'twice'}, which does not "
            "tell an importance from the chance of the shuffling: none is named.",
            f"Call the report with n_repeats={FEW_REPEATS} or more.",
            "attention",
        )
    # The standard deviation of a sample: that of the instrument divides by the number.
    correction = np.sqrt(n_repeats / (n_repeats - 1))
    importances = facts.attention.importances
    deviations = facts.attention.deviations * correction
    clear = importances.where(importances > CLEAR * deviations)
    parts = []
    for who in importances.columns:
        column = clear[who].dropna()
        column = column[column > 0].sort_values(ascending=False, kind="stable")[:3]
        whom = "The gate" if who == "gate" else f"Expert {who}"
        if len(column):
            unit = _moved if who == "gate" else _drop
            features = [f"{_words.quoted(f)} ({unit(facts, v)})" for f, v in column.items()]
            parts.append(f"{whom}: {_words.listing(features)}.")
        elif importances[who].notna().any():
            parts.append(f"{whom}: none clearly.")
    shown = parts if len(parts) <= 9 else [*parts[:8], parts[-1]]
    return Finding(
        "note",
        title,
        f"Named is what exceeds {CLEAR} standard deviations of {n_repeats} shufflings, three "
        "features at most.",
        advice,
        "attention",
        tuple(shown),
    )


def lost(facts: Facts) -> Finding | None:
    """Did experts lose their rows in training?"""
    if facts.history is None or facts.n_experts == 1:
        return None
    history_usage = facts.history.usage
    last = history_usage.iloc[-1]
    gone = [k for k in history_usage if last[k] < IDLE and history_usage[k].max() >= 0.05]
    epochs = len(history_usage)
    where = "validation" if facts.history.held_out else "training"
    if gone:
        parts = [
            f"expert {k} had {_words.percent(history_usage[k].max())} in epoch "
            f"{history_usage[k].idxmax()} and {_words.percent(last[k])} in epoch {epochs}"
            for k in gone
        ]
        text = _words.listing(parts)
        return Finding(
            "watch",
            "Experts lost their rows in training",
            f"{text[0].upper()}{text[1:]}, on {where} rows.",
            "A larger balance keeps them in; if the scores are good without them, lower n_experts.",
            "history",
        )
    entropy = facts.history.measures["usage_entropy"]
    return Finding(
        "good",
        "No expert lost its rows in training",
        f"The entropy of the experts' shares was {_words.fixed(entropy.iloc[0], 3)} nats in epoch "
        f"1 and {_words.fixed(entropy.iloc[-1], 3)} in epoch {epochs}; the most, with equal "
        f"shares, is {_words.fixed(float(np.log(facts.n_experts)), 3)}. Measured on {where} rows.",
        "Nothing to do.",
        "history",
    )


# Parts of sentences.


def _limit(facts: Facts, margin: float) -> float:
    return margin if facts.classifies else margin * facts.probing.mixture_score


def _name(facts: Facts, small: bool = False) -> str:
    if not facts.classifies:
        return "RMSE"
    return "accuracy" if small else "Accuracy"


def _score(facts: Facts, value: float) -> str:
    return _words.percent(value) if facts.classifies else _words.fixed(value, facts.decimals)


def _amount(facts: Facts, value: float) -> str:
    return _points(value) if facts.classifies else f"{_words.fixed(value, facts.decimals)} in RMSE"


def _loss(facts: Facts, loss: Interval) -> str:
    called = "a gain" if loss.estimate < 0 else "a loss"
    amount = _amount(facts, abs(loss.estimate))
    if facts.classifies:
        return f"{called} of {amount} ({_words.INTERVAL} of the loss {_points_range(loss)})"
    low, high = (_words.fixed(value, facts.decimals) for value in loss[1:])
    return f"{called} of {amount} ({_words.INTERVAL} of the loss {low} to {high})"


def _lead(facts: Facts, lead: Interval) -> str:
    """What one answer loses is by how much the other one is ahead."""
    where = "behind" if lead.estimate < 0 else "ahead"
    low, high = (_words.fixed(value, facts.decimals) for value in lead[1:])
    between = _points_range(lead) if facts.classifies else f"{low} to {high}"
    return (
        f"{where} by {_amount(facts, abs(lead.estimate))} ({_words.INTERVAL} of the lead {between})"
    )


def _points(share: float) -> str:
    text = _words.percent(share, 2).removesuffix(f"{_words.SPACE}%")
    return f"{text}{_words.SPACE}percentage points"


def _points_range(interval: Interval) -> str:
    low, high = (_words.percent(v, 2).removesuffix(f"{_words.SPACE}%") for v in interval[1:])
    return f"{low} to {high}"


def _drop(facts: Facts, value: Any) -> str:
    return f"loses {_amount(facts, float(value))}"


def _moved(facts: Facts, value: Any) -> str:
    return f"moves {_words.percent(float(value))} of the rows"


def _mean_of_others(matrix: Any) -> Any:
    n_experts = len(matrix)
    return (matrix.sum(axis=0) - np.diag(matrix)) / max(1, n_experts - 1)
