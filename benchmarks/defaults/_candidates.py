"""The candidates: parameters, and what is no parameter (with a leading underscore)."""

import math
from typing import Any

import numpy as np

from benchmarks.defaults._muon import Muon

TAUGHT: dict[str, Any] = {"teacher": "ensemble"}
# What came before the present defaults; `former` adds what depends on the task and the rows.
FORMER: dict[str, Any] = {
    "hidden_layer_sizes": (128,),
    "activation": "relu",
    "dropout": 0.0,
    "numeric_embedding": "periodic",
    "learning_rate": 0.002,
    "max_epochs": 100,
    "weight_averaging": 0.0,
    "refit_fraction": 0.0,
    "_scale_rate": 0.0,
}
# Mixing of the paper, with which the top expert alone is worse than the mixture.
PAPER: dict[str, Any] = {"mixing": "representation", "alpha": 10.0}
CANDIDATES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "alpha 0": {"alpha": 0.0},
    "alpha 10": {"alpha": 10.0},
    "alpha 100": {"alpha": 100.0},
    'alpha "auto"': {"alpha": "auto"},
    "representation mixing": {"mixing": "representation"},
    "representation mixing, alpha 10": {"mixing": "representation", "alpha": 10.0},
    "expected mixing": {"mixing": "expected"},
    "likelihood mixing": {"mixing": "likelihood"},
    "no balance": {"balance": 0.0},
    "balance 0.1": {"balance": 0.1},
    "8 experts": {"n_experts": 8},
    "8 experts, balance 0.1": {"n_experts": 8, "balance": 0.1},
    "8 experts, balance 0.1, rate 0.01": {
        "n_experts": 8,
        "balance": 0.1,
        "learning_rate": 0.01,
    },
    "1 layer of 128": {"hidden_layer_sizes": (128,)},
    "2 layers of 128": {"hidden_layer_sizes": (128, 128)},
    "3 layers of 64": {"hidden_layer_sizes": (64, 64, 64)},
    "gate with a hidden layer of 64": {"gate_hidden_layer_sizes": (64,)},
    "ReLU": {"activation": "relu"},
    "SiLU": {"activation": "silu"},
    "no dropout": {"dropout": 0.0},
    "dropout 0.1": {"dropout": 0.1},
    "no embedding": {"numeric_embedding": None},
    "periodic": {"numeric_embedding": "periodic"},
    "periodic with bias": {"numeric_embedding": "periodic_bias"},
    "piecewise linear": {"numeric_embedding": "piecewise_linear"},
    "frequencies x 3": {"_frequency_scale": 3.0},
    "no learned scales": {"_scale_rate": 0.0},
    "no weight averaging": {"weight_averaging": 0.0},
    "no refit": {"refit_fraction": 0.0},
    "rate 0.002": {"learning_rate": 0.002},
    "rate 0.01": {"learning_rate": 0.01},
    "30 epochs": {"max_epochs": 30},
    "30 epochs, rate 0.01": {"max_epochs": 30, "learning_rate": 0.01},
    "30 epochs, rate 0.002": {"max_epochs": 30, "learning_rate": 0.002},
    "1 expert": {"n_experts": 1},
    "dropout 0.3": {"dropout": 0.3},
    "weight decay 0.5": {"weight_decay": 0.5},
    "weight decay 2": {"weight_decay": 2.0},
    "weight decay 0.1": {"weight_decay": 0.1},
    "expected mixing, alpha 10": {"mixing": "expected", "alpha": 10.0},
    "expected mixing, dropout 0.1": {"mixing": "expected", "dropout": 0.1},
    "no calibration": {"calibration": None},
    "taught by the mixture": {
        "teacher": "mixture",
        "teacher_weight": 0.7,
        "refit_fraction": 0.3,
    },
    "taught by the mixture, refit fraction 0.6": {"teacher": "mixture", "teacher_weight": 0.7},
    "4 networks averaged": {"n_experts": 1, "_networks": 4},
    "taught by an ensemble": TAUGHT,
    'teacher "auto"': {"teacher": "auto"},
    "taught by an ensemble, refit fraction 0.3": TAUGHT | {"refit_fraction": 0.3},
    "taught by an ensemble, refit fraction 1": TAUGHT | {"refit_fraction": 1.0},
    "taught by an ensemble, 100 epochs": TAUGHT | {"max_epochs": 100},
    'teacher "auto", 100 epochs': {"teacher": "auto", "max_epochs": 100},
    "100 epochs": {"max_epochs": 100},
    "taught by an ensemble, teacher weight 0.5": TAUGHT | {"teacher_weight": 0.5},
    "taught by an ensemble, teacher weight 0.7": TAUGHT | {"teacher_weight": 0.7},
    "taught by an ensemble, teacher weight 1": TAUGHT | {"teacher_weight": 1.0},
    "taught by an ensemble, no mixed rows": TAUGHT | {"_mixed_rows": False},
    "taught by an ensemble, alpha 0": TAUGHT | {"alpha": 0.0},
    "taught by an ensemble, 8 experts": TAUGHT | {"n_experts": 8},
    "taught by 2 networks": TAUGHT | {"n_teachers": 2},
    "taught by 8 networks": TAUGHT | {"n_teachers": 8},
    "1 expert, taught by an ensemble": TAUGHT | {"n_experts": 1},
    "teachers hold out the same rows": TAUGHT | {"_own_rows": False},
    "teachers without a refit": TAUGHT | {"_refit_teachers": False},
    "teachers share their order": TAUGHT | {"_own_order": False},
    "teachers share their embedding": TAUGHT | {"_own_embedding": False},
    "teachers share their temperature": TAUGHT | {"_own_temperature": False},
    "the paper's": PAPER,
    "the paper's, alpha 0": PAPER | {"alpha": 0.0},
    "the paper's, alpha 0, no refit": PAPER | {"alpha": 0.0, "refit_fraction": 0.0},
    "the paper's, no refit": PAPER | {"refit_fraction": 0.0},
    "the paper's, taught by an ensemble": PAPER | TAUGHT,
    "the paper's, alpha 0, taught by an ensemble": PAPER | TAUGHT | {"alpha": 0.0},
    "patience 5": {"n_iter_no_change": 5},
    "patience 8": {"n_iter_no_change": 8},
    "patience 20": {"n_iter_no_change": 20},
    "batch x 2": {"_batch_factor": 2},
    "batch x 2, rate x 1.4": {"_batch_factor": 2, "learning_rate": 0.007},
    "batch x 4, rate x 2": {"_batch_factor": 4, "learning_rate": 0.01},
    "40 epochs, batch x 2": {"_batch_factor": 2, "max_epochs": 40},
    "Muon": {"optimizer": Muon},
    "Muon, rate 0.01": {"optimizer": Muon, "learning_rate": 0.01},
    "former defaults": FORMER,
}


def former(kind: str, n_rows: int) -> dict[str, Any]:
    """All that the former defaults were, smaller batches and slower frequencies included."""
    batch_size = int(2 ** np.clip(round(math.log2(n_rows / 32)), 5, 8))
    if kind == "regression":
        own: dict[str, Any] = {"mixing": "likelihood", "alpha": 1.0, "_frequency_scale": 1 / 3}
    else:
        own = {"mixing": "representation", "alpha": 10.0, "calibration": None}
    return FORMER | own | {"batch_size": batch_size}
