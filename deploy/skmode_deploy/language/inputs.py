"""Check texts and numbers that a caller passed."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from skmode_deploy.bundle.messages import list_names, short_repr

MAX_TEXT_BYTES = 2**20


def check_text(text: Any, max_bytes: int, what: str = "A text") -> str:
    """Check one text: it must be a string of UTF-8 that is neither empty nor too long."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, got {type(text).__name__}: decode it first.")
    # Before it is encoded, which takes as much memory again.
    n_bytes = len(text)
    if n_bytes <= max_bytes:
        try:
            n_bytes = len(text.encode())
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} must be Unicode without surrogates, which are no UTF-8, got "
                f"{short_repr(text[error.start])} at position {error.start}: decode the bytes "
                'with errors="replace".'
            ) from None
    if not n_bytes:
        raise ValueError(f"{what} must have at least one character, got none: leave it out.")
    if n_bytes > max_bytes:
        raise ValueError(
            f"{what} must have at most {max_bytes} bytes, got {n_bytes} or more: pass it in parts."
        )
    return text


def check_texts(texts: Any, max_bytes: int) -> list[str]:
    """Check a list of texts."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TypeError(
            f"texts must be a list of str, got {type(texts).__name__}: pass [text] for a single "
            "one."
        )
    return [check_text(text, max_bytes, f"Text {i}") for i, text in enumerate(texts)]


def check_domain(domain: Any, domains: Sequence[str]) -> str:
    """Check the name of a domain."""
    if not isinstance(domain, str) or domain not in domains:
        raise ValueError(
            f"The domain must be one of {list_names(domains)}, got {short_repr(domain)}: pass one "
            "of these, or None to route the text."
        )
    return domain


def check_whole(value: Any, name: str, low: int, high: int, fix: str) -> int:
    """Check a whole number."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ValueError(
            f"{name} must be a whole number from {low} to {high}, got {short_repr(value)}: {fix}."
        )
    return int(value)


def check_max_tokens(max_tokens: Any, n_prompt_tokens: int, max_length: int) -> int:
    """Check how many tokens are to follow a prompt; None is all that there is room for."""
    left = max_length - n_prompt_tokens
    if left < 1:
        raise ValueError(
            f"The prompt must have fewer tokens than the model has positions, {max_length}, got "
            f"{n_prompt_tokens}: shorten it."
        )
    if max_tokens is None:
        return left
    fix = (
        f"the model has {max_length} positions, and the prompt takes {n_prompt_tokens}: "
        "pass fewer, or None for all that are left"
    )
    return check_whole(max_tokens, "max_tokens", 1, left, fix)


def check_stop(stop: Any) -> tuple[str, ...]:
    """Check the strings that end a text."""
    if stop is None:
        return ()
    strings = (stop,) if isinstance(stop, str) or not isinstance(stop, Iterable) else tuple(stop)
    if len(strings) > 16 or not all(isinstance(each, str) and each for each in strings):
        raise ValueError(
            f"stop must be at most 16 strings that are not empty, got {short_repr(stop)}: pass a "
            "string, a list of some, or None."
        )
    if any(len(each) > 1000 for each in strings):
        raise ValueError("A stop string must have at most 1000 characters, got more: shorten it.")
    return strings
