"""Trunks: scaling, missing values, embeddings and their widths."""

import copy
import math
import pickle

import pytest
import rtdl_num_embeddings
import torch

from skmode import nn
from skmode.nn import (
    CategoricalEmbeddings,
    CrossEntropy,
    DenseGate,
    IdentityTrunk,
    MixtureOfExperts,
    MLPExperts,
    PeriodicBiasEmbeddings,
    RobustScaler,
    TabularTrunk,
)
from skmode.nn.embeddings import PeriodicEmbeddings

NAN = float("nan")
NOTHING = torch.empty(0, dtype=torch.int64)


def make_scaler(n_numeric=3, missing=()):
    return RobustScaler(
        torch.zeros(n_numeric),
        torch.ones(n_numeric),
        torch.tensor(missing, dtype=torch.int64),
    )


def make_trunk(embedding):
    return TabularTrunk(
        make_scaler(3, [1]),
        numeric_embedding=embedding,
        bins=[torch.linspace(-1, 1, 5)] * 3,
        n_categories=[4, 12],
    )


def mixed_rows(n=20):
    numbers = torch.randn(n, 3)
    numbers[::5, 1] = NAN
    return numbers, torch.stack([torch.arange(n) % 4, torch.arange(n) % 12], dim=1)


class TestIdentityTrunk:
    def test_passes_numbers_on(self):
        x = torch.randn(4, 3)
        assert IdentityTrunk(3).out_features == 3
        assert torch.equal(IdentityTrunk(3)(x), x)
        assert torch.equal(IdentityTrunk(3)(x, torch.empty(4, 0, dtype=torch.int64)), x)

    def test_category_codes_raise(self):
        with pytest.raises(
            ValueError, match=r"takes no categorical codes, got 2 columns: use TabularTrunk"
        ):
            IdentityTrunk(3)(torch.randn(4, 3), torch.zeros(4, 2, dtype=torch.int64))


class TestRobustScaler:
    def test_formula(self):
        center, scale = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0])
        scaler = RobustScaler(center, scale, torch.empty(0, dtype=torch.int64), limit=2.0)
        x = 5 * torch.randn(20, 2)
        u = (x - center) / scale
        numbers, missing = scaler(x)
        torch.testing.assert_close(numbers, u / (1 + (u / 2) ** 2).sqrt())
        assert missing.shape == (20, 0)

    def test_identity_near_the_centre(self):
        x = torch.linspace(-0.05, 0.05, 11).repeat(3, 1).T
        torch.testing.assert_close(make_scaler()(x)[0], x, atol=1e-5, rtol=1e-3)

    def test_missing_values(self):
        x = torch.tensor([[NAN, 1.0, NAN], [2.0, NAN, 3.0]])
        numbers, missing = make_scaler(missing=[0, 2])(x)
        assert numbers.isfinite().all()
        assert (numbers[x.isnan()] == 0).all()
        assert missing.tolist() == [[1, 1], [0, 0]]

    @pytest.mark.parametrize("value", [1e3, 1e18, 1e25, 3e38, float("inf")])
    def test_large_numbers_are_bounded_by_the_limit(self, value):
        numbers, _ = make_scaler(2)(torch.tensor([[value, -value]]))
        torch.testing.assert_close(numbers, torch.tensor([[3.0, -3.0]]), rtol=1e-4, atol=0)

    def test_monotone(self):
        x = torch.logspace(-3, 30, 200).unsqueeze(1)
        numbers, _ = make_scaler(1)(x)
        assert (numbers.diff(dim=0) >= -1e-6).all()


