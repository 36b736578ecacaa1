"""MoDERegressor: a mixture of distilled experts as a scikit-learn regressor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from skmode._common.batches import is_dataset
from skmode._common.predictions import names_of
from skmode._common.sklearn import Interval, StrOptions
from skmode._encoding.tables import without_outliers
from skmode._estimators.base import BaseMoDE
from skmode._estimators.parameters import Auto, Precision
from skmode._estimators.parameters.documentation import documented
from skmode._estimators.parameters.ranks import fits
from skmode._estimators.rows.splitting import Given
from skmode._estimators.rows.targets import ValueTargets, mean_and_deviation, read_targets
from skmode._estimators.rows.teaching import Lessons, tags_of
from skmode._estimators.tables.datasets.estimator import ReadsDatasets
from skmode._estimators.tables.datasets.names import refuse_names
from skmode._estimators.tables.trunk import NumericEmbedding
from skmode._training.evaluation import all_experts
from skmode._training.plan import Distillation, Mixing, TaskLoss
from skmode.nn import RegressionLoss

# Exported predictions are float32, which ends at 3.4e38.
MAX_TARGET = 1e38


@documented(
    metric="coefficient of determination",
    predictions="values, in the unit of the target (arrays with one number for each, if `y` has "
    "two dimensions)",
)
class MoDERegressor(RegressorMixin, ReadsDatasets, ValueTargets, BaseMoDE):
    """Mixture of experts with mutual distillation, for regression.

    A gate weighs `n_experts` small networks for each row, and a distillation loss makes each of
    them good enough to predict alone (MoDE, arXiv 2402.00893). With ``inference="top_expert"``
    each row is predicted by the one expert with the largest gate weight, and the others are not
    computed. :func:`skmode.onnx.export` writes this form by default.

    Numeric columns and targets need no scaling: the estimator scales both. Missing values are
    allowed in every column. Numbers are read as float32.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    target_mean_, target_scale_ : ndarray of shape (n_outputs_,)
        The network predicts ``(y - target_mean_) / target_scale_``: mean and standard deviation,
        for losses other than ``"squared_error"`` after outliers were moved nearer.
    {attributes}

    See Also
    --------
    MoDEClassifier : The same for class labels.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893. Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation 1991
    (likelihood mixing).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skmode import MoDERegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MoDERegressor(random_state=0).fit(X, y)
    >>> regressor.predict(X[:2]).shape
    (2,)
    """

    n_outputs_: int
    target_mean_: NDArray[np.float64]
    target_scale_: NDArray[np.float64]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMoDE._parameter_constraints,
        "loss": [StrOptions({"squared_error", "absolute_error", "huber", "quantile"})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    # Larger than the classifier's: values vary faster with a feature than class probabilities do.
    _frequency_scale: ClassVar[float] = 0.3

    def __init__(
        self,
        n_experts: int = 4,
        *,
        alpha: float | Auto = 1.0,
        distillation: Distillation = "mean",
        mixing: Mixing = "expected",
        gate: Literal["dense", "sparse"] = "dense",
        top_k: int = 2,
        gate_hidden_layer_sizes: int | Sequence[int] = (),
        gate_temperature: float = 1.0,
        balance: float = 0.01,
        hidden_layer_sizes: int | Sequence[int] = (64, 64),
        activation: str = "relu",
        dropout: float | Auto = 0.0,
        expert_module: Callable[[int], torch.nn.Module] | None = None,
        numeric_embedding: NumericEmbedding | None = "periodic",
        categorical_features: Any = "from_dtype",
        text_features: Any = None,
        image_features: Any = None,
        loss: Literal["squared_error", "absolute_error", "huber", "quantile"] = "squared_error",
        quantile: float = 0.5,
        inference: Literal["mixture", "top_expert"] = "mixture",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        learning_rate: float = 0.005,
        learning_rate_schedule: Literal["constant", "cosine"] = "cosine",
        weight_decay: float = 0.01,
        weight_averaging: float = 0.99,
        batch_size: int | Auto = "auto",
        max_epochs: int = 60,
        early_stopping: bool | Auto = "auto",
        validation_fraction: Any = 0.1,
        n_iter_no_change: int = 15,
        refit_fraction: float | Auto = "auto",
        teacher: Any = None,
        teacher_weight: float | Auto = "auto",
        n_teachers: int = 4,
        teacher_cv: Any = 5,
        synthetic_rows: float = 3.0,
        keep_teacher: bool = False,
        memory: Any = None,
        n_jobs: int | None = None,
        callbacks: Sequence[Any] | None = None,
        device: str = "auto",
        precision: Precision | Auto = "auto",
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.n_experts = n_experts
        self.alpha = alpha
        self.distillation = distillation
        self.mixing = mixing
        self.gate = gate
        self.top_k = top_k
        self.gate_hidden_layer_sizes = gate_hidden_layer_sizes
        self.gate_temperature = gate_temperature
        self.balance = balance
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.expert_module = expert_module
        self.numeric_embedding = numeric_embedding
        self.categorical_features = categorical_features
        self.text_features = text_features
        self.image_features = image_features
        self.loss = loss
        self.quantile = quantile
        self.inference = inference
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.weight_decay = weight_decay
        self.weight_averaging = weight_averaging
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.refit_fraction = refit_fraction
        self.teacher = teacher
        self.teacher_weight = teacher_weight
        self.n_teachers = n_teachers
        self.teacher_cv = teacher_cv
        self.synthetic_rows = synthetic_rows
        self.keep_teacher = keep_teacher
        self.memory = memory
        self.n_jobs = n_jobs
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = all(
            each.target_tags.multi_output for each in tags_of(self.teacher)
        )
        return tags

    @fits
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        target: str | Sequence[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        soft_targets: Any = None,
        soft_targets_val: Any = None,
        X_unlabeled: Any = None,
    ) -> Self:
        """Train the mixture.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows: real numbers, dense or sparse, or a pandas or polars DataFrame with
            numeric, bool, string and categorical columns. NaN, None and empty strings are missing
            values. Of a sparse matrix, and of a table with sparse columns, only batches are made
            dense; each column still has weights of its own in the network. Or, for tables larger
            than memory, a :class:`pyarrow.dataset.Dataset`, or a function that returns record
            batches of Arrow anew at each call; see the guide on such data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Weights of the rows; a weight of zero leaves a row out. Of a dataset, the name of the
            column that holds them.
        target : str or list of str, default=None
            Name of the column of a dataset that holds the targets. With a list,
            targets have two dimensions.
        checkpoint : str or path-like, default=None
            A folder for the fit of a dataset, which several ranks share. Every 20 seconds the state
            of the training is written there, and a fit with the same parameters and rows goes on
            from it. Delete the folder afterwards. Checkpoints are pickles: load your own only.
        X_val : {array-like, DataFrame} of shape (n_val, n_features), default=None
            Validation rows of your own, with the columns of `X`. They replace the rows that
            `validation_fraction` holds out, and are never trained on. Without a teacher there is no
            refit then. In a Pipeline, ``transform_input=["X_val"]`` transforms them as `X`.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Targets of the rows in `X_val`.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the rows in `X_val`.
        groups : array-like of shape (n_samples,), default=None
            Groups of the rows, for a splitter in `validation_fraction` that keeps them together.
            The folds of a `teacher` keep them together as well.
        soft_targets : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            A teacher's predictions of the rows, in the place of an estimator as `teacher`. They
            must come from models that did not see the row. If `y` is a table, a table may have
            its columns in any order.
        soft_targets_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            The teacher's predictions of `X_val`, for `teacher_scores_`. They teach nothing.
        X_unlabeled : {array-like, sparse matrix, DataFrame} of shape (n_unlabeled, n_features), \
