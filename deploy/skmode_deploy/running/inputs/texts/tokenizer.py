"""Turn texts into the tokens of a byte-level BPE."""

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any, Literal, NoReturn, Protocol

from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.running.inputs.texts.description import (
    Added,
    Description,
    byte_characters,
    fail,
    read_description,
)
from skmode_deploy.running.inputs.texts.merging import merge
from skmode_deploy.running.inputs.texts.normalizing import normalize
from skmode_deploy.running.inputs.texts.words import chunk_pattern, word_pattern

MAX_CACHED = 65_536
MAX_CACHED_LENGTH = 64

Implementation = Literal["auto", "python", "tokenizers"]


class _Encoder(Protocol):
    """Turns texts into tokens."""

    def encode(self, text: str) -> list[int]:
        """Turn one text into tokens."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into tokens."""


class Tokenizer:
    """Turn texts into the tokens of a byte-level BPE, the kind of tokenizer that GPT-2 has.

    Parameters
    ----------
    json_text : str
        Content of a ``tokenizer.json``, as the package `tokenizers` writes it. The pre-tokenizer is
        ByteLevel, or Split with the pattern of GPT-2 and then ByteLevel. The normalizers NFC and
        Lowercase are read. All else that would change tokens is refused: other normalizers,
        dropout, post-processors, truncation, padding, and added tokens that normalizers make equal.
    implementation : {"auto", "python", "tokenizers"}, default="auto"
        What does the work: Python alone, or the package `tokenizers`. "auto" takes the package
        where it is installed. Both give the same tokens.

    Attributes
    ----------
    json_text : str
        Content of the ``tokenizer.json``.
    implementation : {"python", "tokenizers"}
        What does the work.
    n_tokens : int
        Number of tokens: the largest one plus 1.

    Raises
    ------
    ValueError
        If the tokenizer is not a byte-level BPE, or has a part that is not read.
    ImportError
        If `implementation` is "tokenizers", and the package is not installed.

    Notes
    -----
    Special and added tokens in a text become their single token, as in the package. Letters,
    numbers, NFC and Lowercase do not depend on the release of Python: they follow the tables of
    the package, of release 0.23.

    Threads may share a tokenizer. A pickle holds only its parameters.

    Examples
    --------
    >>> import json
    >>> from skmode_deploy import Tokenizer
    >>> tokenizer = Tokenizer(
    ...     json.dumps(
    ...         {
    ...             "pre_tokenizer": {
    ...                 "type": "ByteLevel",
    ...                 "add_prefix_space": False,
    ...                 "trim_offsets": True,
    ...             },
    ...             "model": {
    ...                 "type": "BPE",
    ...                 "vocab": {"a": 0, "b": 1, "ab": 2},
    ...                 "merges": [["a", "b"]],
    ...             },
    ...         }
    ...     )
    ... )
    >>> tokenizer.encode("abba")
    [2, 1, 0]
    >>> tokenizer.decode([2, 1, 0])
    'abba'
    """

    def __init__(self, json_text: str, *, implementation: Implementation = "auto") -> None:
        if implementation not in ("auto", "python", "tokenizers"):
            raise ValueError(
                'implementation must be "auto", "python" or "tokenizers", got '
                f'{implementation!r}: choose "auto" for the package where it is installed.'
            )
        description = read_description(json_text)
        self.json_text = json_text
        self._wanted = implementation
        if implementation == "auto":
            implementation = "tokenizers" if find_spec("tokenizers") else "python"
        self.implementation = implementation
        self._encoder: _Encoder = (
            _Library(json_text) if implementation == "tokenizers" else _Python(description)
        )
        self._bytes = _bytes_of_tokens(description)
        self.n_tokens = max(self._bytes) + 1

    def encode(self, text: str) -> list[int]:
        """Turn one text into tokens.

        Parameters
        ----------
        text : str
            Text of any length; an empty one has no tokens.

        Returns
        -------
        list of int
            Tokens.

        Raises
        ------
        TypeError
            If it is not a string.
        ValueError
            If it has a lone surrogate, which is half a character.
        """
        if not isinstance(text, str):
            _refuse_type(text, "A text")
        try:
            return self._encoder.encode(text)
        except (UnicodeEncodeError, TypeError):  # the package raises either
            refuse_surrogate(text, "A text")
            raise

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Turn texts into tokens.

        Parameters
        ----------
        texts : iterable of str
            Texts.

        Returns
        -------
        list of list of int
            Tokens of each text.

        Raises
        ------
        TypeError
            If one is not a string, or all are a single one.
        ValueError
            If one has a lone surrogate; the message names the text.
        """
        if isinstance(texts, str):
            raise TypeError("texts must hold any number of texts, got a single str: pass [text].")
        texts = list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                _refuse_type(text, f"Text {i}")
        try:
            return self._encoder.encode_batch(texts)
        except (UnicodeEncodeError, TypeError):  # the package raises either
            for i, text in enumerate(texts):
                refuse_surrogate(text, f"Text {i}")
            raise

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn tokens back into a text.

        Parameters
        ----------
        tokens : iterable of int
            Tokens; special ones are kept.

        Returns
        -------
        str
            The text. Bytes that are not UTF-8 become U+FFFD, for example where `tokens` starts
            within a character.

        Raises
        ------
        ValueError
            If the tokenizer does not have a token.
        """
        try:
            return b"".join([self._bytes[token] for token in tokens]).decode(errors="replace")
        except KeyError as error:
            raise ValueError(
                f"Tokens must be among the {len(self._bytes)} of this tokenizer, got "
                f"{error.args[0]!r}: pass tokens that it made."
            ) from None

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for.

        Parameters
        ----------
        token : int
            Token.

        Returns
        -------
        bytes
            Its bytes, which may be part of a character. Empty if there is no such token.
        """
        return self._bytes.get(token, b"")

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.json_text, self._wanted)


def _reopen(json_text: str, implementation: Implementation) -> Tokenizer:
    """Open a tokenizer of a pickle."""
    return Tokenizer(json_text, implementation=implementation)


def _refuse_type(text: Any, name: str) -> NoReturn:
    raise TypeError(
        f"{name} must be a string, got {short_repr(text)} of type {type(text).__name__}: convert "
        "it, bytes with .decode()."
    )


def refuse_surrogate(text: str, name: str) -> None:
    """Raise if a text has a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be valid Unicode, got the lone surrogate {text[error.start]!r} at "
            f"position {error.start}: read the file as UTF-8, or replace it with "
            'text.encode("utf-8", "replace").decode().'
        ) from None


