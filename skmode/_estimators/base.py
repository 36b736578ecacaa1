"""What classifier and regressor share: validation, fitting, evaluation, persistence."""

import copy
import math
import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from skmode import nn as mode
from skmode._encoding.tables import TableEncoder, is_table, validate_array
from skmode._estimators.parameters import (
    CONSTRAINTS,
    FULL_BATCH_ROWS,
    check_combinations,
    check_structure,
    resolve_device,
    structure,
)
from skmode._training.evaluation import (
    Function,
    evaluate,
    gate,
    mixture,
    to_probabilities,
    top_expert,
)
from skmode._training.net import MixtureNet, Rows
from skmode._training.trainer import Run, fit_net

# A gate that sends more than this share of the rows to one expert has collapsed.
COLLAPSED_SHARE = 0.98


class RoutingCollapseWarning(UserWarning):
    """The gate sends nearly every row to the same expert."""


class BaseMoDE(BaseEstimator):
    """Base of :class:`MoDEClassifier` and :class:`MoDERegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS
    # Standard deviation of the periodic embeddings' frequencies at the start.
    _frequency_scale: ClassVar[float]

    net_: MixtureNet
    alpha_: float
    _structure: dict[str, Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = False
        tags.target_tags.required = True
        return tags

    # What the two estimators add.

    def _fit_target(self, y: Any, sample_weight: NDArray[np.float64]) -> None:
        raise NotImplementedError

    def _encode_target(self, y: Any) -> NDArray[Any]:
        raise NotImplementedError

    def _check_target(self, y: Any) -> NDArray[Any]:
        raise NotImplementedError

    def _make_task_loss(self) -> mode.CrossEntropy | mode.RegressionLoss:
        raise NotImplementedError

    def _target_weight(
        self, y: NDArray[Any], sample_weight: NDArray[np.float64]
    ) -> NDArray[np.float64] | float:
        return 1.0

    # Fitting.

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        epochs: int,
        first: bool,
        partial: bool = False,
    ) -> Any:
        """Train for some epochs.

        `first` builds encoder and net, otherwise they go on. For a `partial` fit see `Run`.
        """
        check_combinations(self)
        if not first:
            check_structure(self, self._structure)
        X, y, sample_weight = self._check_training_data(X, y, sample_weight, first=first)
        random_state = check_random_state(self.random_state)
        if first:
            self._fit_target(y, sample_weight)
            self.encoder_ = TableEncoder(self.categorical_features).fit(X, sample_weight)
        rows = self._make_rows(X, y, sample_weight)
        train, valid = (rows, None) if partial else self._split(rows, random_state)
        seed = random_state.randint(np.iinfo(np.int32).max)
        device = resolve_device(self.device)
        net = None if first else self.net_
        before = None if first else self._remember()
        try:
            outcome = fit_net(self, Run(rows, train, valid, net, epochs, partial, seed, device))
        except BaseException:  # an interrupt that came outside of the epochs too
            self._undo(before)
            raise
        if first:
            self._structure = structure(self)
        self.net_, self.alpha_ = outcome.net, outcome.alpha
        self.validation_scores_ = outcome.validation_scores
        self.refit_n_iter_ = outcome.refit_n_iter
        if outcome.temperature is not None:
            self.temperature_ = outcome.temperature
        if outcome.interrupted:
            warnings.warn("Training interrupted by user.", ConvergenceWarning, stacklevel=4)
        self._summarize(rows)
        if not partial:
            self._warn_of_collapse(len(rows))
        return self

    def _remember(self) -> tuple[dict[str, Any], list[Any]]:
        return copy.deepcopy(self.net_.module_.state_dict()), list(self.net_.history)

    def _undo(self, before: tuple[dict[str, Any], list[Any]] | None) -> None:
        """Forget a training that failed, so that nothing goes on from its useless weights."""
        if before is None:
            self.__dict__.pop("net_", None)
        else:
            state, history = before
            self.net_.module_.load_state_dict(state)
            self.net_.module_.eval()
            self.net_.history[:] = history
            self.net_.initialize_optimizer()

    def _check_training_data(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
        """Validate; rows of weight zero are left out, as if they had not been passed."""
        is_table(X)  # refuses tables without rows in memory or with ambiguous names
        validate_data(self, X=X, y=y, skip_check_array=True, reset=first)
        X = self._check_input(X, reset=first)
        y = self._check_target(y)
        check_consistent_length(X, y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = np.flatnonzero(weight)
        if len(kept) == 0:
            raise ValueError(
                "At least one row needs a positive sample_weight, got zeros only: "
                "pass weights above zero for the rows to learn from."
            )
        if len(kept) < len(weight):
            X, y, weight = _safe_indexing(X, kept), y[kept], weight[kept]
        weight = weight * self._target_weight(y, weight)
        if not np.all(weight >= 0) or not np.any(weight > 0):
            raise ValueError(
                "class_weight must hold weights of at least zero, above zero for a class that "
                f"occurs, got {getattr(self, 'class_weight', None)!r}: correct it."
            )
        return X, y, weight

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        if is_table(X):
            if 0 in X.shape:
                what = "sample" if X.shape[0] == 0 else "feature"
                raise ValueError(
                    f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a minimum of 1 "
                    f"is required by {type(self).__name__}."
                )
        else:
            X = validate_array(X, self)
        if not reset:
            validate_data(self, X=X, skip_check_array=True, reset=False)
        return X

    def _make_rows(self, X: Any, y: NDArray[Any], sample_weight: NDArray[np.float64]) -> Rows:
        numbers, codes = self.encoder_.transform(X)
        weight = None
        if not np.all(sample_weight == sample_weight[0]):
            weight = torch.as_tensor(sample_weight / sample_weight.mean())
        return Rows(
            torch.as_tensor(numbers),
            torch.as_tensor(codes),
            torch.as_tensor(self._encode_target(y)),
            weight,
        )

    def _split(self, rows: Rows, random_state: Any) -> tuple[Rows, Rows | None]:
        """Hold out validation rows; a class with a single row stays in the training part."""
        if self.early_stopping == "auto":
            wanted = len(rows) > FULL_BATCH_ROWS
        else:
            wanted = self.early_stopping
        if not wanted:
            return rows, None
        target = rows.target.numpy()
        index = np.arange(len(rows))
        stratify = None
        if not rows.target.is_floating_point():
            counts = np.bincount(target)
            index = np.flatnonzero(counts[target] > 1)
            n_valid = math.ceil(self.validation_fraction * len(index))
            if len(index) and (counts > 1).sum() <= min(n_valid, len(index) - n_valid):
                stratify = target[index]
        if len(index) < 2:
            if self.early_stopping == "auto":
                return rows, None
            raise ValueError(
                "early_stopping=True needs at least two rows of one class to hold one out, got "
                f"{len(rows)} row(s): pass more rows or early_stopping=False."
            )
        held_out = train_test_split(
            index,
            test_size=self.validation_fraction,
            random_state=random_state,
            stratify=stratify,
        )[1]
        kept = np.setdiff1d(np.arange(len(rows)), held_out)
        parts = rows.select(torch.as_tensor(kept)), rows.select(torch.as_tensor(np.sort(held_out)))
        for name, part in zip(("training", "validation"), parts, strict=True):
            # In the precision of training.
            if part.sample_weight is not None and part.sample_weight.float().sum() == 0:
                raise ValueError(
                    f"The {name} rows need a weight above zero, and none of the {len(part)} has "
                    "one by sample_weight and class_weight: give more rows a weight, or train on "
                    "all rows with early_stopping=False."
                )
        return parts

    @property
    def _dtype(self) -> torch.dtype:
        return self.net_.module_.head.weight.dtype

    def _summarize(self, rows: Rows) -> None:
        self.history_ = list(self.net_.history)
        self.loss_curve_ = [epoch["train_loss"] for epoch in self.history_]
        self.n_iter_ = len(self.history_)
        (log_probabilities,) = self._evaluate_rows(rows, gate)
        weight = None if rows.sample_weight is None else rows.sample_weight.numpy()
        usage = np.bincount(
            log_probabilities.argmax(axis=1), weights=weight, minlength=self.n_experts
        )
        self.expert_usage_ = usage / usage.sum()

    def _warn_of_collapse(self, n_rows: int) -> None:
        enough = self.n_experts > 1 and n_rows >= 10 * self.n_experts
        if enough and self.expert_usage_.max() > COLLAPSED_SHARE:
            warnings.warn(
                "Each expert should get some rows, and the gate sends "
                f"{self.expert_usage_.max():.1%} of the training rows to expert "
                f"{self.expert_usage_.argmax()}: raise balance (now {self.balance:g}; try 0.1) or "
                f"gate_temperature, or use fewer experts (now {self.n_experts}).",
                RoutingCollapseWarning,
                stacklevel=5,
            )

    def __getstate__(self) -> dict[str, Any]:
        if "net_" in vars(self):
            self.net_.keep_optimizer = self.warm_start
        return dict(super().__getstate__())

    # Evaluation.

    def _evaluate(self, X: Any, function: Function) -> list[Any]:
        """Apply a function of (module, numbers, codes) to new rows, block by block."""
        check_is_fitted(self, "net_")
        numbers, codes = self.encoder_.transform(self._check_input(X, reset=False))
        rows = Rows(torch.as_tensor(numbers), torch.as_tensor(codes), torch.empty(0), None)
        return self._evaluate_rows(rows, function)

    def _evaluate_rows(self, rows: Rows, function: Function) -> list[Any]:
        # What was trained on a GPU predicts without one too.
        device = resolve_device(self.device, fall_back=True)
        return evaluate(self.net_.module_.to(device), rows, function, device, self._dtype)

    @property
    def _predictor(self) -> Function:
        if self.inference not in ("mixture", "top_expert"):
            raise InvalidParameterError(
                f'inference must be "mixture" or "top_expert", got {self.inference!r}: '
                "choose one of these."
            )
        return top_expert if self.inference == "top_expert" else mixture

    def gate_proba(self, X):
        """Weight of each expert in each row.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
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

    def route(self, X):
        """Top expert of each row: the one that answers with ``inference="top_expert"``.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (n_samples, n_features)
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
        return log_probabilities.argmax(axis=1)
