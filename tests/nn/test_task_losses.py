"""Task losses, and the densities that likelihood mixing takes them for."""

import math

import pytest
import torch
from torch.nn import functional as F

from skmode.nn import CrossEntropy, RegressionLoss

REGRESSION = [
    ("squared_error", {}),
    ("absolute_error", {}),
    ("huber", {}),
    ("huber", {"delta": 0.3}),
    ("quantile", {}),
    ("quantile", {"quantile": 0.9}),
]


def test_cross_entropy_is_torchs():
    scores, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = CrossEntropy()
    log_probabilities = loss.finalize(scores)
    torch.testing.assert_close(log_probabilities.exp().sum(dim=1), torch.ones(6))
    expected = F.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(loss(log_probabilities, target), expected)
    torch.testing.assert_close(loss.negative_log_likelihood(log_probabilities, target), expected)


def test_cross_entropy_of_every_expert():
    scores, target = torch.randn(6, 4, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = CrossEntropy()
    each = loss(loss.finalize(scores), target.unsqueeze(1))
    for i in range(4):
        one = F.cross_entropy(scores[:, i], target, reduction="none")
        torch.testing.assert_close(each[:, i], one)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Errors (target - prediction) of 2 and -0.5, averaged over the two outputs.
        ("squared_error", {}, (2.0 + 0.125) / 2),
        ("absolute_error", {}, (2.0 + 0.5) / 2),
        ("huber", {"delta": 1.0}, (1.5 + 0.125) / 2),
        ("quantile", {"quantile": 0.9}, (1.8 + 0.05) / 2),
        ("quantile", {"quantile": 0.5}, (1.0 + 0.25) / 2),
    ],
)
def test_regression_losses_by_hand(name, options, expected):
    loss = RegressionLoss(name, **options)(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.5]]))
    torch.testing.assert_close(loss, torch.tensor([expected]))


@pytest.mark.parametrize(("name", "options"), REGRESSION)
@pytest.mark.parametrize("log_scale", [-1.0, 0.0, 1.3])
def test_density_integrates_to_one(name, options, log_scale):
    loss = RegressionLoss(name, **options).double()
    with torch.no_grad():
        loss.log_scale.fill_(log_scale)
        y = torch.linspace(-600, 600, 600_001, dtype=torch.float64).unsqueeze(1)
        density = (-loss.negative_log_likelihood(torch.full_like(y, 0.5), y)).exp()
    area = torch.trapezoid(density, y.squeeze(1))
    assert area.item() == pytest.approx(1, abs=1e-4)


def test_squared_error_is_the_normal_density():
    loss = RegressionLoss()
    with torch.no_grad():
        loss.log_scale.fill_(math.log(4.0))  # the variance
        y, mean = torch.randn(7, 2), torch.randn(7, 2)
        expected = -torch.distributions.Normal(mean, 2.0).log_prob(y).sum(dim=1)
        torch.testing.assert_close(loss.negative_log_likelihood(mean, y), expected)


def test_absolute_error_is_laplaces_density():
    loss = RegressionLoss("absolute_error")
    with torch.no_grad():
        loss.log_scale.fill_(math.log(2.0))
        y, center = torch.randn(7, 2), torch.randn(7, 2)
        expected = -torch.distributions.Laplace(center, 2.0).log_prob(y).sum(dim=1)
        torch.testing.assert_close(loss.negative_log_likelihood(center, y), expected)


def test_learned_scale_finds_the_noise():
    loss = RegressionLoss()
    y = 0.5 * torch.randn(4000, 1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss.negative_log_likelihood(torch.zeros_like(y), y).mean().backward()
        optimizer.step()
    assert loss.log_scale.exp().item() == pytest.approx(y.square().mean().item(), rel=1e-2)


@pytest.mark.parametrize(("name", "options"), REGRESSION)
def test_gradcheck(name, options):
    loss = RegressionLoss(name, **options).double()
    prediction = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), [prediction])

    def density(p, log_scale):
        return torch.func.functional_call(Density(loss), {"loss.log_scale": log_scale}, (p, target))

    scale = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(density, [prediction, scale])


class Density(torch.nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, prediction, target):
        return self.loss.negative_log_likelihood(prediction, target)


def test_gradcheck_of_the_cross_entropy():
    loss, target = CrossEntropy(), torch.tensor([0, 1, 2, 2])
    scores = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: loss(loss.finalize(s), target), [scores])


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_delta_out_of_range(delta):
    with pytest.raises(ValueError, match=f"delta must be above 0, got {delta}: pass for"):
        RegressionLoss("huber", delta=delta)


def test_unknown_loss():
    with pytest.raises(
        ValueError, match="loss must be \"squared_error\", .* got 'l1': choose one of these"
    ):
        RegressionLoss("l1")


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.5])
def test_quantile_out_of_range(quantile):
    with pytest.raises(
        ValueError, match=f"quantile must lie between 0 and 1, got {quantile}: pass 0.5 for"
    ):
        RegressionLoss("quantile", quantile=quantile)
