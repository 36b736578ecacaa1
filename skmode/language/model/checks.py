"""Checks of the parameters, and what "auto" stands for."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

import torch
from torch import nn

from skmode.language.objectives import ALPHA_RULES
from skmode.language.router import DomainRouter
from skmode.language.router.checks import check_parameters as check_router
from skmode.language.router.checks import is_number
from skmode.language.setups import SETUPS
from skmode.language.tokenizer import check_vocab_size
from skmode.language.training import Recipe

CHOICES = {
    "setup": SETUPS,
    "distillation": ("forward", "reverse", None),
    "schedule": ("combined", "alternating", "kd_then_ce", "ce_then_kd"),
    "unknown": ("best", "common", "teacher", "error"),
    "precision": ("auto", "float32", "bf16"),
}
# The least value of whole numbers.
WHOLE = {
    "max_length": 2,
    "alternate_every": 1,
    "teacher_steps": 0,
    "warm_start_steps": 0,
    "steps": 0,
    "batch_size": 1,
    "accumulate": 1,
    "warmup_steps": 0,
    "checkpoint_every": 1,
}
POSITIVE = ("temperature", "learning_rate", "max_norm")


def check_parameters(model: Any) -> None:
    """Refuse parameters that mean nothing, or that contradict each other."""
    for name, choices in CHOICES.items():
        if getattr(model, name) not in choices:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, choices))}, got "
                f"{getattr(model, name)!r}: choose one."
            )
    for name, least in WHOLE.items():
        check_whole(name, getattr(model, name), least)
    for name in POSITIVE:
        value = getattr(model, name)
        if not is_number(value) or not 0 < float(value) < float("inf"):
            raise ValueError(f"{name} must be a number above 0, got {value!r}: choose another.")
    decay = model.weight_decay
    if not is_number(decay) or not 0 <= float(decay) < float("inf"):
        raise ValueError(
            f"weight_decay must be a number of at least 0, got {decay!r}: choose another."
        )
    if model.tokenizer is None:
        check_vocab_size(model.vocab_size)
    alpha = model.alpha
    is_share = is_number(alpha) and 0 <= float(alpha) <= 1
    if not is_share and alpha not in ALPHA_RULES:
        raise ValueError(
            f"alpha must be a number from 0 to 1 or one of {', '.join(ALPHA_RULES)}, got "
            f"{alpha!r}: choose one."
        )
    if model.unknown == "common" and model.setup != "moe_ce":
        raise ValueError(
            'unknown="common" needs a common expert, got setup='
            f'{model.setup!r}: use setup="moe_ce", or unknown="best".'
        )
    if model.unknown == "teacher" and model.teacher is None:
        raise ValueError(
            'unknown="teacher" needs a teacher, got teacher=None: pass one, or unknown="best".'
        )
    _check_surroundings(model)


def _check_surroundings(model: Any) -> None:
    """Refuse a device, a folder or a router that is none."""
    uses_bf16(model.precision, find_device(model.device))
    if model.checkpoint is not None and not isinstance(model.checkpoint, str | os.PathLike):
        raise TypeError(
            f"checkpoint must be the path of a folder or None, got {model.checkpoint!r}: pass a "
            "str or a Path."
        )
    if model.router is None:
        return
    if not isinstance(model.router, DomainRouter):
        raise TypeError(
            f"router must be a DomainRouter or None, got {model.router!r}: other classifiers can "
            "neither abstain as it does nor be exported, so pass DomainRouter(...)."
        )
    check_router(model.router)


def check_teacher(teacher: Any) -> None:
    """Refuse a teacher of an added expert that would not be trained."""
    if teacher is not None and not isinstance(teacher, nn.Module):
        raise TypeError(
            "The teacher of one domain must be a trained model, got "
            f"{teacher!r}, of which a new network with random weights would be made: pass a causal "
            "model of transformers that knows the domain, or None."
        )


def check_whole(name: str, value: Any, least: int, most: float = float("inf")) -> int:
    """Return a whole number within limits."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Integral)
        or not least <= int(value) <= most
    ):
        limit = f"from {least} to {most}" if most < float("inf") else f"of at least {least}"
        raise ValueError(f"{name} must be a whole number {limit}, got {value!r}: choose another.")
    return int(value)


def check_sampling(temperature: Any, top_k: Any, top_p: Any) -> None:
    """Refuse what tokens cannot be drawn with."""
    numbers = is_number(temperature) and is_number(top_p)
    if not numbers or not 0 <= temperature < float("inf") or not 0 < top_p <= 1:
        raise ValueError(
            "temperature must be a number of at least 0, top_p one above 0 and at most 1, got "
            f"{temperature!r} and {top_p!r}: temperature=0 takes the likeliest tokens."
        )
    if top_k is not None:
        check_whole("top_k", top_k, 1)


def make_recipe(model: Any) -> Recipe:
    """Return the parameters of training."""
    device = find_device(model.device)
    return Recipe(
        batch_size=int(model.batch_size),
        accumulate=int(model.accumulate),
        learning_rate=float(model.learning_rate),
        weight_decay=float(model.weight_decay),
        warmup_steps=int(model.warmup_steps),
        max_norm=float(model.max_norm),
        bf16=uses_bf16(model.precision, device),
        device=device,
        distillation=model.distillation,
        alpha=model.alpha if isinstance(model.alpha, str) else float(model.alpha),
        temperature=float(model.temperature),
        schedule=model.schedule,
        alternate_every=int(model.alternate_every),
        verbose=bool(model.verbose),
    )


def find_device(device: Any) -> torch.device:
    """Return the device; "auto" is a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            'device must be "auto" or a device of torch, such as "cpu", "cuda" or "mps", got '
            f"{device!r}: choose one."
        ) from error
    available = {"cuda": torch.cuda.is_available, "mps": torch.mps.is_available}
    if found.type in available and not available[found.type]():
        name = "a CUDA device" if found.type == "cuda" else "Apple's Metal"
        raise ValueError(
            f"device={device!r} needs {name}, but torch finds none: "
            'use device="auto" or "cpu", or install a build of torch that has it.'
        )
    return found


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: by "auto" where that is faster.

    On a processor that is with AMX. The bfloat16 of AVX-512 takes 1.5 times as long as float32.
    """
    if precision == "float32":
        return False
    if device.type == "cuda":
        has = fast = bool(torch.cuda.is_bf16_supported())
    elif device.type == "mps":
        # Not chosen by itself, for we have measured nothing there.
        has, fast = precision == "bf16", False
    else:
        has = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        fast = has and bool(torch.cpu._is_amx_tile_supported())
    if precision == "bf16" and not has:
        raise ValueError(
            f'precision="bf16" needs a processor with bfloat16 instructions, but {device} has '
            'none, and would be about ten times slower: use precision="auto" or "float32".'
        )
    return fast if precision == "auto" else has
