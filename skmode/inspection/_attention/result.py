"""Importances of features, whichever way they were measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, repr=False, eq=False)
class ExpertAttention:
    """Result of :func:`expert_attention`.

    Attributes
    ----------
    importances : DataFrame
        One row per feature; one column per expert, counted from 0, and one named ``"gate"``.
        An expert without rows has missing values.
    deviations : DataFrame
        Standard deviation of each importance: over the repetitions of the permutation, or over
        the rows for integrated gradients.
    n_samples : Series
        Number of rows that each column was measured on.
    method : {"permutation", "integrated_gradients"}
        How the importances were measured.
    unit : str
        Unit of the experts' importances.
    completeness_error : float or None
        Integrated gradients: the attributions of a row should sum to the expert's output there
        minus its output at the baseline. This is the largest error of that sum over the rows, in
        `unit`. None for permutation.
    gate_completeness_error : float or None
        The same for the gate's weight, which has no unit.
    """

    importances: pd.DataFrame
    deviations: pd.DataFrame
    n_samples: pd.Series
    method: str
    unit: str
    completeness_error: float | None = None
    gate_completeness_error: float | None = None

    def __repr__(self) -> str:
        known = self.importances.dropna(axis=1, how="all")
        first = ", ".join(
            f"{who}: {importance.idxmax() if importance.max() > 0 else 'none'}"
            for who, importance in known.items()
        )
        return f"<ExpertAttention by {self.method}. Most important feature of {first}>"

    def shares(self) -> pd.DataFrame:
        """Divide importances by their column's sum.

        Returns
        -------
        shares : DataFrame
            Columns that sum to one. Negative importances are chance and count as zero; a column
            without any importance stays zero.
        """
        positive = self.importances.clip(lower=0)
        total = positive.sum()
        return positive / total.where(total > 0, 1.0)


def make_attention(
    mean: Array,
    deviation: Array,
    names: list[str],
    counts: Array,
    method: str,
    unit: str,
    completeness_error: float | None = None,
    gate_completeness_error: float | None = None,
) -> ExpertAttention:
    """Label arrays of shape (n_features, n_experts + 1), whose last column is the gate's.

    `counts` are the rows of each expert's domain, (n_experts,).
    """
    columns = pd.Index([*range(len(counts)), "gate"], name="expert", dtype=object)
    index = pd.Index(names, name="feature")
    return ExpertAttention(
        pd.DataFrame(mean, index=index, columns=columns),
        pd.DataFrame(deviation, index=index, columns=columns),
        pd.Series([*counts.tolist(), int(counts.sum())], index=columns, name="n_samples"),
        method,
        unit,
        completeness_error,
        gate_completeness_error,
    )
