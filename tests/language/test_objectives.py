from __future__ import annotations

import math

import pytest
import torch

from skmode.language import cross_entropy, forward_kl, reverse_kl
from skmode.language.objectives import Alpha, share_of_teacher

TEACHER = torch.tensor([[0.7, 0.2, 0.1]]).log()
STUDENT = torch.tensor([[0.5, 0.25, 0.25]]).log()


def test_directions_by_hand():
    forward = 0.7 * math.log(0.7 / 0.5) + 0.2 * math.log(0.2 / 0.25) + 0.1 * math.log(0.1 / 0.25)
    reverse = 0.5 * math.log(0.5 / 0.7) + 0.25 * math.log(0.25 / 0.2) + 0.25 * math.log(2.5)
    assert forward_kl(STUDENT, TEACHER).item() == pytest.approx(forward, rel=1e-5)
    assert reverse_kl(STUDENT, TEACHER).item() == pytest.approx(reverse, rel=1e-5)
    assert cross_entropy(STUDENT, torch.tensor([1])).item() == pytest.approx(math.log(4))
    assert forward_kl(TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-6)


def test_temperature_divides_logits_and_multiplies_by_its_square():
    by_hand = 4 * forward_kl(STUDENT / 2, TEACHER / 2)
    torch.testing.assert_close(forward_kl(STUDENT, TEACHER, 2.0), by_hand)


def test_forward_kl_has_the_gradient_of_soft_labels():
    student = STUDENT.clone().requires_grad_()
    forward_kl(student, TEACHER).sum().backward()
    torch.testing.assert_close(student.grad, STUDENT.exp() - TEACHER.exp())


def test_alpha_by_ratio_and_entropy():
    ce, kd = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0])
    assert Alpha("loss_ratio").weights(ce, kd, TEACHER) == pytest.approx(0.5 / 2.5)
    sure = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    weights = Alpha("teacher_entropy").weights(ce, kd, sure)
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0]), atol=1e-5, rtol=0)
    assert Alpha(0.3).weights(ce, kd, sure) == 0.3


def test_the_papers_alpha_telescopes():
    """Two ways from the same first to the same last loss end at the same alpha."""
    ends = []
    for losses in ([4.0, 9.0, 1.0, 5.0, 3.0], [4.0, 3.5, 3.0]):
        alpha = Alpha("loss_difference")
        for loss in losses:
            value = alpha.weights(torch.tensor([loss]), torch.zeros(1), TEACHER)
        ends.append(value)
    assert ends == pytest.approx([0.5 + Alpha.RATE * (4 - 3)] * 2)


def test_schedules_count_optimizer_steps():
    def shares(schedule, every=1):
        return [share_of_teacher(schedule, step, 6, every) for step in range(6)]

    assert shares("combined") == [None] * 6
    assert shares("alternating") == [0, 1, 0, 1, 0, 1]
    assert shares("alternating", 2) == [0, 0, 1, 1, 0, 0]
    assert shares("kd_then_ce") == [1, 1, 1, 0, 0, 0]
    assert shares("ce_then_kd") == [0, 0, 0, 1, 1, 1]
