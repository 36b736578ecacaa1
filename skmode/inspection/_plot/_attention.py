"""Picture of which features experts and gate look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmode.inspection._attention import ExpertAttention, expert_attention
from skmode.inspection._plot import _names, _style


class ExpertAttentionDisplay:
    """Importance of each feature for each expert and for the gate, as a table in shades.

    Parameters
    ----------
    attention : ExpertAttention
        What to draw, from :func:`skmode.inspection.expert_attention`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What it is drawn on.
    figure_ : matplotlib Figure
        What that belongs to.

    See Also
    --------
    skmode.inspection.expert_attention : The figures.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import ExpertAttentionDisplay
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> display = ExpertAttentionDisplay.from_estimator(classifier, X, y, random_state=0)
    >>> display.ax_.get_xlabel()
    'expert, alone on its own rows; gate, on all'
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
            Shufflings of each feature.
        n_steps : int, default=32
            Points of integrated gradients.
        random_state : int, RandomState instance or None, default=None
            Seed of the shuffling.
        max_features : int or None, default=15
            Features to draw, see :meth:`plot`.
        ax : matplotlib Axes, default=None
            What to draw on. None: a new figure.

        Returns
        -------
        display : ExpertAttentionDisplay
            The picture.
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
        """Draw it.

        Every column is drawn in shares of its sum, for experts and gate have different units.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on. None: a new figure.
        max_features : int or None, default=15
            Draw those alone that are the most important to some column; None draws all. Long
            names are shortened.

        Returns
        -------
        display : ExpertAttentionDisplay
            Itself.

        Raises
        ------
        ValueError
            If `max_features` is neither None nor a positive whole number.
        """
        shares = self.attention.shares()
        # Without rows there is no importance to tell of.
        shares.loc[:, self.attention.importances.isna().all()] = np.nan
        _style.check_number("max_features", max_features, 1)
        strength = shares.max(axis=1).sort_values(ascending=False, kind="stable")
        kept = set(strength.index[:max_features])
        mask = [name in kept for name in shares.index]
        table = shares[mask].loc[strength.index[strength.index.isin(kept)]]
        values = table.to_numpy(dtype=float)
        names = _names.names(table.index, _style.NAME_LENGTH)
        longest = max(map(len, names))
        size = (
            2.0 + 0.08 * longest + max(2.4, 0.62 * values.shape[1]),
            1.6 + 0.3 * values.shape[0],
        )
        ax = _style.single_axes(ax, size=size)
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
        ax.set_xlabel("expert, alone on its own rows; gate, on all")
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
