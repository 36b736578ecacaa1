"""Which models are trained together: PLE, JEET, MoE-CE."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from skmode.language.corpus import Blocks
from skmode.language.networks import logits_of, share_embedding, shared_parameters
from skmode.language.training import Phase, Recipe, losses_of, run_phase
from skmode.language.training.checkpoints import ADDED, Checkpoint

SETUPS = ("ple", "jeet", "moe_ce")
_COUNTED = 2**20  # tokens of a domain whose frequencies are counted


class TeacherNotAheadWarning(UserWarning):
    """A teacher that predicts a domain no better than its student has nothing to distil there."""


@dataclass
class Lab:
    """What all phases of training need, and what they leave behind."""

    blocks: dict[str, Blocks]
    bytes_per_token: dict[str, float]
    recipe: Recipe
    seed: int
    checkpoint: Checkpoint
    history: list[dict[str, Any]] = field(default_factory=list)

    def train(self, phase: Phase) -> None:
        """Run a phase with random numbers of its own."""
        seed = derive_seed(self.seed, phase.drawn_as or phase.name)
        devices = [self.recipe.device] if self.recipe.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            self.history += run_phase(phase, self.blocks, self.recipe, seed, self.checkpoint)

    def held_out(self, model: nn.Module, domain: str, common: nn.Module | None = None) -> float:
        """Return the bits per byte of a model on the held-out tokens of a domain."""
        for each in (model, common):
            if each is not None:
                each.to(self.recipe.device).eval()
        rows = self.blocks[domain].held_rows()
        losses = losses_of(mean_forward(model, common), rows, self.recipe.device)
        n_bytes = float((rows[1] >= 0).sum()) * self.bytes_per_token[domain]
        return to_bits(float(losses.sum()), n_bytes)

    def score(self, student: nn.Module, domain: str, common: nn.Module | None = None) -> float:
        """Return the same of what was trained, if it is finite."""
        score = self.held_out(student, domain, common)
        if not math.isfinite(score):
            raise ValueError(
                f"Bits per byte on held-out tokens must stay finite, but in {domain!r} they became "
                f"{score}: lower learning_rate (now {self.recipe.learning_rate:g})."
            )
        return score

    def by_frequencies(self, domain: str) -> float:
        """Return the bits per byte, on held-out tokens, of how frequent each token is."""
        blocks = self.blocks[domain]
        known, held = blocks.train[:_COUNTED], np.asarray(blocks.held)
        counts = np.bincount(known, minlength=int(held.max()) + 1) + 1
        nats = -np.log(counts[held] / counts.sum()).mean()
        return to_bits(float(nats), self.bytes_per_token[domain])


def derive_seed(seed: int, name: str) -> int:
    """Return a seed for a name, so that one part of training does not shift the others."""
    digest = hashlib.sha256(json.dumps([seed, name]).encode()).digest()
    return int.from_bytes(digest[:6], "big")


def to_bits(nats: float, n_bytes: float) -> float:
    """Return bits per byte."""
    return nats / n_bytes / 0.6931471805599453


def mean_forward(
    model: nn.Module, common: nn.Module | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the logits of a model, or their mean with those of the common model."""
    if common is None:
        return lambda inputs: logits_of(model, inputs)
    return lambda inputs: (logits_of(model, inputs) + logits_of(common, inputs)) / 2


def train_teacher(lab: Lab, teacher: nn.Module, n_steps: int, domains: list[str]) -> None:
    """Train a teacher on all domains."""
    lab.train(Phase("teacher", {"teacher": teacher}, {"teacher": domains}, n_steps))


def train_base(
    lab: Lab,
    make: Callable[[], nn.Module],
    n_steps: int,
    domains: list[str],
    teacher: nn.Module | None,
    *,
    goes_on: bool,
) -> tuple[nn.Module, list[str], dict[str, float]]:
    """Warm a student on all domains, from which the experts start.

    It learns without the teacher, and tells in which domains that one is ahead. In these a second
    student is taught, on the same batches, and takes the place of the first. Return the student,
    the domains in which the teacher is ahead of it, and the teacher's bits per byte.

    Its learning rate stays high where experts go on from it, and falls in each of them: what has
    settled would have to be stirred up again.
    """
    own = {"base": domains}
    base, decays = make(), not goes_on
    lab.train(Phase("warm start", {"base": base}, own, n_steps, decays=decays))
    taught, scores = find_taught(lab, teacher, base, domains, 5)
    if taught and n_steps:
        base = make()
        name, first = "taught warm start", "warm start"
        models = {"base": base}
        phase = Phase(name, models, own, n_steps, teacher, taught, decays=decays, drawn_as=first)
        lab.train(phase)
        taught, _ = find_taught(lab, teacher, base, taught, 5)
    return base, taught, scores


def find_taught(
    lab: Lab,
    teacher: nn.Module | None,
    student: nn.Module,
    domains: list[str],
    stacklevel: int = 4,
) -> tuple[list[str], dict[str, float]]:
    """Return the domains in which the teacher is ahead, and its bits per byte in all of them.

    It must be ahead of the student, and of the frequencies of tokens, which each student learns in
    its first steps: two models that know nothing yet differ by chance.
    """
    if teacher is None or lab.recipe.distillation is None:
        return [], {}
    scores = {name: lab.held_out(teacher, name) for name in domains}
    taught = []
    for name, score in scores.items():
        own, plain = lab.score(student, name), lab.by_frequencies(name)
        if score < min(own, plain):
            taught.append(name)
            continue
        other = f"the student {own:.3f}"
        if plain < own:
            other = f"the frequencies of tokens alone {plain:.3f}"
        warnings.warn(
            f"A teacher must be ahead of its student to be distilled, but in {name!r} it has "
            f"{score:.3f} bits per byte and {other}: from here on this domain is learned without "
            "it. Train the teacher longer, or choose a larger one.",
            TeacherNotAheadWarning,
            stacklevel=stacklevel,
        )
    return taught, scores


def make_experts(
    base: nn.Module, domains: Iterable[str], setup: str
) -> tuple[dict[str, nn.Module], nn.Module | None]:
    """Return experts that start as the base, and the common expert if the setup has one."""
    experts = {name: copy.deepcopy(base) for name in domains}
    if setup == "jeet":
        first, *others = experts.values()
        for other in others:
            share_embedding(other, first)
    common = copy.deepcopy(base) if setup == "moe_ce" else None
    return experts, common


def train_experts(
    lab: Lab,
    experts: dict[str, nn.Module],
    n_steps: int,
    teacher: nn.Module | None,
    taught: list[str],
    common: nn.Module | None,
) -> None:
    """Train the experts in turn, each on its domain.

    A model whose turn it is not stays as it is. So experts that share nothing (PLE) become what
    each would become alone; those that share embedding and output layer (JEET) move these in each
    turn, but only their own body; a common expert (MoE-CE) moves in each turn.
    """
    own = {name: [name] for name in experts}
    lab.train(Phase("experts", experts, own, n_steps, teacher, taught, common))


def train_added(
    lab: Lab,
    domain: str,
    expert: nn.Module,
    n_steps: int,
    teacher: nn.Module | None,
    taught: list[str],
    *,
    common: nn.Module | None,
    shares: bool,
) -> nn.Module:
    """Train one more expert; what it shares with the others stays as it is."""
    frozen = shared_parameters(expert) if shares else []
    frozen += [] if common is None else list(common.parameters())
    models, domains = {domain: expert}, {domain: [domain]}
    phase = Phase(f"{ADDED}{domain}", models, domains, n_steps, teacher, taught, common, frozen)
    lab.train(phase)
    return expert
