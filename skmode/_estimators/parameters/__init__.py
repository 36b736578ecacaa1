"""Parameters of the estimators: what they may be, and what "auto" stands for."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from skorch.callbacks import Callback

from skmode._common.sklearn import HasMethods, Interval, StrOptions
from skmode._training.building import OPTIMIZERS
from skmode.nn.activations import ACTIVATIONS

Auto = Literal["auto"]
Precision = Literal["float32", "float64", "bf16"]

# Up to this many rows one batch holds all of them, and training runs in double precision: small
# tables cost nothing, and their fit does not depend on the order of the rows.
FULL_BATCH_ROWS = 128
# batch_size="auto" in partial_fit, which does not know how many rows there are in all.
LARGE_BATCH_ROWS = 256
# device="auto": with fewer hidden numbers in a pass over the rows, the CPU trains. These are those
# of 20,000 rows in the default experts: with fewer, a GPU's kernels are too small to gain what its
# start costs. Reckoned, not measured.
GPU_WORK = 10_240_000
# Candidates of alpha="auto"; without validation rows it takes the first.
ALPHAS = (1.0, 10.0)
# dropout="auto" where a batch holds only a part of the rows.
DROPOUT = 0.1
# teacher_weight="auto" with a name (benchmarks/ablations.md).
TEACHER_WEIGHT = 0.5
# refit_fraction="auto": with a teacher there is more to learn.
REFIT_FRACTION, TAUGHT_REFIT_FRACTION = 0.3, 1.0
# Parameters that shape the network, so that a warm start cannot change them.
STRUCTURE = (
    "n_experts",
    "mixing",
    "gate",
    "top_k",
    "gate_hidden_layer_sizes",
    "gate_temperature",
    "hidden_layer_sizes",
    "activation",
    "dropout",
    "expert_module",
    "numeric_embedding",
    "categorical_features",
    "text_features",
    "image_features",
    "channels",
    "trunk_channels",
    "expert_channels",
    "trunk_module",
    "augment",
    "tokenizer",
    "vocab_size",
    "lowercase",
    "max_tokens",
    "text_encoder",
    "transformer_layers",
    "transformer_heads",
    "token_embedding_size",
    "token_dropout",
    "tune_tokens",
    "loss",
    "quantile",
    "optimizer",
    "precision",
)
# Parameters that hold the widths of layers.
LAYERS = ("hidden_layer_sizes", "gate_hidden_layer_sizes", "trunk_channels", "expert_channels")
# Constraint on each parameter by itself, as scikit-learn writes them.
CONSTRAINTS: dict[str, list[Any]] = {
    "n_experts": [Interval(Integral, 1, None, closed="left")],
    "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    "distillation": [StrOptions({"mean", "pairwise"})],
    "mixing": [StrOptions({"representation", "likelihood", "expected"})],
    "gate": [StrOptions({"dense", "sparse"})],
    "top_k": [Interval(Integral, 1, None, closed="left")],
    "gate_hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "gate_temperature": [Interval(Real, 0, None, closed="neither")],
    "balance": [Interval(Real, 0, None, closed="left")],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "expert_module": [callable, None],
    "numeric_embedding": [StrOptions({"periodic_bias", "periodic", "piecewise_linear"}), None],
    "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    "text_features": ["array-like", StrOptions({"auto"}), None],
    "image_features": ["array-like", None],
    "inference": [StrOptions({"mixture", "top_expert"})],
    "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "learning_rate_schedule": [StrOptions({"constant", "cosine"})],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "weight_averaging": [Interval(Real, 0, 1, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [
        Interval(Real, 0, 1, closed="neither"),
        HasMethods(["split", "get_n_splits"]),
        "array-like",
    ],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "refit_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
    "teacher": [
        StrOptions({"mixture", "ensemble", "auto"}),
        HasMethods(["fit"]),
        list,
        tuple,
        None,
    ],
    "teacher_weight": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
    "n_teachers": [Interval(Integral, 1, None, closed="left")],
    "teacher_cv": [
        Interval(Integral, 2, None, closed="left"),
        HasMethods(["split", "get_n_splits"]),
        "array-like",
    ],
    "synthetic_rows": [Interval(Real, 0, None, closed="left")],
    "keep_teacher": ["boolean"],
    "memory": [str, HasMethods(["cache"]), None],
    "n_jobs": [
        Interval(Integral, None, -1, closed="right"),
        Interval(Integral, 1, None, closed="left"),
        None,
    ],
    "callbacks": [list, tuple, None],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "float64", "bf16"})],
    "random_state": ["random_state"],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
}


def refuse_prefit(cv: Any) -> None:
    """Name the cure of a fitted teacher, which other libraries spell so."""
    if isinstance(cv, str) and cv == "prefit":
        raise ValueError(
            "teacher_cv must divide the rows into folds, got 'prefit': leave it out, and use "
            "teacher=FrozenEstimator(model) for a fitted model that stays as it is."
        )


def check_combinations(parameters: Mapping[str, Any]) -> None:
    """Check what the constraints on single parameters cannot express."""
    top_k, n_experts = parameters["top_k"], parameters["n_experts"]
    if parameters["gate"] == "sparse" and top_k > n_experts:
        raise ValueError(
            f"top_k must lie between 1 and n_experts={n_experts}, got {top_k}: "
            "lower top_k or train more experts."
        )
    for name in LAYERS:
        if name not in parameters:
            continue
        sizes = np.atleast_1d(np.asarray(parameters[name]))
        if sizes.ndim > 1 or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 1)):
            raise ValueError(
                f"{name} must hold positive integers, got {parameters[name]!r}: "
                "pass the width of each layer."
            )
    if parameters["expert_module"] is None and not np.size(parameters["hidden_layer_sizes"]):
        raise ValueError(
            "hidden_layer_sizes must name at least one layer, got (): "
            "pass for example (64,). Distillation compares the outputs of the last layer."
        )


def structure(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that shape the network."""
    return {name: parameters[name] for name in STRUCTURE if name in parameters}