def _bytes_of_tokens(description: Description) -> dict[int, bytes]:
    """Return the bytes that each token stands for."""
    byte_of = {chr(code): byte for byte, code in enumerate(byte_characters())}
    found = {
        token: (
            bytes([byte_of[character] for character in content])
            if byte_of.keys() >= set(content)
            else content.encode()
        )
        for content, token in description.vocabulary.items()
    }
    found.update((added.token, added.content.encode()) for added in description.added)
    return found


class _Library:
    """The package `tokenizers`."""

    def __init__(self, json_text: str) -> None:
        try:
            import tokenizers
        except ImportError:
            raise ImportError(
                'implementation="tokenizers" needs the package tokenizers, which is not installed: '
                'install it, or pass implementation="python".'
            ) from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json_text)
        except Exception as error:  # the package raises Exception itself
            fail(f"must be one that the package tokenizers reads, got {error}", "save it again")

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tokens

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


class _Python:
    """Python alone."""

    def __init__(self, description: Description) -> None:
        self._normalizers = description.normalizers
        self._prefix = description.add_prefix_space
        self._prefix_words = description.add_prefix_space and description.prefix_each_word
        self._find_chunks = chunk_pattern().findall if description.split else None
        self._chunks = _Chunks(description, self._prefix_words)
        self._added = [
            _AddedTokens(found) if found else None
            for found in (
                [added for added in description.added if not added.normalized],
                [
                    Added(self._normalize(added.content), added.token, True)
                    for added in description.added
                    if added.normalized
                ],
            )
        ]

    def encode(self, text: str) -> list[int]:
        as_they_are, normalized = self._added
        tokens: list[int] = []
        for part in as_they_are.split(text) if as_they_are else (text,):
            if isinstance(part, int):
                tokens.append(part)
                continue
            part = self._normalize(part)
            for piece in normalized.split(part) if normalized else (part,):
                if isinstance(piece, int):
                    tokens.append(piece)
                elif piece:
                    tokens.extend(self._encode_plain(piece))
        return tokens

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return list(map(self.encode, texts))

    def _encode_plain(self, text: str) -> Iterable[int]:
        """Turn a normalized text without added tokens into tokens."""
        if self._prefix and not self._prefix_words and text[0] != " ":
            text = f" {text}"
        chunks = self._find_chunks(text) if self._find_chunks else [text]
        return chain.from_iterable(map(self._chunks.__getitem__, chunks))

    def _normalize(self, text: str) -> str:
        return normalize(text, self._normalizers)


class _Cache(dict[str, Sequence[int]]):
    """Tokens by text; those of long texts are not kept, and all are dropped beyond a limit."""

    def __missing__(self, text: str) -> Sequence[int]:
        tokens = self._encode(text)
        if len(text) <= MAX_CACHED_LENGTH:
            if len(self) >= MAX_CACHED:
                self.clear()
            self[text] = tokens
        return tokens

    def _encode(self, text: str) -> Sequence[int]:
        raise NotImplementedError


class _Chunks(_Cache):
    """Tokens by what stands between spaces: common ones need not be split into words again."""

    def __init__(self, description: Description, prefix_words: bool) -> None:
        self._find_words = word_pattern().findall if description.split else None
        self._words = _Words(description)
        self._prefix_words = prefix_words

    def _encode(self, text: str) -> Sequence[int]:
        words = self._find_words(text) if self._find_words else [text]
        if self._prefix_words:
            words = [word if word[0] == " " else f" {word}" for word in words]
        return tuple(chain.from_iterable(map(self._words.__getitem__, words)))


class _Words(_Cache):
    """Tokens by word."""

    def __init__(self, description: Description) -> None:
        codes = byte_characters()
        vocabulary = description.vocabulary
        self._byte_tokens = [vocabulary.get(chr(code), -1) for code in codes]
        self._knows_all_bytes = -1 not in self._byte_tokens
        self._merges = description.merges
        self._whole = vocabulary if description.ignore_merges else None
        self._characters = dict(enumerate(codes))

    def _encode(self, word: str) -> Sequence[int]:
        data = word.encode()
        if self._whole is not None:
            token = self._whole.get(data.decode("latin-1").translate(self._characters))
            if token is not None:
                return (token,)
        tokens = list(map(self._byte_tokens.__getitem__, data))
        if not self._knows_all_bytes:  # others are dropped, as by the package
            tokens = [token for token in tokens if token >= 0]
        return tuple(merge(tokens, self._merges))


class _AddedTokens:
    """Finds the texts that are tokens as a whole: the leftmost, and there the longest."""

    def __init__(self, added: Sequence[Added]) -> None:
        self._tokens = {entry.content: entry.token for entry in added}
        contents = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, contents)))

    def split(self, text: str) -> Iterable[str | int]:
        """Part a text into tokens and the texts between them."""
        start = 0
        for found in self._pattern.finditer(text):
            yield text[start : found.start()]
            yield self._tokens[found[0]]
            start = found.end()
        yield text[start:]
