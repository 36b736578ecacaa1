"""What suits how many images: alpha by mixing and size of the network; epochs with a teacher."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from benchmarks.images._measure import RESULTS, append, inner, measure, read
from benchmarks.images._models import mixture

ALPHAS = (0.0, 0.1, 1.0, 10.0)
MIXINGS = ("representation", "expected")
# Channels of all convolutions, and units behind them.
NETWORKS: dict[str, dict[str, Any]] = {
    "default": {},
    "half": {
        "trunk_channels": (8, 16),
        "expert_channels": (32, 32),
        "hidden_layer_sizes": (32,),
    },
}
SWEPT = ((1_000, "default"), (4_000, "default"), (4_000, "half"), (12_000, "default"))
TAUGHT_ROWS, FRACTIONS = 12_000, (0.5, 1.0)


def sweep() -> None:
    """Measure the alphas that have no line yet."""
    path = RESULTS / "images_alpha.jsonl"
    done = {(line["rows"], line["network"], line["mixing"], line["alpha"]) for line in read(path)}
    for (n_rows, network), mixing, alpha in itertools.product(SWEPT, MIXINGS, ALPHAS):
        if (n_rows, network, mixing, alpha) in done:
            continue
        fit = partial(mixture, mixing=mixing, alpha=alpha, **NETWORKS[network])
        about = {"rows": n_rows, "network": network, "mixing": mixing}
        append(path, about | measure(fit, inner(n_rows), 0))


def sweep_refit(seeds: list[int]) -> None:
    """Measure the lengths of a refit with a teacher that have no line yet."""
    path = RESULTS / "images_refit.jsonl"
    done = {(line["seed"], line["refit_fraction"]) for line in read(path)}
    for seed, fraction in itertools.product(seeds, FRACTIONS):
        if (seed, fraction) in done:
            continue
        fit = partial(mixture, teacher="ensemble", refit_fraction=fraction)
        about = {"rows": TAUGHT_ROWS, "seed": seed, "refit_fraction": fraction}
        append(path, about | measure(fit, inner(TAUGHT_ROWS), seed))