def check_structure(parameters: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise if a parameter that shapes the network has changed since it was built."""
    for name, old in before.items():
        new = parameters[name]
        if not _same_setting(new, old):
            raise ValueError(
                f"{name} must stay {old!r} when training continues, got {new!r}: "
                "set it back, or start again with warm_start=False."
            )


def _same_setting(new: Any, old: Any) -> bool:
    """Whether two values of a parameter shape the same network."""
    if isinstance(new, functools.partial) and isinstance(old, functools.partial):
        bound = [(each.args, sorted(each.keywords.items())) for each in (new, old)]
        return _same_setting(new.func, old.func) and repr(bound[0]) == repr(bound[1])
    if callable(new) and callable(old):
        return bool(new == old)
    return repr(new) == repr(old)


def check_callbacks(callbacks: Sequence[Any] | None) -> tuple[Any, ...]:
    """Check the user's callbacks, each of which may be a pair of a name and a callback."""
    for named in callbacks or ():
        callback = named[-1] if isinstance(named, tuple) else named
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must hold instances of skorch.callbacks.Callback, got {callback!r}: "
                "pass an instance, not a class or function."
            )
    return tuple(callbacks or ())


def resolve_layers(sizes: Any) -> tuple[int, ...]:
    """Widths of layers; a single number is one layer."""
    return tuple(int(size) for size in np.atleast_1d(sizes))


def resolve_device(device: str, *, work: float = math.inf, fall_back: bool = False) -> str:
    """Resolve the device; with `fall_back`, a missing GPU means the CPU instead of an error.

    `work` counts the hidden numbers of a pass over the rows: "auto" leaves little work to the CPU.
    """
    if device == "auto":
        return "cuda" if work >= GPU_WORK and torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", device):
        raise ValueError(
            'device must be "auto", "cpu", "cuda" or "cuda:" and a number, or "mps", '
            f"got {device!r}: choose one of these."
        )
    kind = torch.device(device).type
    # Nobody asks for CUDA who does not want it: that alone may start its driver.
    if kind == "cpu" or {"cuda": torch.cuda, "mps": torch.mps}[kind].is_available():
        return device
    if fall_back:
        return "cpu"
    name = "a CUDA device" if kind == "cuda" else "Apple's Metal"
    raise ValueError(
        f"device={device!r} needs {name}, but torch finds none: "
        'use device="auto" or "cpu", or install a build of torch that has it.'
    )


def resolve_batch_size(
    batch_size: int | str, n_rows: int | None, largest: int = LARGE_BATCH_ROWS
) -> int:
    """All rows of a small table; otherwise a sixteenth of the rows, from 32 to the largest."""
    if n_rows is None:
        return largest if batch_size == "auto" else int(batch_size)
    if batch_size != "auto":
        return min(int(batch_size), n_rows)
    if n_rows <= FULL_BATCH_ROWS:
        return n_rows
    return int(np.clip(2 ** round(math.log2(n_rows / 16)), 32, largest))


def resolve_refit_fractions(fraction: float | str) -> tuple[float, float]:
    """Lengths of the refit without a teacher and with one."""
    if fraction == "auto":
        return REFIT_FRACTION, TAUGHT_REFIT_FRACTION
    return float(fraction), float(fraction)


def resolve_precision(
    precision: Precision | Auto, batch_size: int, n_rows: int | None, device: str = "cpu"
) -> Precision:
    """For "auto", double precision where one batch holds all rows, and the device has it."""
    if precision == "float64" and device == "mps":
        raise ValueError(
            'precision must be "float32" or "bf16" on device="mps", which has no double precision, '
            'got "float64": choose one of these, or device="cpu".'
        )
    if precision != "auto":
        return precision
    return "float64" if _one_batch(batch_size, n_rows) and device != "mps" else "float32"


def resolve_dropout(dropout: float | str, batch_size: int, n_rows: int | None) -> float:
    """For "auto", no dropout where one batch holds all rows: the result would depend on order."""
    if dropout != "auto":
        return float(dropout)
    return 0.0 if _one_batch(batch_size, n_rows) else DROPOUT


def _one_batch(batch_size: int, n_rows: int | None) -> bool:
    """Whether each step sees all rows of a small table."""
    return n_rows is not None and n_rows <= min(batch_size, FULL_BATCH_ROWS)
