"""Experts: stacked products against torch's layers, any module, and what survives a copy."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from skmode.nn import MLPExperts, ModuleExperts, StackedLinear


class Tower(nn.Module):
    """An expert of a user's own."""

    def __init__(self, factor=1.0, dropout=0.0):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(dropout))
        self.outer = nn.Linear(6, 4, bias=False)
        self.factor = factor

    def forward(self, x):
        return self.factor * self.outer(self.inner(x))


class Branching(nn.Module):
    """An expert whose control flow looks at values, which vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)
        self.linear = nn.Linear(5, 4)

    def forward(self, x):
        hidden = self.linear(self.norm(x))
        return hidden if hidden.sum() > 0 else -hidden


class Tied(nn.Module):
    """An expert whose two layers may share their weights."""

    def __init__(self, tied):
        super().__init__()
        self.first, self.second = (nn.Linear(5, 5, bias=False) for _ in range(2))
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh())


class Twins(nn.Module):
    """An expert with two parameters whose names differ in a dot only."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 4, bias=False)
        self.inner__weight = nn.Parameter(torch.randn(4, 5))

    def forward(self, x):
        return self.inner(x) + 2 * x @ self.inner__weight.T


class Named(nn.Module):
    """An expert with a parameter and a buffer of the given names."""

    def __init__(self, parameter, buffer):
        super().__init__()
        self.register_parameter(parameter, nn.Parameter(torch.randn(5, 4)))
        self.register_buffer(buffer, torch.randn(4))
        self.names = parameter, buffer

    def forward(self, x):
        parameter, buffer = self.names
        return x @ getattr(self, parameter) + getattr(self, buffer)


