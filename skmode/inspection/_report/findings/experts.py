"""Findings on the experts: their rows, their scores, how much they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmode.inspection._report.facts import MIN_ROWS, Facts
from skmode.inspection._report.findings.finding import Finding, loss_text, score_text
from skmode.inspection._report.formatting import count, fixed, listing, percent, sentence_case

# Share of the rows below which an expert hardly takes part, and above which it takes nearly all.
IDLE = 0.01
ALMOST_ALL = 0.9

# Consistency above which experts are called copies of each other.
COPIES = 0.99

# Experts whose shares a sentence can list.
MAX_LISTED = 8


def usage(facts: Facts) -> Finding:
    """Do all experts take part?"""
    shares = facts.probing.experts["share"].to_numpy(dtype=float)
    idle = np.flatnonzero(shares < IDLE)
    most = int(shares.argmax())
    if len(shares) <= MAX_LISTED:
        spread = listing([f"expert {k} {percent(share)}" for k, share in enumerate(shares)])
        evidence = f"Shares of the rows: {spread}."
    else:
        evidence = (
            f"The largest share of the rows is {percent(shares.max())} (expert {most}), the "
            f"smallest {percent(shares.min())} (expert {shares.argmin()})."
        )
    advice = (
        "A larger balance, such as 0.1, spreads the rows. If scores stay the same, fewer experts "
        "(n_experts) are enough."
    )
    if len(idle):
        names = sentence_case(listing([f"expert {k}" for k in idle]))
        verb = "has" if len(idle) == 1 else "have"
        title = f"{names} {verb} hardly any rows"
        return Finding("watch", title, evidence, advice, "experts")
    if shares.max() > ALMOST_ALL:
        return Finding("watch", f"Expert {most} has nearly all rows", evidence, advice, "experts")
    return Finding("good", "Every expert has rows", evidence, "Nothing to do.", "experts")


def few_rows(facts: Facts) -> Finding | None:
    """Which figures rest on few rows?"""
    rows = facts.probing.experts["n_samples"].to_numpy(dtype=int)
    few = [f"expert {k} ({count(int(n), 'row')})" for k, n in enumerate(rows) if 0 < n < MIN_ROWS]
    if not few:
        return None
    return Finding(
        "watch",
        "Some figures rest on few rows",
        f"Own rows: {listing(few)}.",
        "Do not rely on the scores and the attention of these experts; look at more rows.",
        "experts",
    )


def beaten(facts: Facts) -> Finding:
    """Is each expert the best one for its rows?"""
    matrix = facts.probing.score_matrix.to_numpy()
    if not facts.beaten:
        own = np.diag(matrix)
        others = _mean_of_other_experts(matrix)
        known = ~np.isnan(own)
        weight = facts.probing.experts["share"].to_numpy(dtype=float)[known]
        return Finding(
            "good",
            "No expert is clearly beaten on its own rows",
            f"Average {facts.metric} on the rows of an expert: "
            f"{score_text(facts, np.average(own[known], weights=weight))} by this expert, "
            f"{score_text(facts, np.average(others[known], weights=weight))} by the others. "
            f"Experts with fewer than {MIN_ROWS} rows are not compared.",
            "Nothing to do. If the two figures are close, the experts are alike.",
            "experts",
        )
    parts = [
        f"On the rows of expert {b.domain}, expert {b.other} is better "
        f"({score_text(facts, matrix[b.other, b.domain])} against "
        f"{score_text(facts, matrix[b.domain, b.domain])}, {loss_text(facts, b.loss)})."
        for b in facts.beaten
    ]
    return Finding(
        "watch",
        "Some experts are beaten on their own rows",
        f"{len(parts)} of {count(facts.n_experts, 'expert')}. The intervals are wider than for a "
        "single pair, because many pairs are compared.",
        "The gate sends these rows to the wrong expert: train longer, or give the gate a hidden "
        "layer of its own (gate_hidden_layer_sizes).",
        "experts",
        tuple(parts),
    )


def alike(facts: Facts) -> Finding:
    """How much do the experts differ?"""
    matrix = facts.probing.consistency.to_numpy()
    i, j = np.unravel_index(np.where(np.eye(len(matrix)), np.inf, matrix).argmin(), matrix.shape)
    mean = facts.probing.mean_consistency
    first, second = sorted((int(i), int(j)))
    if facts.classifies:
        evidence = (
            f"On average, two experts predict the same class on {percent(mean)} of the rows. "
            f"Experts {first} and {second} are the least alike, with {percent(matrix[i, j])}."
        )
    else:
        evidence = (
            f"The consistency of two experts is {fixed(mean, 3)} on average (1: the same values, "
            f"0: as far apart as the targets of two random rows). Experts {first} and {second} are "
            f"the least alike, with {fixed(matrix[i, j], 3)}."
        )
    if mean >= COPIES:
        return Finding(
            "watch",
            "The experts are nearly copies of one another",
            evidence,
            "Train with fewer experts, or with a smaller alpha if they should specialise.",
            "alike",
        )
    return Finding(
        "note",
        "The experts differ",
        evidence,
        "A larger alpha makes them more alike, and each better on the rows of other experts; a "
        "smaller one lets them specialise.",
        "alike",
    )


def lost_rows(facts: Facts) -> Finding | None:
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
            f"expert {k} had {percent(history_usage[k].max())} in epoch "
            f"{history_usage[k].idxmax()} and {percent(last[k])} in epoch {epochs}"
            for k in gone
        ]
        return Finding(
            "watch",
            "Experts lost their rows in training",
            f"{sentence_case(listing(parts))}, on {where} rows.",
            "A larger balance keeps their rows; if scores are good without them, lower n_experts.",
            "history",
        )
    entropy = facts.history.measures["usage_entropy"]
    return Finding(
        "good",
        "No expert lost its rows in training",
        f"The entropy of the experts' shares was {fixed(entropy.iloc[0], 3)} nats in epoch "
        f"1 and {fixed(entropy.iloc[-1], 3)} in epoch {epochs}. Equal shares would have "
        f"{fixed(float(np.log(facts.n_experts)), 3)}. Measured on {where} rows.",
        "Nothing to do.",
        "history",
    )


def _mean_of_other_experts(matrix: Any) -> Any:
    """Average, for each domain, the scores of the experts that it does not belong to."""
    n_experts = len(matrix)
    return (matrix.sum(axis=0) - np.diag(matrix)) / max(1, n_experts - 1)
