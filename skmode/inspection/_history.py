"""The gate in training: what is known of it after each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from skorch.callbacks import Callback

from skmode.inspection import _measures, _outputs

# What `history_` may hold of gate and experts, and what it is called here.
MEASURES = {
    "gate_entropy": "gate_entropy",
    "consistency": "consistency",
    "gate_recognition": "gate_recognition",
    "valid_score_mixture": "mixture_score",
    "valid_score_top_expert": "top_expert_score",
}


@dataclass(frozen=True, repr=False, eq=False)
class GateHistory:
    """What :func:`gate_history` found.

    Attributes
    ----------
    measures : DataFrame
        One row an epoch, counted from 1: `gate_entropy`, the mean entropy of the gate's weights
        in nats; `usage_entropy`, the entropy of the experts' shares in nats; `consistency`,
        the agreement of the experts; `gate_recognition` where it was recorded; `mixture_score`
        and `top_expert_score` (accuracy or coefficient of determination) where rows were held out.
    usage : DataFrame
        One row an epoch, one column an expert: share of the rows that the gate sends to it.
    held_out : bool
        Whether all of it was measured on validation rows; otherwise on training rows.
    metric : {"accuracy", "r2"}
        What the scores are.
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
    """Tell how gate and experts went from epoch to epoch.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one. Its `history_` is read; with :class:`GateRecognition` among its
        `callbacks` that holds the gate recognition accuracy too.

    Returns
    -------
    history : GateHistory
        Two tables, both by epoch; the refit's epochs are not in them.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`.
    ValueError
        If it recorded nothing.

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
    ...     n_experts=2, max_epochs=3, callbacks=[GateRecognition()], random_state=0
    ... ).fit(X, y)
    >>> history = gate_history(classifier)
    >>> history.usage.shape
    (3, 2)
    >>> list(history.measures.columns[:4])
    ['gate_entropy', 'usage_entropy', 'consistency', 'gate_recognition']
    """
    mixture, _ = _outputs.unwrap(estimator, None)
    records = getattr(mixture, "history_", None)
    if not records:
        raise ValueError(
            f"The estimator must have recorded its epochs in history_, got "
            f"{type(mixture).__name__} without any: fit it with max_epochs of at least 1."
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
    measures.insert(1, "usage_entropy", usage.apply(_measures.entropy, axis=1))
    metric = "accuracy" if is_classifier(mixture) else "r2"
    return GateHistory(measures, usage, "mixture_score" in measures, metric)


class GateRecognition(Callback):
    """Record the gate recognition accuracy after each epoch, for :func:`gate_history`.

    Pass it as one of the `callbacks` of an estimator. It is measured as `consistency` is: on the
    validation rows, or on up to 512 training rows where none are held out; for regression an
    expert is right where it is within the mixture's root mean squared error. It takes a forward
    pass over these rows.

    See Also
    --------
    skmode.inspection.expert_probing : The same and more, for any rows, after training.

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
            If the net is not that of an estimator of skmode, which evaluates some rows.
        """
        watch = dict(net.callbacks_).get("watch")
        if watch is None:
            raise RuntimeError(
                "GateRecognition needs the rows that the estimators of skmode watch, got a "
                f"{type(net).__name__} without: pass it to MoDEClassifier or MoDERegressor."
            )
        gate, experts, mixture = (part.double().cpu() for part in watch.evaluate(net.module_))
        net.module_.train()
        rows = watch.rows
        weight = np.ones(len(rows))
        if rows.sample_weight is not None:
            weight = rows.sample_weight.double().cpu().numpy()
        values = rows.target.cpu().numpy()
        classifies = not rows.target.is_floating_point()
        found = _outputs.Outputs(
            gate.numpy(),
            gate.argmax(dim=1).numpy(),
            (experts.argmax(dim=2) if classifies else experts).numpy(),
            (mixture.argmax(dim=1) if classifies else mixture).numpy(),
        )
        scale = None if classifies else np.ones(values.shape[1])  # of scaled targets
        right = _outputs.judge(found, _outputs.Target(values, weight, scale)).experts
        value = _measures.gate_recognition(right, found.route, weight)
        net.history.record("gate_recognition", value)
