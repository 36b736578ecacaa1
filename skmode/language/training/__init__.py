"""The training loop: batches, accumulation, clipping, the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from skmode._common.notebooks.progress import progress_bar
from skmode.language.corpus import Blocks
from skmode.language.networks import logits_of
from skmode.language.objectives import (
    DIVERGENCES,
    Alpha,
    Schedule,
    cross_entropy,
    share_of_teacher,
)
from skmode.language.training.checkpoints import Checkpoint

READ_EVERY = 100  # steps, on a GPU


@dataclass(frozen=True)
class Recipe:
    """How models are trained."""

    batch_size: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    max_norm: float
    bf16: bool
    device: torch.device
    distillation: Literal["forward", "reverse"] | None
    alpha: float | str
    temperature: float
    schedule: Schedule
    alternate_every: int
    verbose: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()


@dataclass
class Phase:
    """A part of training: which models learn from which domains, for how many steps each.

    ``models`` are trained in turn, each on the domains of its own; ``common`` is the model whose
    logits are averaged with the one in turn. Both are called with a batch of ``batch_size`` rows,
    which take turns over the domains. Without ``decays`` the learning rate stays high to the end,
    for models that go on in another phase. ``drawn_as`` names the phase whose batches it has.
    """

    name: str
    models: dict[str, nn.Module]
    domains: Mapping[str, Sequence[str]]
    n_steps: int
    teacher: nn.Module | None = None
    taught: Sequence[str] = ()
    common: nn.Module | None = None
    frozen: Sequence[nn.Parameter] = ()
    decays: bool = True
    drawn_as: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.n_steps = int(self.n_steps)  # numpy's numbers would go into checkpoints


def run_phase(
    phase: Phase, blocks: dict[str, Blocks], recipe: Recipe, seed: int, checkpoint: Checkpoint
) -> list[dict[str, Any]]:
    """Train the models of a phase, from its checkpoint if there is one; return its history."""
    loop = _Loop(phase, blocks, recipe, seed)
    start = checkpoint.resume(phase.name, loop)
    total = phase.n_steps * len(phase.models)
    bar = progress_bar(total=total, initial=start, desc=phase.name, disable=not recipe.verbose)
    with bar:
        for step in range(start, total):
            loop.step(step)
            bar.update()
            checkpoint.maybe_write(phase.name, step + 1, loop, last=step + 1 == total)
    loop.complete_history()
    loop.modules.eval()
    loop.modules.zero_grad(set_to_none=True)
    return phase.history


class _Loop:
    """The state of a phase, and its next step."""

    def __init__(self, phase: Phase, blocks: dict[str, Blocks], recipe: Recipe, seed: int) -> None:
        self.phase, self.blocks, self.recipe = phase, blocks, recipe
        self.modules = nn.ModuleDict({f"m{i}": m for i, m in enumerate(phase.models.values())})
        if phase.common is not None:
            self.modules["common"] = phase.common
        self.modules.to(recipe.device).train()
        frozen = {id(each) for each in phase.frozen}
        self.parameters = [each for each in self.modules.parameters() if id(each) not in frozen]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.alphas = {name: Alpha(recipe.alpha) for name in phase.models}
        # Steps whose losses are still on the device.
        self.unread: list[tuple[dict[str, Any], list[dict[str, Any]], torch.Tensor]] = []

    def step(self, step: int) -> None:
        """Take one step of the optimizer, for the model whose turn it is."""
        phase, recipe = self.phase, self.recipe
        names = list(phase.models)
        name, own_step = names[step % len(names)], step // len(names)
        rate = learning_rate_at(own_step, phase.n_steps, recipe, decays=phase.decays)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Without a gradient the optimizer leaves the models alone whose turn it is not.
        self.modules.zero_grad(set_to_none=True)
        record: dict[str, Any] = {"phase": phase.name, "model": name, "step": own_step}
        parts = [self._part(name, own_step, i) for i in range(recipe.accumulate)]
        norm = nn.utils.clip_grad_norm_(
            [each for each in self.parameters if each.grad is not None], recipe.max_norm
        )
        self.optimizer.step()
        record["learning_rate"] = rate
        self.unread.append((record, parts, norm))
        # On a GPU reading makes the step wait. On the CPU nothing waits, and a few numbers that are
        # left between the logits of two steps keep the memory of these from being used again.
        if recipe.device.type == "cpu" or len(self.unread) == READ_EVERY:
            self.complete_history()

    def complete_history(self) -> None:
        """Read the losses of the steps that were taken since it was called last."""
        for record, parts, norm in self.unread:
            rate = record.pop("learning_rate")
            values: dict[str, list[float]] = {}
            for key, value in (item for part in parts for item in part.items()):
                values.setdefault(key, []).append(float(value))
            means = {key: sum(own) / len(own) for key, own in values.items()}
            self._check_finite(means["loss"], record["step"])
            rest = {"learning_rate": rate, "norm": float(norm)}
            self.phase.history.append({**record, **means, **rest})
        self.unread.clear()

    def _check_finite(self, loss: float, step: int) -> None:
        """Stop a training from which nothing comes any more."""
        if not math.isfinite(loss):
            taught = self.phase.teacher is not None and len(self.phase.taught) > 0
            raise ValueError(
                f'The training loss must stay finite, but in step {step} of "{self.phase.name}" it '
                f"became {loss}: lower learning_rate (now {self.recipe.learning_rate:g})"
                f"{', or pass a teacher whose outputs are finite' if taught else ''}."
            )

    def _part(self, name: str, step: int, part: int) -> dict[str, Any]:
        """Add the gradient of one part of an accumulated batch; return its mean losses."""
        inputs, targets, wanted, domains = self._draw(self.phase.domains[name], step, part)
        with self.recipe.autocast():
            logits = logits_of(self.phase.models[name], inputs)
            if self.phase.common is not None:
                logits = (logits + logits_of(self.phase.common, inputs)) / 2
        ce = cross_entropy(logits.flatten(0, 1)[wanted], targets)
        values: dict[str, Any] = {"ce": ce.detach().mean()}
        loss = ce.mean()
        taught = self._taught(domains, wanted, inputs.shape[1])
        if taught is not None:
            loss, more = self._distil(name, step, inputs, logits, ce, wanted, taught)
            values |= more
        torch.autograd.backward(loss / self.recipe.accumulate)
        return {"loss": loss.detach(), **values}

    def _taught(self, domains: list[str], wanted: torch.Tensor, n: int) -> torch.Tensor | None:
        """Return which of the wanted tokens the teacher teaches; None if none."""
        rows = [each in self.phase.taught for each in domains]
        if self.phase.teacher is None or self.recipe.distillation is None or not any(rows):
            return None
        taught = send(torch.tensor(rows), self.recipe.device)
        return taught[:, None].expand(len(rows), n).flatten()[wanted]

    def _distil(
        self,
        name: str,
        step: int,
        inputs: torch.Tensor,
        logits: torch.Tensor,
        ce: torch.Tensor,
        wanted: torch.Tensor,
        taught: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return (1 - alpha) CE + alpha KD, and its parts."""
        recipe, phase = self.recipe, self.phase
        assert phase.teacher is not None
        assert recipe.distillation is not None
        share = share_of_teacher(recipe.schedule, step, phase.n_steps, recipe.alternate_every)
        if share == 0:
            return ce.mean(), {"alpha": 0.0}
        with torch.no_grad(), recipe.autocast():
            teacher = logits_of(phase.teacher, inputs).flatten(0, 1)[wanted]
        student = logits.flatten(0, 1)[wanted]
        kd = DIVERGENCES[recipe.distillation](student, teacher, recipe.temperature)
        alpha = self.alphas[name].weights(ce, kd, teacher) if share is None else share
        alpha = torch.where(taught, alpha, 0.0)
        loss = ((1 - alpha) * ce + alpha * kd).mean()
        return loss, {"kd": kd.detach().mean(), "alpha": alpha.mean()}

    def _draw(
        self, domains: Sequence[str], step: int, part: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        """Return a batch whose rows take turns over the domains.

        That is the inputs, the targets that there are, and their positions in the flat batch.
        """
        n = self.recipe.batch_size
        first = (step * self.recipe.accumulate + part) * n
        turns = [domains[(first + row) % len(domains)] for row in range(n)]
        names = sorted(turns, key=list(domains).index)
        drawn = [
            self.blocks[domain].draw(names.count(domain), self.generator)
            for domain in dict.fromkeys(names)
        ]
        inputs, targets = (torch.cat(each) for each in zip(*drawn, strict=True))
        wanted = (targets.flatten() >= 0).nonzero().squeeze(1)
        device = self.recipe.device
        sent = [send(each, device) for each in (inputs, targets.flatten()[wanted], wanted)]
        return sent[0], sent[1], sent[2], names

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        self.complete_history()
        state: dict[str, Any] = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "alphas": {name: alpha.state() for name, alpha in self.alphas.items()},
            "history": self.phase.history,
        }
        if self.recipe.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.recipe.device)
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Set what `state` returned."""
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.recipe.device)
        for name, alpha in state["alphas"].items():
            self.alphas[name].restore(alpha)
        self.phase.history[:] = state["history"]


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor to a device; CUDA copies it while the CPU goes on."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def learning_rate_at(step: int, n_steps: int, recipe: Recipe, *, decays: bool = True) -> float:
    """Return the learning rate: a linear warm-up, then half a cosine down to a tenth."""
    warm = min(1.0, (step + 1) / max(min(recipe.warmup_steps, n_steps // 5), 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(n_steps, 1)))
    return recipe.learning_rate * warm * (0.1 + 0.9 * cosine if decays else 1.0)


@torch.no_grad()
def losses_of(
    forward: Callable[[torch.Tensor], torch.Tensor],
    batches: tuple[torch.Tensor, torch.Tensor],
    device: torch.device,
    at_once: int = 16,
) -> torch.Tensor:
    """Return the loss of each target in nats, zero where there is none; of the targets' shape."""
    losses = []
    for inputs, targets in zip(*(torch.split(each, at_once) for each in batches), strict=True):
        logits = forward(inputs.to(device))
        # There, not here: the logits are as many times larger as there are tokens.
        each = cross_entropy(logits.flatten(0, 1), targets.clamp(min=0).flatten().to(device)).cpu()
        losses.append(each.view_as(targets).masked_fill(targets < 0, 0).double())
    return torch.cat(losses)