class Centred(nn.Module):
    """An expert that assigns a new tensor to its running mean, after it has used the old one."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 4)
        self.register_buffer("mean", torch.ones(5))

    def forward(self, x):
        output = self.linear(x * self.mean)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=0)
        return output


def normalised():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU())


X = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))


class TestStackedLinear:
    def test_equals_separate_linear_layers(self):
        stacked = StackedLinear(3, 5, 2)
        x = torch.randn(3, 7, 5, requires_grad=True)
        output = stacked(x)
        for i in range(3):
            layer = nn.Linear(5, 2)
            with torch.no_grad():
                layer.weight.copy_(stacked.weight[i].T)
                layer.bias.copy_(stacked.bias[i, 0])
            torch.testing.assert_close(output[i], layer(x[i]))

    def test_starts_as_torchs_linear_does(self):
        stacked, linear = StackedLinear(40, 64, 50), nn.Linear(64, 2000)
        for ours, theirs in ((stacked.weight, linear.weight), (stacked.bias, linear.bias)):
            assert ours.abs().max() <= 64**-0.5
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.05)

    def test_no_inputs(self):
        assert StackedLinear(2, 0, 3)(torch.empty(2, 4, 0)).shape == (2, 4, 3)


class TestMLPExperts:
    @pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "logistic", "identity"])
    @pytest.mark.parametrize("sizes", [(4,), (8, 3), (6, 6, 2)])
    def test_equals_separate_networks(self, sizes, activation):
        experts = MLPExperts(5, 3, sizes, activation)
        output = experts(X)
        assert output.shape == (8, 3, sizes[-1])
        assert experts.width == sizes[-1]
        for i in range(3):
            hidden = X
            for layer in experts.layers:
                hidden = experts.activation(hidden @ layer.weight[i] + layer.bias[i])
            torch.testing.assert_close(output[:, i], hidden)
            torch.testing.assert_close(experts.forward_one(X, i), hidden)

    def test_every_expert_learns(self):
        experts = MLPExperts(5, 3, (8, 4), "tanh")
        experts(X).square().sum().backward()
        for parameter in experts.parameters():
            assert (parameter.grad.flatten(1).abs().sum(dim=1) > 0).all()

    def test_dropout_differs_per_expert_and_stops_in_evaluation(self):
        experts = MLPExperts(5, 2, (64,), "identity", dropout=0.5)
        dropped = experts(X) == 0
        assert 0.3 < dropped.float().mean() < 0.7
        assert not torch.equal(dropped[:, 0], dropped[:, 1])
        experts.eval()
        assert torch.equal(experts(X), experts(X))
        assert (experts(X) != 0).all()

    def test_needs_a_layer(self):
        with pytest.raises(
            ValueError, match=r"hidden_layer_sizes must name at least one layer, got \(\): pass"
        ):
            MLPExperts(5, 2, ())

    def test_unknown_activation(self):
        with pytest.raises(ValueError, match="activation must be one of .* got 'swish': choose"):
            MLPExperts(5, 2, activation="swish")


class TestModuleExperts:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: nn.Linear(5, 4),
            Tower,
            normalised,
            lambda: nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4), nn.GELU()),
        ],
    )
    @pytest.mark.parametrize("training", [True, False])
    def test_vmap_and_loop_equal_the_modules(self, make, training):
        modules = [make().train(training) for _ in range(3)]
        stacked, looped = (ModuleExperts(modules).train(training) for _ in range(2))
        looped.vectorized = False
        output = stacked(X)
        assert stacked.vectorized
        torch.testing.assert_close(output, looped(X))
        torch.testing.assert_close(output, torch.stack([m(X) for m in modules], dim=1))
        for i in range(3):
            torch.testing.assert_close(stacked.forward_one(X, i), output[:, i])

    @pytest.mark.parametrize(
        "names", [("keys", "n_experts"), ("values", "stacked"), ("items", "skeleton")]
    )
    def test_names_may_be_any(self, names):
        modules = [Named(*names) for _ in range(3)]
        experts = ModuleExperts(modules)
        torch.testing.assert_close(experts(X), torch.stack([m(X) for m in modules], dim=1))
        assert experts.vectorized

    def test_tied_weights_stay_tied(self):
        modules = [Tied(True) for _ in range(3)]
        experts = ModuleExperts(modules)
        torch.testing.assert_close(experts(X), torch.stack([m(X) for m in modules], dim=1))
        assert experts.vectorized
        assert [tuple(value.shape) for value in experts.parameters()] == [(3, 5, 5)]

    def test_weight_norm(self):
        modules = [nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)) for _ in range(2)]
        torch.testing.assert_close(
            ModuleExperts(modules)(X), torch.stack([m(X) for m in modules], dim=1)
        )

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients(self, mode):
        modules = [normalised().eval() for _ in range(2)]
        experts = ModuleExperts(modules).eval()
        expected = torch.stack([m(X) for m in modules], dim=1)
        with mode():
            torch.testing.assert_close(experts(X), expected)

    @pytest.mark.parametrize("make", [Tower, Branching, normalised])
    def test_autocast(self, make):
        experts = ModuleExperts([make().eval() for _ in range(2)]).eval()
        exact = experts(X)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = experts(X)
        torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)
        rough.float().sum().backward()
        assert all(parameter.grad is not None for parameter in experts.parameters())

    def test_weights_are_copied(self):
        modules = [nn.Linear(5, 4) for _ in range(2)]
        experts = ModuleExperts(modules)
        before = experts(X).detach()
        with torch.no_grad():
            modules[0].weight.zero_()
        assert torch.equal(experts(X), before)

    def test_gradients_reach_the_stacked_parameters(self):
        modules = [Tower() for _ in range(3)]
        experts = ModuleExperts(modules)
        experts(X).square().sum().backward()
        for module in modules:
            module(X).square().sum().backward()
        gradients = {name: value.grad for name, value in experts.named_parameters()}
        assert len(gradients) == 3
        for name, _ in modules[0].named_parameters():
            expected = torch.stack([module.get_parameter(name).grad for module in modules])
            gradient = gradients["stacked.expert__" + name.replace(".", "__")]
            torch.testing.assert_close(gradient, expected)

    def test_frozen_parameters_stay_frozen(self):
        modules = [nn.Linear(5, 4) for _ in range(2)]
        for module in modules:
            module.weight.requires_grad_(False)
        trainable = {n: p.requires_grad for n, p in ModuleExperts(modules).named_parameters()}
        assert trainable == {"stacked.expert__weight": False, "stacked.expert__bias": True}

    def test_batch_norm_updates_each_experts_statistics(self):
        modules = [normalised().train() for _ in range(3)]
        experts = ModuleExperts(modules).train()
        for _ in range(2):
            experts(X)
            for module in modules:
                module(X)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            expected = torch.stack([module[1].get_buffer(name) for module in modules])
            torch.testing.assert_close(experts.get_buffer(f"expert__1__{name}"), expected)

    @pytest.mark.parametrize("alone", [False, True])
    def test_buffers_that_modules_assign_are_kept(self, alone):
        modules = [Centred() for _ in range(3)]
        experts = ModuleExperts(modules).train()
        outputs, expected = [], []
        for _ in range(2):
            each = [experts.forward_one(X, i) for i in range(3)] if alone else [experts(X)]
            outputs += each
            expected += [module(X) for module in modules]
        assert experts.vectorized
        torch.testing.assert_close(
            experts.get_buffer("expert__mean"), torch.stack([module.mean for module in modules])
        )
        sum(output.sum() for output in outputs).backward()
        sum(output.sum() for output in expected).backward()
        torch.testing.assert_close(
            experts.stacked["expert__linear__weight"].grad,
            torch.stack([module.linear.weight.grad for module in modules]),
        )

    def test_buffers_of_another_shape_are_caches(self):
        class Caching(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(5, 4)
                self.register_buffer("ones", torch.ones(1, 1))

            def forward(self, x):
                if len(self.ones) != len(x):
                    self.ones = torch.ones(len(x), 1)
                return self.linear(x) + self.ones

        modules = [Caching() for _ in range(2)]
        experts = ModuleExperts(modules)
        torch.testing.assert_close(experts(X), torch.stack([m(X) for m in modules], dim=1))
        torch.testing.assert_close(experts.forward_one(X[:3], 1), modules[1](X[:3]))

    @pytest.mark.parametrize("stacked", [True, False])
    def test_modules_may_change_their_input(self, stacked):
        modules = [
            nn.Sequential(nn.LeakyReLU(0.1, inplace=True), nn.Linear(5, 4)) for _ in range(3)
        ]
        experts = ModuleExperts(modules, stacked)
        expected = torch.stack([m(X.clone()) for m in modules], dim=1)
        hidden = torch.nn.Parameter(X.clone()).exp().log()  # whose backward pass needs exp's output
        output = experts(hidden)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(experts.forward_one(hidden, 1), expected[:, 1])
        torch.testing.assert_close(hidden, X)
        output.sum().backward()

    @pytest.mark.parametrize("frozen", [False, True])
    def test_what_modules_share_stays_shared(self, frozen):
        shared = nn.Linear(5, 5).requires_grad_(not frozen)
        modules = [nn.Sequential(shared, nn.Linear(5, 4)) for _ in range(3)]
        experts = ModuleExperts(modules)
        assert sum(value.numel() for value in experts.parameters()) == 30 + 3 * 24
        torch.testing.assert_close(experts(X), torch.stack([m(X) for m in modules], dim=1))
        assert experts.separate[0][0] is experts.separate[2][0]
        assert experts.separate[0][0] is not shared

    def test_falls_back_to_a_loop_if_vmap_fails(self):
        modules = [Branching().train() for _ in range(4)]
        experts = ModuleExperts(modules).train()
        output = experts(X)
        assert not experts.vectorized
        torch.testing.assert_close(output, torch.stack([m(X) for m in modules], dim=1))
        output.sum().backward()
        assert all(parameter.grad is not None for parameter in experts.parameters())
        # The attempt with vmap got past the normalisation; its update counts once all the same.
        for name in ("running_mean", "num_batches_tracked"):
            expected = torch.stack([module.norm.get_buffer(name) for module in modules])
            torch.testing.assert_close(experts.get_buffer(f"expert__norm__{name}"), expected)

    def test_recurrent_modules(self):
        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.LSTM(5, 4, batch_first=True)

            def forward(self, x):
                return self.inner(x.unsqueeze(1))[0][:, 0]

        modules = [Recurrent() for _ in range(2)]
        torch.testing.assert_close(
            ModuleExperts(modules)(X), torch.stack([m(X) for m in modules], dim=1)
        )

    @pytest.mark.parametrize(
        "modules",
        [
            [nn.Linear(5, 4), Tower()],
            [nn.Linear(5, 4), nn.Linear(5, 4, bias=False)],
            [nn.Sequential(nn.Linear(5, 4), nn.ReLU()), nn.Sequential(nn.Linear(5, 4), nn.Tanh())],
            [
                nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4)),
                nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 4)),
            ],
            [Tower(1.0), Tower(2.0)],  # print alike, compute different things
            [Tower(dropout=0.0).eval(), Tower(dropout=0.5).eval()],
            [Tied(True), Tied(False)],
            [Tied(False), Tied(True)],
            [Twins(), Twins()],
        ],
    )
    def test_modules_of_different_structure_are_not_stacked(self, modules):
        experts = ModuleExperts(modules)
        assert not experts.vectorized
        torch.testing.assert_close(experts(X), torch.stack([m(X) for m in modules], dim=1))
        torch.testing.assert_close(experts.forward_one(X, 1), modules[1](X))
        experts(X).sum().backward()
        assert all(parameter.grad is not None for parameter in experts.parameters())

    def test_dropout_differs_per_expert(self):
        module = nn.Sequential(nn.Linear(5, 64), nn.Dropout(0.5))
        experts = ModuleExperts([module, copy.deepcopy(module)]).train()
        first, second = experts(X).unbind(dim=1)
        assert experts.vectorized
        assert not torch.equal(first, second)
        first, second = experts.eval()(X).unbind(dim=1)
        torch.testing.assert_close(first, second)

    def test_an_error_in_a_module_is_raised_unchanged_and_not_cached(self):
        experts = ModuleExperts([nn.Linear(5, 4) for _ in range(2)])
        with pytest.raises(RuntimeError, match="shapes"):
            experts(torch.randn(2, 3))
        experts(X)
        assert experts.vectorized

    @pytest.mark.parametrize(
        "make",
        [
            lambda: [Tower() for _ in range(3)],
            lambda: [normalised() for _ in range(3)],
            lambda: [Tied(True) for _ in range(3)],
            lambda: [Branching() for _ in range(3)],
            lambda: [nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)) for _ in range(3)],
            lambda: [Tower(1.0), Tower(2.0), Tower(3.0)],
        ],
        ids=["tower", "batch norm", "tied", "branching", "weight norm", "apart"],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_one_expert_computes_the_same_alone_and_among_all(self, make, dtype):
        experts = ModuleExperts(make()).to(dtype).train()
        x = X.to(dtype)
        experts(x)  # moves the statistics of a batch normalisation
        with torch.no_grad():
            for parameter in experts.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        experts.eval()
        for i in range(3):
            alone = experts.expert(i)
            assert not alone.training
            assert {value.dtype for value in alone.parameters()} == {dtype}
            torch.testing.assert_close(alone(x), experts.forward_one(x, i))

    def test_an_expert_alone_is_a_copy(self):
        experts = ModuleExperts([Tied(True) for _ in range(2)])
        before = experts(X).detach()
        alone = experts.expert(1)
        assert alone.first.weight is alone.second.weight
        with torch.no_grad():
            alone.first.weight.zero_()
        assert torch.equal(experts(X), before)
        assert experts.expert(1).first.weight.any()

    @pytest.mark.parametrize("i", [-1, 2])
    def test_unknown_expert_index_raises(self, i):
        experts = ModuleExperts([nn.Linear(5, 4) for _ in range(2)])
        with pytest.raises(IndexError, match=rf"^i must lie between 0 and 1, got {i}: count"):
            experts.expert(i)

    @pytest.mark.parametrize("stacked", [True, False])
    def test_modules_must_return_tensors(self, stacked):
        class Pair(nn.Linear):
            def forward(self, x):
                return super().forward(x), x

        experts = ModuleExperts([Pair(5, 4) for _ in range(2)], stacked)
        with pytest.raises(TypeError, match="Experts must return a tensor, got tuple: return only"):
            experts(X)

    def test_needs_a_module(self):
        with pytest.raises(
            ValueError, match="modules must hold one expert or more, got none: pass one per expert"
        ):
            ModuleExperts([])


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLPExperts(5, 3, (8, 4)),
        lambda: ModuleExperts([normalised() for _ in range(3)]),
        lambda: ModuleExperts([Tower(1.0), Tower(2.0)]),
    ],
)
class TestCopies:
    def test_state_dict(self, make):
        first, second = make().eval(), make().eval()
        assert not torch.equal(first(X), second(X))
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(X), second(X))

    def test_deepcopy_is_independent(self, make):
        experts = make().eval()
        twin = copy.deepcopy(experts)
        before = experts(X).detach()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert torch.equal(experts(X), before)

    def test_pickle_and_torch_save(self, make):
        experts = make().eval()
        assert torch.equal(pickle.loads(pickle.dumps(experts))(X), experts(X))
        file = io.BytesIO()
        torch.save(experts, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(X), experts(X))

    def test_double(self, make):
        experts = make().eval()
        single = experts(X)
        double = experts.double()(X.double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), single)
        assert experts.forward_one(X.double(), 1).dtype == torch.float64
