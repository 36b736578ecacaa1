"""Read the body of a completion."""

from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from skmode_deploy.serving.protocol.errors import RequestError, shorten

MAX_CHOICES = 64
DEFAULT_MAX_TOKENS = 16  # as in OpenAI's protocol
# Fields that change nothing while they have these values.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "echo": (None, False),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None,),
    "presence_penalty": (None, 0),
    "suffix": (None, ""),
}
_FIELDS = {
    *NEUTRAL,
    *("model", "prompt", "max_tokens", "temperature", "top_p", "n", "stream", "stream_options"),
    *("stop", "seed", "user"),
    *("domain", "top_k"),  # beyond OpenAI's
}


@dataclass(frozen=True)
class CompletionRequest:
    """A request for completions of one or more prompts."""

    model: str
    prompts: list[str]
    n: int  # completions of each prompt
    max_tokens: int | None  # None is the default: fewer where the positions are too few
    stream: bool
    include_usage: bool
    seed: int | None
    options: dict[str, Any]  # of `LanguageModel.generate`, which checks them


def read_completion(body: bytes) -> CompletionRequest:
    """Read the body of a request; what would be ignored is refused."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"The body must be JSON in UTF-8, and reading it gave: {error}."
        ) from None
    if type(document) is not dict:
        _refuse("The body", "a JSON object", document)
    unknown = sorted(document.keys() - _FIELDS)
    if unknown:
        _refuse("The fields of the body", f"among {', '.join(sorted(_FIELDS))}", unknown)
    for name, neutral in NEUTRAL.items():
        if document.get(name) not in neutral:
            _refuse(
                f'"{name}"', "left out, because this server does not support it", document[name]
            )
    prompts = _read_prompts(document.get("prompt"))
    n = _read(document, "n", int, 1)
    if n < 1 or n * len(prompts) > MAX_CHOICES:
        _refuse('"n" times the number of prompts', f"from 1 to {MAX_CHOICES}", n * len(prompts))
    seed = _read(document, "seed", int, None)
    return CompletionRequest(
        _read(document, "model", str, ""),
        prompts,
        n,
        _read(document, "max_tokens", int, None),
        _read(document, "stream", bool, False),
        _read_stream_options(document),
        None if seed is None else seed % 2**63,  # OpenAI's may be negative
        {
            "temperature": _read_number(document, "temperature", 1.0),
            "top_p": _read_number(document, "top_p", 1.0),
            "top_k": _read(document, "top_k", int, None),
            "stop": _read_stop(document.get("stop")),
            "domain": _read(document, "domain", str, None),
        },
    )


def _refuse(what: str, rule: str, value: object) -> NoReturn:
    raise RequestError(f"{what} must be {rule}, got {shorten(value)}: see the protocol of OpenAI.")


def _read(document: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = document.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        words = {int: "a whole number", str: "a string", bool: "true or false", dict: "an object"}
        _refuse(f'"{name}"', words[kind], value)
    return value


def _read_number(document: dict[str, Any], name: str, default: float) -> float:
    value = document.get(name)
    if value is None:
        return default
    if type(value) not in (int, float):
        _refuse(f'"{name}"', "a number", value)
    return float(value)


def _read_stream_options(document: dict[str, Any]) -> bool:
    """Return whether a client wants the usage behind the last event."""
    options = _read(document, "stream_options", dict, {})
    unknown = sorted(options.keys() - {"include_usage", "include_obfuscation"})
    if unknown:
        _refuse('The fields of "stream_options"', "include_usage alone", unknown)
    if _read(options, "include_obfuscation", bool, False):
        _refuse('"include_obfuscation"', "false, since no event is padded", True)
    return bool(_read(options, "include_usage", bool, False))


def _read_prompts(prompt: Any) -> list[str]:
    prompts = [prompt] if type(prompt) is str else prompt
    if type(prompts) is not list or not prompts or any(type(each) is not str for each in prompts):
        _refuse('"prompt"', "a string, or a list of some (tokens are not taken)", prompt)
    return prompts


def _read_stop(stop: Any) -> list[str]:
    strings = [] if stop is None else [stop] if type(stop) is str else stop
    if type(strings) is not list or any(type(each) is not str for each in strings):
        _refuse('"stop"', "a string, or a list of some", stop)
    return strings