default=None
            Further rows without targets, which the `teacher` labels. In a Pipeline,
            ``transform_input=["X_unlabeled"]`` transforms them as `X`.

        Returns
        -------
        MoDERegressor
            Itself.

        Raises
        ------
        ValueError
            If the input is invalid, or the training loss becomes NaN or infinite. Of a dataset,
            the message names file, row and column.
        OSError
            If the rows of a dataset do not fit into the folder for temporary files.
        """
        first = not (self.warm_start and hasattr(self, "net_"))
        given = Given(X_val, y_val, sample_weight_val, groups)
        lessons = Lessons(soft_targets, X_unlabeled, soft_targets_val)
        if is_dataset(X):
            return self._fit_dataset(
                X,
                y,
                sample_weight,
                target,
                checkpoint,
                first=first,
                given=given,
                **lessons._asdict(),
            )
        refuse_names(target, checkpoint)
        return self._fit(
            X, y, sample_weight, epochs=self.max_epochs, first=first, given=given, lessons=lessons
        )

    @fits
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on some rows, without weight averaging.

        Scales, categories and column types are learned in the first call only, so its rows should
        be representative.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        MoDERegressor
            Itself.

        Raises
        ------
        ValueError
            If the number of targets differs from the first call.
        """
        first = not hasattr(self, "net_")
        return self._fit(X, y, sample_weight, epochs=1, first=first)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the target of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of float64 of shape (n_samples,) or (n_samples, n_outputs)
            Predicted values.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (scaled,) = self._evaluate(X, self._predictor)
        return self._unscale(scaled)

    def expert_predict(self, X: Any) -> NDArray[Any]:
        """Predict the target of each row with each expert alone.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_experts) or (n_samples, n_experts, n_outputs)
            Predicted values.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (scaled,) = self._evaluate(X, all_experts)
        return self._unscale(scaled)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        target: str | Sequence[str] | None = None,
    ) -> float:
        """Compute the coefficient of determination on some rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their true targets. Left out for a dataset.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Weights of the rows; of a dataset, the name of their column.
        target : str or list of str, default=None
            Name of the column of a dataset that holds the targets.

        Returns
        -------
        float
            One minus the share of the targets' variance that the predictions leave, averaged over
            the targets.

        Raises
        ------
        ValueError
            If a target is missing.
        """
        if is_dataset(X):
            return self._score_dataset(X, y, sample_weight, target)
        refuse_names(target)
        return float(super().score(X, y, sample_weight))

    def _unscale(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        values = scaled * self.target_scale_ + self.target_mean_
        return values[..., 0] if self._target_ndim == 1 else values

    def _check_target(self, y: Any, name: str) -> NDArray[Any]:
        target = read_targets(y, name, self)
        if target.ndim > 2:
            raise ValueError(
                f"{name} must have one or two dimensions, got shape {target.shape}: pass one "
                "column per target."
            )
        if name == "y":
            self._target_names = names_of(y)
        return target

    def _fit_target(self, y: NDArray[Any], sample_weight: NDArray[np.float64]) -> None:
        kept = sample_weight > 0
        values, sample_weight = y.reshape(len(y), -1)[kept], sample_weight[kept]
        self._check_largest(values)  # the squares of larger ones would overflow
        if self.loss != "squared_error":  # others shall not care how far an outlier is
            values = without_outliers(values, sample_weight)
        self._scale_target(y.ndim, *mean_and_deviation(values, sample_weight))

    def _check_largest(self, values: NDArray[np.float64]) -> None:
        """Raise if a target is too large to be predicted in float32."""
        largest = np.abs(values).max()
        if largest > MAX_TARGET:
            raise ValueError(
                f"Absolute values in y must be at most {MAX_TARGET:g}, got {largest:g}: use a "
                "larger unit."
            )

    def _scale_target(
        self, ndim: int, mean: NDArray[np.float64], deviation: NDArray[np.float64]
    ) -> None:
        """Learn the scale of targets with these moments."""
        self._target_ndim, self.n_outputs_ = ndim, len(mean)
        self.target_mean_ = mean
        # Rounding in the mean leaves a constant target with a deviation just above zero.
        constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        self.target_scale_ = np.where(constant, 1.0, deviation)

    def _encode_target(self, y: NDArray[Any], name: str) -> NDArray[Any]:
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"{name} must have the {self.n_outputs_} target(s) of the first fit, got "
                f"{y.shape[1]}: pass the same targets, or start again with warm_start=False."
            )
        return ((y - self.target_mean_) / self.target_scale_).astype(np.float64)

    def _in_units(self, differences: NDArray[np.float64]) -> Any:
        values = differences * self.target_scale_
        return float(values[0]) if self._target_ndim == 1 else values

    @property
    def _n_outputs(self) -> int:
        return self.n_outputs_

    def _make_task_loss(self) -> TaskLoss:
        return RegressionLoss(self.loss, self.quantile)
