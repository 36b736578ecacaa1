"""MoDE layers in a model of Hugging Face, trained by its Trainer.

    pip install "transformers[torch]"
    python train_transformers.py [--steps 150] [--output folder]

A small BERT is built from its configuration, so nothing is downloaded. MoDE layers take the place
of its feed-forward layers. It learns whether a sequence has more even or more odd tokens.
"""

import argparse
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import skmode.nn


class MoDETrainer(Trainer):
    """A Trainer that adds the losses of the MoDE layers."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = loss + skmode.nn.auxiliary_loss(model)  # the one line
        return (loss, outputs) if return_outputs else loss


class Sequences(Dataset):
    """Sequences of 15 tokens, and whether most of them are odd."""

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(1, 51, (n, 15), generator=generator)
        self.labels = (self.tokens % 2 == 1).sum(dim=1).gt(7).long()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[i], "labels": self.labels[i]}


def make_model() -> BertForSequenceClassification:
    """Build a BERT with experts: its feed-forward layer has two parts, which one layer replaces."""
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    model = BertForSequenceClassification(config)
    # The Trainer then divides the whole sum by the number of micro-batches.
    model.accepts_loss_kwargs = False
    for layer in model.bert.encoder.layer:
        layer.intermediate = torch.nn.Identity()
        layer.output.dense = skmode.nn.MoDELayer(
            config.hidden_size, hidden_width=config.intermediate_size, top_k=2, alpha=0.1
        )
    return model


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and evaluate; evaluation is without the losses of the layers."""
    parser = argparse.ArgumentParser(description="Train MoDE layers with Hugging Face's Trainer.")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--output", help="folder of the Trainer; a temporary one by default")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            args.output or folder,
            max_steps=args.steps,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            learning_rate=6e-3,
            save_strategy="no",
            report_to=[],
            seed=0,
        )
        torch.manual_seed(0)
        trainer = MoDETrainer(
            make_model(),
            options,
            train_dataset=Sequences(2_000, 0),
            eval_dataset=Sequences(500, 1),
            compute_metrics=lambda p: {
                "accuracy": float((p.predictions.argmax(axis=1) == p.label_ids).mean())
            },
        )
        trainer.train()
        return trainer.evaluate()


if __name__ == "__main__":
    print(main())
