"""Whether a module of the user treats each row alone."""

import torch
from torch import Tensor, nn

# A share of the largest number: rounding differs between batches, but by less, even in bfloat16.
TOLERANCE = 0.01


def find_dependence(module: nn.Module, rows: Tensor, together: Tensor) -> str | None:
    """Say what a module makes of the first row alone, if it is something else than `together`."""
    try:
        with torch.no_grad():
            alone = module(rows[:1].clone())  # it may change its input
    except Exception as error:
        return f"{type(error).__name__} ({error}) for a batch of one"
    expected = together[:1].double()
    if alone.shape != expected.shape:
        return f"shape {tuple(alone.shape)} for a batch of one"
    alone = alone.double()
    limit = TOLERANCE * float(expected.nan_to_num().abs().max())
    if torch.allclose(alone, expected, rtol=0, atol=limit, equal_nan=True):
        return None
    difference = float((alone - expected).abs().max())
    return f"a difference of {difference:.3g} between batches of one and of two"
