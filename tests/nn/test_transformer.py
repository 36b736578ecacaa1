"""The trunk that reads tokens in their order, and its losses in a mixture."""

import pytest
import torch

from skmode import nn
from skmode.nn.trunks import transformer

TOKENS = torch.tensor([[2, 1, 3, 0], [0, 0, 0, 0], [3, 1, 0, 0]])
COUNTS = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
IDF = torch.tensor([1.0, 2.0, 3.0, 4.0])


def trunk(**options):
    torch.manual_seed(0)
    return nn.TransformerTrunk(IDF, torch.randn(4, 8), max_tokens=20, n_heads=2, **options)


def test_the_order_counts_and_padding_does_not():
    module = trunk().eval()
    torch.nn.init.normal_(module.blocks[0].attention.out_proj.weight)
    found = module(TOKENS, COUNTS)
    other = module(TOKENS[:1].flip(1), COUNTS[:1])
    assert (found[0] - other[0]).abs().max() > 0.1
    torch.testing.assert_close(found[1], torch.zeros(8))  # a text without tokens
    longer = [torch.nn.functional.pad(part, (0, 9)) for part in (TOKENS, COUNTS)]
    torch.testing.assert_close(module(*longer), found)
    torch.testing.assert_close(module(TOKENS[2:, :2], COUNTS[2:, :2]), found[2:])


def test_blocks_of_texts_give_the_same(monkeypatch):
    module = trunk().eval()
    expected = module(TOKENS, COUNTS)
    monkeypatch.setitem(transformer.CELLS, "cpu", 4)
    with torch.no_grad():
        torch.testing.assert_close(module(TOKENS, COUNTS), expected)


def test_a_start_without_layers_of_experts_is_the_bag():
    module, tokens = trunk(), TOKENS[:1]
    for block in module.blocks:
        for part in block.experts.experts.layers[-1].parameters():
            torch.nn.init.zeros_(part)
    bag = nn.TextTrunk(module.idf.detach(), module.vectors.detach())
    torch.testing.assert_close(module(tokens, COUNTS[:1]), bag(tokens, COUNTS[:1]))


def test_losses_of_the_layers_are_part_of_the_mixtures():
    module = nn.MixtureOfExperts(
        trunk(n_layers=2),
        nn.DenseGate(8, 2),
        nn.MLPExperts(8, 2, (4,)),
        torch.nn.Linear(4, 2),
        nn.CrossEntropy(),
        alpha=0.5,
        balance=0.25,
    )
    target = torch.tensor([0, 1, 1])
    losses = module(TOKENS, COUNTS, target=target).losses
    layers = [block.experts for block in module.trunk.blocks]
    assert [(layer.alpha, layer.balance) for layer in layers] == [(0.5, 0.25)] * 2
    of_layers = sum(layer.losses.distillation for layer in layers)
    assert 0 < of_layers < losses.distillation
    expected = losses.task + 0.5 * losses.distillation + 0.25 * losses.balance
    torch.testing.assert_close(losses.total, expected)
    losses.total.backward()
    assert layers[0].gate.layers[0].weight.grad.abs().max() > 0
    again = module.eval()(TOKENS, COUNTS, target=target).losses
    assert again.distillation < losses.distillation


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="multiple of n_heads=3, got 8"):
        nn.TransformerTrunk(IDF, torch.randn(4, 8), max_tokens=5, n_heads=3)
