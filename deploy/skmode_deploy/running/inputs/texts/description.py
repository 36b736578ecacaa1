"""Read the ``tokenizer.json`` of a byte-level BPE, and refuse by name what it must not have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.running.inputs.texts.merging import Merges
from skmode_deploy.running.inputs.texts.normalizing import normalize
from skmode_deploy.running.inputs.texts.words import PATTERN

_NORMALIZERS = ("NFC", "Lowercase")
_ADDED_FLAGS = ("single_word", "lstrip", "rstrip")
# Options of the model that would change the tokens, each with the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
}


@dataclass(frozen=True)
class Added:
    """A text that is a token as a whole, such as ``<|endoftext|>``."""

    content: str
    token: int
    normalized: bool


@dataclass(frozen=True)
class Description:
    """What is in a ``tokenizer.json``, checked."""

    normalizers: tuple[str, ...]
    add_prefix_space: bool
    prefix_each_word: bool  # not only each text
    split: bool
    ignore_merges: bool
    vocabulary: Mapping[str, int]
    merges: Merges
    added: tuple[Added, ...]


def read_description(json_text: str) -> Description:
    """Read and check a ``tokenizer.json``."""
    if not isinstance(json_text, str):
        raise TypeError(
            "json_text must be the content of a tokenizer.json, got an object of type "
            f"{type(json_text).__name__}: pass tokenizer.to_str(), or the text of the file."
        )
    try:
        document = json.loads(json_text)
    except (ValueError, RecursionError) as error:
        fail(f"must be valid JSON, but reading it failed ({error})", "save it again")
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        fail(f'must be an object with "model", got {short_repr(document)}', "save it again")
    for name in ("truncation", "padding"):
        if document.get(name) is not None:
            fail(
                f"must have no {name}, got {short_repr(document[name])}", f"call no_{name}() first"
            )
    _check_post_processor(document.get("post_processor"))
    _check_decoder(document.get("decoder"))
    split, prefix, each = _read_pre_tokenizer(document.get("pre_tokenizer"))
    model = document["model"]
    vocabulary = _read_vocabulary(model)
    normalizers = _read_normalizers(document.get("normalizer"))
    added = _read_added(document.get("added_tokens"), vocabulary)
    _check_distinct(added, normalizers)
    return Description(
        normalizers=tuple(normalizers),
        add_prefix_space=prefix,
        prefix_each_word=each,
        split=split,
        ignore_merges=bool(model.get("ignore_merges")),
        vocabulary=vocabulary,
        merges=_read_merges(model.get("merges"), vocabulary),
        added=tuple(added),
    )


def fail(rule_and_value: str, fix: str) -> NoReturn:
    """Raise for a tokenizer that cannot be read."""
    raise ValueError(f"A tokenizer {rule_and_value}: {fix}.")


def _check_post_processor(part: Any) -> None:
    for processor in _flatten(part, "processors"):
        if processor["type"] != "ByteLevel":  # changes no tokens
            fail(
                f"must add no tokens to a text, got the post-processor {_name(processor)}",
                "take it away, with tokenizer.post_processor = processors.ByteLevel()",
            )


def _check_decoder(part: Any) -> None:
    for decoder in _flatten(part, "decoders"):
        if decoder["type"] != "ByteLevel":
            fail(
                f"must have no decoder but ByteLevel, got {_name(decoder)}",
                "use a byte-level BPE, such as that of GPT-2",
            )


def _read_normalizers(part: Any) -> list[str]:
    names = [normalizer["type"] for normalizer in _flatten(part, "normalizers")]
    for name in names:
        if name not in _NORMALIZERS:
            fail(
                f"must have no normalizers but NFC and Lowercase, got {short_repr(name)}",
                "train one without it",
            )
    return names


def _read_pre_tokenizer(part: Any) -> tuple[bool, bool, bool]:
    """Return whether texts are split, get a space before them, and so does each word."""
    steps = _flatten(part, "pretokenizers")
    names = [step["type"] for step in steps]
    if names not in (["ByteLevel"], ["Split", "ByteLevel"]):
        fail(
            "must have the pre-tokenizer ByteLevel, or Split with the pattern of GPT-2 and then "
            f"ByteLevel, got {short_repr(names)}",
            "use a byte-level BPE, such as that of GPT-2",
        )
    for step in steps[:-1]:
        pattern, behavior = step.get("pattern"), step.get("behavior")
        if pattern != {"Regex": PATTERN} or behavior != "Isolated" or step.get("invert"):
            fail(
                "that has the pre-tokenizer Split must have the pattern of GPT-2, with the "
                f'behavior "Isolated" and not inverted, got {short_repr(step)}',
                "use ByteLevel alone",
            )
    level, has_split = steps[-1], len(steps) == 2
    splits_itself = bool(level.get("use_regex", True))
    if has_split and splits_itself:
        fail(
            "must split texts once, got Split and ByteLevel with use_regex=True",
            "pass use_regex=False to ByteLevel",
        )
    return has_split or splits_itself, bool(level.get("add_prefix_space", True)), has_split


def _read_vocabulary(model: dict[str, Any]) -> dict[str, int]:
    if model.get("type", "BPE") != "BPE":
        fail(
            f"must have the model BPE, got {short_repr(model['type'])}",
            "use a byte-level BPE, such as that of GPT-2",
        )
    for name, values in _NEUTRAL.items():
        if model.get(name) not in values:
            fail(
                f"must have the model's option {name} off, got {short_repr(model[name])}",
                "set it to None",
            )
    vocabulary: dict[str, int] = model.get("vocab", {})
    whole = isinstance(vocabulary, dict) and all(
        type(token) is int and 0 <= token < 2**31 for token in vocabulary.values()
    )
    if not whole or not vocabulary:
        fail(f"must have tokens from 0 up, got {short_repr(vocabulary)}", "save it again")
    if len(set(vocabulary.values())) != len(vocabulary):
        fail("must have a different number for each token, got one twice", "save it again")
    unknown = model.get("unk_token")
    if unknown is not None and not set(map(chr, byte_characters())) <= vocabulary.keys():
        fail(
            f"must know all 256 bytes if it has an unk_token, got {short_repr(unknown)} with fewer",
            "train it with initial_alphabet=pre_tokenizers.ByteLevel.alphabet()",
        )
    return vocabulary


def _read_merges(merges: Any, vocabulary: Mapping[str, int]) -> dict[tuple[int, int], Any]:
    """Read merges that are written as pairs, or as text with a space between the two."""
    if not isinstance(merges, list):
        fail(f"must have a list of merges, got {short_repr(merges)}", "save it again")
    read = {}
    for rank, entry in enumerate(merges):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(x, str) for x in pair)
        ):
            fail(f"must have merges of two tokens, got {short_repr(entry)}", "save it again")
        left, right = pair
        try:
            read[vocabulary[left], vocabulary[right]] = rank, vocabulary[left + right]
        except KeyError as error:
            fail(
                f"must know what its merges make, got {short_repr(entry)} without the token "
                f"{short_repr(error.args[0])}",
                "save it again",
            )
    return read


def _read_added(entries: Any, vocabulary: Mapping[str, int]) -> list[Added]:
    """Read the tokens that were added to those of the model."""
    taken = {token: content for content, token in vocabulary.items()}
    added: list[Added] = []
    if entries is not None and not isinstance(entries, list):
        fail(f"must have a list of added tokens, got {short_repr(entries)}", "save it again")
    for entry in entries or ():
        content, token = (
            (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(content, str) or not content or type(token) is not int or token < 0:
            fail(
                f"must have added tokens with a content and an id, got {short_repr(entry)}",
                "save it again",
            )
        for flag in _ADDED_FLAGS:
            if entry.get(flag):
                fail(
                    f"must have added tokens with {flag}=False, got {short_repr(content)}",
                    f"add it with {flag}=False",
                )
        if vocabulary.get(content, token) != token or taken.setdefault(token, content) != content:
            fail(
                f"must have added tokens with ids of their own, got {short_repr(content)} with "
                f"{token}",
                "save it again",
            )
        # The library takes special tokens as they are unless they say otherwise.
        added.append(Added(content, token, bool(entry.get("normalized", not entry.get("special")))))
    return added


def _check_distinct(added: list[Added], normalizers: list[str]) -> None:
    """Refuse tokens that become equal: of these, the library takes another one each time."""
    found: dict[tuple[bool, str], str] = {}
    for each in added:
        text = normalize(each.content, normalizers) if each.normalized else each.content
        key = each.normalized, text
        if key in found:
            fail(
                "must have added tokens that its normalizers keep apart, got "
                f"{short_repr(found[key])} and {short_repr(each.content)}",
                "add one of them, or add them with normalized=False",
            )
        found[key] = each.content


def byte_characters() -> list[int]:
    """Return the code of the character that stands for each byte, as GPT-2 defined them."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [byte if byte in printable else next(others) for byte in range(256)]


def _flatten(part: Any, members: str) -> list[dict[str, Any]]:
    """List the steps of a part that may be one step, a sequence of them, or none."""
    if part is None:
        return []
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        fail(f"must have parts with a type, got {short_repr(part)}", "save it again")
    if part["type"] != "Sequence":
        return [part]
    steps = part.get(members)
    if not isinstance(steps, list):
        fail(f'must have sequences with "{members}", got {short_repr(part)}', "save it again")
    return [step for inner in steps for step in _flatten(inner, members)]


def _name(part: dict[str, Any]) -> str:
    return short_repr(part["type"])
