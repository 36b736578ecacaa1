"""Make arrays of the tokens of texts: counts of different ones, or all in their order."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray


def count_tokens(
    token_lists: Sequence[Sequence[int]], max_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Count how often each token occurs in each text.

    Parameters
    ----------
    token_lists : sequence of sequence of int
        Tokens of each text, as :meth:`skmode_deploy.Tokenizer.encode_batch` returns them. A text
        without tokens is missing.
    max_tokens : int
        Largest number of different tokens of a text; of more, the first are kept.

    Returns
    -------
    tokens : ndarray of int64 of shape (n_texts, length)
        The different tokens of each text, in the order in which they first occur. `length` is the
        largest number of them, at least 1; shorter rows end with token 0.
    counts : ndarray of float32 of shape (n_texts, length)
        How often each of them occurs. 0 marks the end of shorter rows.

    Raises
    ------
    ValueError
        If `max_tokens` is less than 1.

    Examples
    --------
    >>> from skmode_deploy.running.inputs.texts import count_tokens
    >>> tokens, counts = count_tokens([[7, 3, 7], [5], []], max_tokens=100)
    >>> tokens
    array([[7, 3],
           [5, 0],
           [0, 0]])
    >>> counts
    array([[2., 1.],
           [1., 0.],
           [0., 0.]], dtype=float32)
    """
    _check_max_tokens(max_tokens)
    found = [Counter(tokens) for tokens in token_lists]
    if len(found) == 1 and found[0]:  # the most common request
        text = found[0]
        return (
            np.array([list(text)[:max_tokens]], np.int64),
            np.array([list(text.values())[:max_tokens]], np.float32),
        )
    lengths = np.fromiter((min(len(text), max_tokens) for text in found), np.int64, len(found))
    length = max(1, int(lengths.max(initial=0)))
    filled = np.arange(length) < lengths[:, None]
    shape, total = (len(found), length), int(lengths.sum())
    tokens, counts = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    kept = (islice(text.items(), max_tokens) for text in found)
    flat = np.fromiter(chain.from_iterable(chain.from_iterable(kept)), np.int64, 2 * total)
    tokens[filled], counts[filled] = flat[::2], flat[1::2]
    return tokens, counts


def order_tokens(
    token_lists: Sequence[Sequence[int]], max_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Put the tokens of each text into a row, in their order.

    Parameters
    ----------
    token_lists : sequence of sequence of int
        Tokens of each text, as :meth:`skmode_deploy.Tokenizer.encode_batch` returns them. A text
        without tokens is missing.
    max_tokens : int
        Largest number of tokens of a text; of more, the first are kept.

    Returns
    -------
    tokens : ndarray of int64 of shape (n_texts, length)
        The tokens of each text. `length` is the largest number of them, at least 1; shorter rows
        end with token 0.
    counts : ndarray of float32 of shape (n_texts, length)
        1 for each token. 0 marks the end of shorter rows.

    Raises
    ------
    ValueError
        If `max_tokens` is less than 1.

    Examples
    --------
    >>> from skmode_deploy.running.inputs.texts import order_tokens
    >>> tokens, counts = order_tokens([[7, 3, 7], [5], []], max_tokens=2)
    >>> tokens
    array([[7, 3],
           [5, 0],
           [0, 0]])
    >>> counts
    array([[1., 1.],
           [1., 0.],
           [0., 0.]], dtype=float32)
    """
    _check_max_tokens(max_tokens)
    lengths = np.fromiter(map(len, token_lists), np.int64, len(token_lists)).clip(max=max_tokens)
    filled = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]
    tokens = np.zeros(filled.shape, np.int64)
    kept = (islice(each, max_tokens) for each in token_lists)
    tokens[filled] = np.fromiter(chain.from_iterable(kept), np.int64, int(lengths.sum()))
    return tokens, filled.astype(np.float32)


def _check_max_tokens(max_tokens: int) -> None:
    if max_tokens < 1:
        raise ValueError(
            f"max_tokens must be at least 1, got {max_tokens}: pass the number of tokens that are "
            "read of a text."
        )
