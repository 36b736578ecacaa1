"""The mixture: three mixings against plain formulas, sparse routing, losses and their gradients."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from skmode.nn import (
    CrossEntropy,
    DenseGate,
    IdentityTrunk,
    MixtureOfExperts,
    MLPExperts,
    ModuleExperts,
    RegressionLoss,
    SparseGate,
    distillation_loss,
    load_balance_loss,
)

MIXINGS = ["representation", "likelihood", "expected"]
LOSSES = ["classes", "squared_error", "absolute_error", "huber", "quantile"]
N, WIDTH, K, H, OUT = 9, 5, 4, 6, 3


def make_mixture(loss="classes", *, top_k=None, n_experts=K, activation="tanh", **options):
    gate = DenseGate(WIDTH, n_experts) if top_k is None else SparseGate(WIDTH, n_experts, top_k)
    return MixtureOfExperts(
        IdentityTrunk(WIDTH),
        gate,
        MLPExperts(WIDTH, n_experts, (8, H), activation),
        nn.Linear(H, OUT),
        CrossEntropy() if loss == "classes" else RegressionLoss(loss, quantile=0.7, delta=0.8),
        **options,
    )


def make_data(loss="classes", n=N, dtype=torch.float32):
    x = torch.randn(n, WIDTH, dtype=dtype)
    target = torch.randint(OUT, (n,)) if loss == "classes" else torch.randn(n, OUT, dtype=dtype)
    return x, target


def pieces(mixture, x):
    """Gate weights, representations and outputs, from the public parts alone."""
    gate = mixture.gate(mixture.trunk(x)).probabilities
    experts = mixture.experts(x)
    outputs = [mixture.head(experts[:, i]) for i in range(mixture.n_experts)]
    return gate, experts, torch.stack(outputs, dim=1)


class TestMixings:
    """Losses and predictions against formulas without a logsumexp."""

    @pytest.mark.parametrize("top_k", [None, 2, 3])
    @pytest.mark.slow
    def test_representation_of_classes(self, top_k):
        mixture, (x, y) = make_mixture(top_k=top_k), make_data()
        gate, experts, _ = pieces(mixture, x)
        scores = mixture.head(torch.einsum("nk,nkh->nh", gate, experts))
        output = mixture(x, target=y)
        torch.testing.assert_close(output.prediction.exp(), scores.softmax(dim=1))
        torch.testing.assert_close(output.losses.task, nn.functional.cross_entropy(scores, y))

    @pytest.mark.parametrize("top_k", [None, 2, 3])
    def test_likelihood_of_classes(self, top_k):
        mixture, (x, y) = make_mixture(mixing="likelihood", top_k=top_k), make_data()
        gate, _, scores = pieces(mixture, x)
        probabilities = (gate.unsqueeze(2) * scores.softmax(dim=2)).sum(dim=1)
        output = mixture(x, target=y)
        torch.testing.assert_close(output.prediction.exp(), probabilities)
        expected = -probabilities[torch.arange(N), y].log().mean()
        torch.testing.assert_close(output.losses.task, expected)

    @pytest.mark.parametrize("top_k", [None, 2, 3])
    def test_expected_of_classes(self, top_k):
        mixture, (x, y) = make_mixture(mixing="expected", top_k=top_k), make_data()
        gate, _, scores = pieces(mixture, x)
        probabilities = scores.softmax(dim=2)
        output = mixture(x, target=y)
        mixed = (gate.unsqueeze(2) * probabilities).sum(dim=1)
        torch.testing.assert_close(output.prediction.exp(), mixed)
        each = -probabilities[torch.arange(N), :, y].log()
        torch.testing.assert_close(output.losses.task, (gate * each).sum(dim=1).mean())

    @pytest.mark.parametrize("top_k", [None, 2])
    @pytest.mark.parametrize("loss", LOSSES[1:])
    def test_regression(self, loss, top_k):
        for mixing in MIXINGS:
            mixture, (x, y) = make_mixture(loss, mixing=mixing, top_k=top_k), make_data(loss)
            with torch.no_grad():
                mixture.task_loss.log_scale.fill_(0.3)
            gate, experts, outputs = pieces(mixture, x)
            mixed = (gate.unsqueeze(2) * outputs).sum(dim=1)
            if mixing == "representation":
                # The head is linear and the weights sum to one: both orders are the same.
                mixed = mixture.head(torch.einsum("nk,nkh->nh", gate, experts))
                expected = mixture.task_loss(mixed, y)
            elif mixing == "expected":
                expected = (gate * mixture.task_loss(outputs, y.unsqueeze(1))).sum(dim=1)
            else:
                nll = mixture.task_loss.negative_log_likelihood(outputs, y.unsqueeze(1))
                expected = -(gate * (-nll).exp()).sum(dim=1).log()
            output = mixture(x, target=y)
            torch.testing.assert_close(output.prediction, mixed)
            torch.testing.assert_close(output.losses.task, expected.mean())

    def test_likelihood_is_stable_where_naive_probabilities_underflow(self):
        mixture = make_mixture("squared_error", mixing="likelihood")
        x, y = make_data("squared_error")
        losses = mixture(x, target=y + 1e3).losses
        assert losses.task.isfinite()
        losses.total.backward()
        assert all(p.grad.isfinite().all() for p in mixture.parameters())

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("top_k", [None, 1, 2])
    @pytest.mark.parametrize("training", [True, False])
    def test_probabilities_sum_to_one(self, mixing, top_k, training):
        mixture = make_mixture(mixing=mixing, top_k=top_k).train(training)
        x = 3 * make_data()[0]
        ones = torch.ones(N)
        torch.testing.assert_close(mixture(x).prediction.exp().sum(dim=1), ones)
        torch.testing.assert_close(mixture.predict_top_expert(x)[0].exp().sum(dim=1), ones)

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 10**6), top_k=st.sampled_from([None, 2]), scale=st.floats(0.1, 10))
    def test_expected_bounds_likelihood(self, seed, top_k, scale):
        """Jensen's inequality."""
        torch.manual_seed(seed)
        mixture, (x, y) = make_mixture(mixing="likelihood", top_k=top_k), make_data()
        likelihood = mixture(scale * x, target=y).losses.task
        mixture.mixing = "expected"
        expected = mixture(scale * x, target=y).losses.task
        assert expected >= likelihood - 1e-6

    @pytest.mark.parametrize("loss", LOSSES[1:])
    def test_expected_density_bounds_likelihood(self, loss):
        mixture, (x, y) = make_mixture(loss, mixing="likelihood"), make_data(loss)
        gate, _, outputs = pieces(mixture, x)
        nll = mixture.task_loss.negative_log_likelihood(outputs, y.unsqueeze(1))
        assert (gate * nll).sum(dim=1).mean() >= mixture(x, target=y).losses.task

    @pytest.mark.parametrize("loss", ["classes", "squared_error"])
    def test_all_mixings_are_equal_for_one_expert(self, loss):
        x, y = make_data(loss)
        mixture = make_mixture(loss, n_experts=1)
        predictions = []
        for mixing in MIXINGS:
            mixture.mixing = mixing
            predictions.append(mixture(x, target=y).prediction)
        torch.testing.assert_close(predictions[1], predictions[0])
        torch.testing.assert_close(predictions[2], predictions[0])


