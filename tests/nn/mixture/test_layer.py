"""The layer: values against plain formulas, padding, and losses that are counted once."""

import copy
import gc
import itertools
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from skmode.nn import (
    MLPExperts,
    MoDELayer,
    StackedLinear,
    auxiliary_loss,
    distillation_loss,
    load_balance_loss,
)

WIDTH = 6
GATES = {
    "top1": {"top_k": 1, "alpha": 0.0},
    "top2": {"top_k": 2, "alpha": 1.0},
    "all": {"top_k": 2, "alpha": 1.0, "distill_among": "all"},
    "dense": {"gate": "dense", "alpha": 1.0},
}


def make_layer(**options):
    defaults = {"width": WIDTH, "n_experts": 4, "balance": 0.1}
    if "expert" not in options:
        defaults["hidden_width"] = 8
    return MoDELayer(**defaults | options)


class Network(nn.Module):
    """Two layers with residual connections."""

    def __init__(self, **options):
        super().__init__()
        self.layers = nn.ModuleList([make_layer(**options) for _ in range(2)])
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


def gradients(module):
    grads = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {name: None if grad is None else grad.clone() for name, grad in grads.items()}


def logged(model):
    return sum(layer.losses.total for layer in model.modules() if isinstance(layer, MoDELayer))


class TestValues:
    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    @pytest.mark.parametrize("training", [True, False])
    def test_output_is_the_weighted_sum_of_all_experts(self, options, training):
        layer = make_layer(**options).train(training)
        x = torch.randn(3, 5, WIDTH)
        rows = x.view(-1, WIDTH)
        weights, each = layer.gate(rows).probabilities, layer.experts(rows)
        expected = torch.stack([w @ e for w, e in zip(weights, each, strict=True)])
        assert_close(layer(x), expected.view(x.shape))

    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    def test_losses_are_those_of_the_losses_module(self, options):
        layer = make_layer(**options)
        x = torch.randn(11, WIDTH)
        output = layer(x)
        gate = layer.gate(x)
        active = None if options.get("distill_among") == "all" else gate.active
        distillation = distillation_loss(layer.experts(x), active=active)
        balance = load_balance_loss(gate)
        assert_close(layer.losses.load_balance, balance.detach())
        assert_close(auxiliary_loss(layer), options["alpha"] * distillation + 0.1 * balance)
        assert output.shape == x.shape

    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    def test_gradients_equal_those_of_the_plain_formula(self, options):
        layer = make_layer(**options).double()
        plain = copy.deepcopy(layer)
        x = torch.randn(11, WIDTH, dtype=torch.float64)
        (layer(x).square().sum() + auxiliary_loss(layer)).backward()
        gate, each = plain.gate(x), plain.experts(x)
        active = None if options.get("distill_among") == "all" else gate.active
        loss = (gate.probabilities.unsqueeze(2) * each).sum(dim=1).square().sum()
        loss = loss + options["alpha"] * distillation_loss(each, active=active)
        (loss + 0.1 * load_balance_loss(gate)).backward()
        assert_close(gradients(layer), gradients(plain))

    def test_default_experts_end_with_a_linear_layer(self):
        layer = make_layer()
        first, last = layer.experts.layers
        assert isinstance(last, StackedLinear)
        x = torch.randn(7, WIDTH)
        hidden = (x @ first.weight[2] + first.bias[2]).relu()
        assert_close(layer.experts.forward_one(x, 2), hidden @ last.weight[2] + last.bias[2])
        assert_close(layer.experts(x)[:, 2], layer.experts.forward_one(x, 2))

    def test_experts_pickled_before_end_with_their_activation(self):
        experts = MLPExperts(WIDTH, 2, (3,))
        del experts.__dict__["linear_output"]
        experts = pickle.loads(pickle.dumps(experts))
        assert (experts(torch.randn(9, WIDTH)) >= 0).all()

    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    def test_experts_of_the_user(self, options):
        def expert():
            return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Tanh())

        layer = make_layer(expert=expert, **options)
        x = torch.randn(2, 9, WIDTH)
        (layer(x).sum() + auxiliary_loss(layer)).backward()
        assert all(grad is not None for grad in gradients(layer).values())
        rows = x.view(-1, WIDTH)
        one = layer.experts.expert(0)(rows)
        assert_close(layer.experts(rows)[:, 0], one)

    def test_experts_of_different_kinds(self):
        kinds = iter([nn.Linear(WIDTH, WIDTH), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())])
        layer = MoDELayer(WIDTH, 2, expert=lambda: next(kinds))
        assert layer(torch.randn(5, WIDTH)).shape == (5, WIDTH)

    def test_fewer_experts_may_run_after_training(self):
        layer = make_layer(top_k=2).eval()
        x = torch.randn(5, WIDTH)
        layer.gate.top_k = 1
        top = layer.route(x).squeeze(1)
        assert_close(layer(x), layer.experts(x)[torch.arange(5), top])


