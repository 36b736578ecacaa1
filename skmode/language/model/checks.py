"""Checks of the parameters, and what "auto" stands for."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch

from skmode.language.objectives import ALPHA_RULES
from skmode.language.setups import SETUPS
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
        if not isinstance(value, Real) or not 0 < float(value) < float("inf"):
            raise ValueError(f"{name} must be a number above 0, got {value!r}: choose another.")
    alpha = model.alpha
    is_share = isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 <= float(alpha) <= 1
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
    numbers = all(
        isinstance(each, Real) and not isinstance(each, bool) for each in (temperature, top_p)
    )
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
        batch_size=model.batch_size,
        accumulate=model.accumulate,
        learning_rate=model.learning_rate,
        weight_decay=model.weight_decay,
        warmup_steps=model.warmup_steps,
        max_norm=model.max_norm,
        bf16=uses_bf16(model.precision, device),
        device=device,
        distillation=model.distillation,
        alpha=model.alpha,
        temperature=model.temperature,
        schedule=model.schedule,
        alternate_every=model.alternate_every,
        verbose=bool(model.verbose),
    )


def find_device(device: Any) -> torch.device:
    """Return the device; "auto" is a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = torch.device(device)
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
