"""Display of gate and experts in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmode.inspection._history import GateHistory, gate_history
from skmode.inspection._plot import style

ENTROPIES = {
    "gate_entropy": "gate weights, mean over the rows",
    "usage_entropy": "usage of the experts",
}
SHARES = {
    "consistency": "consistency of the experts",
    "gate_recognition": "gate recognition accuracy",
    "mixture_score": "{} of the mixture",
    "top_expert_score": "{} of the top expert",
}


# More lines cannot be told apart.
MAX_LINES = 8


class GateHistoryDisplay:
    """Usage of the experts, entropies, and scores, epoch by epoch.

    The usage of more than eight experts is drawn as a heat map, one row per expert.

    Parameters
    ----------
    history : GateHistory
        Result of :func:`skmode.inspection.gate_history`.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes of shape (n_axes,)
        Axes from top to bottom: share of the rows of each expert, entropies in nats, scores. A
        single one has the shares.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    skmode.inspection.gate_history : The tables behind the picture.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import GateHistoryDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(n_experts=2, max_epochs=9, random_state=0).fit(X, y)
    >>> display = GateHistoryDisplay.from_estimator(classifier)
    >>> [ax.get_ylabel() for ax in display.ax_]
    ['share of rows', 'entropy (nats)', 'share of rows']
    """

    def __init__(self, history: GateHistory) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> GateHistoryDisplay:
        """Draw what a fitted estimator recorded.

        Parameters
        ----------
        estimator : object
            A fitted mixture, or a Pipeline or search that ends with one.
        ax : matplotlib Axes or three of them, default=None
            Axes to draw on. A single one shows only the shares. None makes a new figure with three.

        Returns
        -------
        display : GateHistoryDisplay
            The display, drawn.
        """
        return cls(gate_history(estimator)).plot(ax)

    def plot(self, ax: Any = None) -> GateHistoryDisplay:
        """Draw shares, entropies and scores.

        Parameters
        ----------
        ax : matplotlib Axes or three of them, default=None
            Axes to draw on. A single one shows only the shares. None makes a new figure with three.
            Legends are placed outside of the axes if the figure has a layout engine
            (``plt.subplots(..., layout="constrained")``), inside otherwise.

        Returns
        -------
        display : GateHistoryDisplay
            The display itself.
        """
        axes = style.make_axes(ax, 3, size=(6.8, 7.6))
        from matplotlib.ticker import MaxNLocator

        if self.history.usage.shape[1] > MAX_LINES:
            self._plot_usage_of_many(axes[0])
        else:
            self._plot_usage(axes[0])
        if len(axes) > 1:
            self._plot_entropies(axes[1])
            self._plot_shares(axes[2])
        for each in axes:
            style.tidy(each)
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[-1].set_xlabel("epoch")
        rows = "validation rows" if self.history.held_out else "training rows"
        axes[0].set_title(f"measured on {rows}", fontsize="medium", loc="left")
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _plot_usage_of_many(self, ax: Any) -> None:
        """Draw the usage of many experts as a heat map."""
        usage = self.history.usage
        first, last, n_experts = usage.index[0], usage.index[-1], usage.shape[1]
        image = ax.imshow(
            usage.to_numpy().T,
            cmap="Greys",
            vmin=0,
            aspect="auto",
            interpolation="nearest",
            extent=(first - 0.5, last + 0.5, n_experts - 0.5, -0.5),
        )
        labelled = max(1, int(72 * ax.bbox.height / ax.figure.dpi / 9))  # 9 points per label
        ax.set_yticks(range(0, n_experts, -(-n_experts // labelled)))
        ax.tick_params(axis="y", labelsize="small", length=0)
        ax.set_ylabel("expert")
        # Inset, because the layout would put it beside the wider legends of the other axes.
        place = {"cax": ax.inset_axes((1.03, 0, 0.035, 1))} if style.makes_room(ax) else {"ax": ax}
        bar = ax.figure.colorbar(image, format=lambda value, _: f"{100 * value:.0f}", **place)
        bar.set_label("share of rows (%)")
        bar.outline.set_visible(False)

    def _plot_usage(self, ax: Any) -> None:
        usage = self.history.usage
        for expert in usage:
            self._line(ax, usage[expert], expert, f"expert {expert}")
        ax.set_ylim(bottom=0)
        ax.set_ylabel("share of rows")
        if not style.makes_room(ax):
            style.legend(ax)
            return
        top = ax.get_ylim()[1]
        # Many labels share the height of the axes.
        distance = min(0.08, 1 / max(usage.shape[1], 1)) * top
        labels = style.spread(usage.iloc[-1], distance)
        labels = labels - max(0.0, labels.max() - top) + max(0.0, -labels.min())
        ax.set_ylim(0, top)
        for expert, place in zip(usage, labels, strict=True):
            # At the end of its line, where a reader finds it faster than in a legend.
            beside = ax.get_yaxis_transform()
            ax.plot([1.02], [place], transform=beside, clip_on=False, ls="", **style.style(expert))
            ax.annotate(
                f"expert {expert}",
                (1.05, place),
                xycoords=beside,
                va="center",
                fontsize="small",
                annotation_clip=False,
            )

    def _plot_entropies(self, ax: Any) -> None:
        measures = self.history.measures
        for index, (name, label) in enumerate(ENTROPIES.items()):
            self._line(ax, measures[name], index, label)
        most = np.log(self.history.usage.shape[1])
        if most:
            ax.axhline(most, color="0.5", linewidth=1, linestyle=":", label="maximum: equal shares")
        ax.set_ylim(bottom=0)
        ax.set_ylabel("entropy (nats)")
        style.legend(ax, beside=True)

    def _plot_shares(self, ax: Any) -> None:
        measures = self.history.measures
        accurate = self.history.metric == "accuracy"
        for index, (name, label) in enumerate(SHARES.items()):
            if name in measures:
                label = label.format("accuracy" if accurate else "R²")
                self._line(ax, measures[name], index, label)
        # For regression, the agreement of two experts is not a share of the rows.
        parts = ["share of rows"] if accurate else ["consistency"]
        if not accurate and "gate_recognition" in measures:
            parts.append("share of rows")
        if not accurate and self.history.held_out:
            parts.append("R²")
        ax.set_ylabel(", ".join(parts))
        style.legend(ax, beside=True)

    def _line(self, ax: Any, values: Any, index: int, label: str | None = None) -> None:
        ax.plot(
            values.index,
            values,
            linestyle=style.DASHES[index % len(style.DASHES)],
            linewidth=1.4,
            markersize=5,
            # Few markers, at different epochs in each line, so that they do not hide one another.
            markevery=(index % 5, max(1, len(values) // 6)),
            label=label,
            **style.style(index),
        )