class TestPadding:
    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    def test_padding_changes_nothing(self, options):
        layer = make_layer(**options)
        lengths = torch.tensor([4, 1, 0])
        mask = torch.arange(5) >= lengths[:, None]
        x = torch.randn(3, 5, WIDTH)
        expected = layer(x[~mask])
        loss, grads = auxiliary_loss(layer), []
        for padded in (x, x.masked_fill(mask.unsqueeze(2), 1e4)):
            output = layer(padded, padding_mask=mask)
            assert_close(output[~mask], expected)
            assert (output[mask] == 0).all()
            found = auxiliary_loss(layer)
            assert_close(found, loss)
            layer.zero_grad()
            (output.sum() + found).backward()
            grads.append(gradients(layer))
        assert_close(grads[0], grads[1])

    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    def test_nothing_but_padding(self, options):
        layer = make_layer(**options)
        output = layer(torch.randn(2, 3, WIDTH), torch.ones(2, 3, dtype=torch.bool))
        assert (output == 0).all()
        loss = auxiliary_loss(layer)
        assert loss == 0
        (output.sum() + loss).backward()
        assert all(g is None or (g == 0).all() for g in gradients(layer).values())
        assert layer(torch.randn(0, 3, WIDTH)).shape == (0, 3, WIDTH)

    def test_routes(self):
        layer = make_layer(top_k=2)
        x = torch.randn(2, 3, WIDTH)
        mask = torch.tensor([[False, True, False], [False, False, True]])
        routes = layer.route(x, mask)
        weights = layer.gate(x.view(-1, WIDTH)).probabilities.view(2, 3, 4)
        assert routes.shape == (2, 3, 2)
        assert (routes[mask] == -1).all()
        assert_close(routes[~mask][:, 0], weights[~mask].argmax(dim=1))
        assert make_layer(gate="dense").route(x).shape == (2, 3, 4)