class TestLosses:
    def test_parts_add_up(self):
        mixture = make_mixture(top_k=2, alpha=0.7, balance=0.3, distillation="pairwise")
        x, y = make_data()
        losses = mixture(x, target=y).losses
        gate = mixture.gate(x)
        distillation = distillation_loss(
            mixture.experts(x), distillation="pairwise", active=gate.active
        )
        torch.testing.assert_close(losses.distillation, distillation)
        torch.testing.assert_close(losses.balance, load_balance_loss(gate))
        total = losses.task + 0.7 * losses.distillation + 0.3 * losses.balance
        torch.testing.assert_close(losses.total, total)

    def test_without_weights_the_parts_are_zero(self):
        x, y = make_data()
        losses = make_mixture()(x, target=y).losses
        assert losses.distillation == losses.balance == 0
        assert losses.total == losses.task

    def test_no_losses_without_target(self):
        assert make_mixture(alpha=1.0)(make_data()[0]).losses is None

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("loss", ["classes", "squared_error"])
    @pytest.mark.parametrize("top_k", [None, 2])
    def test_unit_weights_equal_no_weights(self, loss, mixing, top_k):
        mixture = make_mixture(loss, mixing=mixing, top_k=top_k, alpha=1.0, balance=0.1)
        x, y = make_data(loss)
        plain = mixture(x, target=y).losses
        weighted = mixture(x, target=y, sample_weight=torch.ones(N)).losses
        torch.testing.assert_close(weighted, plain)

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("loss", ["classes", "squared_error"])
    @pytest.mark.parametrize("top_k", [None, 2])
    def test_weight_two_equals_repeating_the_row(self, loss, mixing, top_k):
        mixture = make_mixture(loss, mixing=mixing, top_k=top_k, alpha=1.0, balance=0.1)
        x, y = make_data(loss, n=3)
        weight = torch.tensor([2.0, 1.0, 1.0])
        weighted = mixture(x, target=y, sample_weight=weight / weight.mean()).losses
        twice = [0, 0, 1, 2]
        torch.testing.assert_close(weighted, mixture(x[twice], target=y[twice]).losses)

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("top_k", [None, 2])
    def test_losses_are_equal_in_training_and_evaluation(self, mixing, top_k):
        mixture = make_mixture("squared_error", mixing=mixing, top_k=top_k, alpha=1.0, balance=0.1)
        x, y = make_data("squared_error")
        training = mixture(x, target=y).losses
        torch.testing.assert_close(mixture.eval()(x, target=y).losses, training)

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("top_k", [None, 2])
    def test_gradcheck(self, loss, mixing, top_k):
        mixture = make_mixture(
            loss, mixing=mixing, top_k=top_k, n_experts=3, alpha=0.5, balance=0.2
        ).double()
        x, y = make_data(loss, n=4, dtype=torch.float64)
        weight = torch.rand(4, dtype=torch.float64)
        names = [name for name, _ in mixture.named_parameters()]
        values = [value.detach().requires_grad_() for value in mixture.parameters()]

        def total(*values):
            state = dict(zip(names, values, strict=True))
            keywords = {"target": y, "sample_weight": weight}
            return functional_call(mixture, state, (x,), keywords).losses.total

        assert torch.autograd.gradcheck(total, values, fast_mode=True)

    @pytest.mark.parametrize("mixing", MIXINGS)
    def test_order_of_experts_does_not_matter(self, mixing):
        mixture, (x, y) = make_mixture(mixing=mixing, alpha=1.0, balance=0.1), make_data()
        order = torch.tensor([2, 0, 3, 1])
        twin = copy.deepcopy(mixture)
        with torch.no_grad():
            for parameter in [*twin.experts.parameters(), *twin.gate.parameters()]:
                parameter.copy_(parameter[order])
        first, second = mixture(x, target=y), twin(x, target=y)
        torch.testing.assert_close(first.losses, second.losses)
        torch.testing.assert_close(first.prediction, second.prediction)
        torch.testing.assert_close(first.gate_probabilities[:, order], second.gate_probabilities)

    @pytest.mark.parametrize("top_k", [None, 2])
    def test_batch_of_weight_zero_has_zero_gradient(self, top_k):
        mixture, (x, y) = make_mixture(top_k=top_k, alpha=1.0, balance=0.1), make_data()
        losses = mixture(x, target=y, sample_weight=torch.zeros(N)).losses
        losses.total.backward()
        assert losses.total == 0
        assert all((p.grad == 0).all() for p in mixture.parameters() if p.grad is not None)

    @pytest.mark.parametrize("mixing", MIXINGS)
    def test_one_expert_per_row_trains_the_gate(self, mixing):
        mixture, (x, y) = make_mixture(mixing=mixing, top_k=1), make_data()
        mixture(x, target=y).losses.total.backward()
        gradient = mixture.gate.layers[0].weight.grad
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0

    @pytest.mark.slow
    def test_large_alpha_makes_the_experts_alike(self):
        x, y = make_data(n=200)
        spread = []
        for alpha in (0.0, 100.0):
            torch.manual_seed(0)
            mixture = make_mixture(alpha=alpha)
            optimizer = torch.optim.Adam(mixture.parameters(), lr=0.01)
            for _ in range(50):
                optimizer.zero_grad()
                mixture(x, target=y).losses.total.backward()
                optimizer.step()
            spread.append(distillation_loss(mixture.experts(x)).item())
        assert spread[1] < 0.05 * spread[0]


