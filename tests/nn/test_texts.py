import numpy as np
import pytest
import torch

from skmode.nn import TextTrunk

TOKENS = torch.tensor([[2, 1, 0], [0, 0, 0], [3, 0, 0]])
COUNTS = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
IDF = torch.tensor([1.0, 2.0, 3.0, 4.0])


def trunk(**options):
    torch.manual_seed(0)
    return TextTrunk(IDF, torch.randn(4, 5), **options)


def test_features_are_weighted_sums_of_vectors():
    module = trunk()
    weights = np.array([(1 + np.log(3)) * 3, 2.0])
    weights /= np.linalg.norm(weights)
    vectors = module.vectors.detach().numpy()
    found = module(TOKENS, COUNTS).detach().numpy()
    np.testing.assert_allclose(found[0], weights @ vectors[[2, 1]], rtol=1e-5)
    np.testing.assert_array_equal(found[1], np.zeros(5))
    np.testing.assert_allclose(found[2], vectors[3], rtol=1e-5)


def test_padding_does_not_matter():
    module = trunk()
    longer = [torch.nn.functional.pad(part, (0, 9)) for part in (TOKENS, COUNTS)]
    torch.testing.assert_close(module(*longer), module(TOKENS, COUNTS))
    torch.testing.assert_close(module(TOKENS.int(), COUNTS), module(TOKENS, COUNTS))


@pytest.mark.parametrize("frozen", [True, False])
def test_vectors_and_idf_learn_unless_frozen(frozen):
    module = trunk(frozen=frozen)
    assert [each.requires_grad for each in module.parameters()] == [not frozen] * 2
    if not frozen:
        module(TOKENS, COUNTS).square().sum().backward()
        assert module.table.grad[0].abs().sum() == 0  # padding learns nothing
        assert module.table.grad[1:].abs().sum(dim=1).min() > 0
        assert module.idf.grad[:1].abs().sum() == 0


def test_gradients_are_right():
    module = trunk().double()
    counts = COUNTS.double()

    def features(idf, table):
        parts = {"idf": idf, "table": table}
        return torch.func.functional_call(module, parts, (TOKENS, counts))

    idf, table = (each.detach().requires_grad_() for each in (module.idf, module.table))
    torch.autograd.gradcheck(features, (idf, table))


def test_dropout_leaves_tokens_out_in_training_alone():
    module = trunk(dropout=0.5)
    tokens, counts = torch.arange(4).expand(500, 4), torch.ones(500, 4)
    left = (module.token_weights(tokens, counts) == 0).double().mean()
    assert 0.4 < left < 0.6
    torch.testing.assert_close(module(tokens, counts).norm(dim=1).isfinite().all().item(), True)
    assert (module.eval().token_weights(tokens, counts) > 0).all()
