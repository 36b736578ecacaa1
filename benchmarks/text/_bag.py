"""A bag of words and pairs of words with averaged vectors, as in fastText (arXiv 1607.01759)."""

from __future__ import annotations

import itertools
import re
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

WORD = re.compile(r"\w+")
# Vectors, rate and loss are fastText's defaults; five epochs, its default, are for larger sets.
N_BUCKETS, WIDTH, RATE, EPOCHS = 2**18, 100, 0.5, 15
BATCH = 32


class BagOfWords(torch.nn.Module):
    """Averaged vectors and a linear layer, trained by stochastic gradient descent."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def fit(self, X: list[str], y: NDArray[np.int64]) -> BagOfWords:
        """Train on some texts."""
        torch.manual_seed(self.seed)
        self.vectors = torch.nn.EmbeddingBag(N_BUCKETS, WIDTH, mode="mean", sparse=True)
        torch.nn.init.uniform_(self.vectors.weight, -1 / WIDTH, 1 / WIDTH)
        self.head = torch.nn.Linear(WIDTH, int(y.max()) + 1)
        torch.nn.init.zeros_(self.head.weight)
        texts, target = [_buckets(text) for text in X], torch.as_tensor(y)
        optimizer = torch.optim.SGD(self.parameters(), lr=RATE)
        steps = EPOCHS * -(-len(texts) // BATCH)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(texts)).split(BATCH):
                scores = self([texts[i] for i in rows.tolist()])
                # The sum, because fastText takes a step for each text.
                loss = torch.nn.functional.cross_entropy(scores, target[rows], reduction="sum")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return self

    def forward(self, texts: list[list[int]]) -> torch.Tensor:
        """Compute the scores of texts."""
        starts = np.cumsum([0, *map(len, texts[:-1])])
        flat = torch.tensor([bucket for text in texts for bucket in text], dtype=torch.int64)
        scores: torch.Tensor = self.head(self.vectors(flat, torch.as_tensor(starts)))
        return scores

    @torch.inference_mode()
    def predict_proba(self, X: list[str]) -> NDArray[Any]:
        """Predict probabilities."""
        parts = [self([_buckets(text)]) for text in X]
        return torch.cat(parts).double().softmax(dim=1).numpy()


def _buckets(text: str) -> list[int]:
    words = WORD.findall(text.lower())
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(words)]
    return [zlib.crc32(part.encode()) % N_BUCKETS for part in [*words, *pairs]]
