"""Texts as users pass them, and the tokens that training found in them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from skmode._encoding.columns import is_table

# A pair of tokens must occur so often to become a token.
MIN_FREQUENCY = 2
# Longer texts are refused: they would take minutes, and are hardly what was meant.
MAX_BYTES = 2**22
# What bundles can have.
MOST_TOKENS = 2**24


class TextEncoder:
    """The tokens of training, and how texts become bags of them.

    Parameters
    ----------
    tokenizer : path, str, tokenizers.Tokenizer or None
        A tokenizer of the user; None trains one.
    vocab_size : int
        Number of tokens of the one that is trained.
    lowercase : bool
        Whether that one ignores the case.
    max_tokens : int
        Distinct tokens of a text, at most; the first ones are kept. With `in_order`, all tokens.
    in_order : bool
        Whether the tokens of a text keep their order; each then has the count 1.

    Attributes
    ----------
    tokenizer_json_ : str
        The tokenizer, as Hugging Face's `tokenizers` writes it.
    n_tokens_ : int
        Number of its tokens.
    """

    max_bytes = MAX_BYTES
    in_order: bool = False  # in pickles of earlier releases

    def __init__(
        self,
        tokenizer: Any,
        vocab_size: int,
        lowercase: bool,
        max_tokens: int,
        in_order: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.max_tokens = max_tokens
        self.in_order = in_order

    def fit(self, texts: NDArray[Any]) -> TextEncoder:
        """Learn the tokens of checked texts, of which at least one must not be missing."""
        known = [text for text in texts if text]
        if not known:
            raise ValueError(
                f"At least one text must not be missing, got {len(texts)} that are None, NaN or "
                'empty: pass some words. Texts without words, such as " ", count.'
            )
        if self.tokenizer is None:
            self.tokenizer_json_ = train_tokenizer(known, self.vocab_size, self.lowercase)
        else:
            self.tokenizer_json_ = read_tokenizer(self.tokenizer)
        if not any(map(self._open().encode, known)):
            raise ValueError(
                "tokenizer must know some token of the texts, got one that finds none in "
                f"{len(known)} of them, such as {_shown(known[0])}: pass one that knows their "
                "characters, or None to train one."
            )
        self.n_tokens_ = self._open().n_tokens
        if self.n_tokens_ > MOST_TOKENS:
            raise ValueError(
                f"tokenizer must number its tokens from 0 to at most {MOST_TOKENS - 1:,}, got "
                f"{self.n_tokens_ - 1:,}: there is a vector for each number, used or not; number "
                "them without gaps."
            )
        return self

    def transform(self, texts: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Turn checked texts into ids and counts of their tokens, padded by zeros."""
        from skmode_deploy.running.inputs.texts import count_tokens, order_tokens

        read = order_tokens if self.in_order else count_tokens
        tokens, counts = read(self._open().encode_batch(list(texts)), self.max_tokens)
        return tokens.astype(np.int32), counts  # ids are small, and training keeps them in memory

    def read(self, X: Any) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Read texts of any kind as tokens."""
        return self.transform(check_texts(X, "the estimator"))

    def list_texts(self, X: Any) -> list[str]:
        """List texts of any kind; missing ones are empty."""
        return list(check_texts(X, "the estimator"))

    def token_texts(self, tokens: Iterable[int]) -> list[str]:
        """Show tokens as text: those that begin a word without its space, others behind a dash."""
        tokenizer = self._open()
        shown = [tokenizer.decode([int(token)]) for token in tokens]
        return [text[1:] if text[:1] == " " and text[1:] else f"-{text}" for text in shown]

    def continues_word(self) -> NDArray[np.bool_]:
        """Tell for each token whether it is a later part of a word: letters without a space."""
        tokenizer = self._open()
        continues = np.zeros(self.n_tokens_, dtype=bool)
        for token in range(self.n_tokens_):
            try:
                text = tokenizer.decode([token])
            except ValueError:  # a number that the tokenizer does not use
                continue
            continues[token] = text[:1].isalnum()
        return continues

    def _open(self) -> Any:
        """The tokenizer, made once in each process."""
        opened = self.__dict__.get("_opened")
        if opened is None:
            from skmode_deploy.running.inputs.texts import Tokenizer

            opened = self._opened = Tokenizer(self.tokenizer_json_)
        return opened

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opened"}


def as_bags(
    tokens: NDArray[np.int32], counts: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Count the different tokens of texts whose tokens are in their order."""
    from skmode_deploy.running.inputs.texts import count_tokens

    lists = [row[known].tolist() for row, known in zip(tokens, counts > 0, strict=True)]
    found, times = count_tokens(lists, tokens.shape[1])
    return found.astype(np.int32), times


