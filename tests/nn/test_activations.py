"""Activations by name."""

import pytest
import torch
from torch.nn import functional as F

from skmode.nn import make_activation

FUNCTIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_name_means_the_function(name):
    x = torch.linspace(-3, 3, 50)
    torch.testing.assert_close(make_activation(name)(x), FUNCTIONS[name](x))
    assert not list(make_activation(name).parameters())
    assert make_activation(name) is not make_activation(name)


def test_unknown_name():
    with pytest.raises(
        ValueError, match=r"activation must be one of \['gelu', .*\], got 'swish': choose one of"
    ):
        make_activation("swish")
