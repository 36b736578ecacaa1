"""Tables on the teacher: how much of it was kept, and on which rows to ask it instead."""

from __future__ import annotations

import numpy as np

from skmode.inspection._evaluation import measures
from skmode.inspection._report import formatting
from skmode.inspection._report.cells import Cell, Table, count, percent, score
from skmode.inspection._report.facts import Array, Facts

# Shares of the rows for which the teacher is asked.
ASKED = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def teacher_tables(facts: Facts) -> dict[str, Table | None]:
    """Make the tables on the teacher, by name; None without its predictions."""
    if facts.teacher is None:
        return {"fidelity": None, "disagreement": None, "asked": None}
    return {
        "fidelity": fidelity(facts),
        "disagreement": disagreement(facts),
        "asked": asked(facts),
    }


def part_score(facts: Facts, predicted: Array, weight: Array) -> float:
    """Score predictions, with a weight for each row; NaN without any."""
    if not weight.sum() > 0:
        return float("nan")
    if facts.classifies:
        return float(np.average(predicted == facts.target.values, weights=weight))
    squares = (predicted - facts.target.values) ** 2
    return float(measures.root_mean_squared_error(squares, weight))


def agreement(facts: Facts, predicted: Array) -> Array:
    """Tell whether a prediction is the teacher's class, or how far it is from the teacher's value.

    The distance is the root mean square over the targets, in standard deviations of each.
    """
    assert facts.teacher is not None
    if facts.classifies:
        return np.asarray(predicted == facts.teacher.predicted)
    scaled = (predicted - facts.teacher.predicted) / facts.target.scale
    return np.asarray(np.sqrt((scaled**2).mean(axis=1)))


def fidelity(facts: Facts) -> Table:
    """Compare teacher, mixture and top expert."""
    assert facts.teacher is not None
    outputs, weight = facts.outputs, facts.target.weight
    contenders = [
        ("the teacher", facts.teacher.predicted),
        ("the whole mixture", outputs.mixture),
        ("the top expert of each row, alone", outputs.top_expert),
    ]
    scores = [part_score(facts, predicted, weight) for _, predicted in contenders]
    lead = scores[0] - facts.baseline
    leads = lead > 0 if facts.classifies else lead < 0  # of errors, less is better
    rows = []
    for (who, predicted), value in zip(contenders, scores, strict=True):
        alike = float(np.average(agreement(facts, predicted), weights=weight))
        kept = (value - facts.baseline) / lead if leads else float("nan")
        close = percent(alike) if facts.classifies else Cell(formatting.number(alike, 3), alike)
        rows.append([Cell(who), score(facts, value), close, percent(kept)])
    return Table(
        "fidelity",
        "How much of the teacher was kept",
        [
            "prediction by",
            facts.metric,
            "same class as the teacher" if facts.classifies else "distance from the teacher",
            "lead kept",
        ],
        rows,
        "The lead is the teacher's over a constant prediction; without one there is no share."
        + ("" if facts.classifies else " Distances are in standard deviations of the target."),
    )


def disagreement(facts: Facts) -> Table:
    """Show, for the rows of each expert, how often or how far it differs from the teacher."""
    assert facts.teacher is not None
    alike = agreement(facts, facts.outputs.top_expert)
    rows = []
    for k in range(facts.n_experts):
        own = facts.outputs.route == k
        weight = facts.target.weight * own
        if not weight.sum() > 0:
            continue
        differ = float(np.average(1 - alike if facts.classifies else alike, weights=weight))
        cell = percent(differ) if facts.classifies else Cell(formatting.number(differ, 3), differ)
        rows.append(
            [
                Cell(f"expert {k}", float(k)),
                count(own.sum()),
                cell,
                score(facts, part_score(facts, facts.teacher.predicted, weight)),
                score(facts, part_score(facts, facts.outputs.top_expert, weight)),
            ]
        )
    rows.sort(key=lambda row: -(row[2].value or 0))
    return Table(
        "disagreement",
        "Where expert and teacher disagree most",
        [
            "rows of",
            "number",
            "other class than the teacher" if facts.classifies else "distance from the teacher",
            f"{facts.metric} of the teacher",
            "of the expert",
        ],
        rows,
    )


def asked(facts: Facts) -> Table:
    """Score a service that asks the teacher on the rows of which the top expert is least sure."""
    assert facts.teacher is not None
    doubt, weight = facts.teacher.doubt, facts.target.weight
    order = np.argsort(-doubt, kind="stable")
    passed = np.cumsum(weight[order]) / weight.sum()
    rows = []
    for share in ASKED:
        chosen = np.zeros(len(doubt), dtype=bool)
        chosen[order[passed <= share + 1e-12]] = True
        inner = chosen if facts.classifies else chosen[:, None]
        predicted = np.where(inner, facts.teacher.predicted, facts.outputs.top_expert)
        limit = doubt[chosen].min() if chosen.any() else float("nan")
        shown = 1 - limit if facts.classifies else limit
        rows.append(
            [
                percent(share, digits=0),
                Cell(formatting.number(float(shown), 3), float(shown)),
                score(facts, part_score(facts, predicted, weight)),
            ]
        )
    sign = (
        "its largest probability is at most" if facts.classifies else "experts differ at least by"
    )
    return Table(
        "asked",
        "Ask the teacher when the top expert is not sure",
        ["rows that the teacher predicts", f"where {sign}", facts.metric],
        rows,
        "The other rows are predicted by their top expert."
        if facts.classifies
        else "The other rows are predicted by their top expert. The difference is the standard "
        "deviation of the experts' predictions around the top expert's, by their gate weights, in "
        "standard deviations of the target.",
        sortable=False,
    )
