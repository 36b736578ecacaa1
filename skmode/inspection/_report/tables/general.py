"""All tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skmode.inspection._evaluation import measures
from skmode.inspection._plot.labels import label
from skmode.inspection._report import formatting
from skmode.inspection._report.cells import Cell, Table, count, difference, percent, score, shade
from skmode.inspection._report.facts import Facts

Array = NDArray[Any]

# Longest table of features or of classes.
MAX_ROWS = 30


def all_tables(facts: Facts) -> dict[str, Table | None]:
    """Make every table of the report, by name; None where there is nothing to show."""
    return {
        "scores": scores(facts),
        "parameters": parameters(facts),
        "missing": missing(facts),
        "experts": experts(facts),
        "matrix": score_matrix(facts),
        "classes": classes(facts) if facts.classifies else targets(facts),
        "recognition": recognition(facts),
        "errors": errors(facts),
        "costs": costs(facts),
        "crossed": crossed(facts),
        "consistency": consistency(facts),
        "attention": attention(facts),
        "history": history(facts),
    }


# The rows and the model.


def scores(facts: Facts) -> Table:
    """Tabulate scores of whole mixture, top expert, single expert and constant prediction."""
    single = facts.single
    rows = [
        ("the whole mixture", facts.probing.mixture_score),
        ("the top expert of each row, alone", facts.probing.top_expert_score),
        (f"expert {single} for every row, the best single one", facts.alone[single]),
        (f"without a model: {facts.constant_prediction} for every row", facts.baseline),
    ]
    return Table(
        "scores",
        f"{formatting.sentence_case(facts.metric)} on these rows",
        ["prediction by", facts.metric],
        [[Cell(who), score(facts, value)] for who, value in rows],
        "RMSE is the root mean squared error, in units of the target: lower is better."
        if not facts.classifies
        else "",
    )


def parameters(facts: Facts) -> Table | None:
    """Tabulate parameters: simple values as they are, others by their class.

    The repr of an object may hold an address, and the same input shall give the same file.
    """
    if not hasattr(facts.mixture, "get_params"):
        return None
    found = facts.mixture.get_params(deep=False)
    rows = [[Cell(label(key)), Cell(_simple(value))] for key, value in sorted(found.items())]
    if hasattr(facts.mixture, "alpha_"):
        rows.append([Cell("alpha_ (in training)"), Cell(_simple(facts.mixture.alpha_))])
    columns = getattr(getattr(facts.mixture, "encoder_", None), "columns_", [])
    for kind in ("text", "image"):
        names = [label(column.name, 40) for column in columns if column.kind == kind]
        if names:
            rows.append([Cell(f"columns of {kind}s (in training)"), Cell(", ".join(names))])
    return Table("parameters", "Parameters of the mixture", ["parameter", "value"], rows)


def _simple(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str | np.number | np.bool_):
        value = value.item() if isinstance(value, np.generic) else value
        return label(repr(value), 80)
    if isinstance(value, list | tuple) and len(value) <= 12:
        return f"({', '.join(_simple(each) for each in value)})"
    if isinstance(value, type):
        return label(value.__name__, 80)
    return f"({label(type(value).__name__, 80)})"


def missing(facts: Facts) -> Table | None:
    """Compare scores of rows with and without missing values."""
    some = facts.columns.missing.any(axis=1)
    if not some.any():
        return None
    rows = []
    for name, members in (("some value is missing", some), ("all values are there", ~some)):
        weight = facts.target.weight * members
        if weight.sum() > 0:
            rows.append(
                [
                    Cell(name),
                    count(members.sum()),
                    percent(weight.sum() / facts.target.weight.sum()),
                    score(facts, part_score(facts, facts.outputs.mixture, weight)),
                    score(facts, part_score(facts, facts.outputs.top_expert, weight)),
                ]
            )
    return Table(
        "missing",
        "Rows with and without missing values",
        ["rows", "number", "share", f"{facts.metric} of mixture", "of top expert alone"],
        rows,
    )


def part_score(facts: Facts, predicted: Array, weight: Array) -> float:
    """Score predictions, with a weight for each row."""
    if facts.classifies:
        return float(np.average(predicted == facts.target.values, weights=weight))
    squares = (predicted - facts.target.values) ** 2
    return float(measures.root_mean_squared_error(squares, weight))


# Who does what.


def experts(facts: Facts) -> Table:
    """Tabulate the experts, each alone."""
    table = facts.probing.experts
    name = facts.metric
    rows = []
    for k, row in table.iterrows():
        rows.append(
            [
                Cell(f"expert {k}", float(k)),
                count(row["n_samples"]),
                percent(row["share"], shade=shade(row["share"], 0, 1)),
                score(facts, row["score"]),
                score(facts, row["score_rest"]),
                score(facts, row["mixture_score"]),
                score(facts, facts.alone[k]),
            ]
        )
    return Table(
        "experts",
        "The experts, each alone",
        [
            "expert",
            "own rows",
            "share",
            f"{name} on own rows",
            f"{name} elsewhere",
            "mixture on these rows",
            f"{name} on all rows",
        ],
        rows,
        "An expert's own rows are those on which its gate weight is the largest."
        + (" Shares and scores count rows by their weights." if facts.weighted else ""),
    )


def score_matrix(facts: Facts) -> Table | None:
    """Tabulate the score of each expert on each domain."""
    if facts.n_experts == 1:
        return None
    matrix = facts.probing.score_matrix
    low, high = float(np.nanmin(matrix)), float(np.nanmax(matrix))
    rows = []
    for k in matrix.index:
        cells = [Cell(f"expert {k}", float(k))]
        for domain in matrix.columns:
            value = float(matrix.loc[k, domain])
            plain = score(facts, value)
            ground = shade(value, low, high) if facts.classifies else shade(-value, -high, -low)
            cells.append(Cell(plain.text, plain.value, ground))
        rows.append(cells)
    return Table(
        "matrix",
        f"{formatting.sentence_case(facts.metric)} of each expert on the rows of every expert",
        ["expert", *(f"rows of {domain}" for domain in matrix.columns)],
        rows,
        "Read down a column to see which expert is best on these rows. Darker is better.",
    )


def classes(facts: Facts) -> Table:
    """Tabulate where the rows of each class go."""
    values, weight = facts.target.values, facts.target.weight
    classes_ = list(facts.mixture.classes_)
    rows = []
    for position in [*range(len(classes_)), -1]:
        members = (values == position) & (weight > 0)
        if not members.any():
            continue
        part = weight * members
        shares = measures.usage(facts.outputs.route, facts.n_experts, part)
        name = "(classes unseen in training)" if position < 0 else label(classes_[position])
        rows.append(
            [
                Cell(name),
                count(members.sum()),
                percent(part_score(facts, facts.outputs.mixture, part)),
                *(percent(share, shade=shade(share, 0, 1)) for share in shares),
            ]
        )
    rows.sort(key=lambda row: -(row[1].value or 0))
    return Table(
        "classes",
        "Where the gate sends the rows of each class",
        ["class", "rows", "accuracy of mixture", *_expert_names(facts)],
        rows[:MAX_ROWS],
        f"Each row sums to 100{formatting.SPACE}% over the experts."
        + _cut(len(rows), "classes", "most frequent"),
    )


def targets(facts: Facts) -> Table:
    """Tabulate means and deviations of the target on the rows of each expert."""
    values, weight, route = facts.target.values, facts.target.weight, facts.outputs.route
    several = values.shape[1] > 1
    rows = []
    for k in range(facts.n_experts):
        part = weight * (route == k)
        cells = [Cell(f"expert {k}", float(k)), count((route == k).sum())]
        for output in range(min(values.shape[1], MAX_ROWS)):
            mean = spread = float("nan")
            if part.sum() > 0:
                mean = float(np.average(values[:, output], weights=part))
                squares = (values[:, output] - mean) ** 2
                spread = float(np.sqrt(np.average(squares, weights=part)))
            cells += [Cell(formatting.number(mean), mean), Cell(formatting.number(spread), spread)]
        rows.append(cells)
    headings = []
    for output in range(min(values.shape[1], MAX_ROWS)):
        of = f" {output}" if several else ""
        headings += [f"mean of target{of}", f"standard deviation{of}"]
    return Table(
        "classes",
        "The target on the rows of each expert",
        ["expert", "own rows", *headings],
        rows,
        _cut(values.shape[1], "targets", "first"),
    )


# The gate.


def recognition(facts: Facts) -> Table:
    """Compare the gate with one that chooses at random and with a perfect one."""
    value = facts.probing.gate_recognition_accuracy
    weight = facts.target.weight
    solvable = float(weight @ facts.judgement.experts.any(axis=1) / weight.sum())
    return Table(
        "recognition",
        "How often does the gate choose a right expert, if there is one?",
        ["gate", "share of these rows sent to a right expert"],
        [
            [Cell("this gate (gate recognition accuracy)"), percent(value)],
            [Cell("a gate that chooses at random"), percent(facts.chance_recognition)],
            [Cell("a perfect gate"), percent(1.0 if solvable else float("nan"))],
        ],
        f"At least one expert is right on {formatting.percent(solvable)} of all rows."
        + _tolerance(facts),
    )


ERRORS = {
    "misrouted": "misrouted: the top expert is wrong, but another expert is right",
    "expert": "expert: every expert is wrong",
    "mixing": "mixing: the top expert is right, but the mixture is wrong",
}


def errors(facts: Facts) -> Table:
    """Tabulate the errors of the mixture by reason."""
    table = facts.probing.error_types
    return Table(
        "errors",
        "Rows that the mixture gets wrong, by reason",
        ["reason", "rows", "share of all rows", "share of the errors"],
        [
            [
                Cell(ERRORS[str(kind)]),
                count(row["n_samples"]),
                percent(row["share"]),
                percent(row["share_of_errors"]),
            ]
            for kind, row in table.iterrows()
        ],
        _tolerance(facts).strip(),
    )


# Serving the top expert alone.


def costs(facts: Facts) -> Table:
    """Tabulate losses, with intervals, of predictions that cost less to compute."""
    rows = [("top expert alone, against the mixture", facts.top_loss)]
    if facts.n_experts > 1:
        best = f"expert {facts.single} for every row, against the top experts"
        rows.append((best, facts.single_loss))
    rows.append(
        (f"{facts.constant_prediction} for every row, against the mixture", facts.constant_loss)
    )
    unit = "percentage points of accuracy" if facts.classifies else "RMSE, in units of the target"
    return Table(
        "costs",
        f"Loss of cheaper predictions ({unit})",
        ["prediction by", "loss", f"{formatting.INTERVAL} from", "to"],
        [[Cell(who), *(difference(facts, value) for value in loss)] for who, loss in rows],
        "A loss below zero is a gain. Both predict the same rows, so the interval is for paired "
        "rows. It assumes that rows are independent, and ignores that another training would give "
        "another model.",
    )


def crossed(facts: Facts) -> Table:
    """Cross-tabulate where top expert and mixture are right."""
    top, mixture = facts.top_right, facts.judgement.mixture
    rows = [
        ("right", top & mixture, top & ~mixture),
        ("wrong", ~top & mixture, ~top & ~mixture),
    ]
    return Table(
        "crossed",
        "Top expert and mixture on the same rows",
        ["top expert", "rows that the mixture gets right", "rows that the mixture gets wrong"],
        [[Cell(who), count(one.sum()), count(two.sum())] for who, one, two in rows],
        _tolerance(facts).strip(),
        sortable=False,
    )


# How alike the experts are, and which features matter.


def consistency(facts: Facts) -> Table | None:
    """Tabulate the agreement of each pair of experts."""
    if facts.n_experts == 1:
        return None
    matrix = facts.probing.consistency.to_numpy()
    beside = matrix[~np.eye(len(matrix), dtype=bool)]
    low, high = float(beside.min()), float(beside.max())
    rows = []
    for i, values in enumerate(matrix):
        cells = [Cell(f"expert {i}", float(i))]
        for j, value in enumerate(values):
            text = percent(value) if facts.classifies else Cell(formatting.fixed(value, 3), value)
            ground = 0 if i == j else shade(value, low, high)
            cells.append(Cell(formatting.MISSING if i == j else text.text, text.value, ground))
        rows.append(cells)
    what = (
        "share of the rows on which two experts predict the same class"
        if facts.classifies
        else "1 minus the mean squared difference of two experts, divided by twice the target's "
        "variance"
    )
    return Table(
        "consistency",
        "Consistency of the experts",
        ["expert", *_expert_names(facts)],
        rows,
        f"Each cell: {what}. The mean of the pairs is "
        f"{_consistency(facts, facts.probing.mean_consistency)}. Darker is more alike.",
    )


def _consistency(facts: Facts, value: float) -> str:
    return formatting.percent(value) if facts.classifies else formatting.fixed(value, 3)


def attention(facts: Facts) -> Table:
    """Tabulate how important each feature is for experts and gate."""
    found = facts.attention
    shares = found.shares()
    rank = shares.max(axis=1).to_numpy().argsort(kind="stable")[::-1]
    rows = []
    for feature in rank[:MAX_ROWS]:
        cells = [Cell(label(found.importances.index[feature]))]
        for column in range(found.importances.shape[1]):
            value = float(found.importances.iloc[feature, column])
            ground = shade(float(shares.iloc[feature, column]), 0, _strongest(shares))
            if np.isnan(value):
                cells.append(Cell(formatting.MISSING, value))
            elif facts.classifies or column == found.importances.shape[1] - 1:
                cells.append(Cell(formatting.points(value), 100 * value, ground))
            else:
                cells.append(Cell(formatting.fixed(value, facts.decimals), value, ground))
        rows.append(cells)
    unit = "percentage points of accuracy" if facts.classifies else "RMSE, in units of the target"
    return Table(
        "attention",
        "What each expert and the gate look at",
        ["feature", *_expert_names(facts), "gate"],
        rows,
        f"Experts: the loss of the expert alone on its own rows ({unit}) when the feature is "
        "shuffled among them. Gate: per cent of the rows that go to another expert when the "
        "feature is shuffled among all rows. Darker is a larger share of the column; a value near "
        "or below zero is chance." + _cut(len(shares), "features", "most important"),
    )


def _strongest(shares: pd.DataFrame) -> float:
    return float(np.nanmax(shares.to_numpy(), initial=0.0))


HISTORY = {
    "gate_entropy": "entropy of the gate's weights (nats)",
    "usage_entropy": "entropy of the experts' shares (nats)",
    "consistency": "consistency of the experts",
    "gate_recognition": "gate recognition accuracy",
    "mixture_score": "of the mixture",
    "top_expert_score": "of the top expert",
}


def history(facts: Facts) -> Table | None:
    """Tabulate measures of the first, a middle and the last epoch."""
    if facts.history is None:
        return None
    measures, usage = facts.history.measures, facts.history.usage
    epochs = sorted({1, (len(measures) + 1) // 2, len(measures)})
    called = "accuracy" if facts.classifies else "R²"
    rows = [
        [
            Cell(f"{called} {text}" if key.endswith("_score") else text),
            *(Cell(formatting.fixed(v, 3), float(v)) for v in measures.loc[epochs, key]),
        ]
        for key, text in HISTORY.items()
        if key in measures
    ]
    for expert in usage:
        shares = usage.loc[epochs, expert]
        rows.append([Cell(f"share of expert {expert}"), *(percent(share) for share in shares)])
    where = "validation" if facts.history.held_out else "training"
    return Table(
        "history",
        "Gate and experts in training",
        ["measure", *(f"epoch {epoch}" for epoch in epochs)],
        rows,
        f"Measured on {where} rows. The model may have kept the weights of another epoch.",
        sortable=False,
    )


# Parts of tables and sentences.


def _expert_names(facts: Facts) -> Sequence[str]:
    return [f"expert {k}" for k in range(facts.n_experts)]


def _cut(total: int, things: str, which: str) -> str:
    if total <= MAX_ROWS:
        return ""
    return f" The {which} {MAX_ROWS} of {total} {things}."


def _tolerance(facts: Facts) -> str:
    if facts.judgement.tolerance is None:
        return ""
    return (
        f" A prediction is right within {formatting.number(facts.judgement.tolerance)} of the "
        "target."
        if facts.target.values.shape[1] == 1
        else f" A prediction is right within {formatting.number(facts.judgement.tolerance)} "
        "standard deviations of the targets."
    )
