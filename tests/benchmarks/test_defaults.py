"""What the questions about the defaults change is what they say."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.defaults._lessons import even_lessons
from benchmarks.defaults._mixtures import make_mixtures
from benchmarks.defaults._neighbours import rows_of_neighbours
from skmode._training.finish.taught import TaughtRows
from skmode._training.rows import Rows
from skmode.nn import gates, task_losses


def test_mixtures_average_numbers_and_take_other_cells_whole():
    rng = np.random.RandomState(0)
    X = pd.DataFrame(
        {
            "number": rng.normal(size=80),
            "twice": 0.0,
            "missing": np.where(np.arange(80) % 7, rng.normal(size=80), np.nan),
            "size": rng.choice([0.5, 1.5], size=80),
            "colour": pd.Categorical(rng.choice(["red", "blue", "green"], size=80)),
        }
    )
    X["twice"] = 2 * X["number"] + 1
    made, base = make_mixtures(X, None, 300, np.random.RandomState(1), categories=[3])
    assert made.dtypes.equals(X.dtypes)
    np.testing.assert_allclose(made["twice"], 2 * made["number"] + 1)
    assert made["number"].isin(X["number"]).mean() < 0.1  # the same row may be drawn twice
    assert made["missing"].isna().to_numpy()[X["missing"].isna()[base]].all()
    assert set(made["size"]) == {0.5, 1.5}
    taken = (made["colour"].to_numpy() == X["colour"].to_numpy()[base]).mean()
    assert 0.75 < taken < 0.95


def test_even_lessons_scale_the_gradients_of_experts_alone():
    torch.manual_seed(0)
    loss = task_losses.CrossEntropy()
    hidden, gate = torch.randn(6, 4), gates.DenseGate(4, 3)
    outputs = torch.randn(6, 3, 2).log_softmax(dim=-1).requires_grad_()
    soft = torch.randn(6, 1, 2).log_softmax(dim=-1)

    def gradients(share):
        with even_lessons(share):
            weights = gate(hidden).probabilities
            total = (weights * loss.soft_loss(outputs, soft)).sum()
        of_gate, of_outputs = torch.autograd.grad(total, [gate.layers[-1].weight, outputs])
        return total.item(), of_gate, of_outputs, weights.detach()[..., None]

    value, of_gate, of_outputs, weights = gradients(0.0)
    for share in (0.5, 1.0):
        other = gradients(share)
        assert other[0] == pytest.approx(value)
        torch.testing.assert_close(other[1], of_gate)
        wanted = of_outputs / weights * ((1 - share) * weights + share / 3)
        torch.testing.assert_close(other[2], wanted)


def test_a_refit_may_learn_from_rows_of_neighbours():
    rng = np.random.RandomState(0)
    group = torch.arange(40) % 2
    numbers = 100.0 * group[:, None] + torch.as_tensor(rng.normal(size=(40, 2)))
    rows = Rows((numbers, group[:, None]), group, None)
    taught = TaughtRows(rows, lambda inputs: inputs[0], 0.5, torch.Generator().manual_seed(0))
    batch, _ = taught.rows.batches(25, shuffle=False)
    both = rows_of_neighbours(taught, batch)
    assert len(both) == 50
    made = both.select(torch.arange(25, 50))
    assert torch.equal(made.inputs[0] > 50, made.inputs[1].expand(-1, 2) > 0)
    assert torch.equal(made.soft_target, made.inputs[0])
    assert torch.isin(made.inputs[0], numbers).all()
    whole = (made.inputs[0][:, None] == numbers).all(dim=2).any(dim=1)
    assert whole.double().mean() < 0.5  # each column has its own draw