class TestCountedOnce:
    """What `auxiliary_loss` sums when a training loop is not the plain one."""

    def test_all_layers_count(self):
        model = Network()
        prediction = model(torch.randn(9, WIDTH))
        assert_close(auxiliary_loss(model).detach(), logged(model))
        assert prediction.requires_grad

    def test_asking_again_changes_nothing(self):
        model = Network()
        prediction = model(torch.randn(9, WIDTH))
        assert auxiliary_loss(model) == auxiliary_loss(model)
        (prediction.sum() + auxiliary_loss(model)).backward()
        assert all(g.abs().sum() > 0 for g in gradients(model.layers[0].gate).values())

    def test_a_training_loop_counts_each_step(self):
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            prediction = model(torch.randn(9, WIDTH))
            found = auxiliary_loss(model)
            assert_close(found.detach(), logged(model))
            loss = prediction.square().mean() + found
            loss.backward()
            optimizer.step()

    def test_a_layer_that_runs_twice_counts_twice(self):
        layer = make_layer()
        x = torch.randn(9, WIDTH)
        first = layer(x)
        one = layer.losses.total
        second = layer(first)
        assert_close(auxiliary_loss(layer).detach(), one + layer.losses.total)
        assert second.requires_grad

    def test_micro_batches_count_their_own(self):
        model, x = Network(), torch.randn(4, 9, WIDTH)
        losses = []
        for part in x:
            losses.append(model(part).mean() + auxiliary_loss(model))
        sum(losses).backward()
        grads = gradients(model)
        model.zero_grad()
        for part in x:
            (model(part).mean() + auxiliary_loss(model)).backward()
        assert_close(grads, gradients(model))

    def test_several_passes_before_the_loss(self):
        model, parts = Network(), torch.randn(2, 9, WIDTH)
        left = model(parts[0])
        expected = logged(model)
        right = model(parts[1])
        expected = expected + logged(model)
        loss = (left - right).square().mean()
        assert_close(auxiliary_loss(model).detach(), expected)
        assert loss.requires_grad

    def test_layers_that_did_not_run_add_nothing(self):
        model = nn.ModuleDict({"a": make_layer(), "b": make_layer()})
        x = torch.randn(9, WIDTH)
        for name in "abba":
            loss = model[name](x).mean() + auxiliary_loss(model)  # `loss` keeps the last graph
            assert_close(auxiliary_loss(model).detach(), model[name].losses.total)
        assert loss.requires_grad

    def test_a_dropped_pass_adds_nothing_and_is_freed(self):
        model = Network()
        model(torch.randn(9, WIDTH))
        assert auxiliary_loss(model) == 0
        prediction = model(torch.randn(9, WIDTH))
        assert_close(auxiliary_loss(model).detach(), logged(model))
        (loss, *_) = model.layers[0]._records.live()
        reference = weakref.ref(loss)
        del prediction, loss
        gc.collect()
        assert reference() is None
        assert [layer._records.live() for layer in model.layers] == [[], []]

    def test_in_place_changes_of_the_output_lose_nothing(self):
        layer = make_layer()
        output = layer(torch.randn(9, WIDTH))
        output += 1
        result = output.relu_()
        result = result * 2
        del output
        gc.collect()
        assert_close(auxiliary_loss(layer).detach(), layer.losses.total)

    def test_evaluation_adds_nothing(self):
        model, x = Network(), torch.randn(9, WIDTH)
        loss = model(x).mean() + auxiliary_loss(model)
        model.eval()
        model(x)
        assert auxiliary_loss(model) == 0
        with torch.no_grad():
            model(x)
            assert auxiliary_loss(model) == 0
        model.train()
        assert_close((model(x).mean() + auxiliary_loss(model)).detach(), loss.detach())

    def test_training_mode_without_gradients(self):
        model, x = Network(), torch.randn(9, WIDTH)
        with torch.no_grad():
            model(x)
            assert auxiliary_loss(model) == 0
            model(x)
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            auxiliary_loss(model)
        prediction = model(x)
        with torch.no_grad():
            model(x)
        assert auxiliary_loss(model) > 0
        assert prediction.requires_grad

    @pytest.mark.parametrize("options", GATES.values(), ids=GATES)
    def test_checkpointing(self, options):
        model = Network(**options)
        plain, x = copy.deepcopy(model), torch.randn(9, WIDTH)
        for _ in range(2):
            for each in (model, plain):
                each.zero_grad()
            hidden = checkpoint(model.layers[0], x, use_reentrant=False)
            loss = model.layers[1](hidden).sum() + auxiliary_loss(model)
            loss.backward()
            (plain.layers[1](plain.layers[0](x)).sum() + auxiliary_loss(plain)).backward()
            assert_close(gradients(model), gradients(plain))

    def test_reentrant_checkpointing_is_refused(self):
        layer = make_layer()
        x = torch.randn(9, WIDTH, requires_grad=True)
        output = checkpoint(layer, x, use_reentrant=True)
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            auxiliary_loss(layer)
        output.sum().backward()
        assert layer._records.live() == []

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    def test_copies_between_forward_and_backward(self, copied):
        model = Network()
        prediction = model(torch.randn(9, WIDTH))
        twin = copied(model)
        assert auxiliary_loss(twin) == 0
        (prediction.sum() + auxiliary_loss(model)).backward()
        twin(torch.randn(9, WIDTH)).sum().backward()

    def test_autocast(self):
        layer = make_layer(alpha=1.0)
        x = torch.randn(50, WIDTH)
        expected = layer(x)
        loss = auxiliary_loss(layer)
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(x)
            found = auxiliary_loss(layer)
        assert output.dtype == torch.bfloat16
        assert found.dtype == torch.float32
        assert_close(found, loss, rtol=0.02, atol=0)
        assert_close(output.float(), expected, rtol=0, atol=0.05)
        (output.float().sum() + found).backward()

    def test_half_precision(self):
        layer = make_layer(alpha=1.0).bfloat16()
        output = layer(torch.randn(50, WIDTH, dtype=torch.bfloat16))
        assert output.dtype == torch.bfloat16
        assert auxiliary_loss(layer).dtype == torch.float32

    def test_wrappers(self):
        class Wrapper(nn.Module):
            def __init__(self, module):
                super().__init__()
                self.module = module

            def forward(self, x):
                return self.module(x)

        model = Wrapper(Network())
        prediction = model(torch.randn(9, WIDTH))
        assert_close(auxiliary_loss(model).detach(), logged(model))
        assert prediction.requires_grad

    def test_replicas_of_data_parallel_are_refused(self):
        layer = make_layer()
        replica = layer._replicate_for_data_parallel()
        replica.gate, replica.experts = layer.gate, layer.experts
        with pytest.raises(RuntimeError, match="DistributedDataParallel"):
            replica(torch.randn(9, WIDTH))
        assert replica.eval()(torch.randn(9, WIDTH)).shape == (9, WIDTH)
        layer.train()
        output = DataParallel(layer)(torch.randn(9, WIDTH))  # without a GPU it is a plain call
        assert auxiliary_loss(layer) > 0
        assert output.requires_grad

    def test_distributed_data_parallel(self, tmp_path):
        torch.distributed.init_process_group(
            "gloo", f"file://{tmp_path}/store", rank=0, world_size=1
        )
        try:
            model = Network()
            plain = copy.deepcopy(model)
            wrapped = DistributedDataParallel(model)
            x = torch.randn(1, WIDTH)  # most experts get no token
            for _ in range(2):
                for each in (wrapped, plain):
                    each.zero_grad()
                    (each(x).sum() + auxiliary_loss(each)).backward()
                assert_close(gradients(model), gradients(plain))
        finally:
            torch.distributed.destroy_process_group()

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [GATES["top2"], GATES["dense"]], ids=["top2", "dense"])
    def test_compiled(self, options):
        model = Network(**options)
        plain, x = copy.deepcopy(model), torch.randn(9, WIDTH)
        compiled = torch.compile(model, backend="aot_eager")
        for _ in range(2):
            for each in (compiled, plain):
                each.zero_grad()
                (each(x).sum() + auxiliary_loss(each)).backward()
            assert_close(gradients(model), gradients(plain))

    def test_frozen_layers(self):
        model = Network()
        model.layers.requires_grad_(False)
        prediction = model(torch.randn(9, WIDTH))
        (prediction.sum() + auxiliary_loss(model)).backward()


