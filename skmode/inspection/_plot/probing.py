"""Display of expert probing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length

from skmode.inspection._evaluation import forward, targets
from skmode.inspection._plot import style
from skmode.inspection._probing import ExpertProbing, expert_probing, probe


class ExpertProbingDisplay:
    """Score of each expert alone on its domain and elsewhere, beside the mixture's.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`; :meth:`plot` draws it again.

    Parameters
    ----------
    probing : ExpertProbing
        Result of :func:`skmode.inspection.expert_probing`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    skmode.inspection.expert_probing : The tables behind the picture.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import ExpertProbingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> display = ExpertProbingDisplay.from_estimator(classifier, X, y)
    >>> display.ax_.get_ylabel()
    'accuracy (share of rows)'
    """

    def __init__(self, probing: ExpertProbing) -> None:
        self.probing = probing

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        domains: Any = "own",
        sample_weight: Any = None,
        tolerance: float | None = None,
        ax: Any = None,
    ) -> ExpertProbingDisplay:
        """Probe a mixture and draw the result.

        Parameters
        ----------
        estimator : object
            A fitted mixture, or a Pipeline or search that ends with one.
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True classes or values.
        domains : "own" or fitted estimator, default="own"
            See :func:`skmode.inspection.expert_probing`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        tolerance : float, default=None
            See :func:`skmode.inspection.expert_probing`.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        display : ExpertProbingDisplay
            The display, drawn.
        """
        probing = expert_probing(
            estimator, X, y, domains=domains, sample_weight=sample_weight, tolerance=tolerance
        )
        return cls(probing).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        *,
        gate_proba: Any,
        expert_predictions: Any,
        mixture_prediction: Any,
        metric: str = "accuracy",
        sample_weight: Any = None,
        ax: Any = None,
    ) -> ExpertProbingDisplay:
        """Probe predictions that you already have, and draw the result.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True classes or values.
        gate_proba : array-like of shape (n_samples, n_experts)
            Weight of each expert.
        expert_predictions : array-like of shape (n_samples, n_experts) or \
(n_samples, n_experts, n_outputs)
            Prediction of each expert alone.
        mixture_prediction : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Prediction of the whole mixture.
        metric : {"accuracy", "rmse"}, default="accuracy"
            ``"accuracy"`` for classes, ``"rmse"`` for values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.

        Returns
        -------
        display : ExpertProbingDisplay
            The display, drawn.
        """
        gate = check_array(gate_proba, input_name="gate_proba")
        check_consistent_length(y_true, gate, expert_predictions, mixture_prediction)
        experts, mixture = np.asarray(expert_predictions), np.asarray(mixture_prediction)
        if metric not in ("accuracy", "rmse"):
            raise ValueError(f'metric must be "accuracy" or "rmse", got {metric!r}: choose one.')
        classes = None
        if metric == "accuracy":
            labels = [np.ravel(each) for each in (y_true, experts, mixture)]
            classes = np.unique(np.concatenate(labels))
        outputs = forward.make_outputs(gate, experts, mixture, classes=classes)
        target = targets.make_target(y_true, sample_weight, classes=classes)
        return cls(probe(outputs, target)).plot(ax)

    def plot(self, ax: Any = None) -> ExpertProbingDisplay:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure. The legend is placed outside of the axes if
            the figure has a layout engine (``plt.subplots(..., layout="constrained")``), inside
            otherwise.

        Returns
        -------
        display : ExpertProbingDisplay
            The display itself.
        """
        probing, experts = self.probing, self.probing.experts
        ax = style.single_axes(ax, size=(max(6.4, 1.8 + 0.62 * len(experts)), 4.2))
        places = np.arange(len(experts))
        room = 72 * ax.bbox.width / ax.figure.dpi / len(experts)  # points per expert
        blue, orange = style.COLORS[0], style.COLORS[3]
        ax.vlines(
            places, experts["score"], experts["score_rest"], color="0.75", linewidth=1.2, zorder=1
        )
        ax.plot(
            places,
            experts["score_rest"],
            "o",
            markersize=8,
            markerfacecolor="white",
            markeredgecolor=orange,
            markeredgewidth=1.6,
            label="expert alone, other rows",
        )
        ax.plot(
            places, experts["score"], "o", markersize=8, color=blue, label="expert alone, own rows"
        )
        ax.plot(
            places,
            experts["mixture_score"],
            "_",
            markersize=min(22.0, 0.7 * room),
            markeredgewidth=2,
            color="black",
            label="mixture, own rows of the expert",
        )
        ax.axhline(
            probing.mixture_score, color="black", linewidth=1, zorder=0, label="mixture, all rows"
        )
        ax.axhline(
            probing.top_expert_score,
            color=blue,
            linewidth=1.4,
            linestyle="--",
            zorder=0,
            label="top expert alone, all rows",
        )
        self._name_experts(ax, room)
        ax.set_xlim(-0.6, len(experts) - 0.4)
        ax.set_ylabel(style.METRIC_LABELS[probing.metric])
        style.tidy(ax)
        style.legend(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _name_experts(self, ax: Any, room: float) -> None:
        """Write numbers and shares below the axes, if `room` (points per expert) is enough."""
        shares = [style.percent(share) for share in self.probing.experts["share"].fillna(0)]
        places = range(len(shares))
        ax.set_xlabel("expert and share of the rows in its domain")
        if style.makes_room(ax):
            turned = room < 30  # labels would overlap
            between = ": " if turned else "\n"
            ticks = [f"{i}{between}{share}" for i, share in enumerate(shares)]
            ax.set_xticks(places, ticks, rotation=90 if turned else 0)
        elif room >= 48:
            ax.set_xticks(places, [f"{i}: {share}" for i, share in enumerate(shares)])
        else:
            ax.set_xticks(places)
            ax.set_xlabel("expert")
