"""Dropout against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skmode.nn import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_zeroes_a_share_p_and_scales_up_the_rest(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((400, 500), 3.0, dtype=dtype)
    found = Dropout(p)(x)
    assert found.dtype == dtype
    assert (found == 0).double().mean().item() == pytest.approx(p, abs=0.005)
    kept = found[found != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 3 / (1 - p)), rtol=1e-2, atol=0)


@pytest.mark.slow
def test_entries_are_zeroed_independently() -> None:
    torch.manual_seed(0)
    dropped = torch.stack([Dropout(0.3)(torch.ones(64)) == 0 for _ in range(20_000)]).double()
    assert dropped.mean(dim=0).sub(0.3).abs().max() < 5 * (0.21 / 20_000) ** 0.5
    correlations = torch.corrcoef(dropped.T).fill_diagonal_(0)
    assert correlations.abs().max() < 6 / 20_000**0.5


@given(shape=st.lists(st.integers(0, 7), max_size=4), p=st.floats(0, 1, exclude_max=True))
def test_any_shape_and_probability(shape: list[int], p: float) -> None:
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    found = Dropout(p)(x)
    assert found.shape == x.shape
    assert found.isfinite().all()
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient, found.detach())


def test_same_seed_same_mask_also_for_transposed_input() -> None:
    x = torch.arange(1.0, 13).reshape(3, 4)
    for rows in (x, x.T):
        torch.manual_seed(1)
        first = Dropout(0.5)(rows)
        torch.manual_seed(1)
        torch.testing.assert_close(first, Dropout(0.5)(rows))
        torch.testing.assert_close(first[first != 0], 2 * rows[first != 0])


def test_identity_in_evaluation_and_at_probability_zero() -> None:
    x = torch.ones(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_invalid_probability_raises(p: float) -> None:
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\), got"):
        Dropout(p)


def test_a_generator_of_its_own() -> None:
    x = torch.ones(1000)
    torch.manual_seed(5)
    expected = Dropout(0.3)(x)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(Dropout(0.3, generator)(x), expected)
    assert torch.equal(torch.get_rng_state(), state)
