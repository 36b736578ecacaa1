"""Routes of tokens through MoDE layers."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal

from skmode.inspection import record_routes, token_routes
from skmode.nn import MoDELayer


class Network(torch.nn.Module):
    """An encoder whose second layer runs before its first."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 8)
        self.late = MoDELayer(8, 3, hidden_width=4, top_k=2)
        self.early = MoDELayer(8, 4, hidden_width=4, top_k=1, alpha=0)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, tokens, mask=None):
        hidden = self.early(self.embedding(tokens), mask)
        return self.late(x=self.dropout(hidden), padding_mask=mask)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network()


def test_routes_of_each_token(model):
    tokens = torch.arange(10).view(2, 5)
    mask = torch.tensor([[False] * 5, [False, False, True, True, True]])
    with record_routes(model) as routes:
        model(tokens)
        model(tokens, mask)
    model(tokens)  # recorded no more
    assert list(routes) == ["late", "early"]
    assert [array.shape for array in routes["late"]] == [(2, 5, 2)] * 2
    assert [array.shape for array in routes["early"]] == [(2, 5, 1)] * 2
    logits = model.early.gate(model.embedding(tokens).view(10, 8)).logits
    assert_array_equal(routes["early"][0].ravel(), logits.argmax(dim=1))
    assert_array_equal(routes["early"][1] < 0, mask.unsqueeze(2))


def test_table(model):
    first, second = torch.arange(10).view(2, 5), torch.arange(3, 6).view(1, 3)
    mask = torch.tensor([[False] * 5, [False, False, True, True, True]])
    batches = [(first, mask), {"tokens": second}, second]
    model.dropout.train(False)
    table = token_routes(model, batches)
    assert model.training
    assert not model.dropout.training
    assert list(table) == ["layer", "expert", "tokens", "share", "computed"]
    assert list(table["layer"].unique()) == ["late", "early"]
    sums = table.groupby("layer")[["tokens", "computed"]].sum()
    assert sums["tokens"].tolist() == [13, 13]
    assert sums["computed"].to_dict() == {"early": 13, "late": 26}
    with record_routes(model.eval()) as routes:
        model(first, mask), model(second), model(second)
    top = np.concatenate([array[..., 0].ravel() for array in routes["late"]])
    counts = np.bincount(top[top >= 0], minlength=3)
    assert_array_equal(table.query("layer == 'late'")["tokens"], counts)
    assert_array_equal(table.query("layer == 'late'")["share"], counts / 13)


@pytest.mark.parametrize("labels", [list, np.array, torch.tensor])
def test_groups_of_sequences_and_of_tokens(model, labels):
    first, second = torch.arange(10).view(2, 5), torch.arange(3, 6).view(1, 3)
    by_sequence = token_routes(model, [first, second], groups=[labels([1, 2]), labels([2])])
    counts = by_sequence.groupby(["layer", "group"])["tokens"].sum()
    assert counts["early"].to_dict() == counts["late"].to_dict() == {1: 5, 2: 8}
    shares = by_sequence.groupby(["layer", "group"])["share"].sum()
    np.testing.assert_allclose(shares, 1)
    per_token = [labels([[1] * 5, [2] * 5]), labels([[2] * 3])]
    pd.testing.assert_frame_equal(
        token_routes(model, [first, second], groups=per_token), by_sequence
    )


@pytest.mark.parametrize("missing", [None, np.nan])
def test_missing_groups_are_a_group(model, missing):
    batches = [torch.arange(6).view(2, 3)] * 2
    table = token_routes(model, batches, groups=[np.array(["de", missing], object), ["de", "en"]])
    tokens = table.groupby(["layer", "group"], dropna=False)["tokens"].sum()
    for layer in table["layer"].unique():
        assert tokens[layer].to_dict() == {"de": 6, "en": 3, np.nan: 3}
    assert table["share"].notna().all()


def test_the_model_is_as_before_after_an_error(model):
    with pytest.raises(IndexError):
        token_routes(model, [torch.tensor([[11]])])
    assert model.training
    assert not model.early._forward_hooks


def test_input_is_checked(model):
    tokens = torch.arange(10).view(2, 5)
    with pytest.raises(ValueError, match=r"MoDELayer, got Linear without one"):
        token_routes(torch.nn.Linear(2, 2), [tokens])
    with pytest.raises(ValueError, match=r"one array per batch, got 1 for more"):
        token_routes(model, [tokens, tokens], groups=[["a", "b"]])
    with pytest.raises(ValueError, match=r"got more arrays than batches"):
        token_routes(model, [tokens], groups=[["a", "b"], ["b", "a"]])
    with pytest.raises(ValueError, match=r"\(2, 5\), or how it begins, got \(3,\)"):
        token_routes(model, [tokens], groups=[["a", "b", "c"]])
    with pytest.raises(ValueError, match="got none that did"):
        token_routes(model, [])
