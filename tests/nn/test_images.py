"""Modules for images: normalisation, augmentation, trunk, convolutional experts."""

import copy
import pickle

import pytest
import torch

from skmode import nn

SHAPE = (3, 9, 8)


def make_trunk(body=None, augmentation=None, layout="chw"):
    normalization = nn.ImageNormalization(torch.tensor([0.2, 0.4, 0.6]), torch.ones(3), layout)
    body = nn.make_convolutions(3, (4, 5)) if body is None else body
    return nn.ImageTrunk(normalization, body, SHAPE, augmentation)


def pixels(n=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, *SHAPE), generator=generator, dtype=torch.uint8)


class Centred(torch.nn.Module):
    """Features that depend on the other images of a batch."""

    def forward(self, x):
        return (x - x.mean(dim=0)).flatten(1)


class Noisy(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class InPlace(torch.nn.Module):
    """Features of each image alone, though a batch is used up."""

    def forward(self, x):
        return x.sub_(0.5).mul_(1e6).flatten(1)


class TestNormalization:
    def test_whole_numbers_equal_shares(self):
        trunk, whole = make_trunk().eval(), pixels()
        torch.testing.assert_close(trunk(whole), trunk(whole.float() / 255))

    def test_layouts_agree(self):
        first, last = make_trunk(layout="chw").eval(), make_trunk(layout="hwc").eval()
        last.load_state_dict(first.state_dict())
        torch.testing.assert_close(first(pixels()), last(pixels().permute(0, 2, 3, 1)))

    def test_channels_are_centred(self):
        mean = make_trunk().normalization(torch.full((1, *SHAPE), 0.4)).mean(dim=(0, 2, 3))
        torch.testing.assert_close(mean, torch.tensor([0.2, 0.0, -0.2]))


class TestAugmentation:
    @pytest.mark.parametrize("Augmentation", [nn.RandomShift, nn.RandomFlip])
    def test_only_in_training(self, Augmentation):
        module, images = Augmentation(), torch.rand(50, 1, 10, 10)
        assert not torch.equal(module(images), images)
        assert torch.equal(module.eval()(images), images)

    @pytest.mark.parametrize("Augmentation", [nn.RandomShift, nn.RandomFlip])
    def test_draws_from_its_generator(self, Augmentation):
        module, images = Augmentation(), torch.rand(50, 1, 10, 10)
        found = []
        for seed in (0, 0, 1):
            module.generator = torch.Generator().manual_seed(seed)
            found.append(module(images))
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])

    def test_a_shift_moves_whole_images_by_few_pixels(self):
        images = torch.zeros(200, 2, 28, 28)
        images[:, :, 14, 14] = 1
        moved = nn.RandomShift()(images)
        assert (moved.sum(dim=(2, 3)) == 1).all()
        assert torch.equal(moved[:, 0], moved[:, 1])
        rows = moved[:, 0].amax(dim=2).argmax(dim=1) - 14
        assert sorted(set(rows.tolist())) == [-2, -1, 0, 1, 2]

    def test_a_shift_repeats_the_edges(self):
        images = torch.ones(20, 1, 5, 5)
        assert torch.equal(nn.RandomShift(0.4)(images), images)

    def test_a_flip_mirrors_about_half(self):
        images = torch.arange(4.0).expand(400, 1, 3, 4)
        mirrored = (nn.RandomFlip()(images)[:, 0, 0, 0] == 3).float().mean()
        assert 0.4 < mirrored < 0.6


class TestTrunk:
    def test_flat_features_of_maps(self):
        trunk = make_trunk().eval()
        assert trunk.out_shape == (5, 3, 2)
        assert trunk.out_features == 30
        maps = trunk.body(trunk.normalization(pixels()))
        torch.testing.assert_close(trunk(pixels()).view(6, *trunk.out_shape), maps)

    def test_flat_features_of_the_user(self):
        body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(216, 7))
        trunk = make_trunk(body)
        assert trunk.out_shape == (7,)
        assert trunk(pixels()).shape == (6, 7)

    def test_a_body_may_change_its_input_and_have_no_numbers_at_the_start(self):
        assert make_trunk(InPlace()).out_shape == (216,)
        body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
        torch.nn.init.constant_(body[0].bias, torch.nan)
        assert make_trunk(body).out_shape == (168,)

    def test_a_frozen_body_keeps_its_statistics(self):
        body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        trained, frozen = make_trunk(copy.deepcopy(body)), make_trunk(body.requires_grad_(False))
        for trunk, moves in ((trained, True), (frozen, False)):
            before = trunk.body[1].running_mean.clone()
            trunk.train()(pixels())
            assert torch.equal(before, trunk.body[1].running_mean) != moves

    def test_a_single_image_is_trained_with_the_statistics_of_others(self):
        body = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.BatchNorm2d(3))
        trunk = make_trunk(body).train()
        trunk(pixels())
        before = body[1].running_mean.clone(), body[1].running_var.clone()
        found = trunk(pixels(1))
        assert all(module.training for module in trunk.modules())
        assert torch.equal(before[0], body[1].running_mean)
        assert torch.equal(before[1], body[1].running_var)
        torch.testing.assert_close(found, trunk.eval()(pixels(1)))
        found.sum().backward()
        assert body[1].bias.grad.tolist() == [1, 1, 1]

    def test_a_single_image_that_fails_leaves_the_mode(self):
        trunk = make_trunk().train()
        with pytest.raises(RuntimeError):
            trunk.features(torch.zeros(1, 2, 9, 8))
        assert all(module.training for module in trunk.modules())

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (torch.nn.Conv2d(1, 4, 3), r"must map images \(n_samples, 3, 9, 8\).*Conv2d failed"),
            (torch.nn.Flatten(2), r"must return .* got \(2, 3, 72\) from Flatten"),
            (torch.nn.LSTM(8, 4), "LSTM"),
            (
                torch.nn.Sequential(
                    torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, track_running_stats=False)
                ),
                r"alone, got a difference of \d.* from Sequential: .* track_running_stats=True",
            ),
            (
                torch.nn.Sequential(
                    torch.nn.AdaptiveAvgPool2d(1),
                    torch.nn.BatchNorm2d(3, track_running_stats=False),
                ),
                r"image alone, got ValueError \(Expected more than 1 value.*for a batch of one",
            ),
            (Centred(), "from that image alone, got a difference of 0.5"),
            (Noisy(), "from that image alone, .* from Noisy: .* and no random numbers"),
        ],
    )
    def test_a_body_that_does_not_fit_is_an_error(self, body, message):
        with pytest.raises(ValueError, match=message):
            make_trunk(body)


