"""The mixture of experts: trunk, gate, experts and output layer."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from skmode.nn.auxiliary_losses import distillation_loss, load_balance_loss
from skmode.nn.gates import DenseGate, GateOutput
from skmode.nn.mixture.layer import MoDELayer, auxiliary_loss
from skmode.nn.task_losses import CrossEntropy, RegressionLoss

Mixing = Literal["representation", "likelihood", "expected"]


class MixtureLosses(NamedTuple):
    """The training loss and its parts, each a scalar.

    Attributes
    ----------
    total : torch.Tensor of shape ()
        ``task + alpha * distillation + balance_weight * balance``.
    task : torch.Tensor of shape ()
        Loss of the mixture's prediction.
    distillation : torch.Tensor of shape ()
        :func:`skmode.nn.distillation_loss`; not computed and zero if `alpha` is 0. In training,
        plus that of each :class:`MoDELayer` in the trunk.
    balance : torch.Tensor of shape ()
        :func:`skmode.nn.load_balance_loss`; not computed and zero if its weight is 0. In training,
        plus that of each :class:`MoDELayer` in the trunk.
    """

    total: Tensor
    task: Tensor
    distillation: Tensor
    balance: Tensor


class MixtureOutput(NamedTuple):
    """Output of a mixture.

    Attributes
    ----------
    prediction : torch.Tensor of shape (n_samples, n_outputs)
        Log-probabilities of the classes, or predicted values.
    gate_probabilities : torch.Tensor of shape (n_samples, n_experts)
        Weight of each expert in each row.
    representations : torch.Tensor of shape (n_samples, n_experts, width), or None
        Representation of each row by each expert. None if only the chosen experts ran.
    expert_outputs : torch.Tensor of shape (n_samples, n_experts, n_outputs), or None
        Prediction of each expert alone. None if only the chosen experts ran, and in training with
        representation mixing, which does not need it.
    losses : MixtureLosses or None
        Parts of the loss. None if no target was given.
    """

    prediction: Tensor
    gate_probabilities: Tensor
    representations: Tensor | None
    expert_outputs: Tensor | None
    losses: MixtureLosses | None


class MixtureOfExperts(nn.Module):
    r"""Mixture of experts with mutual distillation (MoDE, arXiv 2402.00893).

    With gate weights :math:`g_i`, representations :math:`e_i` and a shared output layer:

    - ``mixing="representation"`` (the paper) predicts ``head(sum_i g_i e_i)``;
    - ``mixing="likelihood"`` (Jacobs et al. 1991) predicts ``sum_i g_i p_i``, where
      ``p_i = head(e_i)`` is the prediction of expert i alone, and minimises
      ``-log sum_i g_i p_i(y)``;
    - ``mixing="expected"`` predicts the same and minimises ``sum_i g_i loss(y, head(e_i))``.

    With a teacher's predictions t and a weight w of these, each row's task loss becomes
    ``(1 - w) loss + w sum_i g_i soft_loss(t, head(e_i))``, in all mixings: each expert learns to
    predict as the teacher does, alone.

    Parameters
    ----------
    trunk : torch.nn.Module
        Called as ``trunk(*inputs)``; its output of width `out_features` is the input of gate and
        experts.
    gate : DenseGate
        A :class:`DenseGate` or :class:`SparseGate`.
    experts : torch.nn.Module
        Maps `(n_samples, trunk.out_features)` to `(n_samples, n_experts, width)` and has
        ``forward_one(x, expert)``, as :class:`MLPExperts` and :class:`ModuleExperts` do.
    head : torch.nn.Module
        Output layer shared by the experts, `(*, width)` to `(*, n_outputs)`.
    task_loss : CrossEntropy or RegressionLoss
        Loss of one prediction.
    mixing : {"representation", "likelihood", "expected"}, default="representation"
        How the experts are combined, see above.
    alpha : float, default=0.0
        Weight of the distillation loss. 0 is a plain mixture of experts.
    distillation : {"mean", "pairwise"}, default="mean"
        Form of the distillation loss, see :func:`distillation_loss`.
    balance : float, default=0.0
        Weight of the load-balance loss, see :func:`load_balance_loss`.

    Notes
    -----
    Each :class:`MoDELayer` in the trunk takes over `alpha`, `distillation` and `balance` in
    training, and its losses become part of the mixture's.

    Shape:

    - Input: the inputs of the trunk, each `(n_samples, ...)`; for a :class:`TabularTrunk` numbers
      `(n_samples, n_numeric)` and int64 codes `(n_samples, n_categorical)`
    - Output: :class:`MixtureOutput`

    In evaluation mode with a sparse gate only the chosen experts are computed, unless there is a
    target (the losses need all experts) or ``all_experts=True``.

    Examples
    --------
    >>> import torch
    >>> from skmode import nn
    >>> mixture = nn.MixtureOfExperts(
    ...     nn.IdentityTrunk(5),
    ...     nn.DenseGate(5, n_experts=3),
    ...     nn.MLPExperts(5, n_experts=3, hidden_layer_sizes=(16,)),
    ...     torch.nn.Linear(16, 2),
    ...     nn.CrossEntropy(),
    ...     alpha=1.0,
    ... )
    >>> output = mixture(torch.randn(7, 5), target=torch.zeros(7, dtype=torch.int64))
    >>> output.prediction.shape, output.representations.shape
    (torch.Size([7, 2]), torch.Size([7, 3, 16]))
    >>> sorted(output.losses._asdict())
    ['balance', 'distillation', 'task', 'total']
    """

    # Set where several processes share a batch: see `load_balance_loss`.
    add_up: Callable[[Tensor], Tensor] | None = None
    # Share of a linear model of texts in each prediction, where one became a part of the network.
    linear_share: float = 0.0

    def __init__(
        self,
        trunk: nn.Module,
        gate: DenseGate,
        experts: nn.Module,
        head: nn.Module,
        task_loss: CrossEntropy | RegressionLoss,
        *,
        mixing: Mixing = "representation",
        alpha: float = 0.0,
        distillation: Literal["mean", "pairwise"] = "mean",
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        if mixing not in ("representation", "likelihood", "expected"):
            raise ValueError(
                'mixing must be "representation", "likelihood" or "expected", '
                f"got {mixing!r}: choose one of these."
            )
        if distillation not in ("mean", "pairwise"):
            raise ValueError(
                'distillation must be "mean" or "pairwise", '
                f"got {distillation!r}: choose one of these."
            )
        n_experts = getattr(experts, "n_experts", gate.n_experts)
        if n_experts != gate.n_experts:
            raise ValueError(
                f"gate must have the n_experts of experts, {n_experts}, got {gate.n_experts}: "
                "build both with the same number."
            )
        self.trunk = trunk
        self.gate = gate
        self.experts = experts
        self.head = head
        self.task_loss = task_loss
        self.mixing = mixing
        self.alpha = alpha
        self.distillation: Literal["mean", "pairwise"] = distillation
        self.balance = balance

    @property
    def n_experts(self) -> int:
        """Number of experts.

        Returns
        -------
        int
            Number of experts of the gate.
        """
        return self.gate.n_experts

    def forward(
        self,
        *inputs: Tensor,
        target: Tensor | None = None,
        sample_weight: Tensor | None = None,
        soft_target: Tensor | None = None,
        soft_weight: Tensor | float = 1.0,
        all_experts: bool = False,
    ) -> MixtureOutput:
        """Predict, and compute the losses if a target is given.

        Parameters
        ----------
        *inputs : torch.Tensor of shape (n_samples, ...)
            Inputs of the trunk.
        target : torch.Tensor, default=None
            Classes `(n_samples,)` or values `(n_samples, n_outputs)`.
        sample_weight : torch.Tensor of shape (n_samples,), default=None
            Factor on each row's loss. None means ones.
        soft_target : torch.Tensor of shape (n_samples, n_outputs), default=None
            A teacher's log-probabilities or values. None means no teacher. Needs a `target`.
        soft_weight : float or torch.Tensor of shape (n_samples,), default=1.0
            Weight of the teacher's predictions, from 0 to 1, against the target's.
        all_experts : bool, default=False
            Whether to compute `representations` and `expert_outputs` in every case.

        Returns
        -------
        MixtureOutput
            Prediction, gate weights, the experts' parts and the losses.
        """
        layers = self._prepare_layers() if self.training and target is not None else []
        hidden = self.trunk(*inputs)
        gate = self.gate(hidden)
        if gate.active is not None and not (self.training or all_experts or target is not None):
            prediction = self._predict_active(hidden, gate)
            return MixtureOutput(prediction, gate.probabilities, None, None, None)

        representations = self.experts(hidden)
        outputs = None
        needed = all_experts or soft_target is not None or not self.training
        if self.mixing != "representation" or needed:
            outputs = self._expert_outputs(representations)
        if self.mixing == "representation":
            mixed = torch.bmm(gate.probabilities.unsqueeze(1), representations).squeeze(1)
            prediction = self.task_loss.finalize(self.head(mixed))
        else:
            assert outputs is not None
            prediction = self._mix_outputs(gate, outputs)
        losses = None
        if target is not None:
            rows = self._task_rows(prediction, gate, target, outputs)
            if soft_target is not None:
                assert outputs is not None
                each = self.task_loss.soft_loss(outputs, soft_target.unsqueeze(1))
                soft = (gate.probabilities * each).sum(dim=1)
                rows = (1 - soft_weight) * rows + soft_weight * soft
            losses = self._losses(rows, gate, sample_weight, representations)
            if layers:
                losses = self._add_layers(losses, layers)
        return MixtureOutput(prediction, gate.probabilities, representations, outputs, losses)

    def predict_top_expert(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Predict each row with its top expert alone; the other experts are not computed.

        Parameters
        ----------
        *inputs : torch.Tensor of shape (n_samples, ...)
            Inputs of the trunk.

        Returns
        -------
        prediction : torch.Tensor of shape (n_samples, n_outputs)
            Log-probabilities or values.
        expert : torch.Tensor of int64 of shape (n_samples,)
            The expert with the largest gate logit, the first one if several are equal.
        """
        hidden = self.trunk(*inputs)
        logits = self.gate.logits(hidden)
        expert = logits.argmax(dim=1)
        chosen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, expert.unsqueeze(1), True)
        weights = chosen.to(logits.dtype)
        gate = GateOutput(weights, weights.log(), logits, chosen)
        return self._predict_active(hidden, gate), expert

    def _expert_outputs(self, representations: Tensor) -> Tensor:
        # Expert first, as the tensor is stored: any other order would copy it.
        by_expert = self.head(representations.transpose(0, 1))
        return self.task_loss.finalize(by_expert).transpose(0, 1)

    def _mix_outputs(self, gate: GateOutput, outputs: Tensor) -> Tensor:
        if isinstance(self.task_loss, CrossEntropy):
            return (gate.log_probabilities.unsqueeze(2) + outputs).logsumexp(dim=1)
        return (gate.probabilities.unsqueeze(2) * outputs).sum(dim=1)

    def _predict_active(self, hidden: Tensor, gate: GateOutput) -> Tensor:
        """Run each expert on its active rows only, and sum the weighted results."""
        assert gate.active is not None
        classify = isinstance(self.task_loss, CrossEntropy)
        total: Tensor | None = None
        # All experts' rows at once: to count them, the CPU waits for the device.
        expert, row = gate.active.T.nonzero().unbind(1)
        counts: list[int] = torch.bincount(expert, minlength=self.n_experts).tolist()
        for i, rows in enumerate(torch.split(row, counts)):
            # With no rows at all the last expert still runs, to find the shape of the result.
            if rows.numel() == 0 and (i < self.n_experts - 1 or total is not None):
                continue
            share = self.experts.forward_one(hidden[rows], i)  # type: ignore[operator]
            if self.mixing != "representation":
                share = self.task_loss.finalize(self.head(share))
                share = share.exp() if classify else share
            share = share * gate.probabilities[rows, i].unsqueeze(1)
            if total is None:
                total = share.new_zeros(len(hidden), share.shape[1])
            total.index_add_(0, rows, share)
        assert total is not None
        if self.mixing == "representation":
            return self.task_loss.finalize(self.head(total))
        return total.clamp(min=torch.finfo(total.dtype).tiny).log() if classify else total

    def _losses(
        self,
        rows: Tensor,
        gate: GateOutput,
        sample_weight: Tensor | None,
        representations: Tensor,
    ) -> MixtureLosses:
        task = (rows if sample_weight is None else rows * sample_weight).mean()
        zero = task.new_zeros(())
        distillation, balance, total = zero, zero, task
        if self.alpha:
            distillation = distillation_loss(
                representations,
                distillation=self.distillation,
                active=gate.active,
                sample_weight=sample_weight,
            )
            total = total + self.alpha * distillation
        if self.balance:
            balance = load_balance_loss(gate, sample_weight, add_up=self.add_up)
            total = total + self.balance * balance
        return MixtureLosses(total, task, distillation, balance)

    def _prepare_layers(self) -> list[MoDELayer]:
        """Give the mixtures inside the trunk the weights of the losses, which may have changed."""
        layers = [module for module in self.trunk.modules() if isinstance(module, MoDELayer)]
        for layer in layers:
            layer.alpha, layer.balance = self.alpha, self.balance
            layer.distillation = self.distillation
        return layers if self.alpha or self.balance else []

    def _add_layers(self, losses: MixtureLosses, layers: list[MoDELayer]) -> MixtureLosses:
        """Add the losses that the mixtures inside the trunk recorded in this pass."""
        parts = [layer.losses for layer in layers if layer.losses is not None]
        return losses._replace(
            total=losses.total + auxiliary_loss(self.trunk),
            distillation=losses.distillation + sum(part.distillation for part in parts),
            balance=losses.balance + sum(part.load_balance for part in parts),
        )

    def _task_rows(
        self, prediction: Tensor, gate: GateOutput, target: Tensor, outputs: Tensor | None
    ) -> Tensor:
        """Task loss of each row; see the class for the three mixings."""
        rows: Tensor
        if self.mixing == "representation":
            rows = self.task_loss(prediction, target)
            return rows
        assert outputs is not None
        each = target.unsqueeze(1)
        if self.mixing == "expected":
            rows = (gate.probabilities * self.task_loss(outputs, each)).sum(dim=1)
            return rows
        # For classes this equals the loss of `prediction`, but computes one class instead of all.
        log_density = -self.task_loss.negative_log_likelihood(outputs, each)
        return -(gate.log_probabilities + log_density).logsumexp(dim=1)