class TestCategoricalEmbeddings:
    def test_few_categories_start_one_hot(self):
        embed = CategoricalEmbeddings([4, 3])
        rows = embed(torch.tensor([[1, 1], [3, 2]]))
        assert rows.tolist() == [[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0]]

    def test_many_categories_have_the_same_mean_square(self):
        embed = CategoricalEmbeddings([2001], embedding_size=8)
        assert embed.out_features == 8
        assert embed.table[1:].square().mean().item() == pytest.approx(1 / 8, rel=0.05)

    @pytest.mark.parametrize(
        ("n_categories", "size", "width"),
        [([3, 4], 8, 3), ([2, 30], 8, 8), ([2], 8, 1), ([1], 8, 1)],
    )
    def test_width(self, n_categories, size, width):
        embed = CategoricalEmbeddings(n_categories, size)
        codes = torch.zeros(5, len(n_categories), dtype=torch.int64)
        assert embed.out_features == len(n_categories) * width
        assert embed(codes).shape == (5, embed.out_features)

    @pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
    def test_unseen_stays_zero_after_a_step(self, optimizer):
        embed = CategoricalEmbeddings([4, 3, 30])
        before = embed.table.detach().clone()
        step = optimizer(embed.parameters(), lr=0.1, weight_decay=0.1)
        codes = torch.tensor([[0, 1, 0], [1, 0, 29], [0, 0, 5]])
        (embed(codes) - 1).square().sum().backward()
        step.step()
        unseen = embed(torch.zeros(1, 3, dtype=torch.int64))
        assert (unseen == 0).all()
        assert not torch.equal(embed.table, before)

    def test_columns_do_not_share_vectors(self):
        embed = CategoricalEmbeddings([20, 20], embedding_size=4)
        first, second = embed(torch.tensor([[5, 5]])).split(4, dim=1)
        assert not torch.equal(first, second)


class TestPeriodicEmbeddings:
    @staticmethod
    def pair(dtype=torch.float32):
        ours = PeriodicEmbeddings(3, 4, n_frequencies=5, frequency_scale=0.5).to(dtype)
        theirs = rtdl_num_embeddings.PeriodicEmbeddings(
            3, 4, n_frequencies=5, frequency_init_scale=0.5, lite=False
        ).to(dtype)
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs

    @pytest.mark.parametrize("n_samples", [0, 1, 7])
    def test_same_values_and_gradients_as_rtdl(self, n_samples):
        ours, theirs = self.pair(torch.float64)
        x = torch.randn(n_samples, 3, dtype=torch.float64, requires_grad=True)
        target = torch.randn(n_samples, 3, 4, dtype=torch.float64)
        gradients = []
        for module in (ours, theirs):
            loss = (module(x) * target).sum()
            gradients.append(torch.autograd.grad(loss, [x, *module.parameters()]))
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(*gradients)

    def test_gradcheck(self):
        ours, _ = self.pair(torch.float64)
        x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(ours, [x])


class TestPeriodicBiasEmbeddings:
    def test_formula(self):
        embed = PeriodicBiasEmbeddings(2, 4, n_frequencies=5, frequency_scale=0.5)
        x = torch.randn(6, 2)
        for column in range(2):
            angles = 2 * math.pi * x[:, column, None] * embed.frequency[column]
            waves = torch.cos(angles + embed.phase[column])
            expected = waves @ embed.weight[column].T + embed.bias[column]
            result = embed(x)[:, column]
            torch.testing.assert_close(result[:, :3], expected)
            assert torch.equal(result[:, 3], x[:, column])

    def test_start(self):
        embed = PeriodicBiasEmbeddings(500, n_frequencies=16, frequency_scale=0.3)
        assert embed.get_output_shape() == embed(torch.zeros(1, 500)).shape[1:] == (500, 8)
        assert embed.frequency.std().item() == pytest.approx(0.3, rel=0.05)
        assert embed.phase.abs().max() <= math.pi
        assert embed.phase.std().item() == pytest.approx(math.pi / 3**0.5, rel=0.05)
        assert embed.weight.abs().max() <= 0.25

    def test_gradcheck(self):
        embed = PeriodicBiasEmbeddings(3, 4, n_frequencies=5).double()
        x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(embed, [x])

    def test_needs_room_for_the_number(self):
        with pytest.raises(ValueError, match="embedding_size must be at least 2, got 1: raise it"):
            PeriodicBiasEmbeddings(3, 1)


