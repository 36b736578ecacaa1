"""Display of the features that experts and gate look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmode.inspection._attention import ExpertAttention, expert_attention
from skmode.inspection._plot import style
from skmode.inspection._plot.labels import labels


class ExpertAttentionDisplay:
    """Importance of each feature for each expert and for the gate, as a heat map.

    Parameters
    ----------
    attention : ExpertAttention
        Result of :func:`skmode.inspection.expert_attention`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    skmode.inspection.expert_attention : The table behind the picture.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import ExpertAttentionDisplay
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> display = ExpertAttentionDisplay.from_estimator(classifier, X, y, random_state=0)
    >>> display.ax_.get_xlabel()
    'experts (own rows) and gate (all rows)'
    """

    def __init__(self, attention: ExpertAttention) -> None:
        self.attention = attention

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        method: str = "permutation",
        *,
        sample_weight: Any = None,
        n_repeats: int = 5,
        n_steps: int = 32,
        random_state: Any = None,
        max_features: int | None = 15,
        ax: Any = None,
    ) -> ExpertAttentionDisplay:
        """Measure importances and draw them.

        Parameters
        ----------
        estimator : object
            A fitted mixture, or a Pipeline or search that ends with one.
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True classes or values.
        method : {"permutation", "integrated_gradients"}, default="permutation"
            See :func:`skmode.inspection.expert_attention`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        n_repeats : int, default=5
            How often each feature is shuffled.
        n_steps : int, default=32
            Points on the line of integrated gradients.
        random_state : int, RandomState instance or None, default=None
            Seed of the shuffling.
        max_features : int or None, default=15
            Number of features to draw, see :meth:`plot`.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        display : ExpertAttentionDisplay
            The display, drawn.
        """
        attention = expert_attention(
            estimator,
            X,
            y,
            method,
            sample_weight=sample_weight,
            n_repeats=n_repeats,
            n_steps=n_steps,
            random_state=random_state,
        )
        return cls(attention).plot(ax, max_features=max_features)

    def plot(self, ax: Any = None, *, max_features: int | None = 15) -> ExpertAttentionDisplay:
        """Draw the heat map.

        Each column shows shares of its sum, because experts and gate have different units.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        max_features : int or None, default=15
            Draw only this many features, those with the largest share in any column; None draws
            all. Long names are shortened.

        Returns
        -------
        display : ExpertAttentionDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `max_features` is neither None nor a positive whole number.
        """
        shares = self.attention.shares()
        # An expert without rows has no importances.
        shares.loc[:, self.attention.importances.isna().all()] = np.nan
        style.check_number("max_features", max_features, 1)
        strength = shares.max(axis=1).sort_values(ascending=False, kind="stable")
        kept = set(strength.index[:max_features])
        mask = [name in kept for name in shares.index]
        table = shares[mask].loc[strength.index[strength.index.isin(kept)]]
        values = table.to_numpy(dtype=float)
        names = labels(table.index, style.MAX_NAME_LENGTH)
        longest = max(map(len, names))
        size = (
            2.0 + 0.08 * longest + max(2.4, 0.62 * values.shape[1]),
            1.6 + 0.3 * values.shape[0],
        )
        ax = style.single_axes(ax, size=size)
        image = ax.imshow(values, cmap="Greys", aspect="auto", vmin=0, vmax=np.nanmax(values))
        middle = np.nanmax(values) * 0.62
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            text = "-" if np.isnan(value) else f"{100 * value:.0f}"
            ax.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize="small",
                color="white" if value > middle else "black",
            )
        ax.axvline(values.shape[1] - 1.5, color="black", linewidth=1)  # the gate stands apart
        ax.set_xticks(range(values.shape[1]), [str(name) for name in table.columns])
        ax.set_yticks(range(values.shape[0]), names, parse_math=False)
        ax.set_xlabel("experts (own rows) and gate (all rows)")
        ax.set_ylabel("feature")
        ax.tick_params(length=0)
        bar = ax.figure.colorbar(image, ax=ax, format=lambda value, _: f"{100 * value:.0f}")
        bar.set_label(f"share of the column's importance (%)\nby {self._method}")
        bar.outline.set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @property
    def _method(self) -> str:
        return self.attention.method.replace("_", " ")
