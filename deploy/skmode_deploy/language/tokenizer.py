"""Texts to tokens and back, by the bundle's ``tokenizer.json``."""

import codecs
import json
from typing import Any, NoReturn

from skmode_deploy.bundle import TOKENIZER
from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.errors import TokenizerError

# Byte-level BPE shows each byte as a letter: printable ones of Latin-1 as themselves, the others as
# letters from this one on.
_FIRST_OTHER = 0x100


class TextTokenizer:
    """Byte-level BPE, and the bytes of each token."""

    def __init__(self, content: bytes, n_tokens: int) -> None:
        self._bytes = _read_tokens(content, n_tokens)
        self.longest = max(map(len, self._bytes))
        self._tokenizer = _open(content)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tokens

    def new_decoder(self) -> "Decoder":
        """Make a decoder that takes one token at a time."""
        return Decoder(self._bytes)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens."""
        decoder = self.new_decoder()
        return "".join([*map(decoder.add, tokens), decoder.end()])


class Decoder:
    """Turn tokens into text as they come; half a character waits for its other half."""

    def __init__(self, token_bytes: list[bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Return the text that a token completes."""
        return self._utf8.decode(self._token_bytes[token])

    def end(self) -> str:
        """Return what is left of a character that was never completed."""
        return self._utf8.decode(b"", final=True)


def _letters() -> dict[str, int]:
    """Map the letters of byte-level BPE to their bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(_FIRST_OTHER + i): byte for i, byte in enumerate(others)}


def _read_tokens(content: bytes, n_tokens: int) -> list[bytes]:
    """Read the bytes of each token; a number without a token has none."""
    try:
        document = json.loads(content.decode())
        vocabulary = document["model"]["vocab"]
        added = {token["content"]: token["id"] for token in document["added_tokens"]}
        pairs = [*vocabulary.items(), *added.items()]
        kind = document["model"].get("type", "BPE")
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        _refuse("be the JSON of a byte-level BPE tokenizer", f"{type(error).__name__}: {error}")
    if kind != "BPE":
        _refuse("be the JSON of a byte-level BPE tokenizer", kind)
    letters = _letters()
    tokens = [b""] * n_tokens
    for text, number in pairs:
        if type(number) is not int or not 0 <= number < n_tokens:
            _refuse(f"have token numbers from 0 to {n_tokens - 1}", number)
        is_added = text in added
        if not is_added and not letters.keys() >= set(text):
            _refuse("have tokens of byte-level BPE", text)
        tokens[number] = text.encode() if is_added else bytes(letters[letter] for letter in text)
    if not any(tokens):
        _refuse("have tokens", vocabulary)
    return tokens


def _open(content: bytes) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(
            f"Language models need the package tokenizers, but importing it failed: {error}. "
            "Install the extra 'language' of skmode-deploy."
        ) from error
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library has no type of its own
        _refuse("be a tokenizer that the package tokenizers can open", str(error))


def _refuse(rule: str, value: object) -> NoReturn:
    raise TokenizerError(
        f"{TOKENIZER} must {rule}, got {short_repr(value)}: export the model again."
    )
