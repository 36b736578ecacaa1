"""The trunk that reads the tokens of texts, alone or beside the columns of a table."""

import numpy as np
import scipy.linalg
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from skmode import nn
from skmode._training.rows import Rows
from skmode.nn.trunks import SMALLEST_NORM

# Up to this many texts the decomposition is exact, so that it does not depend on their order.
EXACT_TEXTS = 512
# Directions with a smaller share of the largest singular value are rounding errors.
SMALLEST_SHARE = 1e-6
# Passes of the randomized decomposition over the texts.
N_PASSES = 4
# Probability that a token is left out of a text, where a batch holds only a part of the texts.
TOKEN_DROPOUT = 0.3
# Below this share of all tokens, later parts of words weigh nothing: they are the pieces of rare
# words, and noise. In languages without spaces between words they are most tokens.
MOST_LATER_PARTS = 0.5
# Fewer texts do not suffice to tune a vector for each token (inner validation on 20 newsgroups and
# mails: with 500 texts frozen vectors are level or better, with 2,000 tuned ones are better).
FEWEST_TUNED = 1000


def make_text_trunk(
    train: Rows,
    *,
    continues_word: NDArray[np.bool_],
    width: int,
    dropout: float,
    tuned: bool | None,
) -> nn.TextTrunk:
    """Build the trunk: its vectors start as the SVD of the training texts' TF-IDF.

    `tuned` says whether the vectors are trained further; None decides by the number of texts.
    `continues_word` tells for each token whether it is a later part of a word.
    """
    tokens, counts = train.inputs
    weight = None if train.sample_weight is None else train.sample_weight.numpy()
    matrix = _counts_matrix(tokens, counts, len(continues_word))
    idf = _idf(matrix, weight)
    later = matrix.data @ continues_word[matrix.indices]
    if later < MOST_LATER_PARTS * matrix.data.sum():
        idf[continues_word] = 0
    vectors = _vectors(_tfidf(matrix, idf), weight, width)
    if tuned is None:
        tuned = len(train) >= FEWEST_TUNED
    return nn.TextTrunk(
        torch.as_tensor(idf, dtype=torch.float32),
        torch.as_tensor(vectors, dtype=torch.float32),
        dropout,
        frozen=not tuned,
    )


def _counts_matrix(tokens: Tensor, counts: Tensor, n_tokens: int) -> scipy.sparse.csr_array:
    known = counts > 0
    ends = np.concatenate([[0], known.sum(dim=1).cumsum(0).numpy()])
    data = counts[known].double().numpy()
    return scipy.sparse.csr_array(
        (data, tokens[known].numpy(), ends), shape=(len(tokens), n_tokens)
    )


def _idf(matrix: scipy.sparse.csr_array, weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Smoothed inverse document frequency, as scikit-learn's TfidfTransformer has it."""
    n_texts = matrix.shape[0]
    each = np.ones(n_texts) if weight is None else weight.astype(np.float64)
    with_token = np.repeat(each, np.diff(matrix.indptr))
    frequency = np.bincount(matrix.indices, with_token, minlength=matrix.shape[1])
    idf: NDArray[np.float64] = np.log((1 + each.sum()) / (1 + frequency)) + 1
    return idf


def _tfidf(matrix: scipy.sparse.csr_array, idf: NDArray[np.float64]) -> scipy.sparse.csr_array:
    """Weigh tokens as :class:`skmode.nn.TextTrunk` does."""
    data = (1 + np.log(matrix.data)) * idf[matrix.indices]
    lengths = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    norms = np.sqrt(np.bincount(rows, data**2, minlength=len(lengths)))
    norms = np.maximum(norms, SMALLEST_NORM)
    return scipy.sparse.csr_array(
        (data / norms[rows], matrix.indices, matrix.indptr), shape=matrix.shape
    )


def _vectors(
    tfidf: scipy.sparse.csr_array, weight: NDArray[np.float64] | None, width: int
) -> NDArray[np.float64]:
    """Directions in which the texts differ most, `(n_tokens, width)`, or fewer if there are fewer.

    They are scaled so that the features of the training texts vary by one on average.
    """
    if not tfidf.nnz:  # all texts that are not missing are among the validation rows
        return np.zeros((tfidf.shape[1], 1))
    weighed = tfidf if weight is None else scipy.sparse.diags_array(np.sqrt(weight)) @ tfidf
    if tfidf.shape[0] <= EXACT_TEXTS:
        directions = _exact_directions(weighed, width)
    else:
        n_components = min(width, *tfidf.shape)
        _, values, directions = randomized_svd(
            weighed, n_components, n_iter=N_PASSES, random_state=0, flip_sign=True
        )
        directions = directions[values > SMALLEST_SHARE * values[0]]
    features = tfidf @ directions.T
    mean = np.average(features, axis=0, weights=weight)
    spread = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weight)).mean()
    # Features are at most one; where all texts are alike, they differ by rounding errors only.
    vectors: NDArray[np.float64] = directions.T / (spread if spread > SMALLEST_SHARE else 1.0)
    return vectors


def _exact_directions(matrix: scipy.sparse.csr_array, width: int) -> NDArray[np.float64]:
    """Right singular vectors with the largest values, from the products of the texts."""
    squares, left = scipy.linalg.eigh((matrix @ matrix.T).toarray())
    order = np.argsort(-squares, kind="stable")[:width]
    values = np.sqrt(squares[order].clip(0))
    order = order[values > SMALLEST_SHARE * values[0]]
    values = values[: len(order)]
    directions: NDArray[np.float64] = (left[:, order].T @ matrix) / values[:, None]
    # The sign of each is free: the largest entry shall be positive.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    directions *= signs[:, None]
    return directions