def test_training_balances_and_distills():
    x, y = torch.randn(200, WIDTH), torch.randn(200, WIDTH)
    spreads = {}
    for alpha in (0.0, 10.0):
        torch.manual_seed(1)
        layer = make_layer(alpha=alpha, balance=0.1)
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            ((layer(x) - y).square().mean() + auxiliary_loss(layer)).backward()
            optimizer.step()
        assert layer.losses.load_balance < 1.2
        spreads[alpha] = distillation_loss(layer.experts(x), active=layer.gate(x).active)
    assert spreads[10.0] < 0.3 * spreads[0.0]


def test_a_loop_that_never_asks_collects_nothing():
    layer = make_layer()
    for _ in range(5):
        output = layer(torch.randn(3, WIDTH))
        assert len(layer._records._records) <= 2
    assert_close(auxiliary_loss(layer).detach(), layer.losses.total)
    assert output.requires_grad


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gate": "soft"}, ValueError, 'gate must be "sparse" or "dense", got \'soft\''),
        ({"distill_among": "some"}, ValueError, 'must be "active" or "all"'),
        ({"distillation": "sum"}, ValueError, 'must be "mean" or "pairwise"'),
        ({"alpha": -1}, ValueError, "alpha must be zero or more, got -1"),
        ({"balance": float("nan")}, ValueError, "balance must be zero or more, got nan"),
        ({"alpha": "auto"}, ValueError, "alpha must be zero or more, got 'auto'"),
        ({"width": 0}, ValueError, "width must be a whole number of at least 1, got 0"),
        ({"width": 8.0}, ValueError, r"width must be a whole number of at least 1, got 8\.0"),
        ({"hidden_width": 0}, ValueError, "hidden_width must be a whole number of at least 1"),
        ({"hidden_width": -1}, ValueError, "hidden_width must be .* got -1"),
        ({"n_experts": 0}, ValueError, "n_experts must be a whole number of at least 1, got 0"),
        ({"top_k": 1}, ValueError, 'got 0.1 with top_k=1: .*distill_among="all"'),
        ({"top_k": 2.0}, ValueError, r"top_k must be a whole number of at least 1, got 2\.0"),
        ({"n_experts": 1, "gate": "dense"}, ValueError, "got 0.1 with n_experts=1: pass alpha=0"),
        (
            {"n_experts": 1, "top_k": 1, "distill_among": "all"},
            ValueError,
            "alpha must be 0 with a single expert",
        ),
        ({"n_experts": True}, ValueError, "n_experts must be a whole number of .* got True"),
        (
            {"expert": lambda: nn.Linear(WIDTH, WIDTH), "dropout": 0.1},
            ValueError,
            "dropout is for experts that the layer builds, got 0.1",
        ),
        ({"top_k": 5}, ValueError, "between 1 and n_experts=4, got 5"),
        ({"expert": nn.Linear(2, 2)}, TypeError, "builds one expert, got Linear"),
        ({"expert": 3}, TypeError, "got int"),
        ({"expert": dict}, TypeError, "got dict"),
        ({"expert": itertools.repeat(nn.Linear(2, 2)).__next__}, ValueError, "a new module"),
    ],
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        make_layer(**options)


def test_input_is_checked():
    layer = make_layer()
    with pytest.raises(ValueError, match=r"width=6, got the shape \(3, 5\)"):
        layer(torch.randn(3, 5))
    with pytest.raises(TypeError, match="attention_mask == 0"):
        layer(torch.randn(3, WIDTH), torch.ones(3))
    with pytest.raises(ValueError, match=r"\(3,\), got \(4,\)"):
        layer(torch.randn(3, WIDTH), torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"outputs \(n_tokens, 6\), got \(3, 2\)"):
        make_layer(expert=lambda: nn.Linear(WIDTH, 2))(torch.randn(3, WIDTH))
    with pytest.raises(ValueError, match="must contain a MoDELayer, got Linear"):
        auxiliary_loss(nn.Linear(2, 2))