class Spy(MLPExperts):
    """Experts that note how many rows each of them gets."""

    def forward_one(self, x, expert):
        self.rows[expert] = self.rows.get(expert, 0) + len(x)
        return super().forward_one(x, expert)

    def forward(self, x):
        self.all_rows += len(x)
        return super().forward(x)


def spied(mixture):
    experts = mixture.experts
    experts.__class__, experts.rows, experts.all_rows = Spy, {}, 0
    return mixture.eval()


class TestRouting:
    @pytest.mark.parametrize("top_k", [1, 2, K])
    def test_inference_computes_only_the_chosen_experts(self, top_k):
        mixture, (x, _) = spied(make_mixture(top_k=top_k)), make_data(n=40)
        mixture(x)
        expected = mixture.gate(x).active.sum(dim=0).tolist()
        assert [mixture.experts.rows.get(i, 0) for i in range(K)] == expected
        assert sum(expected) == 40 * top_k
        assert mixture.experts.all_rows == 0

    def test_top_expert_computes_one_expert_per_row(self):
        mixture, (x, _) = spied(make_mixture()), make_data(n=40)
        _, expert = mixture.predict_top_expert(x)
        expected = expert.bincount(minlength=K).tolist()
        assert [mixture.experts.rows.get(i, 0) for i in range(K)] == expected
        assert mixture.experts.all_rows == 0

    def test_experts_without_rows_are_not_called(self):
        class Fussy(nn.Linear):
            def forward(self, x):
                assert len(x), "no rows"
                return super().forward(x)

        gate = SparseGate(WIDTH, 3, top_k=1)
        experts = ModuleExperts([Fussy(WIDTH, H) for _ in range(3)])
        mixture = MixtureOfExperts(
            IdentityTrunk(WIDTH), gate, experts, nn.Linear(H, OUT), CrossEntropy()
        ).eval()
        x, _ = make_data()
        for chosen in range(3):
            with torch.no_grad():
                gate.layers[0].bias.fill_(0)[chosen] = 100
            everyone = mixture(x, all_experts=True).expert_outputs
            torch.testing.assert_close(mixture(x).prediction, everyone[:, chosen])
            torch.testing.assert_close(mixture.predict_top_expert(x)[0], everyone[:, chosen])

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("loss", ["classes", "squared_error"])
    @pytest.mark.parametrize("top_k", [1, 2, K])
    def test_chosen_experts_equal_all_experts(self, loss, mixing, top_k):
        mixture, (x, _) = make_mixture(loss, mixing=mixing, top_k=top_k).eval(), make_data(loss, 40)
        few, everyone = mixture(x), mixture(x, all_experts=True)
        torch.testing.assert_close(few.prediction, everyone.prediction)
        torch.testing.assert_close(few.gate_probabilities, everyone.gate_probabilities)
        assert few.representations is None
        assert few.expert_outputs is None
        assert everyone.representations.shape == (40, K, H)
        assert everyone.expert_outputs.shape == (40, K, OUT)

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("loss", ["classes", "squared_error"])
    def test_top_expert_equals_the_expert_alone(self, loss, mixing):
        mixture, (x, _) = make_mixture(loss, mixing=mixing).eval(), make_data(loss, 40)
        prediction, expert = mixture.predict_top_expert(x)
        output = mixture(x, all_experts=True)
        assert torch.equal(expert, output.gate_probabilities.argmax(dim=1))
        torch.testing.assert_close(prediction, output.expert_outputs[torch.arange(40), expert])

    @pytest.mark.parametrize("mixing", MIXINGS)
    def test_choosing_all_experts_equals_the_dense_mixture(self, mixing):
        sparse, (x, y) = make_mixture(mixing=mixing, top_k=K, alpha=1.0), make_data()
        dense = make_mixture(mixing=mixing, alpha=1.0)
        dense.load_state_dict(sparse.state_dict())
        for training in (True, False):
            first, second = (m.train(training)(x, target=y) for m in (sparse, dense))
            torch.testing.assert_close(first.prediction, second.prediction)
            torch.testing.assert_close(first.losses, second.losses)

    @pytest.mark.parametrize("top_k", [None, 1, 2])
    @pytest.mark.parametrize("n", [0, 1])
    def test_no_row_and_one_row(self, top_k, n):
        mixture = make_mixture(top_k=top_k).eval()
        x = torch.randn(n, WIDTH)
        assert mixture(x).prediction.shape == (n, OUT)
        assert mixture.predict_top_expert(x)[0].shape == (n, OUT)

    def test_expert_outputs_are_computed_when_needed(self):
        x, y = make_data()
        mixture = make_mixture()
        assert mixture(x, target=y).expert_outputs is None
        assert mixture(x, target=y, all_experts=True).expert_outputs is not None
        assert mixture.eval()(x).expert_outputs is not None
        assert make_mixture(mixing="likelihood")(x, target=y).expert_outputs is not None