def check_texts(X: Any, name: str) -> NDArray[Any]:
    """Read texts into an array of objects; missing ones become empty."""
    items = _items(X)
    if len(items) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required by {name}."
        )
    texts = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        texts[i] = _text_of(item, i)
    return texts


def is_missing(item: Any) -> bool:
    """Whether an item stands for no text: as in bundles, None, NaN of any type, NaT and "" do."""
    if isinstance(item, str):
        return not item
    return bool(pd.api.types.is_scalar(item) and pd.isna(item))


def _text_of(item: Any, i: int) -> str:
    if isinstance(item, str):
        _check_text(item, i)
        return str(item)
    if is_missing(item):
        return ""
    cure = "decode it, for example with .decode()" if isinstance(item, bytes) else "convert it"
    raise ValueError(
        f"Texts must be strings, None or NaN, got {_shown(item)} of type {type(item).__name__} at "
        f"position {i}: {cure}, or leave it out."
    )


def _check_text(text: str, i: int) -> None:
    try:
        n_bytes = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Texts must be valid Unicode, got the lone surrogate {text[error.start]!r} at "
            f'position {i}: replace it, for example with text.encode("utf-8", "replace").decode().'
        ) from None
    if n_bytes > MAX_BYTES:
        raise ValueError(
            f"A text must have at most {MAX_BYTES} bytes in UTF-8, got {n_bytes} at position {i}: "
            "split it, or keep its beginning."
        )
    null = text.find("\0")
    if null >= 0:
        raise ValueError(
            f"A text must have no null characters, got one in character {null} of the "
            f"text at position {i}: read the file with its encoding, such as UTF-16, or take them "
            'out with text.replace("\\0", "").'
        )


def _shown(item: Any) -> str:
    shown = repr(item)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."


def _items(X: Any) -> list[Any]:
    """Texts one by one, whatever holds them."""
    if isinstance(X, str | bytes):
        raise ValueError(
            f"X must hold many texts, got a single {type(X).__name__}: pass a list of texts."
        )
    if scipy.sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but X must hold texts: pass the texts themselves, "
            "without a vectorizer before the estimator."
        )
    if is_table(X):
        columns = list(nw.from_native(X, eager_only=True).iter_columns())
        if len(columns) != 1:
            raise ValueError(
                f"A table of texts must have one column, got {len(columns)}: select it by name, or "
                "use MoDEClassifier or MoDERegressor with text_features."
            )
        return list(columns[0].to_list())
    if isinstance(X, list | tuple):
        return list(X)
    if isinstance(X, pd.Series):
        return list(X)
    series = nw.from_native(X, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return list(series.to_list())
    if not hasattr(X, "__array__"):
        raise TypeError(
            f"X must be a list, array, Series or column of texts, got {type(X).__name__}: pass a "
            "list of strings."
        )
    if isinstance(X, np.ma.MaskedArray):
        raise ValueError(
            "X must not be a masked array, because its mask would be lost: pass X.filled(None), "
            "with X of dtype object."
        )
    array = np.asarray(X)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"X must hold one text for each row, got shape {array.shape}: pass an array of one "
            "dimension or one column, such as X[:, 0]."
        )
    return list(array.tolist())


def train_tokenizer(texts: list[str], vocab_size: int, lowercase: bool) -> str:
    """Train byte-level BPE, and return its JSON."""
    tokenizers = import_tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    if lowercase:
        tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return str(tokenizer.to_str())


def read_tokenizer(tokenizer: Any) -> str:
    """Get the JSON of a user's tokenizer, given as a file, as JSON or as an object."""
    if hasattr(tokenizer, "to_str"):
        return str(tokenizer.to_str())
    text = os.fspath(tokenizer)
    if text.lstrip().startswith("{"):
        return str(text)
    try:
        return Path(text).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            "tokenizer must be the path of a tokenizer.json, its JSON, or a tokenizers.Tokenizer, "
            f"got {_shown(text)}, which cannot be read ({error}): correct the path."
        ) from error


def import_tokenizers() -> Any:
    """Import `tokenizers` with the modules that training needs."""
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ImportError(
            "Training a tokenizer needs the package tokenizers, which is not installed: install "
            "the extra 'text' of skmode (in a checkout: pip install '.[text]'), or pass a "
            "tokenizer.json as tokenizer."
        ) from error
    return tokenizers
