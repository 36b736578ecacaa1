"""Reading new rows, and what gate and experts make of them."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skmode._common.pickling import PickledWithVersion
from skmode._common.sklearn import InvalidParameterError
from skmode._estimators.parameters import resolve_device
from skmode._training.evaluation import (
    Function,
    evaluate,
    gate,
    mixture,
    to_probabilities,
    top_expert,
)
from skmode._training.net import MixtureNet
from skmode._training.plan import MakeTrunk
from skmode._training.process.isolation import isolated
from skmode._training.rows import Rows


class EvaluatesRows(PickledWithVersion):
    """An estimator that checks and encodes rows, and evaluates its network on them."""

    inference: Literal["mixture", "top_expert"]
    device: str

    net_: MixtureNet
    encoder_: Any

    # Overridden for each kind of rows: tables, images.

    def _begin_reading(self, X: Any, y: Any, *, reset: bool) -> None:
        """Check what can be seen of X and y before anything is read."""
        raise NotImplementedError

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        """Check rows, and bring them into a form that has them by position."""
        raise NotImplementedError

    def _fit_encoder(self, X: Any, sample_weight: NDArray[np.float64]) -> None:
        """Learn from checked training rows what `_encode_inputs` needs."""
        raise NotImplementedError

    def _encode_inputs(self, X: Any) -> tuple[Any, ...]:
        """Turn checked rows into the arguments of the trunk."""
        raise NotImplementedError

    def _trunk_maker(self, n_rows: int | None) -> MakeTrunk:
        """Get the function that builds the trunk; `n_rows` is None in a partial fit."""
        raise NotImplementedError

    def _linear_shares(self) -> tuple[float, ...]:
        """Shares of a linear model of texts to try."""
        return ()

    def _evaluate(self, X: Any, function: Function) -> list[NDArray[Any]]:
        """Encode new rows, and apply `function` to the network and each block of them."""
        check_is_fitted(self, "net_")
        inputs = self._encode_inputs(self._check_input(X, reset=False))
        return self._evaluate_rows(Rows(inputs, inputs[0][:0], None), function)

    def _evaluate_rows(self, rows: Rows, function: Function) -> list[NDArray[Any]]:
        dtype = self.net_.module_.head.weight.dtype
        device = self._device_of_fit
        if self.device != "auto":
            # A model that was trained on a GPU can predict on a machine without one.
            device = resolve_device(self.device, fall_back=True)
        if device == "mps" and dtype == torch.float64:
            device = "cpu"  # trained there, in a precision that Apple's GPUs do not have
        with isolated():
            return evaluate(self.net_.module_.to(device), rows, function, device, dtype)

    @property
    def _device_of_fit(self) -> str:
        """Where `device="auto"` predicts and trains on; pickles of 0.1.0 do not say."""
        return resolve_device(getattr(self, "device_", "auto"), fall_back=True)

    @property
    def _predictor(self) -> Function:
        if self.inference not in ("mixture", "top_expert"):
            raise InvalidParameterError(
                f'inference must be "mixture" or "top_expert", got {self.inference!r}: '
                "choose one of these."
            )
        return top_expert if self.inference == "top_expert" else mixture

    def gate_proba(self, X: Any) -> NDArray[np.float64]:
        """Gate probabilities: the weight of each expert for each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_experts)
            Gate probabilities; each row sums to one.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (log_probabilities,) = self._evaluate(X, gate)
        return to_probabilities(log_probabilities)

    def route(self, X: Any) -> NDArray[np.int64]:
        """Top expert of each row: the one that predicts with ``inference="top_expert"``.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of int64 of shape (n_samples,)
            Position of the expert with the largest gate probability.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (log_probabilities,) = self._evaluate(X, gate)
        top: NDArray[np.int64] = log_probabilities.argmax(axis=1)
        return top
