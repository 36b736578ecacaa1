"""MoDEImageRegressor: a mixture of distilled experts that predicts values of images."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch

from skmode._encoding.images import Channels
from skmode._estimators.images.documentation import of_images
from skmode._estimators.images.reading import ReadsImages, constraints_of
from skmode._estimators.parameters import Auto, Precision
from skmode._estimators.regressor import MoDERegressor
from skmode._estimators.tables.pixels import Augment, TrunkModule
from skmode._training.plan import Distillation, Mixing


@of_images(
    metric="coefficient of determination",
    predictions="values, in the unit of the target (arrays with one number for each, if `y` has "
    "two dimensions)",
)
class MoDEImageRegressor(ReadsImages, MoDERegressor):
    """Mixture of convolutional experts with mutual distillation, for values of images.

    All is as in :class:`MoDERegressor`, except that rows are images, which are read as
    :class:`MoDEImageClassifier` says.

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
    MoDEImageClassifier : The same for class labels.
    MoDERegressor : The same for tables.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmode import MoDEImageRegressor
    >>> images = load_digits().images / 16
    >>> brightness = images.mean(axis=(1, 2))
    >>> regressor = MoDEImageRegressor(n_experts=2, max_epochs=4, random_state=0)
    >>> regressor.fit(images[:500], brightness[:500]).predict(images[:2]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = constraints_of(
        MoDERegressor._parameter_constraints
    )

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
        balance: float = 0.3,
        hidden_layer_sizes: int | Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float | Auto = "auto",
        channels: Channels = "last",
        trunk_channels: int | Sequence[int] = (16, 32),
        expert_channels: int | Sequence[int] = (64, 64),
        trunk_module: TrunkModule | None = None,
        expert_module: Callable[[Any], torch.nn.Module] | None = None,
        augment: Augment | Auto | None = "auto",
        loss: Literal["squared_error", "absolute_error", "huber", "quantile"] = "squared_error",
        quantile: float = 0.5,
        inference: Literal["mixture", "top_expert"] = "mixture",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        learning_rate: float = 0.003,
        learning_rate_schedule: Literal["constant", "cosine"] = "cosine",
        weight_decay: float = 0.01,
        weight_averaging: float = 0.99,
        batch_size: int | Auto = "auto",
        max_epochs: int | Auto = "auto",
        early_stopping: bool | Auto = "auto",
        validation_fraction: Any = 0.1,
        n_iter_no_change: int = 10,
        refit_fraction: float | Auto = "auto",
        teacher: Any = None,
        teacher_weight: float | Auto = "auto",
        n_teachers: int = 4,
        teacher_cv: Any = 5,
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
        self.channels = channels
        self.trunk_channels = trunk_channels
        self.expert_channels = expert_channels
        self.trunk_module = trunk_module
        self.expert_module = expert_module
        self.augment = augment
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
        self.keep_teacher = keep_teacher
        self.memory = memory
        self.n_jobs = n_jobs
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
