"""Gate and experts in training, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from skorch.callbacks import Callback

from skmode.inspection._evaluation import mixtures
from skmode.inspection._evaluation.forward import Outputs
from skmode.inspection._evaluation.measures import entropy, gate_recognition, judge
from skmode.inspection._evaluation.targets import Target

# Keys of `history_` that concern gate and experts, and the columns they become.
MEASURES = {
    "gate_entropy": "gate_entropy",
    "consistency": "consistency",
    "gate_recognition": "gate_recognition",
    "valid_score_mixture": "mixture_score",
    "valid_score_top_expert": "top_expert_score",
}


@dataclass(frozen=True, repr=False, eq=False)
class GateHistory:
    """Result of :func:`gate_history`.

    Attributes
    ----------
    measures : DataFrame
        One row per epoch, counted from 1: `gate_entropy`, the mean entropy of the gate's weights
        in nats; `usage_entropy`, the entropy of the experts' shares in nats; `consistency`,
        the agreement of the experts; `gate_recognition` if it was recorded; `mixture_score`
        and `top_expert_score` (accuracy or coefficient of determination), with validation rows.
    usage : DataFrame
        One row per epoch, one column per expert: share of the rows that the gate sends to it.
    held_out : bool
        True if everything was measured on validation rows, False if on training rows.
    metric : {"accuracy", "r2"}
        Metric of the scores.
    """

    measures: pd.DataFrame
    usage: pd.DataFrame
    held_out: bool
    metric: str

    def __repr__(self) -> str:
        rows = "validation" if self.held_out else "training"
        return (
            f"<GateHistory of {len(self.measures)} epochs and {self.usage.shape[1]} experts, "
            f"on {rows} rows>"
        )


def gate_history(estimator: Any) -> GateHistory:
    """Read how gate and experts developed in training.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one. Its `history_` contains the gate recognition accuracy only if
        :class:`GateRecognition` was among its `callbacks`.

    Returns
    -------
    history : GateHistory
        Two tables with one row per epoch, without the epochs of the refit.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`.
    ValueError
        If no epoch was recorded.

    See Also
    --------
    skmode.inspection.GateHistoryDisplay : A picture of it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import GateRecognition, gate_history
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(
    ...     n_experts=2,
    ...     max_epochs=3,
    ...     refit_fraction=0,
    ...     callbacks=[GateRecognition()],
    ...     random_state=0,
    ... ).fit(X, y)
    >>> history = gate_history(classifier)
    >>> history.usage.shape
    (3, 2)
    >>> list(history.measures.columns[:4])
    ['gate_entropy', 'usage_entropy', 'consistency', 'gate_recognition']
    """
    mixture, _ = mixtures.unwrap(estimator, None)
    records = getattr(mixture, "history_", None)
    if not records:
        raise ValueError(
            "estimator must have recorded at least one epoch in history_, got a "
            f"{type(mixture).__name__} with none: fit it with max_epochs of at least 1."
        )
    epochs = pd.RangeIndex(1, len(records) + 1, name="epoch")
    usage = pd.DataFrame([record["expert_usage"] for record in records], index=epochs)
    usage.columns = pd.RangeIndex(usage.shape[1], name="expert")
    measures = pd.DataFrame(
        {
            name: [record.get(key, np.nan) for record in records]
            for key, name in MEASURES.items()
            if any(key in record for record in records)
        },
        index=epochs,
    )
    measures.insert(1, "usage_entropy", usage.apply(entropy, axis=1))
    metric = "accuracy" if is_classifier(mixture) else "r2"
    return GateHistory(measures, usage, "mixture_score" in measures, metric)


class GateRecognition(Callback):
    """Record the gate recognition accuracy after each epoch, for :func:`gate_history`.

    Pass it as one of the `callbacks` of an estimator. Like `consistency`, it is measured on the
    validation rows, or on up to 512 training rows if there are none. For regression, an expert
    is right if its error is at most the mixture's root mean squared error. Each epoch costs one
    more forward pass over these rows.

    See Also
    --------
    skmode.inspection.expert_probing : This and more, for any rows, after training.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import GateRecognition
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(max_epochs=2, callbacks=[GateRecognition()]).fit(X, y)
    >>> "gate_recognition" in classifier.history_[-1]
    True
    """

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Measure and record.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.
        **kwargs : dict
            Not used.

        Raises
        ------
        RuntimeError
            If the net does not belong to an estimator of skmode.
        """
        evaluate = getattr(net, "evaluate_watched", None)
        watched = None if evaluate is None else evaluate()
        if watched is None:
            raise RuntimeError(
                "GateRecognition must be a callback of MoDEClassifier or MoDERegressor, got "
                f"{type(net).__name__}: pass it in the parameter callbacks of one of them."
            )
        evaluated, rows = watched
        gate, experts, mixture = (part.double().cpu() for part in evaluated)
        weight = np.ones(len(rows))
        if rows.sample_weight is not None:
            weight = rows.sample_weight.double().cpu().numpy()
        values = rows.target.cpu().numpy()
        classifies = not rows.target.is_floating_point()
        outputs = Outputs(
            gate.numpy(),
            gate.argmax(dim=1).numpy(),
            (experts.argmax(dim=2) if classifies else experts).numpy(),
            (mixture.argmax(dim=1) if classifies else mixture).numpy(),
        )
        scale = None if classifies else np.ones(values.shape[1])  # the targets are scaled already
        right = judge(outputs, Target(values, weight, scale)).experts
        value = gate_recognition(right, outputs.route, weight)
        net.history.record("gate_recognition", value)
