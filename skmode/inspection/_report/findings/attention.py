"""The finding on attention: which features matter to gate and experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmode.inspection._report.facts import Facts
from skmode.inspection._report.findings.finding import Finding, amount
from skmode.inspection._report.formatting import listing, percent, quoted

# Standard deviations, over the shufflings, above which an importance is more than chance.
CLEAR = 2

# Fewest shufflings from which that deviation can be estimated.
MIN_REPEATS = 3


def features(facts: Facts) -> Finding:
    """What matters to gate and experts?"""
    title = "Which features matter most to each expert and to the gate"
    advice = (
        "Check that the model may use these features, and that they are known when it predicts. "
        "Shuffling one feature at a time underrates features that carry the same information."
    )
    n_repeats = facts.n_repeats
    if n_repeats < MIN_REPEATS:
        return Finding(
            "note",
            title,
            f"Every feature was shuffled only {'once' if n_repeats == 1 else 'twice'}. That cannot "
            "tell importance from chance, so none is named.",
            f"Call the report with n_repeats={MIN_REPEATS} or more.",
            "attention",
        )
    # The standard deviation of a sample; expert_attention divides by the full number.
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
            named = [f"{quoted(f)} ({unit(facts, v)})" for f, v in column.items()]
            parts.append(f"{whom}: {listing(named)}.")
        elif importances[who].notna().any():
            parts.append(f"{whom}: no feature stands out.")
    shown = parts if len(parts) <= 9 else [*parts[:8], parts[-1]]
    return Finding(
        "note",
        title,
        f"A feature is named if its importance is more than {CLEAR} standard deviations, over "
        f"{n_repeats} shufflings, above zero; at most three per expert.",
        advice,
        "attention",
        tuple(shown),
    )


def _drop(facts: Facts, value: Any) -> str:
    return f"loses {amount(facts, float(value))}"


def _moved(facts: Facts, value: Any) -> str:
    return f"moves {percent(float(value))} of the rows"
