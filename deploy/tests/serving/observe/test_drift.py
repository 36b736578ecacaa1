"""Drift of the routing since training."""

import numpy as np
import pytest

from skmode_deploy.serving.observe.drift import RoutingDrift, population_stability_index


@pytest.mark.parametrize("scale", [1, 7, 1000])
def test_the_index_follows_its_definition(scale):
    expected, counts = [0.5, 0.3, 0.2], np.array([20, 50, 30]) * scale
    shares = counts / counts.sum()
    right = sum((p - q) * np.log(p / q) for p, q in zip(shares, expected, strict=True))
    assert population_stability_index(expected, counts) == pytest.approx(right)


def test_the_index_is_0_only_for_the_same_shares():
    assert population_stability_index([0.25, 0.75], [25, 75]) == 0
    assert population_stability_index([0.25, 0.75], [26, 74]) > 0


def test_unused_experts_give_a_finite_index():
    assert np.isfinite(population_stability_index([1.0, 0.0], [0, 100]))
    assert np.isfinite(population_stability_index([1.0, 0.0], [100, 0]))
    assert population_stability_index([1.0, 0.0], [0, 100]) > 0.25


def test_few_rows_give_no_index():
    drift = RoutingDrift([0.5, 0.5])
    assert np.isnan(drift.value())
    drift.add(np.array([250, 249]))
    assert np.isnan(drift.value())
    drift.add(np.array([0, 1]))
    assert drift.value() == 0


@pytest.mark.parametrize("rows", [1, 64, 1000, 7000])
def test_the_usual_bands(rows):
    """Random rows as in training count as stable, all rows at one expert as drift."""
    rng = np.random.default_rng(0)
    usage = [0.4, 0.3, 0.2, 0.1]
    drift = RoutingDrift(usage)
    for _ in range(-(-20_000 // rows)):
        drift.add(rng.multinomial(rows, usage))
    assert drift.value() < 0.01
    for _ in range(-(-20_000 // rows)):
        drift.add(np.array([0, 0, 0, rows]))
    assert drift.value() > 0.25


def test_old_rows_are_forgotten():
    """After one window of other rows nothing is left of those before."""
    drift = RoutingDrift([0.5, 0.5], window=1000)
    for _ in range(20):
        drift.add(np.array([100, 0]))
    assert drift.value() > 1
    for _ in range(20):
        drift.add(np.array([50, 50]))
    assert drift.value() == 0
