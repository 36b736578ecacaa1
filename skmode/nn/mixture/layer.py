"""A mixture of experts as one layer of a network of the user's own, and its losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from skmode.nn.auxiliary_losses import distillation_loss, load_balance_loss
from skmode.nn.experts import MLPExperts, ModuleExperts
from skmode.nn.gates import DenseGate, GateOutput, SparseGate
from skmode.nn.mixture.records import LossRecords


class LayerLosses(NamedTuple):
    """Losses of a :class:`MoDELayer` in its last training pass, for logs: without gradients.

    Attributes
    ----------
    total : torch.Tensor of shape ()
        ``alpha * distillation + balance * load_balance``.
    distillation : torch.Tensor of shape ()
        :func:`skmode.nn.distillation_loss`; not computed and zero if `alpha` is 0.
    load_balance : torch.Tensor of shape ()
        :func:`skmode.nn.load_balance_loss`; not computed and zero if `balance` is 0.
    """

    total: Tensor
    distillation: Tensor
    load_balance: Tensor


class MoDELayer(nn.Module):
    r"""Mixture of mutually distilled experts, as a layer of any network.

    It takes the place of a transformer's feed-forward layer, or of any other module that keeps
    the width. A gate weighs the experts for each token, and the output is
    :math:`\sum_i g_i e_i(x)` over the experts of the token. In training the layer computes
    ``alpha * distillation + balance * load_balance``; :func:`auxiliary_loss` sums this over a
    model, and one line adds it to the loss of any training loop::

        loss = loss + skmode.nn.auxiliary_loss(model)

    Parameters
    ----------
    width : int
        Width of input and output.
    n_experts : int, default=4
        Number of experts.
    hidden_width : int, default=None
        Hidden units of each expert, a network with one hidden layer and a linear output. None
        means four times `width`.
    expert : callable, default=None
        Builds one expert and is called once for each, without arguments; it returns a
        :class:`torch.nn.Module` that maps `(n_tokens, width)` to `(n_tokens, width)`. None means
        the network that `hidden_width`, `activation` and `dropout` describe. With a sparse gate an
        expert may get a single token, of which batch normalization cannot learn.
    gate : {"sparse", "dense"}, default="sparse"
        ``"sparse"``: the `top_k` experts of largest weight compute a token. ``"dense"``: all do.
    top_k : int, default=2
        Number of experts per token of a sparse gate, from 1 to `n_experts`. After training it may
        be lowered: ``layer.gate.top_k = 1`` computes only the top expert.
    alpha : float, default=0.1
        Weight of the distillation loss. 0 is a plain mixture of experts.
    distill_among : {"active", "all"}, default="active"
        Experts that learn from each other: the `top_k` of the token, or all of them, which are
        then all computed in training. With ``top_k=1`` only ``"all"`` distills.
    distillation : {"mean", "pairwise"}, default="mean"
        Form of the distillation loss, see :func:`distillation_loss`.
    balance : float, default=0.01
        Weight of the load-balance loss, see :func:`load_balance_loss`.
    activation : str, default="relu"
        Activation of the experts' hidden layer, see :func:`make_activation`.
    dropout : float, default=0.0
        Probability of zeroing a hidden unit of an expert in training.

    Attributes
    ----------
    gate : DenseGate
        The gate, a :class:`SparseGate` if sparse.
    experts : MLPExperts or ModuleExperts
        The experts.
    losses : LayerLosses or None
        Losses of the last training pass, for logs. None before it.

    Raises
    ------
    TypeError
        If `expert` is no callable, or builds something else than a module.
    ValueError
        If another parameter is invalid; if `alpha` is above 0, but no expert has another one to
        learn from; or if `expert` comes with `hidden_width`, `activation` or `dropout`.

    See Also
    --------
    skmode.inspection.token_routes : Tokens per expert, by class or domain.

    Notes
    -----
    Shape:

    - Input: `(*, width)`, and `padding_mask` of bools `(*)`, True where a token is padding
    - Output: `(*, width)`

    Padding goes to no expert and counts in no loss; the output there is zero. The mask of Hugging
    Face models has the opposite meaning: pass ``padding_mask=attention_mask == 0``.

    The gate computes in the dtype of its weights, also under autocast, and losses in float32 or
    better. Load is balanced within each batch, and under DistributedDataParallel within each
    process. It needs ``find_unused_parameters=True`` if a sparse gate chooses among experts of
    yours that differ in more than their weights, or that hold layers of this kind: those without a
    token then have no gradient. :class:`torch.nn.DataParallel` is refused in training, because its
    replicas would lose their losses. :func:`torch.compile` may be used; with a sparse gate it
    compiles in parts.

    Examples
    --------
    >>> import torch
    >>> from skmode import nn
    >>> layer = nn.MoDELayer(8, n_experts=4, top_k=2)
    >>> tokens = torch.randn(3, 5, 8)
    >>> output = layer(tokens)
    >>> output.shape
    torch.Size([3, 5, 8])
    >>> loss = output.square().mean()
    >>> loss = loss + nn.auxiliary_loss(layer)
    >>> loss.backward()

    Experts may be modules of any kind:

    >>> layer = nn.MoDELayer(8, expert=lambda: torch.nn.Linear(8, 8), gate="dense")
    >>> layer(tokens).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        width: int,
        n_experts: int = 4,
        *,
        hidden_width: int | None = None,
        expert: Callable[[], nn.Module] | None = None,
        gate: Literal["sparse", "dense"] = "sparse",
        top_k: int = 2,
        alpha: float = 0.1,
        distill_among: Literal["active", "all"] = "active",
        distillation: Literal["mean", "pairwise"] = "mean",
        balance: float = 0.01,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_choice("gate", gate, ("sparse", "dense"))
        _check_choice("distill_among", distill_among, ("active", "all"))
        _check_choice("distillation", distillation, ("mean", "pairwise"))
        _check_weight("alpha", alpha)
        _check_weight("balance", balance)
        _check_size("width", width)
        _check_size("n_experts", n_experts)
        if gate == "sparse":
            _check_size("top_k", top_k)
        if hidden_width is not None:
            _check_size("hidden_width", hidden_width)
        if alpha:
            _check_others(alpha, n_experts, top_k if gate == "sparse" else n_experts, distill_among)
        if expert is not None:
            _check_unused(
                {"hidden_width": hidden_width, "activation": activation, "dropout": dropout}
            )
        self.width = width
        self.n_experts = n_experts
        self.gate = (
            SparseGate(width, n_experts, top_k) if gate == "sparse" else DenseGate(width, n_experts)
        )
        self.experts: MLPExperts | ModuleExperts
        if expert is None:
            sizes = (4 * width if hidden_width is None else hidden_width, width)
            self.experts = MLPExperts(
                width, n_experts, sizes, activation, dropout, linear_output=True
            )
        else:
            self.experts = ModuleExperts(_build(expert, n_experts))
        self.alpha = alpha
        self.distill_among = distill_among
        self.distillation: Literal["mean", "pairwise"] = distillation
        self.balance = balance
        self.losses: LayerLosses | None = None
        self._records = LossRecords()

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Mix the experts of each token; see the class for shapes."""
        tokens, kept = self._tokens(x, padding_mask)
        gate = self._weigh(tokens)
        weights, representations = self._represent(tokens, gate)
        # No view of it, for the losses are recorded with it.
        mixed = torch.bmm(weights.unsqueeze(1).to(representations.dtype), representations)
        if self.training and (self.alpha or self.balance):
            self._record(gate, representations, mixed)
        output = mixed.squeeze(1)
        if kept is not None:
            output = output.new_zeros(x.shape[:-1].numel(), self.width).index_copy(0, kept, output)
        return output.view(x.shape)

    def route(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Tell which experts compute each token.

        Parameters
        ----------
        x : torch.Tensor of shape (*, width)
            Input of the layer.
        padding_mask : torch.Tensor of bool of shape (*), default=None
            True where a token is padding. None means that no token is.

        Returns
        -------
        torch.Tensor of int64 of shape (*, top_k)
            Experts by descending weight, -1 for padding. With a dense gate these are all experts.
        """
        with torch.no_grad():
            tokens, kept = self._tokens(x, padding_mask)
            k = self.gate.top_k if isinstance(self.gate, SparseGate) else self.n_experts
            chosen = self._weigh(tokens).logits.topk(k, dim=1).indices
            if kept is not None:
                chosen = chosen.new_full((x.shape[:-1].numel(), k), -1).index_copy(0, kept, chosen)
        return chosen.view(*x.shape[:-1], k)

    def extra_repr(self) -> str:
        """Show what the parts do not show.

        Returns
        -------
        str
            Text inside the parentheses of the module's repr.
        """
        gate = f"top_k={self.gate.top_k}" if isinstance(self.gate, SparseGate) else "gate='dense'"
        return (
            f"{self.width}, n_experts={self.n_experts}, {gate}, alpha={self.alpha}, "
            f"distill_among={self.distill_among!r}, balance={self.balance}"
        )

    def _tokens(self, x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the tokens that are no padding, and their positions if some may be."""
        if x.shape[-1:] != (self.width,):
            raise ValueError(
                f"x must have a last axis of width={self.width}, got the shape {tuple(x.shape)}: "
                "build the layer with the width of its input."
            )
        rows = x.reshape(-1, self.width)
        if padding_mask is None:
            return rows, None
        if padding_mask.dtype != torch.bool:
            raise TypeError(
                f"padding_mask must be of bools, True where a token is padding, got "
                f"{padding_mask.dtype}: pass attention_mask == 0 if 0 marks padding."
            )
        if padding_mask.shape != x.shape[:-1]:
            raise ValueError(
                f"padding_mask must have the shape of the tokens, {tuple(x.shape[:-1])}, got "
                f"{tuple(padding_mask.shape)}: pass one bool per token."
            )
        kept = (~padding_mask).reshape(-1).nonzero().squeeze(1)
        return rows[kept], kept

    def _weigh(self, tokens: Tensor) -> GateOutput:
        """Run the gate in its own precision: rounded logits would change the choice of experts."""
        dtype = next(self.gate.parameters()).dtype
        with torch.autocast(tokens.device.type, enabled=False):
            gate: GateOutput = self.gate(tokens.to(dtype))
        return gate

    def _represent(self, tokens: Tensor, gate: GateOutput) -> tuple[Tensor, Tensor]:
        """Weights (n_tokens, m) and representations (n_tokens, m, width) of the experts that run.

        These are the chosen ones, unless all take part in the mixture or in the distillation.
        """
        distill_all = self.training and self.alpha and self.distill_among == "all"
        if gate.active is None or distill_all:
            weights, representations = gate.probabilities, self.experts(tokens)
        else:
            chosen = gate.active.nonzero()[:, 1].view(len(tokens), -1 if len(tokens) else 1)
            weights = gate.probabilities.gather(1, chosen)
            representations = _run_chosen(self.experts, tokens, chosen)
        if representations.shape[2:] != (self.width,):
            raise ValueError(
                f"expert must build modules with outputs (n_tokens, {self.width}), got "
                f"{(len(tokens), *representations.shape[2:])}: make the last layer as wide as the "
                "input."
            )
        return weights, representations

    def _record(self, gate: GateOutput, representations: Tensor, mixed: Tensor) -> None:
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "MoDELayer must not train in torch.nn.DataParallel, whose replicas are thrown away "
                "together with their losses: use DistributedDataParallel."
            )
        logits = gate.logits if gate.logits.dtype == torch.float64 else gate.logits.float()
        distillation = balance = logits.new_zeros(())
        with torch.autocast(logits.device.type, enabled=False):
            if self.alpha and len(logits):
                distillation = distillation_loss(representations, distillation=self.distillation)
            if self.balance:
                balance = load_balance_loss(gate._replace(logits=logits))
            total = self.alpha * distillation + self.balance * balance
        self.losses = LayerLosses(total.detach(), distillation.detach(), balance.detach())
        self._records.add(total, mixed)


def auxiliary_loss(model: nn.Module) -> Tensor:
    """Sum the losses of all :class:`MoDELayer` in a model, to be added to the loss of the task.

    Call it after the forward pass and before ``backward``, once per loss::

        loss = loss + skmode.nn.auxiliary_loss(model)

    It counts each training pass once: those since the previous call, however many there were and
    however often each layer ran. Called again with no training pass between, it returns the same
    sum. A pass whose output is no longer referenced does not count.

    - Gradient accumulation: add it to the loss of each micro-batch, and scale both alike.
    - Evaluation mode computes no losses; the result is then zero, so a validation loss is that of
      the task. ``MoDELayer.losses`` keeps the values of the last training pass.
    - Activation checkpointing needs ``use_reentrant=False``.
    - Wrappers, such as DistributedDataParallel, may be passed as they are.

    Parameters
    ----------
    model : torch.nn.Module
        The model, or a part of it.

    Returns
    -------
    torch.Tensor of shape ()
        The sum over layers and passes.

    Raises
    ------
    RuntimeError
        If gradients are wanted, but a layer in training mode last ran without them.
    ValueError
        If the model has no such layer.

    Examples
    --------
    >>> import torch
    >>> from skmode import nn
    >>> model = torch.nn.Sequential(nn.MoDELayer(4), torch.nn.Linear(4, 1))
    >>> prediction = model(torch.randn(10, 4))
    >>> loss = prediction.square().mean() + nn.auxiliary_loss(model)
    >>> nn.auxiliary_loss(model.eval())
    tensor(0.)
    """
    layers = [module for module in model.modules() if isinstance(module, MoDELayer)]
    if not layers:
        raise ValueError(
            f"model must contain a MoDELayer, got {type(model).__name__} without one: pass the "
            "model that has them, or leave this line out."
        )
    training = [layer for layer in layers if layer.training]
    fresh = [layer for layer in training if not layer._records.taken]
    losses = []
    for layer in fresh or training:
        if torch.is_grad_enabled() and layer._records.lacks_gradient:
            raise RuntimeError(
                "MoDELayer must run with gradients in training, its last pass was without: pass "
                "use_reentrant=False to torch's checkpoint, or leave torch.no_grad."
            )
        losses += layer._records.live()
    if fresh:
        for layer in layers:
            layer._records.take(keep=layer in fresh)
    if not losses:
        return next(layers[0].gate.parameters()).new_zeros((), dtype=torch.float32)
    return torch.stack([loss.to(losses[0].device) for loss in losses]).sum()


def _run_chosen(experts: MLPExperts | ModuleExperts, tokens: Tensor, chosen: Tensor) -> Tensor:
    """Run each expert on the tokens that chose it; `chosen` is (n_tokens, m), the result one more.

    Tokens are sorted by expert, so a pass over all experts waits for the device once.
    """
    flat = chosen.flatten()
    order = flat.argsort(stable=True)
    counts: list[int] = torch.bincount(flat, minlength=experts.n_experts).tolist()
    parts = torch.split(tokens[order // chosen.shape[1]], counts)
    # Without any tokens the last expert still runs, to find the shape of the result.
    outputs = torch.cat(
        [
            experts.forward_one(part, i)
            for i, part in enumerate(parts)
            if len(part) or not (len(flat) or i < experts.n_experts - 1)
        ]
    )
    return outputs[order.argsort()].view(*chosen.shape, *outputs.shape[1:])


def _build(expert: Callable[[], nn.Module], n_experts: int) -> list[nn.Module]:
    if isinstance(expert, nn.Module) or not callable(expert):
        raise TypeError(
            "expert must be a callable without arguments that builds one expert, got "
            f"{type(expert).__name__}: pass for example lambda: MyExpert(width)."
        )
    modules = [expert() for _ in range(n_experts)]
    for module in modules:
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"expert must build a torch.nn.Module, got {type(module).__name__}: return one."
            )
    if len({id(module) for module in modules}) < n_experts:
        raise ValueError(
            "expert must build a new module at each call, got the same one again: create it inside "
            "the callable, or all experts start equal."
        )
    return modules


def _check_others(alpha: float, n_experts: int, top_k: int, distill_among: str) -> None:
    """Refuse a distillation in which no expert has another one to learn from."""
    if n_experts == 1:
        raise ValueError(
            f"alpha must be 0 with a single expert, which has none to learn from, got {alpha} with "
            "n_experts=1: pass alpha=0, or more experts."
        )
    if top_k == 1 and distill_among == "active":
        raise ValueError(
            f"alpha must be 0 if each token has a single expert, got {alpha} with top_k=1: "
            'experts learn from each other with distill_among="all" or a top_k of 2 or more. '
            "Or pass alpha=0."
        )


def _check_unused(options: dict[str, object]) -> None:
    """Refuse options of the experts that the user's own ones replace."""
    for name, value in options.items():
        default = inspect.signature(MoDELayer).parameters[name].default
        if value != default:
            raise ValueError(
                f"{name} is for experts that the layer builds, got {value!r} together with expert: "
                "leave it out, and let expert build modules that have it."
            )


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {listed}, got {value!r}: choose one of these.")


def _check_size(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}: correct it.")


def _check_weight(name: str, value: Any) -> None:
    if not isinstance(value, Real) or not 0 <= float(value) < float("inf"):
        raise ValueError(f"{name} must be zero or more, got {value!r}: pass 0 to switch it off.")
