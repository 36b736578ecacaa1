"""Gates: weights, choices, and where their gradients come from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmode.nn import DenseGate, SparseGate

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("hidden_layer_sizes", [(), (8,), (8, 4)])
@pytest.mark.parametrize("n_experts", [1, 2, 7])
def test_dense_rows_sum_to_one(n_experts, hidden_layer_sizes):
    gate = DenseGate(6, n_experts, hidden_layer_sizes, activation="gelu")(X)
    assert gate.probabilities.shape == (50, n_experts)
    torch.testing.assert_close(gate.probabilities.sum(dim=1), torch.ones(50))
    torch.testing.assert_close(gate.log_probabilities.exp(), gate.probabilities)
    assert gate.active is None


def test_dense_is_the_softmax_of_a_linear_layer():
    gate = DenseGate(6, n_experts=3)
    (linear,) = gate.layers
    expected = torch.softmax(X @ linear.weight.T + linear.bias, dim=1)
    torch.testing.assert_close(gate(X).probabilities, expected)


@settings(deadline=None, max_examples=25)
@given(n_experts=st.integers(1, 8), data=st.data())
def test_sparse_chooses_exactly_k_and_renormalises(n_experts, data):
    top_k = data.draw(st.integers(1, n_experts))
    gate = SparseGate(6, n_experts, top_k)(X)
    assert (gate.active.sum(dim=1) == top_k).all()
    torch.testing.assert_close(gate.probabilities.sum(dim=1), torch.ones(50))
    assert (gate.probabilities[~gate.active] == 0).all()
    dense = gate.logits.softmax(dim=1) * gate.active
    torch.testing.assert_close(gate.probabilities, dense / dense.sum(dim=1, keepdim=True))


def test_sparse_chooses_the_largest_logits():
    gate = SparseGate(6, n_experts=5, top_k=2)(X)
    chosen = gate.logits.masked_fill(~gate.active, torch.inf).amin(dim=1)
    left_out = gate.logits.masked_fill(gate.active, -torch.inf).amax(dim=1)
    assert (chosen > left_out).all()


def test_equal_logits_still_choose_exactly_k():
    gate = SparseGate(6, n_experts=5, top_k=2)
    with torch.no_grad():
        gate.layers[0].weight.zero_()
        gate.layers[0].bias.zero_()
    assert (gate(X).active.sum(dim=1) == 2).all()


def test_choosing_all_experts_equals_the_dense_gate():
    sparse = SparseGate(6, n_experts=4, top_k=4)
    dense = DenseGate(6, n_experts=4)
    dense.load_state_dict(sparse.state_dict())
    for part in ("probabilities", "log_probabilities", "logits"):
        torch.testing.assert_close(getattr(sparse(X), part), getattr(dense(X), part))


@pytest.mark.parametrize("gate_class", [DenseGate, SparseGate])
def test_temperature_divides_the_logits(gate_class):
    plain = gate_class(6, 4)
    warm = gate_class(6, 4, temperature=2.0)
    warm.load_state_dict(plain.state_dict())
    torch.testing.assert_close(warm.logits(X), plain.logits(X) / 2)
    assert (warm(X).probabilities.amax(dim=1) <= plain(X).probabilities.amax(dim=1)).all()


def test_one_expert_per_row_passes_the_gradient_straight_through():
    gate = SparseGate(6, n_experts=4, top_k=1).train()
    output = gate(X)
    worth = torch.randn(50, 4)
    (output.probabilities * worth).sum().backward()
    assert (output.probabilities[output.active] == 1).all()
    assert (output.probabilities[~output.active] == 0).all()

    # The value is 1, its derivative that of the logarithm of the full softmax probability.
    twin = DenseGate(6, n_experts=4)
    twin.load_state_dict(gate.state_dict())
    (twin(X).log_probabilities * worth * output.active).sum().backward()
    assert gate.layers[0].weight.grad.abs().max() > 0
    torch.testing.assert_close(gate.layers[0].weight.grad, twin.layers[0].weight.grad)


def test_one_expert_per_row_weighs_one_in_evaluation():
    output = SparseGate(6, n_experts=4, top_k=1).eval()(X)
    assert torch.equal(output.probabilities, output.active.float())


@pytest.mark.parametrize("top_k", [2, 3, 4])
def test_sparse_gradients_are_those_of_the_renormalised_softmax(top_k):
    gate = SparseGate(6, n_experts=4, top_k=top_k).double()
    x = X[:5].double()
    parameters = [parameter.detach().requires_grad_() for parameter in gate.parameters()]
    names = [name for name, _ in gate.named_parameters()]

    def probabilities(*values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(gate, state, (x,)).probabilities

    assert torch.autograd.gradcheck(probabilities, parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_experts": 0}, "n_experts must be at least 1, got 0: pass 1 or more"),
        (
            {"n_experts": 2, "temperature": 0.0},
            r"temperature must be above 0, got 0.0: pass 1\.0",
        ),
        ({"n_experts": 2, "temperature": float("nan")}, "temperature must be above 0, got nan"),
        (
            {"n_experts": 2, "hidden_layer_sizes": (3,), "activation": "swish"},
            r"activation must be one of .*, got 'swish': choose one of these",
        ),
    ],
)
def test_dense_errors(options, message):
    with pytest.raises(ValueError, match=message):
        DenseGate(6, **options)


@pytest.mark.parametrize("top_k", [0, 5])
def test_sparse_errors(top_k):
    message = f"top_k must lie between 1 and n_experts=4, got {top_k}: lower top_k or train more"
    with pytest.raises(ValueError, match=message):
        SparseGate(6, n_experts=4, top_k=top_k)
