"""MoDETextRegressor: a mixture of distilled experts that predicts values of texts."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch

from skmode._estimators.parameters import Auto, Precision
from skmode._estimators.regressor import MoDERegressor
from skmode._estimators.texts.documentation import of_texts
from skmode._estimators.texts.reading import ReadsTexts, constraints_of
from skmode._training.plan import Distillation, Mixing


@of_texts(
    metric="coefficient of determination",
    predictions="values, in the unit of the target (arrays with one number for each, if `y` has "
    "two dimensions)",
)
class MoDETextRegressor(ReadsTexts, MoDERegressor):
    """Mixture of experts with mutual distillation, for values of texts.

    All is as in :class:`MoDERegressor`, except that rows are texts, which are read as
    :class:`MoDETextClassifier` says.

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
    MoDETextClassifier : The same for class labels.
    MoDERegressor : The same for tables.

    References
    ----------
    Xie et al., "MoDE: A Mixture-of-Experts Model with Mutual Distillation among the Experts",
    arXiv 2402.00893.

    Examples
    --------
    >>> from skmode import MoDETextRegressor
    >>> texts = ["two rooms", "three rooms", "three large rooms", "two large rooms"] * 10
    >>> regressor = MoDETextRegressor(n_experts=2, random_state=0)
    >>> regressor.fit(texts, [2.0, 3.0, 4.0, 3.0] * 10).predict(["two small rooms"]).shape
    (1,)
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
        hidden_layer_sizes: int | Sequence[int] = (256,),
        activation: str = "silu",
        dropout: float | Auto = "auto",
        expert_module: Callable[[int], torch.nn.Module] | None = None,
        tokenizer: Any = None,
        vocab_size: int = 16_000,
        lowercase: bool = True,
        max_tokens: int = 512,
        text_encoder: Literal["bag", "transformer"] = "bag",
        transformer_layers: int = 1,
        transformer_heads: int = 4,
        token_embedding_size: int = 128,
        token_dropout: float | Auto = "auto",
        tune_tokens: bool | Auto = "auto",
        linear_share: float | Auto = "auto",
        loss: Literal["squared_error", "absolute_error", "huber", "quantile"] = "squared_error",
        quantile: float = 0.5,
        inference: Literal["mixture", "top_expert"] = "mixture",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        learning_rate: float = 0.003,
        learning_rate_schedule: Literal["constant", "cosine"] = "cosine",
        weight_decay: float | Auto = "auto",
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
        self.expert_module = expert_module
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.max_tokens = max_tokens
        self.text_encoder = text_encoder
        self.transformer_layers = transformer_layers
        self.transformer_heads = transformer_heads
        self.token_embedding_size = token_embedding_size
        self.token_dropout = token_dropout
        self.tune_tokens = tune_tokens
        self.linear_share = linear_share
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