class TestTabularTrunk:
    @pytest.mark.parametrize("missing", [(), (1,), (0, 2)])
    @pytest.mark.parametrize("n_categories", [(), (4,), (3, 12)])
    @pytest.mark.parametrize("embedding", [None, "periodic", "periodic_bias", "piecewise_linear"])
    def test_widths(self, embedding, n_categories, missing):
        trunk = TabularTrunk(
            make_scaler(3, missing),
            numeric_embedding=embedding,
            bins=[torch.linspace(-1, 1, 5)] * 3,
            n_categories=n_categories,
            numeric_embedding_size=6,
        )
        numbers = torch.randn(5, 3).masked_fill(torch.rand(5, 3) < 0.2, NAN)
        codes = (
            torch.stack([torch.arange(5) % n for n in n_categories], dim=1)
            if n_categories
            else None
        )
        output = trunk(numbers, codes)
        categories = {(): 0, (4,): 3, (3, 12): 16}[n_categories]
        expected = 3 * (1 if embedding is None else 6) + len(missing) + categories
        assert trunk.out_features == expected
        assert output.shape == (5, expected)
        assert output.isfinite().all()

    @pytest.mark.parametrize("embedding", ["periodic", "periodic_bias", "piecewise_linear"])
    def test_numbers_are_scaled_and_then_embedded(self, embedding):
        scaler = RobustScaler(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), NOTHING)
        bins = [torch.linspace(-2, 2, 5), torch.linspace(-1, 3, 4)]
        trunk = TabularTrunk(scaler, numeric_embedding=embedding, bins=bins)
        numbers = 5 * torch.randn(6, 2)
        numbers[0, 0] = NAN
        expected = trunk.numeric(scaler(numbers)[0]).flatten(1)
        torch.testing.assert_close(trunk(numbers), expected)
        # A missing value counts as the centre.
        centre = numbers.clone()
        centre[0, 0] = 1.0
        torch.testing.assert_close(trunk(centre), trunk(numbers))

    @pytest.mark.parametrize("autocast", [False, True])
    @pytest.mark.parametrize("embedding", [None, "periodic", "periodic_bias", "piecewise_linear"])
    def test_trains_in_a_mixture(self, embedding, autocast):
        trunk = make_trunk(embedding)
        mixture = MixtureOfExperts(
            trunk,
            DenseGate(trunk.out_features, n_experts=3),
            MLPExperts(trunk.out_features, n_experts=3, hidden_layer_sizes=(8,)),
            torch.nn.Linear(8, 2),
            CrossEntropy(),
            mixing="likelihood",
            alpha=1.0,
        )
        numbers, codes = mixed_rows()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            losses = mixture(numbers, codes, target=torch.arange(20) % 2).losses
        losses.total.backward()
        for name, parameter in mixture.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
            assert parameter.grad.dtype == torch.float32, name

    @pytest.mark.parametrize("embedding", [None, "periodic", "periodic_bias", "piecewise_linear"])
    def test_copies(self, embedding):
        trunk, (numbers, codes) = make_trunk(embedding), mixed_rows()
        expected = trunk(numbers, codes)
        twin = make_trunk(embedding)
        twin.load_state_dict(trunk.state_dict())
        for other in (twin, copy.deepcopy(trunk), pickle.loads(pickle.dumps(trunk))):
            assert torch.equal(other(numbers, codes), expected)
        double = copy.deepcopy(trunk).double()(numbers.double(), codes)
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), expected, atol=1e-5, rtol=1e-4)

    def test_categories_alone(self):
        trunk = TabularTrunk(n_categories=[4])
        output = trunk(torch.empty(2, 0), torch.tensor([[1], [0]]))
        assert output.tolist() == [[1, 0, 0], [0, 0, 0]]
        assert trunk.out_features == 3

    def test_order_is_numbers_indicators_categories(self):
        trunk = TabularTrunk(make_scaler(2, [1]), n_categories=[3])
        row = trunk(torch.tensor([[0.0, NAN]]), torch.tensor([[2]]))
        assert row.tolist() == [[0, 0, 1, 0, 1]]

    @pytest.mark.parametrize("embedding", [None, "periodic_bias", "periodic", "piecewise_linear"])
    def test_features_change_with_their_column_alone(self, embedding):
        bins = [torch.linspace(-1, 1, 5)] * 3 if embedding == "piecewise_linear" else None
        trunk = TabularTrunk(
            make_scaler(missing=[0, 2]),
            numeric_embedding=embedding,
            bins=bins,
            n_categories=[3, 5],
        ).eval()
        numbers, codes = torch.full((1, 3), 0.3), torch.tensor([[1, 2]])
        columns = trunk.feature_columns
        assert columns.shape == (trunk.out_features,)
        assert columns.unique().tolist() == [0, 1, 2, 3, 4]
        base = trunk(numbers, codes)
        for column in range(5):
            other_numbers, other_codes = numbers.clone(), codes.clone()
            if column < 3:
                other_numbers[0, column] = NAN
            else:
                other_codes[0, column - 3] = 0
            changed = (trunk(other_numbers, other_codes) != base)[0]
            assert changed.any()
            assert (columns[changed] == column).all()

    @pytest.mark.parametrize("with_numbers", [True, False])
    def test_features_of_one_kind_of_column(self, with_numbers):
        trunk = TabularTrunk(make_scaler()) if with_numbers else TabularTrunk(n_categories=[2, 2])
        assert trunk.feature_columns.tolist() == ([0, 1, 2] if with_numbers else [0, 1])

    def test_scaler_travels_with_the_state(self):
        trunk = TabularTrunk(make_scaler(2, [1]))
        assert {"scaler.center", "scaler.scale", "scaler.missing_columns"} <= set(
            trunk.state_dict()
        )

    def test_piecewise_linear_needs_bins(self):
        with pytest.raises(
            ValueError, match=r"needs the bin edges, got bins=None: compute them with rtdl_num_emb"
        ):
            TabularTrunk(make_scaler(), numeric_embedding="piecewise_linear")

    def test_unknown_embedding(self):
        with pytest.raises(
            ValueError, match=r"numeric_embedding must be None, .* got 'fourier': choose one"
        ):
            TabularTrunk(make_scaler(), numeric_embedding="fourier")


