"""The trunk that reads tokens in their order: it starts from the trunk that reads bags of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from skmode import nn
from skmode._encoding.texts import as_bags
from skmode._training.rows import Rows


def make_transformer_trunk(
    train: Rows,
    *,
    make_bag: Callable[[Rows], nn.TextTrunk],
    max_tokens: int,
    width: int,
    n_layers: int,
    n_heads: int,
    n_experts: int,
    dropout: float,
) -> nn.TransformerTrunk:
    """Build the trunk: idf and vectors are those that `make_bag` finds for the same texts."""
    tokens, counts = as_bags(*(part.numpy() for part in train.inputs))
    bag = make_bag(Rows((torch.as_tensor(tokens), torch.as_tensor(counts)), *train[1:]))
    return nn.TransformerTrunk(
        bag.idf.detach(),
        _widened(bag.vectors.detach(), width),
        max_tokens,
        n_layers,
        n_heads,
        n_experts,
        block_dropout=dropout,
        dropout=bag.dropout.p,
        frozen=not bag.idf.requires_grad,
    )


def _widened(vectors: Tensor, width: int) -> Tensor:
    """Add zeros: few texts differ in few directions, but heads divide the width."""
    return torch.nn.functional.pad(vectors, (0, width - vectors.shape[1]))
