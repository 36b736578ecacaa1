"""How well experts predict texts, in bits per byte.

The tokens of a text are predicted one after the other, the first one from the token that ends a
text. Texts beyond the number of positions are read in windows, each of which begins with the last
token of the one before.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.language.experts import Context

GoOn: TypeAlias = Callable[[], None]

MAX_LOGITS = 2**22  # of a run, 16 MiB
MAX_ROWS = 32


class _Window(NamedTuple):
    """Part of a text: tokens to read, and those to predict."""

    text: int
    inputs: list[int]
    targets: list[int]


def always() -> None:
    """Let a reading go on."""


def score_texts(
    start: Callable[[int], Context],
    encode: Callable[[str], list[int]],
    texts: Sequence[str],
    max_length: int,
    end_token: int,
    go_on: GoOn,
) -> NDArray[np.float64]:
    """Return the bits per byte of texts; what `go_on` raises between parts of them ends it."""
    tokens = []
    for text in texts:
        go_on()
        tokens.append(encode(text))

    def start_if(n_rows: int) -> Context:
        go_on()
        return start(n_rows)

    bits = score_tokens(start_if, tokens, max_length, end_token)
    return bits / np.array([len(text.encode()) for text in texts], np.float64)


def score_tokens(
    start: Callable[[int], Context],
    texts: Sequence[list[int]],
    max_length: int,
    end_token: int,
) -> NDArray[np.float64]:
    """Return the bits that the tokens of each text take."""
    bits = np.zeros(len(texts))
    for windows in _batches(texts, max_length, end_token):
        context = start(len(windows))
        inputs, targets = _pad([w.inputs for w in windows]), _pad([w.targets for w in windows])
        lengths = np.array([len(window.inputs) for window in windows])
        step, position = 1, 0
        while position < inputs.shape[1]:
            chunk = slice(position, position + step)
            logits = context.read(inputs[:, chunk])
            nats = _losses(logits, targets[:, chunk])
            places = np.arange(position, position + nats.shape[1])
            nats[places >= lengths[:, None]] = 0
            np.add.at(bits, [window.text for window in windows], nats.sum(axis=1) / np.log(2))
            position += nats.shape[1]
            # The first run tells how many logits a token has.
            step = max(1, MAX_LOGITS // (len(windows) * logits.shape[2]))
    return bits


def _batches(
    texts: Sequence[list[int]], max_length: int, end_token: int
) -> Iterator[list[_Window]]:
    """Yield windows of similar length."""
    windows = []
    for i, tokens in enumerate(texts):
        read = [end_token, *tokens[:-1]]
        for a in range(0, len(tokens), max_length):
            windows.append(_Window(i, read[a : a + max_length], tokens[a : a + max_length]))
    windows.sort(key=lambda window: -len(window.inputs))
    for a in range(0, len(windows), MAX_ROWS):
        yield windows[a : a + MAX_ROWS]


def _pad(rows: Sequence[list[int]]) -> NDArray[np.int64]:
    """Stack rows of different length; what stands behind a text does not change what is before."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded


def _losses(logits: NDArray[Any], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the negative log likelihood of each target."""
    largest = logits.max(axis=2, keepdims=True)
    chosen = np.take_along_axis(logits, targets[..., None], axis=2)[..., 0].astype(np.float64)
    sums = np.exp(logits - largest).sum(axis=2, dtype=np.float64)
    losses: NDArray[np.float64] = np.log(sums) + largest[..., 0] - chosen
    return losses
