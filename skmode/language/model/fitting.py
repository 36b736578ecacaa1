"""The steps of `fit`: texts to tokens, a teacher, a warm student, experts, their scores."""

from __future__ import annotations

import hashlib
import json
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn

from skmode.language.corpus import Blocks, Spool, Text
from skmode.language.model.checks import make_recipe
from skmode.language.networks import make_network
from skmode.language.setups import (
    Lab,
    TeacherNotAheadWarning,
    derive_seed,
    make_experts,
    train_base,
    train_experts,
    train_teacher,
)
from skmode.language.tokenizer import as_tokenizer, end_of, train_tokenizer
from skmode.language.training.checkpoints import Checkpoint, tell_apart
from skmode_deploy.bundle import domain_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_NAME = 100  # characters, as in the manifest of a bundle
# Characters of a domain that a tokenizer learns from: each domain has the same say.
TOKENIZER_CHARACTERS = 2**22
# Parameters that may change between a checkpoint and its resumption.
_FREE = ("checkpoint", "checkpoint_every", "verbose", "device", "unknown", "keep_teacher", "router")
# Parameters whose values say less than what is made of them.
_MADE = ("tokenizer", "random_state")


def spool_texts(
    folder: Path, texts: Iterable[Text], domains: Iterable[str] | str, known: Iterable[str] = ()
) -> Spool:
    """Write texts into a folder; refuse none, and domains that a bundle cannot have."""
    spool = Spool(folder).fill(texts, domains)
    if not spool.domains:
        raise ValueError("A language model needs texts, got none: pass some of each domain.")
    _check_names([*known, *spool.domains])
    return spool


def _check_names(domains: list[str]) -> None:
    """Refuse before the training what the export would refuse after it."""
    files: dict[str, str] = {}
    for name in domains:
        if len(name) > MAX_NAME or not name.isprintable():
            raise ValueError(
                f"The name of a domain must be printable, and have at most {MAX_NAME} characters, "
                f"got {name[: MAX_NAME + 1]!r}: choose another."
            )
        other = files.setdefault(domain_file(name).lower(), name)
        if other != name:
            raise ValueError(
                "Domains must have names that differ even if case is ignored, as files are named "
                f"after them, got {other!r} and {name!r}: rename one."
            )


def choose_tokenizer(given: Any, spool: Spool, vocab_size: int) -> Tokenizer:
    """Return the user's tokenizer, or one that is trained on each domain alike."""
    if given is not None:
        return as_tokenizer(given)
    return train_tokenizer(_sample(spool), vocab_size)


def _sample(spool: Spool) -> Iterator[str]:
    """Yield the first texts of each domain."""
    for domain in spool.domains:
        left = TOKENIZER_CHARACTERS
        for text in spool.texts(domain):
            yield text[:left]
            left -= len(text)
            if left <= 0:
                break


def make_lab(
    model: Any, spool: Spool, tokenizer: Tokenizer, training: str = "fit", *start: Any
) -> Lab:
    """Turn texts into tokens, and gather what training needs.

    ``start`` is what the training depends on beside the parameters of the model and the texts.
    """
    end = end_of(tokenizer)
    # An added expert has as many positions as the others, whatever the parameter is now.
    length = int(getattr(model, "max_length_", model.max_length))
    tokens = {domain: spool.tokens(domain, tokenizer) for domain in spool.domains}
    seed = int(check_random_state(model.random_state).randint(2**31))
    made_by = ""
    if model.checkpoint is not None:
        # Without a seed the numbers are others each time, and a training goes on none the less.
        told = [None if model.random_state is None else seed, *start]
        made_by = _describe(model, tokens, tokenizer, told)
    checkpoint = Checkpoint(model.checkpoint, model.checkpoint_every, made_by, training)
    checkpoint.begin()
    return Lab(
        {name: Blocks(own, length, end) for name, own in tokens.items()},
        {name: spool.n_bytes[name] / len(own) for name, own in tokens.items()},
        make_recipe(model),
        seed,
        checkpoint,
    )


