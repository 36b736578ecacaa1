"""Normalize texts as the package `tokenizers` does."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from skmode_deploy.running.inputs.texts.characters import NEW_CAPITALS, as_class, unknown_to_nfc


def normalize(text: str, names: Iterable[str]) -> str:
    """Apply normalizers in turn: NFC and Lowercase."""
    for name in names:
        text = _compose(text) if name == "NFC" else _lower(text)
    return text


def _compose(text: str) -> str:
    """Apply NFC to what lies between the characters that are newer than the package's tables."""
    if text.isascii():
        return text
    parts = _patterns()[0].split(text)
    if len(parts) == 1:
        return unicodedata.normalize("NFC", text)
    parts[::2] = [unicodedata.normalize("NFC", part) for part in parts[::2]]
    return "".join(parts)


def _lower(text: str) -> str:
    """Lower each character by itself; Python knows the form of a sigma at the end of a word."""
    if not text.isascii():
        text = text.replace("\u03a3", "\u03c3")
        text = _patterns()[1].sub(lambda found: chr(_small()[ord(found[0])]), text)
    return text.lower()


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Compile what finds the characters that NFC leaves alone, and the capitals."""
    capitals = [(first, last) for first, last, _ in NEW_CAPITALS]
    return re.compile(f"({as_class(unknown_to_nfc())})"), re.compile(as_class(capitals))


@cache
def _small() -> dict[int, int]:
    """Map each new capital to its small letter."""
    return {
        code: small + code - first
        for first, last, small in NEW_CAPITALS
        for code in range(first, last + 1)
    }
