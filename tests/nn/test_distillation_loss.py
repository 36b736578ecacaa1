"""Mutual distillation: values by hand, the identities of the paper's form, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from skmode.nn import distillation_loss

FORMS = ["mean", "pairwise"]


def mse(a, b):
    return (a - b).square().mean(dim=-1)


def plain_mean(experts, detach=False):
    """The paper's form for more than two experts, by autograd alone."""
    mean = experts.mean(dim=1, keepdim=True)
    return mse(experts, mean.detach() if detach else mean).mean(dim=1)


def plain_pairwise(experts):
    """A double loop over the pairs."""
    m = experts.shape[1]
    pairs = [mse(experts[:, i], experts[:, j]) for i in range(m) for j in range(m) if i != j]
    return torch.stack(pairs).sum(dim=0) / (m * (m - 1))


def random_active(n_samples, n_experts, top_k):
    chosen = torch.rand(n_samples, n_experts).topk(top_k, dim=1).indices
    return torch.zeros(n_samples, n_experts, dtype=torch.bool).scatter_(1, chosen, True)


class TestByHand:
    @pytest.mark.parametrize("distillation", FORMS)
    def test_one_expert(self, distillation):
        assert distillation_loss(torch.randn(5, 1, 3), distillation=distillation) == 0

    @pytest.mark.parametrize("distillation", FORMS)
    def test_two_experts(self, distillation):
        # ((1 - 3)^2 + (0 - 4)^2) / 2 = 10 in the only row.
        experts = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
        assert distillation_loss(experts, distillation=distillation).item() == pytest.approx(10)

    def test_three_experts(self):
        # Around their mean 2 they lie at -2, 0 and 2: (4 + 0 + 4) / 3. The pairs: 4, 4 and 16.
        experts = torch.tensor([[[0.0], [2.0], [4.0]]])
        assert distillation_loss(experts).item() == pytest.approx(8 / 3)
        pairwise = distillation_loss(experts, distillation="pairwise")
        assert pairwise.item() == pytest.approx((4 + 4 + 16) / 3)

    def test_mean_over_rows(self):
        experts = torch.tensor([[[0.0], [2.0]], [[1.0], [1.0]]])
        assert distillation_loss(experts).item() == pytest.approx((4 + 0) / 2)

    @pytest.mark.parametrize("distillation", FORMS)
    def test_masked(self, distillation):
        experts = torch.tensor([[[0.0], [2.0], [4.0]]]).repeat(4, 1, 1)
        experts[3, 2] = 7.0
        active = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
        by_row = {"mean": [8 / 3, 16, 0, 0], "pairwise": [8, 16, 0, 0]}[distillation]
        for row, expected in enumerate(by_row):
            part = distillation_loss(
                experts[[row]], distillation=distillation, active=active[[row]]
            )
            assert part.item() == pytest.approx(expected)
        whole = distillation_loss(experts, distillation=distillation, active=active)
        assert whole.item() == pytest.approx(sum(by_row) / 4)


class TestIdentities:
    @pytest.mark.parametrize("n_experts", [3, 4, 9])
    def test_mean_form_is_the_plain_one(self, n_experts):
        experts = torch.randn(6, n_experts, 5)
        torch.testing.assert_close(distillation_loss(experts), plain_mean(experts).mean())

    def test_paper_form_jumps_by_four_at_two_experts(self):
        experts = torch.randn(6, 2, 5)
        torch.testing.assert_close(distillation_loss(experts), 4 * plain_mean(experts).mean())

    @pytest.mark.parametrize("n_experts", [2, 3, 4, 9])
    def test_pairwise_form_is_the_double_loop(self, n_experts):
        experts = torch.randn(6, n_experts, 5)
        pairwise = distillation_loss(experts, distillation="pairwise")
        torch.testing.assert_close(pairwise, plain_pairwise(experts).mean())
        factor = 2 * n_experts / (n_experts - 1)
        torch.testing.assert_close(pairwise, factor * plain_mean(experts).mean())

    @pytest.mark.parametrize("detach", [False, True])
    def test_gradient_through_the_mean_vanishes(self, detach):
        experts = torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True)
        (ours,) = torch.autograd.grad(distillation_loss(experts), experts)
        (plain,) = torch.autograd.grad(plain_mean(experts, detach).mean(), experts)
        torch.testing.assert_close(ours, plain)

    @pytest.mark.parametrize("distillation", FORMS)
    @pytest.mark.parametrize("top_k", [1, 2, 3, 5])
    def test_inactive_experts_are_ignored(self, distillation, top_k):
        experts = torch.randn(7, 5, 4, requires_grad=True)
        active = random_active(7, 5, top_k)
        loss = distillation_loss(experts, distillation=distillation, active=active)
        chosen = experts[active].reshape(7, top_k, 4)
        torch.testing.assert_close(loss, distillation_loss(chosen, distillation=distillation))
        loss.backward()
        assert (experts.grad[~active] == 0).all()

    @pytest.mark.parametrize("distillation", FORMS)
    def test_all_active_mask_equals_no_mask(self, distillation):
        experts = torch.randn(7, 5, 4)
        everyone = torch.ones(7, 5, dtype=torch.bool)
        torch.testing.assert_close(
            distillation_loss(experts, distillation=distillation, active=everyone),
            distillation_loss(experts, distillation=distillation),
        )

    def test_alpha_does_not_depend_on_the_width(self):
        experts = torch.randn(6, 4, 5)
        torch.testing.assert_close(
            distillation_loss(experts.repeat(1, 1, 10)), distillation_loss(experts)
        )