class TestMixedTrunk:
    def make(self):
        normalize = nn.ImageNormalization(torch.tensor([0.5]), torch.tensor([0.25]))
        images = nn.ImageTrunk(normalize, nn.make_convolutions(1, (2,)), (1, 4, 4))
        texts = nn.TextTrunk(torch.ones(9), torch.randn(9, 3))
        table = nn.TabularTrunk(
            nn.RobustScaler(torch.zeros(2), torch.ones(2), torch.tensor([], dtype=torch.int64))
        )
        return nn.MixedTrunk(table, [texts], [nn.ImageFeatures(images, 5)]).eval()

    def test_each_feature_changes_with_its_own_column_alone(self):
        trunk = self.make()
        inputs = [
            torch.zeros(2, 2),
            torch.zeros(2, 0, dtype=torch.int64),
            torch.tensor([[1], [1]]),
            torch.ones(2, 1),
            torch.zeros(2, 4, 4, dtype=torch.uint8),
        ]
        before, columns = trunk(*inputs), trunk.feature_columns
        assert before.shape == (2, trunk.out_features)
        assert columns.bincount().tolist() == [1, 1, 3, 5]
        for part, value, column in ((0, 2.0, (0, 1)), (2, 4, (2,)), (4, 200, (3,))):
            others = [each.clone() for each in inputs]
            others[part].fill_(value)
            changed = (trunk(*others) != before).any(dim=0)
            assert set(columns[changed].tolist()) == set(column)
