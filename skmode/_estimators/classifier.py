"""MoDEClassifier: a mixture of distilled experts as a scikit-learn classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from skmode._common.batches import is_dataset
from skmode._common.sklearn import StrOptions
from skmode._encoding.labels import (
    check_labels,
    sort_classes,
)
from skmode._estimators.base import BaseMoDE
from skmode._estimators.parameters import Auto, Precision
from skmode._estimators.parameters.documentation import documented
from skmode._estimators.parameters.ranks import fits
from skmode._estimators.rows.splitting import Given
from skmode._estimators.rows.targets import ClassTargets
from skmode._estimators.rows.teaching import Lessons
from skmode._estimators.tables.datasets.estimator import ReadsDatasets
from skmode._estimators.tables.datasets.names import refuse_names
from skmode._estimators.tables.trunk import NumericEmbedding
from skmode._training.evaluation import all_experts, to_probabilities
from skmode._training.plan import Distillation, Mixing, TaskLoss
from skmode.nn import CrossEntropy


@documented(metric="accuracy", predictions="probabilities")
class MoDEClassifier(ClassifierMixin, ReadsDatasets, ClassTargets, BaseMoDE):
    """Mixture of experts with mutual distillation, for classification.

    A gate weighs `n_experts` small networks for each row, and a distillation loss makes each of
    them good enough to predict alone (MoDE, arXiv 2402.00893). With ``inference="top_expert"``
    each row is predicted by the one expert with the largest gate weight, and the others are not
    computed. :func:`skmode.onnx.export` writes this form by default.

    Numeric columns need no scaling: the network scales them robustly. Missing values are allowed
    in every column. Numbers are read as float32.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    {attributes}
    temperature_ : float
        Temperature that the last call divided the logits by. The weights of ``net_.module_.head``
        already include it. 1.0 without validation rows, or if `calibration` is None.

    See Also
    --------
    MoDERegressor : The same for real-valued targets.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893. Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation 1991
    (likelihood mixing).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MoDEClassifier(random_state=0).fit(X, y)
    >>> classifier.predict_proba(X[:2]).shape
    (2, 3)
    >>> classifier.route(X).shape
    (150,)

    Custom experts, here gated linear units:

    >>> import torch
    >>> class GatedUnit(torch.nn.Module):
    ...     def __init__(self, in_features, width=32):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(in_features, 2 * width)
    ...
    ...     def forward(self, x):
    ...         return torch.nn.functional.glu(self.linear(x))
    >>> classifier = MoDEClassifier(expert_module=GatedUnit, random_state=0).fit(X, y)
    >>> classifier.net_.module_.experts
    ModuleExperts(...)
    """

    classes_: NDArray[Any]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMoDE._parameter_constraints,
        "calibration": [StrOptions({"temperature"}), None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    _frequency_scale: ClassVar[float] = 0.1

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
        activation: str = "silu",
        dropout: float | Auto = "auto",
        expert_module: Callable[[int], torch.nn.Module] | None = None,
        numeric_embedding: NumericEmbedding | None = "periodic_bias",
        categorical_features: Any = "from_dtype",
        text_features: Any = None,
        image_features: Any = None,
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
        calibration: Literal["temperature"] | None = "temperature",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
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
        self.calibration = calibration
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = True
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
        y : array-like of shape (n_samples,)
            Class labels of any type.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Weights of the rows; a weight of zero leaves a row out. Of a dataset, the name of the
            column that holds them.
        target : str, default=None
            Name of the column of a dataset that holds the labels.
        checkpoint : str or path-like, default=None
            A folder for the fit of a dataset, which several ranks share. Every 20 seconds the state
            of the training is written there, and a fit with the same parameters and rows goes on
            from it. Delete the folder afterwards. Checkpoints are pickles: load your own only.
        X_val : {array-like, DataFrame} of shape (n_val, n_features), default=None
            Validation rows of your own, with the columns of `X`. They replace the rows that
            `validation_fraction` holds out, and are never trained on. Without a teacher there is no
            refit then. In a Pipeline, ``transform_input=["X_val"]`` transforms them as `X`.
        y_val : array-like of shape (n_val,), default=None
            Classes, which must all occur in `y`, of the rows in `X_val`.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the rows in `X_val`.
        groups : array-like of shape (n_samples,), default=None
            Groups of the rows, for a splitter in `validation_fraction` that keeps them together.
            The folds of a `teacher` keep them together as well.
        soft_targets : array-like of shape (n_samples, n_classes), default=None
            A teacher's probabilities of the rows, in the order of `classes_`, in the place of an
            estimator as `teacher`. A table may name its columns by the classes, in any order. They
            must come from models that did not see the row.
        soft_targets_val : array-like of shape (n_val, n_classes), default=None
            The teacher's predictions of `X_val`, for `teacher_scores_`. They teach nothing.
        X_unlabeled : {array-like, sparse matrix, DataFrame} of shape (n_unlabeled, n_features), \
default=None
            Further rows without targets, which the `teacher` labels. In a Pipeline,
            ``transform_input=["X_unlabeled"]`` transforms them as `X`.

        Returns
        -------
        MoDEClassifier
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
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on some rows, without weight averaging.

        Scales, categories and column types are learned in the first call only, so its rows should
        be representative.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that any call may contain. Needed in the first call only; None takes the
            labels of its `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        MoDEClassifier
            Itself.

        Raises
        ------
        ValueError
            If `y` holds a label that the first call did not name, if `classes` holds a missing
            value, or if ``class_weight="balanced"``, which needs all labels at once.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" needs all labels at once, but partial_fit gets only some '
                "of them: pass class_weight as a dict, or sample_weight."
            )
        first = not hasattr(self, "net_")
        if first and classes is not None:
            self._announced_classes = sort_classes(classes)
        elif classes is not None and not np.array_equal(sort_classes(classes), self.classes_):
            raise ValueError(
                f"classes must be the same in every call, {self.classes_.tolist()}, got "
                f"{sort_classes(classes).tolist()}: name all classes in the first call."
            )
        try:
            return self._fit(X, y, sample_weight, epochs=1, first=first)
        finally:
            self.__dict__.pop("_announced_classes", None)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_.take(probabilities.argmax(axis=1))
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_classes)
            Probabilities, in the order of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (log_probabilities,) = self._evaluate(X, self._predictor)
        return to_probabilities(log_probabilities)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_classes)
            Logarithms of :meth:`predict_proba`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        return np.log(self.predict_proba(X))

    def expert_predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each row with each expert alone.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of shape (n_samples, n_experts)
            Class labels.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        probabilities = self.expert_predict_proba(X)
        labels: NDArray[Any] = self.classes_.take(probabilities.argmax(axis=2))
        return labels

    def expert_predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each class with each expert alone.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training; of a dataset, other columns are left out.

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_experts, n_classes)
            Probabilities, in the order of `classes_`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        (log_probabilities,) = self._evaluate(X, all_experts)
        return to_probabilities(log_probabilities)

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, target: str | None = None
    ) -> float:
        """Compute the accuracy on some rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, dataset} of shape (n_samples, n_features)
            Rows with the columns of training.
        y : array-like of shape (n_samples,)
            Their true class labels. Left out for a dataset.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Weights of the rows; of a dataset, the name of their column.
        target : str, default=None
            Name of the column of a dataset that holds the labels.

        Returns
        -------
        float
            Share of the rows whose class is predicted.

        Raises
        ------
        ValueError
            If a label is missing.
        """
        if is_dataset(X):
            return self._score_dataset(X, y, sample_weight, target)
        refuse_names(target)
        check_labels(y)
        return float(super().score(X, y, sample_weight))

    def _in_units(self, differences: NDArray[np.float64]) -> Any:
        return float(differences[0])

    @property
    def _calibrates(self) -> bool:
        return self.calibration == "temperature"

    @property
    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _make_task_loss(self) -> TaskLoss:
        return CrossEntropy()
