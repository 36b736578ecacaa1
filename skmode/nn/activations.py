"""Activation functions by name, shared by gates and experts."""

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


def make_activation(name: str) -> nn.Module:
    """Build an activation module from its name.

    Parameters
    ----------
    name : {"relu", "gelu", "silu", "tanh", "logistic", "identity"}
        Name of the activation.

    Returns
    -------
    torch.nn.Module
        A new module without parameters.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}: choose one of these."
        )
    return ACTIVATIONS[name]()