def _describe(
    model: Any, tokens: Mapping[str, NDArray[np.uint32]], tokenizer: Tokenizer, told: list[Any]
) -> str:
    """Return a hash of all that a training depends on, the weights of given models included."""
    parameters = model.get_params(deep=False).items()
    shown = {name: tell_apart(own) for name, own in parameters if name not in _FREE + _MADE}
    texts = {name: zlib.crc32(own.tobytes()) for name, own in tokens.items()}
    described = json.dumps([shown, texts, list(map(tell_apart, told))])
    return hashlib.sha256(tokenizer.to_str().encode() + described.encode()).hexdigest()


def build(lab: Lab, name: str, given: Any, tokenizer: Tokenizer, max_length: int) -> nn.Module:
    """Make a model with random numbers of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(lab.seed, name))
        size, end = tokenizer.get_vocab_size(), end_of(tokenizer)
        return make_network(given, size, int(max_length), end).to(lab.recipe.device)


def fit_models(model: Any, lab: Lab) -> None:
    """Train teacher, warm student and experts, and set them as attributes of the model."""
    # In the order in which they were first seen: the router sorts its own.
    domains, tokenizer = list(lab.blocks), model.tokenizer_
    teacher = None
    if model.teacher is not None and (model.distillation or model.unknown == "teacher"):
        teacher = build(lab, "teacher", model.teacher, tokenizer, model.max_length)
        if not isinstance(model.teacher, nn.Module):
            train_teacher(lab, teacher, model.teacher_steps, domains)
        teacher.eval()

    def make_student() -> nn.Module:
        return build(lab, "student", model.student, tokenizer, model.max_length)

    base, taught, teacher_scores = train_base(
        lab, make_student, model.warm_start_steps, domains, teacher, goes_on=model.steps > 0
    )
    experts, common = make_experts(base, domains, model.setup)
    train_experts(lab, experts, model.steps, teacher, taught, common)
    experts = {name: experts[name] for name in model.domains_}
    scores = {name: lab.score(expert, name, common) for name, expert in experts.items()}
    kept = model.keep_teacher or model.unknown == "teacher"
    model.base_, model.experts_, model.common_ = base.eval(), experts, common
    model.teacher_ = teacher if kept else None
    model.teacher_bits_per_byte_ = teacher_scores
    model.distilled_, model.bits_per_byte_ = taught, {}
    keep_scores(model, scores)
    model.history_ = lab.history


def keep_scores(model: Any, scores: dict[str, float]) -> None:
    """Keep what experts have on held-out tokens; warn where one has left its teacher behind."""
    for name, score in scores.items():
        model.bits_per_byte_[name] = score
        if name in model.distilled_ and model.teacher_bits_per_byte_[name] >= score:
            warnings.warn(
                f"The expert of {name!r} ended ahead of its teacher, with {score:.3f} against "
                f"{model.teacher_bits_per_byte_[name]:.3f} bits per byte, so what it knows is not "
                "the teacher's: compare with distillation=None, or train the teacher longer.",
                TeacherNotAheadWarning,
                stacklevel=4,
            )
    keep_facts(model)


def keep_facts(model: Any) -> None:
    """Set what depends on all domains that there are; they keep the alpha that they had."""
    rule = model.alpha if model.schedule == "combined" else model.schedule
    rule = rule if isinstance(rule, str) else float(rule)
    model.domain_alphas_ = {name: model.domain_alphas_.get(name, rule) for name in model.distilled_}
    model.validation_scores_ = {
        f"{name} bits per byte": score for name, score in model.bits_per_byte_.items()
    }
    n_texts = sum(model.domain_texts_.values())
    model.domain_shares_ = {name: own / n_texts for name, own in model.domain_texts_.items()}
