"""Texts to tokens and back, by the bundle's ``tokenizer.json``."""

import codecs

from skmode_deploy.bundle import TOKENIZER
from skmode_deploy.bundle.messages import shorten
from skmode_deploy.errors import TokenizerError
from skmode_deploy.running.inputs.texts import Tokenizer


class TextTokenizer:
    """Byte-level BPE, in which the end of a text has a token but no name."""

    def __init__(self, content: bytes, n_tokens: int, end_token: int) -> None:
        try:
            self._tokenizer = Tokenizer(content.decode())
        except (ValueError, RecursionError) as error:
            raise TokenizerError(
                f"{TOKENIZER} must be a byte-level BPE tokenizer, but reading it gave: "
                f"{shorten(str(error))} Export the model again."
            ) from None
        if self._tokenizer.n_tokens > n_tokens:
            raise TokenizerError(
                f"{TOKENIZER} must have tokens below {n_tokens}, the number of tokens of the "
                f"experts, got {self._tokenizer.n_tokens - 1}: export the model again."
            )
        # An expert may know numbers that are no tokens; they have no text.
        self._bytes = [self._tokenizer.token_bytes(token) for token in range(n_tokens)]
        self._end = self._bytes[end_token].decode(errors="replace")
        if len(self._end) < 2:
            raise TokenizerError(
                f"{TOKENIZER} must have a name for the end of a text as token {end_token}, got "
                f"{self._end!r}: export the model again."
            )
        self.longest = max(map(len, self._bytes))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; the name of the end token is read as plain characters."""
        first, *others = text.split(self._end)
        parts = [first]
        for other in others:
            parts[-1] += self._end[:2]
            parts.append(self._end[2:] + other)
        return [token for part in parts if part for token in self._tokenizer.encode(part)]

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
