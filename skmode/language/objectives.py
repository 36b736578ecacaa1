"""What students learn from: the text, the teacher, and how much of either."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F

Schedule = Literal["combined", "alternating", "kd_then_ce", "ce_then_kd"]
ALPHA_RULES = ("loss_ratio", "teacher_entropy", "loss_difference")


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -log p(target) of each token, in nats.

    Shape:
        - logits: `(n, vocab_size)`; targets: `(n,)`; output: `(n,)`.

    Parameters
    ----------
    logits : Tensor of shape (n, vocab_size)
        The student's logits.
    targets : Tensor of shape (n,)
        The tokens that came.

    Returns
    -------
    losses : Tensor of shape (n,)
        The losses.

    Examples
    --------
    >>> import torch
    >>> from skmode.language import cross_entropy
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).exp()
    tensor([2.])
    """
    return F.cross_entropy(logits, targets, reduction="none")


def forward_kl(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Return KL(teacher || student) = sum_v t_v log(t_v / s_v) of each token, in nats.

    t and s are the softmax of the logits divided by ``temperature``; the result is multiplied by
    its square, so that gradients keep their size. The student covers all that the teacher expects.

    Parameters
    ----------
    student, teacher : Tensor of shape (n, vocab_size)
        The logits.
    temperature : float, default=1.0
        The temperature of both.

    Returns
    -------
    divergences : Tensor of shape (n,)
        The divergences.

    Examples
    --------
    >>> import torch
    >>> from skmode.language import forward_kl
    >>> even, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    >>> round(forward_kl(sure, even).item(), 4)  # 1/2 log(2/3) + 1/2 log 2
    0.1438
    """
    s, t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    return temperature**2 * F.kl_div(s, t, reduction="none", log_target=True).sum(-1)


def reverse_kl(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Return KL(student || teacher) = sum_v s_v log(s_v / t_v) of each token, in nats.

    As :func:`forward_kl` with the roles exchanged. The student keeps to what the teacher finds
    likely.

    Parameters
    ----------
    student, teacher : Tensor of shape (n, vocab_size)
        The logits.
    temperature : float, default=1.0
        The temperature of both.

    Returns
    -------
    divergences : Tensor of shape (n,)
        The divergences.

    Examples
    --------
    >>> import torch
    >>> from skmode.language import reverse_kl
    >>> even, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    >>> round(reverse_kl(sure, even).item(), 4)  # 3/4 log(3/2) + 1/4 log(1/2)
    0.1308
    """
    s, t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    return temperature**2 * F.kl_div(t, s, reduction="none", log_target=True).sum(-1)


DIVERGENCES = {"forward": forward_kl, "reverse": reverse_kl}


class Alpha:
    """The weight of the teacher: fixed, or by one of three rules.

    - a number: that.
    - ``"loss_ratio"``: KD / (CE + KD) of the step's mean losses: the larger loss has more weight.
    - ``"teacher_entropy"``: 1 - H(t) / log(vocab_size) for each token, so that a teacher who is
      sure has more weight.
    - ``"loss_difference"``: the paper's. It starts at 0.5, and each step adds ``RATE`` times what
      the loss fell by since the step before. The sum telescopes: after any number of steps alpha
      is 0.5 + ``RATE`` (first loss - last loss), kept within 0 and 1, whatever happened between.
    """

    RATE = 0.1

    def __init__(self, rule: float | str) -> None:
        self.rule = rule
        self.first = self.last = math.nan

    def weights(
        self, ce: torch.Tensor, kd: torch.Tensor, teacher: torch.Tensor
    ) -> torch.Tensor | float:
        """Return the weight of the teacher for each token, or one for all."""
        if self.rule == "loss_ratio":
            c, k = ce.detach().mean(), kd.detach().mean()
            return k / (c + k).clamp(min=1e-9)
        if self.rule == "teacher_entropy":
            log_t = F.log_softmax(teacher, -1)
            entropy = -(log_t.exp() * log_t).sum(-1)
            return 1 - entropy / math.log(teacher.shape[-1])
        if self.rule == "loss_difference":
            return self._by_difference(float(ce.detach().mean()))
        return float(self.rule)

    def _by_difference(self, loss: float) -> float:
        """Move by what the loss fell by, step by step."""
        if math.isnan(self.first):
            self.first = loss
            self.moved = 0.0
        else:
            self.moved += self.RATE * (self.last - loss)
        self.last = loss
        return min(max(0.5 + self.moved, 0.0), 1.0)

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def share_of_teacher(schedule: Schedule, step: int, n_steps: int, every: int) -> float | None:
    """Return the teacher's weight where the schedule sets it: 0 or 1; None leaves it to alpha.

    ``step`` counts optimizer steps: all parts of an accumulated batch have the same loss.
    """
    if schedule == "alternating":
        return float(step // every % 2)
    if schedule == "kd_then_ce":
        return float(step < n_steps / 2)
    if schedule == "ce_then_kd":
        return float(step >= n_steps / 2)
    return None
