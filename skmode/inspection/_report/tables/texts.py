"""The table of a report on models of texts: which texts are typical of each expert."""

from __future__ import annotations

from typing import Any

from skmode.inspection._evaluation.mixtures import reads_texts, typical_rows, unwrap
from skmode.inspection._plot.labels import label
from skmode.inspection._report.cells import Cell, Table, percent
from skmode.inspection._report.facts import Facts

# Texts of each expert, and characters of each.
N_TEXTS = 3
N_CHARACTERS = 200


def typical(facts: Facts) -> Table | None:
    """Tabulate the texts that the gate sends to each expert with the largest weights."""
    if not reads_texts(facts.mixture):
        return None
    mixture, rows = unwrap(facts.estimator, facts.X)
    gate, texts = mixture.gate_proba(rows), mixture.encoder_.list_texts(rows)
    cells = [
        [
            Cell(f"expert {expert}", float(expert)),
            percent(gate[position, expert]),
            Cell(_shown(texts[position])),
        ]
        for expert, positions in enumerate(typical_rows(mixture, rows, N_TEXTS))
        for position in positions
    ]
    return Table(
        "typical",
        "Texts of which the gate is surest",
        ["top expert", "gate weight", "text"],
        cells,
        f"At most {N_TEXTS} for each expert, cut after {N_CHARACTERS} characters.",
    )


def _shown(text: Any) -> str:
    return label(text, N_CHARACTERS) if isinstance(text, str) and text else "(missing)"
