"""Findings on the gate: whether it chooses well, and whether errors are its own."""

from __future__ import annotations

from skmode.inspection._report.facts import Facts
from skmode.inspection._report.findings.finding import Finding, point_amount, point_bounds
from skmode.inspection._report.formatting import INTERVAL, count, listing, percent


def recognition(facts: Facts) -> Finding:
    """Does the gate choose better than at random?"""
    gain = facts.gate_gain
    if gain is None:
        return Finding(
            "act",
            "No expert is right on any of these rows",
            "Rows that at least one expert gets right: 0.",
            "Check that the estimator was trained for such rows and this target.",
            "gate",
        )
    value = facts.probing.gate_recognition_accuracy
    evidence = (
        "Among the rows that at least one expert gets right, the gate sends "
        f"{percent(value)} to such an expert (gate recognition accuracy). Choosing at random would "
        f"send {percent(facts.chance_recognition)}. The difference is "
        f"{point_amount(gain.estimate)} ({INTERVAL} {point_bounds(gain)})."
    )
    if gain.low > 0:
        title = "The gate chooses better than at random"
        return Finding("good", title, evidence, "Nothing to do.", "gate")
    if gain.high < 0:
        return Finding(
            "act",
            "The gate chooses worse than at random",
            evidence,
            "Check that these rows resemble the training rows; if they do, train again with a "
            "smaller learning rate or more rows.",
            "gate",
        )
    return Finding(
        "watch",
        "The gate does not clearly choose better than at random",
        evidence,
        "If the experts are alike, any choice is as good, and fewer experts are enough. Otherwise, "
        "measure on more rows.",
        "gate",
    )


REASONS = {
    "misrouted": (
        "Most errors are rows that another expert would get right",
        "A larger alpha lets experts learn more from one another; a gate with a hidden layer "
        "(gate_hidden_layer_sizes) can choose better. With many experts, some are right by luck: "
        "compare with a gate that chooses at random.",
    ),
    "expert": (
        "Most errors are made by the experts, not by the gate",
        "Every expert is wrong on these rows, so no gate could help. Better features, more rows or "
        "larger experts (hidden_layer_sizes) might.",
    ),
    "mixing": (
        "Most errors come from mixing",
        'On these rows the top expert is right, but the mixture is wrong: inference="top_expert" '
        'runs only the top expert, and mixing="expected" trains experts to predict alone.',
    ),
}


def reasons(facts: Facts) -> Finding:
    """What are most errors due to?"""
    table = facts.probing.error_types
    if not table["n_samples"].sum():
        return Finding(
            "note",
            "The mixture makes no error on these rows",
            f"Wrong: 0 of {count(facts.n_samples, 'row')}.",
            "Check that training did not see these rows.",
            "gate",
        )
    largest = str(table["share"].idxmax())
    title, advice = REASONS[largest]
    if table.loc[largest, "share_of_errors"] <= 0.5:
        title = title.replace("Most errors", "The most frequent errors")
    parts = [
        f"{kind} {percent(row['share_of_errors'])} ({count(int(row['n_samples']), 'row')})"
        for kind, row in table.iterrows()
    ]
    return Finding("note", title, f"Of the errors: {listing(parts)}.", advice, "gate")
