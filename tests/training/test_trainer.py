"""The trainer works for rows of any kind: only the trunk depends on it."""

import dataclasses

import pytest
import torch

from skmode import nn
from skmode._training.plan import Network, Plan
from skmode._training.rows import Rows
from skmode._training.trainer import Data, Trainer

PLAN = Plan(
    network=Network(
        make_trunk=lambda rows: nn.IdentityTrunk(rows.inputs[0].shape[1]),
        make_task_loss=nn.CrossEntropy,
        n_outputs=2,
        mixing="expected",
        n_experts=2,
        gate="dense",
        top_k=1,
        gate_hidden_layer_sizes=(),
        gate_temperature=1.0,
        hidden_layer_sizes=(8,),
        activation="relu",
        dropout=0.0,
        expert_module=None,
    ),
    alphas=(1.0,),
    distillation="mean",
    balance=0.01,
    optimizer="adamw",
    learning_rate=0.02,
    learning_rate_schedule="cosine",
    weight_decays=(0.0,),
    weight_averaging=0.9,
    batch_size=32,
    epochs=12,
    n_iter_no_change=12,
    monitor_top_expert=False,
    refit_fraction=0.3,
    taught_refit_fraction=0.6,
    teacher=None,
    teacher_weights=(0.0,),
    teacher_trusted=False,
    teacher_seed=0,
    calibrate=True,
    callbacks=(),
    precision="float32",
    device="cpu",
    seed=0,
    show_progress=False,
)


class Convolutions(torch.nn.Module):
    """Reads images `(n_samples, 1, 8, 8)`."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3, stride=2)
        self.out_features = 4

    def forward(self, images):
        return self.convolution(images).relu().amax(dim=(2, 3))


class PositionAndWord(torch.nn.Module):
    """Reads three inputs: numbers, a token and a mask."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.out_features = 4

    def forward(self, numbers, token, mask):
        return torch.cat([numbers, self.embedding(token) * mask[:, None]], dim=1)


def images(n=240):
    """Half of the images have a bright bar somewhere."""
    generator = torch.Generator().manual_seed(0)
    pixels = 0.3 * torch.randn(n, 1, 8, 8, generator=generator)
    target = torch.arange(n) % 2
    for i in range(1, n, 2):
        pixels[i, 0, i % 6 : i % 6 + 2, 1:7] += 2
    return Rows((pixels,), target, None)


def words(n=240):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(n, 1, generator=generator)
    token = torch.randint(5, (n,), generator=generator)
    mask = torch.ones(n)
    return Rows((numbers, token, mask), (token > 2).long(), None)


def split(rows):
    held_out = torch.arange(len(rows)) % 5 == 0
    return Data(rows, rows.select(~held_out), rows.select(held_out))


@pytest.mark.parametrize(("rows", "trunk"), [(images(), Convolutions), (words(), PositionAndWord)])
def test_only_the_trunk_depends_on_the_kind_of_rows(rows, trunk):
    network = dataclasses.replace(PLAN.network, make_trunk=lambda train: trunk())
    trained = Trainer(dataclasses.replace(PLAN, network=network), split(rows)).train()
    assert trained.validation_scores["top_expert"] > 0.9
    module = trained.net.module_
    top, expert = module.predict_top_expert(*rows.inputs)
    assert (top.argmax(dim=1) == rows.target).float().mean() > 0.9
    assert set(expert.tolist()) <= {0, 1}


def test_a_plan_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAN.epochs = 3


def test_the_trunk_is_built_from_training_rows_only():
    seen = []

    def make_trunk(train):
        seen.append(len(train))
        return Convolutions()

    network = dataclasses.replace(PLAN.network, make_trunk=make_trunk)
    plan = dataclasses.replace(PLAN, network=network, epochs=1, alphas=(1.0, 10.0))
    trained = Trainer(plan, split(images())).train()
    assert seen == [192, 192]
    assert trained.alpha in plan.alphas
