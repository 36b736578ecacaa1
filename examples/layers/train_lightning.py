"""A MoDE layer in a LightningModule.

    pip install lightning
    python train_lightning.py [--epochs 10]

The experts learn the classes of two moons.
"""

import argparse
from collections.abc import Sequence

import lightning
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import skmode.nn


class Moons(lightning.LightningModule):
    """A network whose middle is a mixture of experts."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(2, width)
        self.experts = skmode.nn.MoDELayer(width, n_experts=4, top_k=2, alpha=0.1)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(x + self.experts(x))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        loss = loss + skmode.nn.auxiliary_loss(self)  # the one line
        self.log_dict({f"train/{k}": v for k, v in self.experts.losses._asdict().items()})
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("accuracy", (self(x).argmax(dim=1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def make_loader(seed: int, *, shuffle: bool = False) -> DataLoader:
    """Draw 500 points."""
    X, y = make_moons(500, noise=0.2, random_state=seed)
    rows = TensorDataset(torch.tensor(X, dtype=torch.float32), torch.tensor(y))
    return DataLoader(rows, batch_size=50, shuffle=shuffle)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on other points."""
    parser = argparse.ArgumentParser(description="Train a MoDE layer with Lightning.")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args(arguments)
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        log_every_n_steps=10,
    )
    trainer.fit(Moons(), make_loader(0, shuffle=True), make_loader(1))
    return float(trainer.callback_metrics["accuracy"])


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
