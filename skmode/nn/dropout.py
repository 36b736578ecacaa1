"""Dropout whose random numbers cost little on a processor."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero entries at random in training and scale up the others, as :class:`torch.nn.Dropout`.

    On a CPU torch draws one number at a time, which took a fifth of the training of a mixture;
    here each 64-bit draw decides on four entries. On other devices this is torch's own.
    Transforms of `torch.func` have no rule for it: take :class:`torch.nn.Dropout` there.

    Parameters
    ----------
    p : float, default=0.5
        Probability of an entry to become zero, in [0, 1). On a CPU it is rounded to a multiple of
        2 ** -16, and the scale is that of the rounded probability.

    Notes
    -----
    Shape:

    - Input: any
    - Output: that of the input

    Examples
    --------
    >>> import torch
    >>> from skmode.nn import Dropout
    >>> dropout = Dropout(0.25)
    >>> dropout(torch.ones(1000, 1000)).mean()
    tensor(1.00...)
    >>> dropout.eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(
                f"p must lie in [0, 1), got {p}: it is the probability of an entry to become zero."
            )
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries where the module is in training mode; see the class for shapes."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p, training=True)
        return x * self._mask(x)

    def _mask(self, x: Tensor) -> Tensor:
        """Zeros, and what scales the entries that stay."""
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        draws.random_(-(2**63), None)
        draws = draws.view(torch.int16)[: x.numel()].view(x.shape)
        # Comparing into real numbers is several times as fast as converting booleans to them.
        kept = torch.ge(draws, dropped - 2**15, out=torch.empty(x.shape, dtype=x.dtype))
        return kept.mul_(2**16 / (2**16 - dropped))

    def extra_repr(self) -> str:
        """Show the probability.

        Returns
        -------
        str
            What stands between the parentheses of the module's representation.
        """
        return f"p={self.p}"
