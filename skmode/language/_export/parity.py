"""Compare the graph of an expert with the model itself, for texts read in any chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from skmode_deploy.running.sessions import SessionFactory

# Of the largest logit, or of 1 if that is smaller.
TOLERANCE = 1e-5
MAX_TOKENS = 32
N_ROWS = 2


class TorchContext:
    """Texts that a torch model has read so far; reads them as the runtime's contexts do."""

    def __init__(self, models: Sequence[Any], n_rows: int) -> None:
        self._models = models
        self._read = np.zeros((n_rows, 0), np.int64)

    def read(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read tokens; return the logits of the next ones."""
        self._read = np.concatenate([self._read, tokens], axis=1)
        logits = [torch_logits(model, self._read) for model in self._models]
        mean: NDArray[np.float32] = np.mean(logits, axis=0)[:, -tokens.shape[1] :]
        return mean


def torch_logits(model: Any, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a model's logits, in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            rows = torch.as_tensor(tokens, device=next(model.parameters()).device)
            logits: NDArray[np.float32] = (
                model(input_ids=rows, use_cache=False).logits.float().cpu().numpy()
            )
    finally:
        model.train(was_training)
    return logits


def open_session(data: bytes, name: str) -> Any:
    """Open a session as a server does."""
    return SessionFactory(("CPUExecutionProvider",), 1).open(data, name)


def find_difference(session: onnxruntime.InferenceSession, model: Any, max_length: int) -> float:
    """Return the largest difference of the logits, relative to the tolerance's scale."""
    layers, two, _, heads, _, width = session.get_inputs()[1].shape
    n_tokens = session.get_outputs()[0].shape[2]
    length = min(max_length, MAX_TOKENS)
    tokens = np.random.default_rng(0).integers(0, n_tokens, (N_ROWS, length))
    expected = torch_logits(model, tokens)
    scale = max(1.0, float(np.abs(expected).max()))
    worst = 0.0
    for cuts in ([], [1], [length // 3, length // 2], list(range(1, length))):
        past = np.zeros((layers, two, N_ROWS, heads, 0, width), np.float32)
        parts = []
        for chunk in np.split(tokens, [cut for cut in cuts if 0 < cut < length], axis=1):
            if chunk.shape[1]:
                feeds = {"tokens": chunk, "past": past}
                logits, past = session.run(["logits", "present"], feeds)
                parts.append(logits)
        worst = max(worst, float(np.abs(np.concatenate(parts, axis=1) - expected).max()) / scale)
    return worst if np.isfinite(worst) else float("inf")
