"""The plan of one call of `fit`, in which every parameter that may be "auto" has a value."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from skmode._training.rows import Rows
from skmode.nn import CrossEntropy, RegressionLoss

TaskLoss = CrossEntropy | RegressionLoss
Mixing = Literal["representation", "likelihood", "expected"]
Distillation = Literal["mean", "pairwise"]
MakeTrunk = Callable[[Rows], torch.nn.Module]


@dataclass(frozen=True)
class Network:
    """The network to build. Only its trunk depends on the kind of rows: table, image or text.

    Attributes
    ----------
    make_trunk : callable
        Builds the trunk for some training rows, from which it may take statistics.
    make_task_loss : callable
        Builds the task loss, which may have trainable weights.
    n_outputs : int
        Width of the output layer.
    dropout : float
        Probability of zeroing a hidden unit in training.
    expert_module : callable or None
        Builds one custom expert; None means multilayer perceptrons of `hidden_layer_sizes`.
    expert_channels : tuple of int
        Channels of the experts' convolutions before their perceptrons, if the trunk gives feature
        maps.
    custom_trunk : bool
        Whether the trunk is the user's, which may draw random numbers as `expert_module` may.
    """

    make_trunk: MakeTrunk
    make_task_loss: Callable[[], TaskLoss]
    n_outputs: int
    mixing: Mixing
    n_experts: int
    gate: Literal["dense", "sparse"]
    top_k: int
    gate_hidden_layer_sizes: tuple[int, ...]
    gate_temperature: float
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    dropout: float
    expert_module: Callable[[Any], torch.nn.Module] | None
    expert_channels: tuple[int, ...] = ()
    custom_trunk: bool = False

    def with_images(self, expert_channels: tuple[int, ...], *, custom_trunk: bool) -> "Network":
        """The same network for images."""
        return replace(self, expert_channels=expert_channels, custom_trunk=custom_trunk)


@dataclass(frozen=True)
class Plan:
    """One training: the network, the losses' weights, the steps. No parameter is "auto" here.

    Attributes
    ----------
    alphas : tuple of float
        Weights of the distillation to try; the validation rows choose among several.
    weight_decays : tuple of float
        Weight decays of the optimizer to try; the validation rows choose among several.
    weight_averaging : float
        Decay of the moving average of the weights; 0 does not average.
    monitor_top_expert : bool
        Whether validation monitors the top expert instead of the mixture.
    refit_fraction : float
        Epochs of the refit without a teacher, as a share of the epochs up to the best one.
    taught_refit_fraction : float
        The same with a teacher.
    taught_refit_apart : bool
        Whether a refit with a teacher has epochs of its own: this share of `epochs`, beside those
        of the training before it.
    teacher : {"mixture", "ensemble", "auto", "rows"} or None
        Who teaches the experts in the refit. ``"rows"``: the rows carry a teacher's predictions,
        from which the experts learn from the start.
    teacher_weights : tuple of float
        Weights of the teacher's predictions against the target's. With ``"rows"`` the validation
        rows choose among several; otherwise the first is taken.
    teacher_trusted : bool
        Whether it is decided that the teacher teaches: a weight of 0 is for comparison alone.
    teacher_seed : int
        Seed of the ensemble.
    calibrate : bool
        Whether to fit a temperature for the logits to the validation rows.
    linear_shares : tuple of float
        Shares of a linear model of tokens in the prediction; the validation rows choose among
        several. Empty: there is none.
    callbacks : tuple
        The user's callbacks, or pairs of a name and a callback.
    """

    network: Network
    alphas: tuple[float, ...]
    distillation: Distillation
    balance: float
    optimizer: str | Callable[..., torch.optim.Optimizer]
    learning_rate: float
    learning_rate_schedule: Literal["constant", "cosine"]
    weight_decays: tuple[float, ...]
    weight_averaging: float
    batch_size: int
    epochs: int
    n_iter_no_change: int
    monitor_top_expert: bool
    refit_fraction: float
    taught_refit_fraction: float
    teacher: Literal["mixture", "ensemble", "auto", "rows"] | None
    teacher_weights: tuple[float, ...]
    teacher_trusted: bool
    teacher_seed: int
    calibrate: bool
    callbacks: tuple[Any, ...]
    precision: Literal["float32", "float64", "bf16"]
    device: str
    seed: int
    show_progress: bool
    linear_shares: tuple[float, ...] = ()
    taught_refit_apart: bool = False
