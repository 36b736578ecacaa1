"""Importances of features for scikit-learn's selectors, measured while the estimator is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from skorch.callbacks import Callback
from torch import Tensor

from skmode._common.unwrap import nested_estimators
from skmode.inspection._attention.gradients import columns_by_kind
from skmode.inspection._evaluation import mixtures

Array = NDArray[Any]

# Where the callback leaves its values in the record of the last epoch.
KEY = "feature_importances"


class FeatureImportance(Callback):
    """Measure the permutation importance of each column when training ends.

    Pass it as one of the `callbacks` of an estimator, and :func:`feature_importances` as the
    `importance_getter` of :class:`sklearn.feature_selection.RFECV`, `RFE` or `SelectFromModel`.
    These selectors fit the estimator to fewer and fewer columns and show the getter nothing but the
    fitted estimator, so it cannot measure anything on rows of its own. The callback measures in
    `fit`, where the rows are: on the validation rows, before the refit trains on them. Each column
    is shuffled among these rows `n_repeats` times, and its importance is how much the loss rises
    on average. For classes that is in nats; for values the loss is that of the target divided by
    its standard deviation. It is the loss that early stopping monitors, of the mixture or of the
    top expert.

    Columns that say the same share their importance: shuffling one does little while the other is
    left. So remove few columns at a time (``step=1``).

    RFE and RFECV hand arrays of numbers to the estimator, so categories must be encoded before.
    SelectFromModel hands over tables as they are.

    Parameters
    ----------
    n_repeats : int, default=5
        How often each column is shuffled; each time costs a forward pass over the validation rows.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling.

    See Also
    --------
    skmode.inspection.feature_importances : Reads what this has measured.
    skmode.inspection.expert_attention : Importances for each expert and the gate, on any rows.
    sklearn.inspection.permutation_importance : The same for a fitted estimator, on any rows.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.feature_selection import RFE
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import FeatureImportance, feature_importances
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> classifier = MoDEClassifier(
    ...     max_epochs=5, callbacks=[FeatureImportance(random_state=0)], random_state=0
    ... )
    >>> selector = RFE(
    ...     classifier, n_features_to_select=10, step=10, importance_getter=feature_importances
    ... )
    >>> selector.fit(X, y).transform(X).shape
    (569, 10)
    """

    def __init__(self, n_repeats: int = 5, random_state: Any = None) -> None:
        self.n_repeats = n_repeats
        self.random_state = random_state

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Measure and record; without validation rows there is nothing to measure on.

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
        ValueError
            If `n_repeats` is not a whole number of at least 1.
        """
        if not isinstance(self.n_repeats, int | np.integer) or self.n_repeats < 1:
            raise ValueError(
                f"n_repeats must be a whole number of at least 1, got {self.n_repeats!r}: raise it."
            )
        if not hasattr(net, "validation_loss"):
            raise RuntimeError(
                "FeatureImportance needs the validation rows of the estimators of skmode, got "
                f"{type(net).__name__} without: pass it to MoDEClassifier or MoDERegressor."
            )
        inputs = net.validation_inputs()
        if inputs is None:
            return
        random_state = check_random_state(self.random_state)
        unchanged = net.validation_loss(inputs)

        def loss(part: int, column: int | None) -> float:
            """Mean loss with one column shuffled."""
            orders = (random_state.permutation(len(inputs[part])) for _ in range(self.n_repeats))
            changed = (_reordered(inputs, part, column, order) for order in orders)
            return float(np.mean([net.validation_loss(each) for each in changed]))

        columns: list[tuple[int, int | None]] = [
            (part, i) for part, values in enumerate(inputs[:2]) for i in range(values.shape[1])
        ]
        columns += [(part, None) for part in _first_parts(inputs)]
        net.history.record(KEY, [loss(*column) - unchanged for column in columns])


def feature_importances(estimator: Any) -> NDArray[np.float64]:
    """Return the importances that :class:`FeatureImportance` measured in the last fit.

    Parameters
    ----------
    estimator : object
        A :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor` that was fitted with the
        callback, or a Pipeline that ends with one and whose other steps keep the columns, as
        scalers and imputers do.

    Returns
    -------
    importances : ndarray of float64 of shape (n_features,)
        Rise of the loss on the validation rows when a column is shuffled. Negative values are
        chance and count as zero, because some selectors would take their size for importance.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`.
    ValueError
        If nothing was measured, or a step of a Pipeline does not keep the columns.

    See Also
    --------
    skmode.inspection.FeatureImportance : The callback, with an example.
    """
    mixture, _ = mixtures.unwrap(estimator, None)
    for part in nested_estimators(estimator):
        if isinstance(part, Pipeline) and len(part) > 1:
            _check_columns_are_kept(part[:-1])
    if not mixtures.reads_columns(mixture):
        raise TypeError(
            "Importances are those of the columns of a table, got a "
            f"{type(mixture).__name__}: use expert_attention, which measures regions of images and "
            "tokens of texts."
        )
    history = getattr(mixture, "history_", [{}])
    if KEY not in history[-1]:
        raise ValueError(
            "Importances must be measured in fit, on validation rows, got an estimator without: "
            "pass callbacks=[FeatureImportance()], and early_stopping=True if there are few rows."
        )
    importances = np.zeros(len(mixture.encoder_.columns_))
    importances[columns_by_kind(mixture)] = history[-1][KEY]
    return importances.clip(min=0)


def _first_parts(inputs: tuple[Any, ...]) -> list[int]:
    """Positions of the first part of each column of texts (tokens and counts) or images."""
    found, part = [], 2
    while part < len(inputs):
        found.append(part)
        part += 1 if _are_images(inputs[part]) else 2
    return found


def _are_images(part: Any) -> bool:
    return bool(part.ndim > 2)


def _reordered(
    inputs: tuple[Any, ...], part: int, column: int | None, order: Array
) -> tuple[Any, ...]:
    """Inputs of which one column is in another order; None for all of a text or an image."""
    if column is None:
        end = part + (1 if _are_images(inputs[part]) else 2)
        parts = (each[order.tolist()] for each in inputs[part:end])
        return (*inputs[:part], *parts, *inputs[end:])
    values = inputs[part]
    if isinstance(values, Tensor):
        values = values.clone()
        values[:, column] = values[order.tolist(), column]
    else:  # sparse
        values = values.reorder_column(column, order)
    return (*inputs[:part], values, *inputs[part + 1 :])


def _check_columns_are_kept(steps: Pipeline) -> None:
    """Raise a ValueError unless the steps give out the columns that they take in."""
    names = np.array([f"x{i}" for i in range(steps.n_features_in_)], dtype=object)
    names = getattr(steps, "feature_names_in_", names)
    try:
        kept = np.array_equal(steps.get_feature_names_out(names), names)
    except (AttributeError, ValueError):  # a step does not know its columns
        kept = False
    if not kept:
        raise ValueError(
            "The steps before the mixture must keep the columns and their order, or their "
            f"importances are not those of the Pipeline's columns, got {steps!r}: put the selector "
            "behind these steps, into the Pipeline."
        )
