"""The tokenizer: byte-level BPE, so that every text has tokens and every token has bytes."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"
SMALLEST = 257  # a token for each byte, and the end of a text


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn byte-level BPE from texts, which are read once."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    check_vocab_size(vocab_size)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(vocab_size),
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def check_vocab_size(vocab_size: Any) -> None:
    """Refuse a number of tokens that is none, or too small."""
    is_whole = isinstance(vocab_size, Integral) and not isinstance(vocab_size, bool)
    if not is_whole or int(vocab_size) < SMALLEST:
        raise ValueError(
            f"vocab_size must be an integer of at least {SMALLEST}, a token for each byte and one "
            f"for the end of a text, got {vocab_size!r}: 2048 suits small corpora."
        )


def as_tokenizer(given: Any) -> Tokenizer:
    """Return the tokenizer of the user's, if it loses no byte and ends texts as ours does."""
    from tokenizers import Tokenizer

    tokenizer = getattr(given, "backend_tokenizer", given)
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(
            "tokenizer must be a tokenizers.Tokenizer or a fast tokenizer of transformers, got "
            f"{type(given).__name__}: load it by Tokenizer.from_file."
        )
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    probe = "aA\u00e9\U0001f980\x00\t"
    back = tokenizer.decode(tokenizer.encode(probe, add_special_tokens=False).ids)
    if tokenizer.token_to_id(END) is None or back != probe:
        raise ValueError(
            f"tokenizer must be byte-level BPE with the token {END}, but it turns {probe!r} into "
            f"{back!r} and has {'no' if tokenizer.token_to_id(END) is None else 'the'} such token: "
            "leave tokenizer=None to train one."
        )
    return tokenizer


def end_of(tokenizer: Tokenizer) -> int:
    """Return the number of the token that ends a text."""
    end = tokenizer.token_to_id(END)
    assert end is not None
    return end


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text, in which the end of a text has no name."""
    return [
        token
        for part in _without_end(text)
        for token in tokenizer.encode(part, add_special_tokens=False).ids
    ]


def _without_end(text: str) -> list[str]:
    """Split a text inside each name of the end token, so that it is read as plain characters."""
    first, *others = text.split(END)
    parts = [first]
    for other in others:
        parts[-1] += END[:2]
        parts.append(END[2:] + other)
    return [part for part in parts if part]
