"""Check the parsed JSON document of a manifest.

Each check takes a value and its place in the document. It raises an error with the rule, the value
and the fix.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, NoReturn

import numpy as np

from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.errors import ManifestError

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
AGAIN = "export the model again"

# Limits of the memory for labels: each has the length of the longest, 4 bytes per character.
MAX_LABEL_CHARACTERS = 10_000
MAX_LABEL_BYTES = 64 * 2**20

# Of an image: what PNG and JPEG files of one side may have, and 256 MiB as float32.
MAX_SIDE = 65_535
MAX_IMAGE_VALUES = 2**26

# Of a language model: tokens that an expert reads, and bytes that the router reads of a text.
MAX_LENGTH = 2**24
MAX_ROUTER_BYTES = 2**24
MAX_DOMAIN_CHARACTERS = 100
# Of a text: tokens take 12 bytes in memory, and a table of vectors has at most this many.
MAX_TEXT_TOKENS = 2**24
MAX_TEXT_BYTES = 2**30
TOKENIZER_NAME = r"tokenizer(_[A-Za-z0-9_.-]{1,100})?\.json"

_Check = Callable[[Any, str], None]


def check_document(document: Any) -> None:
    """Check all fields, first one by one, then together."""
    _check_object(document, "", _MANIFEST_FIELDS, OPTIONAL_FIELDS)
    if "threshold" in document:
        _check_threshold(document)
    if "routing_difference" in document:
        _check_routing_difference(document)
    if len(document["expert_usage"]) != document["n_experts"]:
        _refuse(
            "expert_usage",
            f"of length n_experts, {document['n_experts']}",
            len(document["expert_usage"]),
        )
    for kind in ("image", "language"):
        if kind != document["input"] and kind in document:
            _refuse(kind, f"absent unless input is '{kind}'", document[kind])
    if document["input"] == "image":
        _check_image(document)
    elif document["input"] == "language":
        _check_language(document)
    else:
        if document["input"] == "text":
            _check_only_text(document)
        _check_columns(document["columns"], document["input"])
    if (document["task"] == "language_modeling") != (document["input"] == "language"):
        _refuse("task", "'language_modeling' if and only if input is 'language'", document["task"])
    _check_classes(document["classes"], document["task"], document["n_outputs"])


# Rules for single fields.


def _refuse(where: str, rule: str, value: object) -> NoReturn:
    what = f"{where} in {MANIFEST}" if where else MANIFEST
    raise ManifestError(f"{what} must be {rule}, got {short_repr(value)}: {AGAIN}.")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        _refuse(where, "a string", value)


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        _refuse(where, "true or false", value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _number(value: Any, where: str) -> None:
    if not _is_number(value):
        _refuse(where, "a finite number", value)


def _share(value: Any, where: str) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        _refuse(where, "a number from 0 to 1", value)


def _weight(value: Any, where: str) -> None:
    if not _is_number(value) or value < 0:
        _refuse(where, "a finite number of at least 0", value)


def _whole(minimum: int, maximum: int = 2**63 - 1) -> _Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not int or not minimum <= value <= maximum:
            largest = "2**63 - 1" if maximum == 2**63 - 1 else maximum
            _refuse(where, f"a whole number from {minimum} to {largest}", value)

    return check


def _scalar(value: Any, where: str) -> None:
    if not isinstance(value, str | bool) and not _is_number(value):
        _refuse(where, "a string, true, false or a finite number", value)


def _choice(*choices: str) -> _Check:
    def check(value: Any, where: str) -> None:
        if value not in choices:
            _refuse(where, " or ".join(map(repr, choices)), value)

    return check


def _matching(pattern: str, rule: str) -> _Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            _refuse(where, rule, value)

    return check


def _time(value: Any, where: str) -> None:
    rule = "a time in UTC such as 2026-11-22T05:00:00Z"
    digits = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
    _matching(digits, rule)(value, where)
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        _refuse(where, rule, value)


def _optional(check: _Check) -> _Check:
    def check_optional(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return check_optional


def _array(check: _Check) -> _Check:
    def check_items(value: Any, where: str) -> None:
        if not isinstance(value, list):
            _refuse(where, "an array", value)
        for i, item in enumerate(value):
            check(item, f"{where}[{i}]")

    return check_items


def _mapping(check: _Check) -> _Check:
    def check_items(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(where, "an object", value)
        for name, item in value.items():
            check(item, f"{where}[{short_repr(name)}]")

    return check_items


def _object(fields: dict[str, _Check], optional: Collection[str] = ()) -> _Check:
    def check(value: Any, where: str) -> None:
        _check_object(value, where, fields, optional)

    return check


def _check_object(
    value: Any, where: str, fields: dict[str, _Check], optional: Collection[str] = ()
) -> None:
    if not isinstance(value, dict):
        _refuse(where, "an object", value)
    what = f"{where} in {MANIFEST}" if where else MANIFEST
    if not fields.keys() - set(optional) <= value.keys() <= fields.keys():
        lacking = sorted(fields.keys() - set(optional) - value.keys())
        unknown = sorted(value.keys() - fields.keys())
        raise ManifestError(
            f"{what} must have the fields of schema_version {SCHEMA_VERSION}, got unknown fields "
            f"{short_repr(unknown)} and missing fields {short_repr(lacking)}: {AGAIN}."
        )
    for name, check in fields.items():
        if name in value:
            check(value[name], f"{where}.{name}" if where else name)


_TEXT_FIELDS: dict[str, _Check] = {
    "tokenizer": _matching(TOKENIZER_NAME, "a name such as tokenizer.json or tokenizer_title.json"),
    "n_tokens": _whole(1, MAX_TEXT_TOKENS),
    "max_tokens": _whole(1, MAX_TEXT_TOKENS),
    "max_bytes": _whole(1, MAX_TEXT_BYTES),
    "encoder": _choice("transformer"),
}
# Bundles of releases that did not write this field stay valid.
OPTIONAL_TEXT_FIELDS = ("encoder",)
_HASH = _matching("[0-9a-f]{64}", "64 hexadecimal digits in lower case")
_COLUMN_FIELDS: dict[str, _Check] = {
    "name": _text,
    "input": _text,
    "kind": _choice("number", "category", "text"),
    "dtype": _choice("float32", "float64", "int64", "string"),
    "categories": _optional(_array(_scalar)),
    "has_missing": _flag,
    "minimum": _optional(_number),
    "maximum": _optional(_number),
    "refuses": _array(_choice("missing", "unseen")),
    "lowest": _number,
    "highest": _number,
    "text": _object(_TEXT_FIELDS, OPTIONAL_TEXT_FIELDS),
}
# Bundles of releases that did not write these fields stay valid.
OPTIONAL_COLUMN_FIELDS = ("refuses", "lowest", "highest", "text")
_CLASSES_FIELDS: dict[str, _Check] = {
    "values": _array(_scalar),
    "dtype": _matching("[<>|=]?[biufUO][0-9]{0,6}", "numpy's name of a scalar type"),
    "label": _choice("value", "index"),
}
_THRESHOLD_FIELDS: dict[str, _Check] = {"position": _whole(0), "value": _number}
_DIFFERENCE_FIELDS: dict[str, _Check] = {
    "rows": _choice("validation", "export"),
    "mean": _array(_weight),
    "max": _array(_weight),
}
_TEACHER_FIELDS: dict[str, _Check] = {
    "names": _array(_text),
    "losses": _optional(_mapping(_number)),
}
_IMAGE_FIELDS: dict[str, _Check] = {
    "height": _whole(1, MAX_SIDE),
    "width": _whole(1, MAX_SIDE),
    "channels": _whole(1, MAX_SIDE),
    "layout": _choice("hw", "hwc", "chw"),
    "dtype": _choice("uint8", "float32"),
}
_DOMAIN_FIELDS: dict[str, _Check] = {"name": _text, "quantization_loss": _optional(_number)}
_LANGUAGE_FIELDS: dict[str, _Check] = {
    "domains": _array(_object(_DOMAIN_FIELDS)),
    "max_length": _whole(1, MAX_LENGTH),
    "end_token": _whole(0),
    "router_bytes": _whole(1, MAX_ROUTER_BYTES),
    "min_confidence": _optional(_number),
    "unknown": _choice("best", "common", "error"),
}
OPTIONAL_LANGUAGE_FIELDS = ("unknown",)
_FILE_FIELDS: dict[str, _Check] = {"size": _whole(0), "sha256": _HASH}
_MANIFEST_FIELDS: dict[str, _Check] = {
    "task": _choice("classification", "regression", "language_modeling"),
    "routing": _choice("top_expert", "mixture"),
    "input": _choice("columns", "array", "image", "language", "text"),
    "from_table": _flag,
    "columns": _array(_object(_COLUMN_FIELDS, OPTIONAL_COLUMN_FIELDS)),
    "n_outputs": _whole(1),
    "classes": _optional(_object(_CLASSES_FIELDS)),
    "n_experts": _whole(1),
    "alpha": _weight,
    "expert_usage": _array(_share),
    "validation_scores": _optional(_mapping(_number)),
    "versions": _mapping(_text),
    "files": _mapping(_object(_FILE_FIELDS)),
    "created": _time,
    "notes": _text,
    "quantization": _optional(_choice("dynamic")),
    "schema_version": _whole(1),
    "sha256": _HASH,
    "threshold": _object(_THRESHOLD_FIELDS),
    "routing_difference": _object(_DIFFERENCE_FIELDS),
    "teacher": _object(_TEACHER_FIELDS),
    "image": _object(_IMAGE_FIELDS),
    "language": _object(_LANGUAGE_FIELDS, OPTIONAL_LANGUAGE_FIELDS),
}
# Only some bundles have these fields.
OPTIONAL_FIELDS = ("threshold", "routing_difference", "teacher", "image", "language")


# Rules for several fields together.


def _check_threshold(document: dict[str, Any]) -> None:
    if document["classes"] is None or document["n_outputs"] != 2:
        _refuse("threshold", "absent unless there are two classes", document["threshold"])
    if document["threshold"]["position"] > 1:
        _refuse("threshold.position", "0 or 1", document["threshold"]["position"])


def _check_routing_difference(document: dict[str, Any]) -> None:
    difference = document["routing_difference"]
    if document["routing"] != "top_expert":
        _refuse("routing_difference", "absent unless routing is 'top_expert'", difference)
    n_values = document["n_outputs"] if document["classes"] is None else 1
    for name in ("mean", "max"):
        if len(difference[name]) != n_values:
            rule = f"of length {n_values}, one for each target or one for all classes"
            _refuse(f"routing_difference.{name}", rule, len(difference[name]))


def _check_image(document: dict[str, Any]) -> None:
    _check_no_columns(document)
    image = document["image"]
    if image["layout"] == "hw" and image["channels"] != 1:
        _refuse("image.channels", "1 if layout is 'hw'", image["channels"])
    n_values = image["height"] * image["width"] * image["channels"]
    if n_values > MAX_IMAGE_VALUES:
        rule = f"of at most {MAX_IMAGE_VALUES} values, height times width times channels"
        _refuse("image", rule, n_values)


def _check_no_columns(document: dict[str, Any]) -> None:
    """Check what models of images and language models have instead of columns."""
    kind = document["input"]
    if kind not in document:
        _refuse(kind, f"present if input is '{kind}'", None)
    if document["columns"]:
        _refuse("columns", f"empty if input is '{kind}'", document["columns"])
    if document["from_table"]:
        _refuse("from_table", f"false if input is '{kind}'", document["from_table"])


def _check_language(document: dict[str, Any]) -> None:
    _check_no_columns(document)
    language = document["language"]
    names = [domain["name"] for domain in language["domains"]]
    if len(names) != document["n_experts"]:
        rule = f"of length n_experts, {document['n_experts']}"
        _refuse("language.domains", rule, len(names))
    _check_distinct("Names of domains", names)
    for name in names:
        if not name or len(name) > MAX_DOMAIN_CHARACTERS or not name.isprintable():
            rule = f"a printable string of 1 to {MAX_DOMAIN_CHARACTERS} characters"
            _refuse("The name of a domain", rule, name)
    if language.get("unknown") == "common" and document["routing"] != "mixture":
        _refuse("language.unknown", "'best' or 'error' unless routing is 'mixture'", "common")
    if language["end_token"] >= document["n_outputs"]:
        _refuse("language.end_token", "below n_outputs", language["end_token"])


def _check_only_text(document: dict[str, Any]) -> None:
    kinds = [column["kind"] for column in document["columns"]]
    if kinds != ["text"]:
        _refuse("columns", "a single one of kind 'text' if input is 'text'", kinds)
    if document["from_table"]:
        _refuse("from_table", "false if input is 'text'", document["from_table"])


def _check_columns(columns: list[dict[str, Any]], form: str) -> None:
    if not columns:
        _refuse("columns", "at least one", columns)
    _check_distinct("Names of columns", (column["name"] for column in columns))
    inputs = {(column["input"], column["dtype"]) for column in columns}
    if form == "columns":
        taken = [name for column in columns for name in _taken(column)]
        _check_distinct("Inputs of columns", taken)
    elif form == "array" and any(column["kind"] == "text" for column in columns):
        _refuse("columns", "without texts if input is 'array'", form)
    elif len(inputs) > 1:
        _refuse("columns", "of one input and dtype if input is 'array'", sorted(inputs))
    for i, column in enumerate(columns):
        _check_column(column, f"columns[{i}]")


def _taken(column: dict[str, Any]) -> list[str]:
    """List the names that no other column may have as input."""
    name = column["input"]
    return [name, f"tokens_{name}", f"counts_{name}"] if column["kind"] == "text" else [name]


def _check_column(column: dict[str, Any], where: str) -> None:
    kind, dtype, categories = column["kind"], column["dtype"], column["categories"]
    if kind == "number" and dtype == "string":
        _refuse(f"{where}.dtype", "a numeric type if kind is 'number'", dtype)
    if kind == "text" and dtype != "string":
        _refuse(f"{where}.dtype", "'string' if kind is 'text'", dtype)
    if ("text" in column) != (kind == "text"):
        _refuse(f"{where}.text", "present if kind is 'text', and only then", column.get("text"))
    if categories is not None:
        if kind != "category":
            _refuse(f"{where}.categories", f"null if kind is '{kind}'", categories)
        for category in categories:
            if not _fits(category, dtype):
                _refuse(f"{where}.categories", f"values of dtype {dtype}", category)
        _check_distinct(f"{where}.categories", categories)
    low, high = column["minimum"], column["maximum"]
    if (low is None) != (high is None) or (low is not None and low > high):
        _refuse(
            f"{where}.minimum", "at most maximum, and null only if maximum is null", (low, high)
        )
    if low is not None and kind != "number":
        _refuse(f"{where}.minimum", f"null if kind is '{kind}'", low)
    _check_refusals(column, where)


def _check_refusals(column: dict[str, Any], where: str) -> None:
    refuses, kind = column.get("refuses", []), column["kind"]
    _check_distinct(f"{where}.refuses", refuses)
    if "unseen" in refuses and column["categories"] is None:
        _refuse(f"{where}.refuses", "without 'unseen' if there are no categories", refuses)
    low, high = column.get("lowest"), column.get("highest")
    limited = low is not None or high is not None
    if limited and kind != "number":
        _refuse(f"{where}.lowest", f"left out, as highest, if kind is '{kind}'", (low, high))
    if low is not None and high is not None and low > high:
        _refuse(f"{where}.lowest", "at most highest", (low, high))


def _fits(value: Any, dtype: str) -> bool:
    if dtype == "string":
        return isinstance(value, str)
    if dtype == "int64":
        return type(value) is int and -(2**63) <= value < 2**63
    return type(value) in (int, float)


def _check_distinct(what: str, values: Iterable[Any]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ManifestError(
            f"{what} in {MANIFEST} must be distinct, got {short_repr(twice)} more than once: "
            f"{AGAIN}."
        )


def _check_classes(classes: dict[str, Any] | None, task: str, n_outputs: int) -> None:
    if (classes is None) != (task != "classification"):
        _refuse("classes", "null unless task is 'classification'", task)
    if classes is None:
        return
    values = classes["values"]
    if len(values) != n_outputs:
        _refuse("classes.values", f"of length n_outputs, {n_outputs}", len(values))
    kinds = {type(value) for value in values}
    # Floats may be written as integers.
    if len(kinds - {float, int}) + bool(kinds & {float, int}) != 1:
        _refuse("classes.values", "of one type", sorted(kind.__name__ for kind in kinds))
    _check_distinct("classes.values", values)
    if classes["label"] == "value" and not all(
        _fits(value, "int64") or isinstance(value, str) for value in values
    ):
        _refuse("classes.label", "'index' if labels are not strings or integers", "value")
    if classes["label"] == "index" and _has_labels(classes["dtype"], values):
        _refuse("classes.label", "'value' if labels are strings or 64-bit integers", "index")
    _check_class_type(classes["dtype"], values, kinds)


def _has_labels(dtype: str, values: list[Any]) -> bool:
    """Whether the graph returns labels of this type, rather than their positions."""
    if "O" in dtype or "U" in dtype:
        return all(isinstance(value, str) for value in values)
    return dtype.lstrip("<>|=")[0] in "iu" and all(_fits(value, "int64") for value in values)


def _check_class_type(name: str, values: list[Any], kinds: set[type]) -> None:
    rule = "a numpy type that can hold the values"
    if "U" in name:
        if kinds != {str}:
            _refuse("classes.dtype", rule, name)
        _check_label_length(name, values)
    try:
        dtype = np.dtype(name)
        np.array(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError, MemoryError):
        _refuse("classes.dtype", rule, name)
    allowed: dict[str, set[type]] = {
        "b": {bool}, "i": {int}, "u": {int}, "f": {int, float},
    }  # fmt: skip
    if not kinds <= allowed.get(dtype.kind, kinds):
        _refuse("classes.dtype", rule, name)


def _check_label_length(name: str, values: list[str]) -> None:
    """Check string labels: a longer type would waste memory, a shorter one cuts labels off."""
    longest = max(1, *map(len, values))
    if longest > MAX_LABEL_CHARACTERS or 4 * longest * len(values) > MAX_LABEL_BYTES:
        _refuse(
            "classes.values",
            f"strings of at most {MAX_LABEL_CHARACTERS} characters and {MAX_LABEL_BYTES} bytes in "
            "total, at 4 bytes per character and the length of the longest for each",
            f"{len(values)} with up to {longest} characters",
        )
    if name.partition("U")[2] != str(longest):
        _refuse("classes.dtype", f"as long as the longest label, U{longest}", name)
