"""Display of a path over alpha or the number of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skmode.inspection._paths import ParameterPath, alpha_path
from skmode.inspection._paths.metrics import Scoring, is_greater_better
from skmode.inspection._plot import style

PARAMETER_LABELS = {
    "alpha": "alpha, the weight of the distillation",
    "n_experts": "number of experts",
}


class AlphaPathDisplay:
    """Scores of mixture and top expert, and measures of gate and experts, by alpha.

    Use ``AlphaPathDisplay(path).plot()`` to draw a result of
    :func:`skmode.inspection.experts_path`. The values are drawn at equal distances, so that
    alpha = 0 has its place.

    Parameters
    ----------
    path : ParameterPath
        Result of :func:`skmode.inspection.alpha_path` or :func:`skmode.inspection.experts_path`.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes of shape (n_axes,)
        Axes of the picture: the upper one has the scores; the lower one, if there are two, has
        consistency, gate recognition and the usage of the experts.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    skmode.inspection.alpha_path : The tables behind the picture.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import AlphaPathDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0)
    >>> display = AlphaPathDisplay.from_estimator(classifier, X, y, alphas=[0, 1], cv=3)
    >>> len(display.ax_)
    2
    """

    def __init__(self, path: ParameterPath) -> None:
        self.path = path

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        alphas: Sequence[float] = (0, 0.1, 1, 10, 100),
        cv: Any = 5,
        n_jobs: int | None = None,
        *,
        scoring: Scoring = None,
        sample_weight: Any = None,
        ax: Any = None,
    ) -> AlphaPathDisplay:
        """Cross-validate with several alphas and draw the result.

        Parameters
        ----------
        estimator : object
            A mixture, or a Pipeline that ends with one; it is cloned, not fitted.
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Classes or values.
        alphas : sequence of float, default=(0, 0.1, 1, 10, 100)
            Weights to try.
        cv : int, cross-validation generator or iterable, default=5
            Folds, see :func:`sklearn.model_selection.check_cv`.
        n_jobs : int or None, default=None
            Number of fits to run at the same time.
        scoring : str, callable or None, default=None
            Metric, see :func:`skmode.inspection.alpha_path`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        ax : matplotlib Axes or two of them, default=None
            Axes to draw on. A single one shows only the scores. None makes a new figure with two.

        Returns
        -------
        display : AlphaPathDisplay
            The display, drawn.
        """
        path = alpha_path(
            estimator, X, y, alphas, cv, n_jobs, scoring=scoring, sample_weight=sample_weight
        )
        return cls(path).plot(ax)

    def plot(self, ax: Any = None) -> AlphaPathDisplay:
        """Draw scores and measures by the value of the parameter.

        Parameters
        ----------
        ax : matplotlib Axes or two of them, default=None
            Axes to draw on. A single one shows only the scores. None makes a new figure with two.
            Legends are placed outside of the axes if the figure has a layout engine
            (``plt.subplots(..., layout="constrained")``), inside otherwise.

        Returns
        -------
        display : AlphaPathDisplay
            The display itself.
        """
        path = self.path
        axes = style.make_axes(ax, 2, size=(6.4, 6.4))
        places = np.arange(len(path.summary))
        self._plot_scores(axes[0], places)
        if len(axes) > 1:
            self._plot_gate(axes[1], places)
        for each in axes:
            each.set_xticks(places, [f"{value:g}" for value in path.summary.index])
            each.set_xlim(-0.4, len(places) - 0.6)
            style.tidy(each)
        axes[-1].set_xlabel(PARAMETER_LABELS.get(path.parameter, path.parameter))
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _plot_scores(self, ax: Any, places: Any) -> None:
        path, summary = self.path, self.path.summary
        at = summary.index.get_loc(path.recommended)
        ax.axvspan(
            at - 0.12,
            at + 0.12,
            color="0.85",
            linewidth=0,
            zorder=0,
            label=f"recommended: {path.recommended:g}",
        )
        looks = {
            "mixture": {"color": "black", "marker": "s", "linestyle": "--"},
            "top_expert": {"color": style.COLORS[0], "marker": "o", "linestyle": "-"},
        }
        for (name, look), shift in zip(looks.items(), (-0.05, 0.05), strict=True):
            ax.errorbar(
                places + shift,
                summary[name, "mean"],
                yerr=summary[name, "sem"],
                capsize=3,
                label="mixture" if name == "mixture" else "top expert alone",
                **look,
            )
        best = summary.loc[path.best, "top_expert"]
        sign = 1 if is_greater_better(path.metric) else -1
        ax.axhline(
            best["mean"] - sign * best["sem"],
            color=style.COLORS[0],
            linewidth=1,
            linestyle=":",
            label="one standard error from the best top expert",
        )
        label = style.METRIC_LABELS.get(path.metric, f"{path.metric} (greater is better)")
        ax.set_ylabel(label)
        n_folds = path.folds["fold"].nunique()
        style.legend(ax, title=f"mean over {n_folds} folds and its standard error")

    def _plot_gate(self, ax: Any, places: Any) -> None:
        summary = self.path.summary
        usage = np.exp(summary["usage_entropy", "mean"])
        measures = {
            "consistency of the experts": (summary["consistency", "mean"], "D", "-."),
            "gate recognition accuracy": (summary["gate_recognition", "mean"], "^", "-"),
        }
        for index, (label, (values, marker, dashes)) in enumerate(measures.items()):
            ax.plot(
                places,
                values,
                marker=marker,
                linestyle=dashes,
                color=style.COLORS[(3, 2)[index]],
                label=label,
            )
        # The agreement of two experts is a share of the rows only for classes.
        # Paths that were pickled before have no task.
        values = self.path.task == "regression" or self.path.metric == "rmse"
        ax.set_ylabel("consistency, share of rows" if values else "share of rows")
        # The exponential of an entropy: the number of experts, used evenly, that has it.
        for place, value in zip(places, usage, strict=True):
            ax.annotate(
                f"{value:.1f}",
                (place, 0.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize="small",
            )
        ax.annotate(
            "experts in use (exponential of the usage entropy):",
            (0.01, 0.09),
            xycoords="axes fraction",
            va="bottom",
            fontsize="small",
        )
        low, high = ax.get_ylim()
        ax.set_ylim(low - 0.25 * (high - low), high)
        style.legend(ax)
