"""The tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skmode.inspection import _measures
from skmode.inspection._report import _words
from skmode.inspection._report._cells import (
    Cell,
    Table,
    count,
    heading,
    metric,
    percent,
    score,
    shade,
)
from skmode.inspection._report._facts import Facts

Array = NDArray[Any]

# Rows of the tables of features and of classes.
MOST_ROWS = 30


def all_tables(facts: Facts) -> dict[str, Table | None]:
    """Every table of the report by name; None where there is nothing to tell."""
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
    """What the figures are to be compared with."""
    single = facts.single
    rows = [
        ("the whole mixture", facts.probing.mixture_score),
        ("the top expert of each row, alone", facts.probing.top_expert_score),
        (f"expert {single} for every row, the best single one", facts.alone[single]),
        (f"without a model: {constant(facts)} for every row", facts.baseline),
    ]
    return Table(
        "scores",
        f"{heading(facts)} on these rows",
        ["who answers", metric(facts)],
        [[Cell(who), score(facts, value)] for who, value in rows],
        "RMSE is the root mean squared error, in units of the target: the smaller the better."
        if not facts.classifies
        else "",
    )


def constant(facts: Facts) -> str:
    """The same answer for every row."""
    if not facts.classifies:
        return "the mean"
    seen = "" if facts.all_classes_known else " of those that training saw"
    return f"the most frequent class{seen}"


def parameters(facts: Facts) -> Table | None:
    """Parameters that are simple values; of others their class alone, which does not change."""
    if not hasattr(facts.mixture, "get_params"):
        return None
    found = facts.mixture.get_params(deep=False)
    rows = [[Cell(_words.name(key)), Cell(_simple(value))] for key, value in sorted(found.items())]
    if hasattr(facts.mixture, "alpha_"):
        rows.append([Cell("alpha_ (in training)"), Cell(_simple(facts.mixture.alpha_))])
    return Table("parameters", "Parameters of the mixture", ["parameter", "value"], rows)


def _simple(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str | np.number | np.bool_):
        value = value.item() if isinstance(value, np.generic) else value
        return _words.name(repr(value), 80)
    if isinstance(value, list | tuple) and len(value) <= 12:
        return f"({', '.join(_simple(each) for each in value)})"
    if isinstance(value, type):
        return _words.name(value.__name__, 80)
    return f"({_words.name(type(value).__name__, 80)})"


def missing(facts: Facts) -> Table | None:
    """Scores where values are missing and where none are."""
    some = facts.columns.missing.any(axis=1)
    if not some.any():
        return None
    rows = []
    for label, members in (("some value is missing", some), ("all values are there", ~some)):
        weight = facts.target.weight * members
        if weight.sum() > 0:
            rows.append(
                [
                    Cell(label),
                    count(members.sum()),
                    percent(weight.sum() / facts.target.weight.sum()),
                    score(facts, part_score(facts, facts.outputs.mixture, weight)),
                    score(facts, part_score(facts, _of_top(facts), weight)),
                ]
            )
    return Table(
        "missing",
        "Rows with and without missing values",
        ["rows", "number", "share", f"{metric(facts)} of mixture", "of top expert alone"],
        rows,
    )


def part_score(facts: Facts, predicted: Array, weight: Array) -> float:
    """Score of predictions on rows of positive weight."""
    if facts.classifies:
        return float(np.average(predicted == facts.target.values, weights=weight))
    squares = (predicted - facts.target.values) ** 2
    return float(_measures.root_mean_squared_error(squares, weight))


def _of_top(facts: Facts) -> Array:
    rows = np.arange(facts.n_samples)
    return np.asarray(facts.outputs.experts[rows, facts.outputs.route])


# Who does what.


def experts(facts: Facts) -> Table:
    """One row an expert."""
    table = facts.probing.experts
    name = metric(facts)
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
            "mixture on the same own rows",
            f"{name} on all rows",
        ],
        rows,
        "An expert's own rows are those on which its gate weight is the largest."
        + (" Shares and scores count rows by their weights." if facts.weighted else ""),
    )


def score_matrix(facts: Facts) -> Table | None:
    """Each expert on each domain."""
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
        f"{heading(facts)} of each expert on the rows of each",
        ["alone", *(f"rows of {domain}" for domain in matrix.columns)],
        rows,
        "Read down a column: who is best on these rows. Darker is better.",
    )


def classes(facts: Facts) -> Table:
    """Where the rows of each class go."""
    values, weight = facts.target.values, facts.target.weight
    labels = list(facts.mixture.classes_)
    rows = []
    for position in [*range(len(labels)), -1]:
        members = (values == position) & (weight > 0)
        if not members.any():
            continue
        part = weight * members
        shares = _measures.usage(facts.outputs.route, facts.n_experts, part)
        label = "(classes unseen in training)" if position < 0 else _words.name(labels[position])
        rows.append(
            [
                Cell(label),
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
        rows[:MOST_ROWS],
        f"Each row sums to 100{_words.SPACE}% over the experts."
        + _cut(len(rows), "classes", "most frequent"),
    )


def targets(facts: Facts) -> Table:
    """What the values are on the rows of each expert."""
    values, weight, route = facts.target.values, facts.target.weight, facts.outputs.route
    several = values.shape[1] > 1
    rows = []
    for k in range(facts.n_experts):
        part = weight * (route == k)
        cells = [Cell(f"expert {k}", float(k)), count((route == k).sum())]
        for output in range(min(values.shape[1], MOST_ROWS)):
            mean = spread = float("nan")
            if part.sum() > 0:
                mean = float(np.average(values[:, output], weights=part))
                squares = (values[:, output] - mean) ** 2
                spread = float(np.sqrt(np.average(squares, weights=part)))
            cells += [Cell(_words.number(mean), mean), Cell(_words.number(spread), spread)]
        rows.append(cells)
    headings = []
    for output in range(min(values.shape[1], MOST_ROWS)):
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
    """The gate beside one that draws lots and one that knows."""
    value = facts.probing.gate_recognition_accuracy
    weight = facts.target.weight
    solvable = float(weight @ facts.judgement.experts.any(axis=1) / weight.sum())
    return Table(
        "recognition",
        "Is a right expert chosen, where there is one?",
        ["gate", "rows where it chooses a right expert, of those that have one"],
        [
            [Cell("this gate (gate recognition accuracy)"), percent(value)],
            [Cell("a gate that draws lots"), percent(facts.lots)],
            [Cell("a perfect gate"), percent(1.0 if solvable else float("nan"))],
        ],
        f"At least one expert is right alone on {_words.percent(solvable)} of all rows."
        + _tolerance(facts),
    )


ERRORS = {
    "misrouted": "misrouted: the top expert is wrong, another one is right alone",
    "expert": "expert: every expert is wrong alone",
    "mixing": "mixing: the top expert is right alone, the mixture is wrong",
}


def errors(facts: Facts) -> Table:
    """Why the mixture is wrong."""
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
    """What is lost by running less."""
    rows = [("top expert alone, against the mixture", facts.top_loss)]
    if facts.n_experts > 1:
        best = f"expert {facts.single} for every row, against the top experts"
        rows.append((best, facts.single_loss))
    rows.append((f"{constant(facts)} for every row, against the mixture", facts.constant_loss))
    unit = "percentage points of accuracy" if facts.classifies else "RMSE, in units of the target"
    return Table(
        "costs",
        f"What is lost by running less ({unit})",
        ["who answers", "loss", f"{_words.INTERVAL} from", "to"],
        [[Cell(who), *(difference(facts, value) for value in loss)] for who, loss in rows],
        "Below zero it is a gain. Both answer the same rows, so the interval is of paired rows; it "
        "takes rows as independent of one another, and leaves out what another training would "
        "change.",
    )


def difference(facts: Facts, value: float) -> Cell:
    """A cell with a difference of two scores."""
    if facts.classifies:
        return Cell(_words.percent(value, 2).removesuffix(f"{_words.SPACE}%"), 100 * value)
    return Cell(_words.fixed(value, facts.decimals), value)


def crossed(facts: Facts) -> Table:
    """Who is right where the two differ."""
    top, mixture = facts.top_right, facts.judgement.mixture
    rows = [
        ("right alone", top & mixture, top & ~mixture),
        ("wrong alone", ~top & mixture, ~top & ~mixture),
    ]
    return Table(
        "crossed",
        "Top expert and mixture on the same rows",
        ["top expert", "rows that the mixture gets right", "rows that it gets wrong"],
        [[Cell(who), count(one.sum()), count(two.sum())] for who, one, two in rows],
        _tolerance(facts).strip(),
        sortable=False,
    )


# Experts beside one another.


def consistency(facts: Facts) -> Table | None:
    """Agreement of each pair."""
    if facts.n_experts == 1:
        return None
    matrix = facts.probing.consistency.to_numpy()
    beside = matrix[~np.eye(len(matrix), dtype=bool)]
    low, high = float(beside.min()), float(beside.max())
    rows = []
    for i, values in enumerate(matrix):
        cells = [Cell(f"expert {i}", float(i))]
        for j, value in enumerate(values):
            text = percent(value) if facts.classifies else Cell(_words.fixed(value, 3), value)
            ground = 0 if i == j else shade(value, low, high)
            cells.append(Cell(_words.MISSING if i == j else text.text, text.value, ground))
        rows.append(cells)
    what = (
        "share of the rows on which two experts predict the same class"
        if facts.classifies
        else "1 less the mean squared difference of two experts over twice the target's variance"
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
    return _words.percent(value) if facts.classifies else _words.fixed(value, 3)


def attention(facts: Facts) -> Table:
    """Importance of each feature, to experts and gate."""
    found = facts.attention
    shares = found.shares()
    rank = shares.max(axis=1).to_numpy().argsort(kind="stable")[::-1]
    rows = []
    for feature in rank[:MOST_ROWS]:
        cells = [Cell(_words.name(found.importances.index[feature]))]
        for column in range(found.importances.shape[1]):
            value = float(found.importances.iloc[feature, column])
            ground = shade(float(shares.iloc[feature, column]), 0, _strongest(shares))
            if np.isnan(value):
                cells.append(Cell(_words.MISSING, value))
            elif facts.classifies or column == found.importances.shape[1] - 1:
                text = _words.percent(value, 2).removesuffix(f"{_words.SPACE}%")
                cells.append(Cell(text, 100 * value, ground))
            else:
                cells.append(Cell(_words.fixed(value, facts.decimals), value, ground))
        rows.append(cells)
    unit = "percentage points of accuracy" if facts.classifies else "RMSE, in units of the target"
    return Table(
        "attention",
        "What each expert and the gate look at",
        ["feature", *_expert_names(facts), "gate"],
        rows,
        f"Experts: what the expert alone loses on its own rows ({unit}) when the feature is "
        "shuffled among them. Gate: per cent of the rows that go to another expert when the "
        "feature is shuffled among all. Darker is a larger share of the column; what is near "
        "zero, or below, is chance." + _cut(len(shares), "features", "most important"),
    )


def _strongest(shares: pd.DataFrame) -> float:
    return float(np.nanmax(shares.to_numpy(), initial=0.0))


HISTORY = {
    "gate_entropy": "entropy of the gate's weights (nats)",
    "usage_entropy": "entropy of the experts' shares (nats)",
    "consistency": "consistency of the experts",
    "gate_recognition": "gate recognition accuracy",
    "mixture_score": "of the mixture",
    "top_expert_score": "of the top expert alone",
}


def history(facts: Facts) -> Table | None:
    """Figures of the first, a middle and the last epoch."""
    if facts.history is None:
        return None
    measures, usage = facts.history.measures, facts.history.usage
    epochs = sorted({1, (len(measures) + 1) // 2, len(measures)})
    called = "accuracy" if facts.classifies else "R²"
    rows = [
        [
            Cell(f"{called} {text}" if key.endswith("_score") else text),
            *(Cell(_words.fixed(v, 3), float(v)) for v in measures.loc[epochs, key]),
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
        f"Measured on {where} rows. The weights that were kept may be those of another epoch.",
        sortable=False,
    )


# Parts of sentences.


def _expert_names(facts: Facts) -> Sequence[str]:
    return [f"expert {k}" for k in range(facts.n_experts)]


def _cut(total: int, things: str, which: str) -> str:
    if total <= MOST_ROWS:
        return ""
    return f" The {which} {MOST_ROWS} of {total} {things}."


def _tolerance(facts: Facts) -> str:
    if facts.judgement.tolerance is None:
        return ""
    return (
        f" Right is a prediction within {_words.number(facts.judgement.tolerance)} of the target."
        if facts.target.values.shape[1] == 1
        else f" Right is a prediction within {_words.number(facts.judgement.tolerance)} standard "
        "deviations of the targets."
    )