class TestSampleWeight:
    @pytest.mark.parametrize("active", [None, random_active(6, 4, 2)])
    def test_unit_weights_equal_no_weights(self, active):
        experts = torch.randn(6, 4, 5)
        weighted = distillation_loss(experts, active=active, sample_weight=torch.ones(6))
        assert weighted == distillation_loss(experts, active=active)

    def test_weight_two_equals_repeating_the_row(self):
        experts = torch.randn(3, 4, 5)
        weight = torch.tensor([2.0, 1.0, 1.0])
        torch.testing.assert_close(
            distillation_loss(experts, sample_weight=weight / weight.mean()),
            distillation_loss(experts[[0, 0, 1, 2]]),
        )

    def test_weight_zero_drops_the_row(self):
        experts = torch.randn(3, 4, 5)
        weight = torch.tensor([0.0, 1.5, 1.5])
        torch.testing.assert_close(
            distillation_loss(experts, sample_weight=weight), distillation_loss(experts[1:])
        )


@pytest.mark.parametrize("distillation", FORMS)
@pytest.mark.parametrize("top_k", [None, 1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck(distillation, top_k, weighted):
    experts = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    active = None if top_k is None else random_active(4, 3, top_k)
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    assert gradcheck(
        lambda e: distillation_loss(
            e, distillation=distillation, active=active, sample_weight=weight
        ),
        [experts],
    )


@pytest.mark.parametrize("expert_major", [False, True])
def test_storage_order_does_not_matter(expert_major):
    experts = torch.randn(6, 4, 5)
    if expert_major:
        experts = experts.transpose(0, 1).contiguous().transpose(0, 1)
    experts.requires_grad_()
    loss = distillation_loss(experts)
    torch.testing.assert_close(loss, plain_mean(experts).mean())
    (gradient,) = torch.autograd.grad(loss, experts)
    (plain,) = torch.autograd.grad(plain_mean(experts).mean(), experts)
    torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("top_k", [None, 2, 3])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_spread_of_large_representations(dtype, autocast, top_k):
    """The loss of half-precision inputs is computed in full precision."""
    experts = (5 + 0.1 * torch.randn(20, 4, 32)).to(dtype).requires_grad_()
    active = None if top_k is None else random_active(20, 4, top_k)
    exact = experts.detach().double().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = distillation_loss(experts, active=active)
    expected = distillation_loss(exact, active=active)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-3, atol=0)
    assert experts.grad.dtype == dtype
    error = (experts.grad - exact.grad).norm() / exact.grad.norm()
    assert error < (5e-3 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("offset", [1.0, 100.0])
def test_value_is_exact_to_rounding_in_the_squared_length(offset):
    experts = offset + torch.randn(50, 4, 32)
    exact = plain_mean(experts.double()).mean()
    rounding = 4 * torch.finfo(torch.float32).eps * experts.square().mean().item()
    assert distillation_loss(experts).item() == pytest.approx(exact.item(), abs=rounding)


@pytest.mark.parametrize("distillation", FORMS)
def test_equal_experts_have_zero_gradient(distillation):
    experts = torch.randn(5, 1, 3).repeat(1, 4, 1).requires_grad_()
    distillation_loss(experts, distillation=distillation).backward()
    assert experts.grad.abs().max() < 1e-6


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    n_experts=st.integers(1, 6),
    distillation=st.sampled_from(FORMS),
    masked=st.booleans(),
)
def test_properties(seed, n_experts, distillation, masked):
    generator = torch.Generator().manual_seed(seed)
    experts = torch.randn(5, n_experts, 3, generator=generator)
    active = torch.rand(5, n_experts, generator=generator) < 0.6 if masked else None
    loss = distillation_loss(experts, distillation=distillation, active=active)
    assert loss >= 0

    order = torch.randperm(n_experts, generator=generator)
    permuted = distillation_loss(
        experts[:, order],
        distillation=distillation,
        active=None if active is None else active[:, order],
    )
    torch.testing.assert_close(permuted, loss)

    alike = experts[:, :1].expand(-1, n_experts, -1)
    same = distillation_loss(alike, distillation=distillation, active=active)
    assert 0 <= same < 1e-5


def test_unknown_form():
    with pytest.raises(
        ValueError, match='distillation must be "mean" or "pairwise", got \'max\': choose one'
    ):
        distillation_loss(torch.randn(2, 3, 4), distillation="max")
