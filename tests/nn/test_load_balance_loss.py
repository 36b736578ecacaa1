"""The load-balance loss: its range, its formula, its gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmode.nn import DenseGate, GateOutput, SparseGate, load_balance_loss


def gate_output(logits, active=None):
    log_probabilities = logits.log_softmax(dim=1)
    return GateOutput(log_probabilities.exp(), log_probabilities, logits, active)


@pytest.mark.parametrize("n_experts", [1, 2, 5])
def test_even_use_gives_one(n_experts):
    decided = gate_output(100 * torch.eye(n_experts).repeat(3, 1))
    torch.testing.assert_close(load_balance_loss(decided), torch.tensor(1.0))


@pytest.mark.parametrize("n_experts", [2, 5])
def test_one_expert_for_all_rows_gives_the_number_of_experts(n_experts):
    logits = torch.zeros(8, n_experts)
    logits[:, 1] = 100
    collapsed = load_balance_loss(gate_output(logits))
    torch.testing.assert_close(collapsed, torch.tensor(float(n_experts)))


def test_uniform_gate_gives_one_for_any_assignment():
    active = torch.tensor([[True, True, False]]).repeat(4, 1)
    loss = load_balance_loss(gate_output(torch.zeros(4, 3), active))
    torch.testing.assert_close(loss, torch.tensor(1.0))


def test_by_hand():
    # Two rows for expert 0 and one for expert 1; mean probabilities 0.6 and 0.4.
    logits = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]).log()
    expected = 2 * (2 / 3 * 0.6 + 1 / 3 * 0.4)
    torch.testing.assert_close(load_balance_loss(gate_output(logits)), torch.tensor(expected))


def test_sparse_assignments_count_in_equal_parts():
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.5, 0.4]]).log()
    active = torch.tensor([[True, True, False], [False, True, True]])
    shares, means = torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.3, 0.4, 0.3])
    expected = 3 * (shares * means).sum()
    torch.testing.assert_close(load_balance_loss(gate_output(logits, active)), expected)


def test_weights_of_one_and_their_scale_do_not_matter():
    gate = SparseGate(4, n_experts=3)(torch.randn(20, 4))
    plain = load_balance_loss(gate)
    for value in (1.0, 0.1):
        torch.testing.assert_close(load_balance_loss(gate, torch.full((20,), value)), plain)


def test_weight_two_equals_repeating_the_row():
    logits = torch.randn(4, 3)
    twice = load_balance_loss(gate_output(logits[[0, 0, 1, 2, 3]]))
    weighted = load_balance_loss(gate_output(logits), torch.tensor([2.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(weighted, twice)


def test_batch_without_weight_has_zero_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = load_balance_loss(gate_output(logits), torch.zeros(4))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("top_k", [None, 2])
def test_order_of_experts_does_not_matter(top_k):
    logits, order = torch.randn(10, 4), torch.tensor([2, 0, 3, 1])
    active = None
    if top_k:
        active = torch.zeros(10, 4, dtype=torch.bool).scatter_(1, logits.topk(top_k).indices, True)
    permuted = gate_output(logits[:, order], None if active is None else active[:, order])
    torch.testing.assert_close(
        load_balance_loss(permuted), load_balance_loss(gate_output(logits, active))
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 30))
def test_never_above_the_number_of_experts(seed, scale):
    logits = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed)) * scale
    assert 0 < load_balance_loss(gate_output(logits)) <= 4 * (1 + 1e-6)


def test_gradcheck_away_from_ties():
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(6, dtype=torch.float64)
    active = torch.zeros(6, 4, dtype=torch.bool).scatter_(1, logits.topk(2).indices, True)
    for chosen in (None, active):
        assert torch.autograd.gradcheck(
            lambda z, chosen=chosen: load_balance_loss(gate_output(z, chosen), weight), [logits]
        )


def test_a_gradient_step_evens_out_the_usage():
    gate = DenseGate(4, n_experts=3)
    with torch.no_grad():
        gate.layers[0].bias.copy_(torch.tensor([3.0, 0.0, 0.0]))
    x = torch.randn(100, 4)
    optimizer = torch.optim.SGD(gate.parameters(), lr=1.0)
    start = load_balance_loss(gate(x)).item()
    for _ in range(20):
        optimizer.zero_grad()
        load_balance_loss(gate(x)).backward()
        optimizer.step()
    assert load_balance_loss(gate(x)).item() < start - 0.5


def test_processes_that_share_a_batch_have_its_loss_and_gradient():
    logits = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(10, dtype=torch.float64)
    whole = load_balance_loss(gate_output(logits), weight)
    (expected,) = torch.autograd.grad(whole, logits)
    parts = slice(0, 3), slice(3, 10)
    sums = []

    def keep(tensor):
        sums.append(tensor.detach())
        return tensor

    for part in parts:
        load_balance_loss(gate_output(logits[part]), weight[part], add_up=keep)
    for part in parts:
        loss = load_balance_loss(
            gate_output(logits[part]), weight[part], add_up=lambda x: x + (sum(sums) - x.detach())
        )
        torch.testing.assert_close(loss, whole)
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(gradient[part], expected[part])
