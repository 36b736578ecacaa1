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
    kinds : Series or None
        What each feature is: ``"number"``, ``"category"``, ``"text"`` or ``"image"``. None unless
        the features are the columns that the estimator itself reads.
    """

    importances: pd.DataFrame
    deviations: pd.DataFrame
    n_samples: pd.Series
    method: str
    unit: str
    completeness_error: float | None = None
    gate_completeness_error: float | None = None
    kinds: pd.Series | None = None

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

    def by_kind(self) -> pd.DataFrame:
        """Add up the shares of the columns of each kind: the attention by modality.

        Returns
        -------
        shares : DataFrame
            One row for each kind of column that there is, in the order number, category, text,
            image; columns as in :meth:`shares`, which sum to one.

        Raises
        ------
        ValueError
            If the features are not columns that the estimator itself reads: regions of images,
            tokens, or columns that the steps of a Pipeline change.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from skmode import MoDEClassifier
        >>> from skmode.inspection import expert_attention
        >>> rng = np.random.default_rng(0)
        >>> table = pd.DataFrame({"size": rng.normal(size=200), "kind": ["a", "b"] * 100})
        >>> y = (table["kind"] == "b").astype(int)
        >>> model = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0).fit(table, y)
        >>> attention = expert_attention(model, table, y, random_state=0)
        >>> attention.by_kind().index.tolist()
        ['number', 'category']
        """
        if self.kinds is None:
            raise ValueError(
                "Attention by kind needs the columns of a table as the estimator reads them, got "
                f"{len(self.importances)} other features: use shares(), or pass the last step of "
                "the Pipeline and the table that it reads."
            )
        shares = self.shares().groupby(self.kinds.to_numpy(), sort=False).sum()
        order = [kind for kind in ("number", "category", "text", "image") if kind in shares.index]
        return shares.loc[order].rename_axis("kind")


def make_attention(
    mean: Array,
    deviation: Array,
    names: list[str],
    counts: Array,
    method: str,
    unit: str,
    completeness_error: float | None = None,
    gate_completeness_error: float | None = None,
    *,
    kinds: list[str] | None = None,
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
        None if kinds is None else pd.Series(kinds, index=index, name="kind"),
    )
