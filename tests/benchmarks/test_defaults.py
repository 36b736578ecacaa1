"""What the questions about the defaults change is what they say."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.defaults._lessons import even_lessons
from benchmarks.defaults._neighbours import make_rows_of_neighbours
from skmode.nn import gates, task_losses


def test_rows_of_neighbours_stay_in_their_cluster():
    rng = np.random.RandomState(0)
    far = np.repeat([0, 100], 40)
    X = pd.DataFrame(
        {
            "number": far + rng.normal(size=80),
            "missing": np.where(np.arange(80) % 7, far + rng.normal(size=80), np.nan),
            "colour": pd.Categorical(np.where(far, "red", "blue")),
        }
    )
    made, base = make_rows_of_neighbours(X, 300, np.random.RandomState(1))
    assert made.dtypes.equals(X.dtypes)
    assert (made["colour"].to_numpy() == X["colour"].to_numpy()[base]).all()
    assert ((made["number"] > 50).to_numpy() == (far[base] > 0)).all()
    assert made["number"].isin(X["number"]).all()
    # Each column has its own draw.
    other = made["number"].to_numpy() != X["number"].to_numpy()[base]
    also = made["missing"].fillna(-1).to_numpy() != X["missing"].fillna(-1).to_numpy()[base]
    assert 0.5 < other.mean() < 1
    assert (other & ~also).any()
    assert (also & ~other).any()


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