class TestConvExperts:
    def make(self, **options):
        torch.manual_seed(0)
        return nn.ConvExperts(SHAPE, 3, (4, 6), (5,), **options)

    def test_all_together_equal_one_by_one(self):
        experts, x = self.make().eval(), torch.randn(7, 216)
        together = experts(x)
        assert together.shape == (7, 3, 5)
        for i in range(3):
            torch.testing.assert_close(together[:, i], experts.forward_one(x, i))

    def test_an_expert_alone_predicts_as_it_does_among_others(self):
        experts, x = self.make(), torch.randn(7, 216)
        experts(3 * x + 1)  # so that the statistics are not those of the start
        experts.eval()
        torch.testing.assert_close(experts.expert(2)(x), experts.forward_one(x, 2))

    def test_each_expert_is_the_plain_network(self):
        experts, x = self.make(), torch.randn(7, 216)
        maps, found = x.view(7, *SHAPE), experts.forward_one(x, 1)
        for layer, stride in zip(experts.convolutions, (1, 2), strict=True):
            size = layer.weight.shape[2:0:-1]
            plain = torch.nn.Conv2d(*size, 3, stride=stride, padding=1, bias=False)
            plain.weight.data = layer.weight[1].data
            norm = torch.nn.BatchNorm2d(size[1])
            maps = norm(plain(maps)).relu()
            torch.testing.assert_close(layer.mean[1], norm.running_mean)
            torch.testing.assert_close(layer.variance[1], norm.running_var)
        last = experts.perceptrons.layers[0]
        expected = (maps.flatten(1) @ last.weight[1] + last.bias[1, 0]).relu()
        torch.testing.assert_close(found, expected)

    def test_gradients_reach_each_expert(self):
        experts = self.make()
        experts(torch.randn(7, 216))[:, 1].square().sum().backward()
        for layer in experts.convolutions:
            moved = layer.weight.grad.abs().sum(dim=(1, 2, 3, 4)) > 0
            assert moved.tolist() == [False, True, False]

    def test_a_single_image_is_trained_with_the_statistics_of_others(self):
        experts, x = nn.ConvExperts((12, 1, 1), 2, (4, 6), (5,)), torch.randn(7, 12)
        experts(3 * x + 1)
        before = copy.deepcopy(experts.state_dict())
        found = experts(x[:1])
        assert all(torch.equal(before[name], value) for name, value in experts.state_dict().items())
        torch.testing.assert_close(found, experts.eval()(x[:1]))

    def test_the_memory_format_survives_copies(self):
        experts = self.make()
        for copied in (
            copy.deepcopy(experts),
            pickle.loads(pickle.dumps(experts)),
            copy.deepcopy(experts).double(),
        ):
            weight = copied.convolutions[0].weight
            assert weight[0].is_contiguous(memory_format=torch.channels_last)

    def test_dropout_is_off_in_evaluation(self):
        experts, x = self.make(dropout=0.5), torch.randn(7, 216)
        assert not torch.equal(experts(x), experts(x))
        experts.eval()
        assert torch.equal(experts(x), experts(x))


def test_a_mixture_of_images():
    trunk = make_trunk()
    mixture = nn.MixtureOfExperts(
        trunk,
        nn.DenseGate(trunk.out_features, 3),
        nn.ConvExperts(trunk.out_shape, 3, (4,), (5,)),
        torch.nn.Linear(5, 2),
        nn.CrossEntropy(),
        alpha=1.0,
    )
    output = mixture(pixels(), target=torch.zeros(6, dtype=torch.int64))
    assert output.prediction.shape == (6, 2)
    assert output.losses.distillation > 0