class TestModule:
    @pytest.mark.parametrize("top_k", [None, 1, 2])
    def test_any_module_is_an_expert(self, top_k):
        plain = make_mixture(top_k=top_k, alpha=1.0)
        towers = []
        for i in range(K):
            tower = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, H), nn.Tanh())
            with torch.no_grad():
                for layer, stacked in zip(tower[::2], plain.experts.layers, strict=True):
                    layer.weight.copy_(stacked.weight[i].T)
                    layer.bias.copy_(stacked.bias[i, 0])
            towers.append(tower)
        own = MixtureOfExperts(
            plain.trunk, plain.gate, ModuleExperts(towers), plain.head, CrossEntropy(), alpha=1.0
        )
        x, y = make_data()
        torch.testing.assert_close(own(x, target=y).losses, plain(x, target=y).losses)
        torch.testing.assert_close(own.eval()(x).prediction, plain.eval()(x).prediction)

    @pytest.mark.parametrize("mixing", MIXINGS)
    @pytest.mark.parametrize("loss", ["classes", "squared_error"])
    @pytest.mark.parametrize("top_k", [None, 1, 2])
    def test_bfloat16_autocast(self, loss, mixing, top_k):
        mixture = make_mixture(loss, mixing=mixing, top_k=top_k, alpha=1.0, balance=0.1)
        x, y = make_data(loss)
        exact = mixture(x, target=y).losses.total.item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = mixture(x, target=y).losses
            mixture.eval()(x)
            mixture.predict_top_expert(x)
        losses.total.backward()
        assert losses.total.item() == pytest.approx(exact, rel=0.05, abs=0.05)
        for parameter in mixture.parameters():
            assert parameter.grad is None or parameter.grad.dtype == torch.float32

    @pytest.mark.parametrize("top_k", [None, 2])
    def test_copies(self, top_k):
        mixture, (x, _) = make_mixture(top_k=top_k, mixing="likelihood").eval(), make_data()
        expected = mixture(x).prediction
        twin = make_mixture(top_k=top_k, mixing="likelihood").eval()
        twin.load_state_dict(mixture.state_dict())
        for other in (twin, copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture))):
            assert torch.equal(other(x).prediction, expected)
        double = copy.deepcopy(mixture).double()(x.double()).prediction
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), expected)

    def test_counts_its_experts(self):
        assert make_mixture(n_experts=7).n_experts == 7

    def test_unknown_mixing(self):
        with pytest.raises(
            ValueError, match="mixing must be \"representation\", .* got 'sum': choose one of these"
        ):
            make_mixture(mixing="sum")


def test_gate_and_experts_of_different_numbers_raise():
    with pytest.raises(ValueError, match="must have the n_experts of experts, 3, got 2.*same"):
        MixtureOfExperts(
            IdentityTrunk(4),
            DenseGate(4, 2),
            MLPExperts(4, 3, (5,)),
            nn.Linear(5, 2),
            CrossEntropy(),
        )
