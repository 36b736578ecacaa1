"""Check the parsed JSON document of a manifest.

Each check takes a value and its place in the document. It raises an error with the rule, the value
and the fix.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from skmode_deploy.bundle.manifest.rules import (
    AGAIN,
    MANIFEST,
    Check,
    array_of,
    check_object,
    choice,
    flag,
    mapping_of,
    matching,
    number,
    object_of,
    optional,
    refuse,
    scalar,
    share,
    text,
    time,
    weight,
    weight_or_rule,
    whole,
)
from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.errors import ManifestError

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


def check_document(document: Any) -> None:
    """Check all fields, first one by one, then together."""
    check_object(document, "", _MANIFEST_FIELDS, OPTIONAL_FIELDS)
    if "threshold" in document:
        _check_threshold(document)
    if "routing_difference" in document:
        _check_routing_difference(document)
    if len(document["expert_usage"]) != document["n_experts"]:
        refuse(
            "expert_usage",
            f"of length n_experts, {document['n_experts']}",
            len(document["expert_usage"]),
        )
    for kind in ("image", "language"):
        if kind != document["input"] and kind in document:
            refuse(kind, f"absent unless input is '{kind}'", document[kind])
    if document["input"] == "image":
        _check_image(document)
    elif document["input"] == "language":
        _check_language(document)
    else:
        if document["input"] == "text":
            _check_only_text(document)
        _check_columns(document["columns"], document["input"])
    if (document["task"] == "language_modeling") != (document["input"] == "language"):
        refuse("task", "'language_modeling' if and only if input is 'language'", document["task"])
    _check_classes(document["classes"], document["task"], document["n_outputs"])


# The fields of each object.

_TEXT_FIELDS: dict[str, Check] = {
    "tokenizer": matching(TOKENIZER_NAME, "a name such as tokenizer.json or tokenizer_title.json"),
    "n_tokens": whole(1, MAX_TEXT_TOKENS),
    "max_tokens": whole(1, MAX_TEXT_TOKENS),
    "max_bytes": whole(1, MAX_TEXT_BYTES),
    "encoder": choice("transformer"),
}
# Bundles of releases that did not write this field stay valid.
OPTIONAL_TEXT_FIELDS = ("encoder",)
_IMAGE_FIELDS: dict[str, Check] = {
    "height": whole(1, MAX_SIDE),
    "width": whole(1, MAX_SIDE),
    "channels": whole(1, MAX_SIDE),
    "layout": choice("hw", "hwc", "chw"),
    "dtype": choice("uint8", "float32"),
    "missing": array_of(number),
}
OPTIONAL_IMAGE_FIELDS = ("missing",)
_HASH = matching("[0-9a-f]{64}", "64 hexadecimal digits in lower case")
_COLUMN_FIELDS: dict[str, Check] = {
    "name": text,
    "input": text,
    "kind": choice("number", "category", "text", "image"),
    "dtype": choice("float32", "float64", "int64", "string", "uint8"),
    "categories": optional(array_of(scalar)),
    "has_missing": flag,
    "minimum": optional(number),
    "maximum": optional(number),
    "refuses": array_of(choice("missing", "unseen")),
    "lowest": number,
    "highest": number,
    "text": object_of(_TEXT_FIELDS, OPTIONAL_TEXT_FIELDS),
    "image": object_of(_IMAGE_FIELDS, OPTIONAL_IMAGE_FIELDS),
}
# Bundles of releases that did not write these fields stay valid.
OPTIONAL_COLUMN_FIELDS = ("refuses", "lowest", "highest", "text", "image")
_CLASSES_FIELDS: dict[str, Check] = {
    "values": array_of(scalar),
    "dtype": matching("[<>|=]?[biufUO][0-9]{0,6}", "numpy's name of a scalar type"),
    "label": choice("value", "index"),
}
_THRESHOLD_FIELDS: dict[str, Check] = {"position": whole(0), "value": number}
_DIFFERENCE_FIELDS: dict[str, Check] = {
    "rows": choice("validation", "export"),
    "mean": array_of(weight),
    "max": array_of(weight),
}
_TEACHER_FIELDS: dict[str, Check] = {
    "names": array_of(text),
    "losses": optional(mapping_of(number)),
}
_DOMAIN_FIELDS: dict[str, Check] = {
    "name": text,
    "quantization_loss": optional(number),
    "alpha": weight_or_rule,
}
OPTIONAL_DOMAIN_FIELDS = ("alpha",)
_LANGUAGE_FIELDS: dict[str, Check] = {
    "domains": array_of(object_of(_DOMAIN_FIELDS, OPTIONAL_DOMAIN_FIELDS)),
    "max_length": whole(1, MAX_LENGTH),
    "end_token": whole(0),
    "router_bytes": whole(1, MAX_ROUTER_BYTES),
    "min_confidence": optional(number),
    "unknown": choice("best", "common", "error"),
}
OPTIONAL_LANGUAGE_FIELDS = ("unknown",)
_FILE_FIELDS: dict[str, Check] = {"size": whole(0), "sha256": _HASH}
_MANIFEST_FIELDS: dict[str, Check] = {
    "task": choice("classification", "regression", "language_modeling"),
    "routing": choice("top_expert", "mixture"),
    "input": choice("columns", "array", "image", "language", "text"),
    "from_table": flag,
    "columns": array_of(object_of(_COLUMN_FIELDS, OPTIONAL_COLUMN_FIELDS)),
    "n_outputs": whole(1),
    "classes": optional(object_of(_CLASSES_FIELDS)),
    "n_experts": whole(1),
    "alpha": weight,
    "expert_usage": array_of(share),
    "validation_scores": optional(mapping_of(number)),
    "versions": mapping_of(text),
    "files": mapping_of(object_of(_FILE_FIELDS)),
    "created": time,
    "notes": text,
    "quantization": optional(choice("dynamic")),
    "schema_version": whole(1),
    "sha256": _HASH,
    "threshold": object_of(_THRESHOLD_FIELDS),
    "routing_difference": object_of(_DIFFERENCE_FIELDS),
    "teacher": object_of(_TEACHER_FIELDS),
    "image": object_of(_IMAGE_FIELDS, OPTIONAL_IMAGE_FIELDS),
    "language": object_of(_LANGUAGE_FIELDS, OPTIONAL_LANGUAGE_FIELDS),
}
# Only some bundles have these fields.
OPTIONAL_FIELDS = ("threshold", "routing_difference", "teacher", "image", "language")


# Rules for several fields together.


def _check_threshold(document: dict[str, Any]) -> None:
    if document["classes"] is None or document["n_outputs"] != 2:
        refuse("threshold", "absent unless there are two classes", document["threshold"])
    if document["threshold"]["position"] > 1:
        refuse("threshold.position", "0 or 1", document["threshold"]["position"])


def _check_routing_difference(document: dict[str, Any]) -> None:
    difference = document["routing_difference"]
    if document["routing"] != "top_expert":
        refuse("routing_difference", "absent unless routing is 'top_expert'", difference)
    n_values = document["n_outputs"] if document["classes"] is None else 1
    for name in ("mean", "max"):
        if len(difference[name]) != n_values:
            rule = f"of length {n_values}, one for each target or one for all classes"
            refuse(f"routing_difference.{name}", rule, len(difference[name]))


def _check_image(document: dict[str, Any]) -> None:
    _check_no_columns(document)
    _check_size(document["image"], "image")


def _check_size(image: dict[str, Any], where: str) -> None:
    if image["layout"] == "hw" and image["channels"] != 1:
        refuse(f"{where}.channels", "1 if layout is 'hw'", image["channels"])
    n_values = image["height"] * image["width"] * image["channels"]
    if n_values > MAX_IMAGE_VALUES:
        rule = f"of at most {MAX_IMAGE_VALUES} values, height times width times channels"
        refuse(where, rule, n_values)
    colour = image.get("missing")
    if colour is None:
        return
    if len(colour) != image["channels"]:
        refuse(f"{where}.missing", f"of length channels, {image['channels']}", len(colour))
    highest = 255 if image["dtype"] == "uint8" else 1
    whole_numbers = image["dtype"] == "float32" or all(each == int(each) for each in colour)
    if not whole_numbers or not all(0 <= each <= highest for each in colour):
        refuse(f"{where}.missing", f"numbers of dtype from 0 to {highest}", colour)


def _check_no_columns(document: dict[str, Any]) -> None:
    """Check what models of images and language models have instead of columns."""
    kind = document["input"]
    if kind not in document:
        refuse(kind, f"present if input is '{kind}'", None)
    if document["columns"]:
        refuse("columns", f"empty if input is '{kind}'", document["columns"])
    if document["from_table"]:
        refuse("from_table", f"false if input is '{kind}'", document["from_table"])


def _check_language(document: dict[str, Any]) -> None:
    _check_no_columns(document)
    language = document["language"]
    names = [domain["name"] for domain in language["domains"]]
    if len(names) != document["n_experts"]:
        rule = f"of length n_experts, {document['n_experts']}"
        refuse("language.domains", rule, len(names))
    _check_distinct("Names of domains", names)
    for name in names:
        if not name or len(name) > MAX_DOMAIN_CHARACTERS or not name.isprintable():
            rule = f"a printable string of 1 to {MAX_DOMAIN_CHARACTERS} characters"
            refuse("The name of a domain", rule, name)
    if language.get("unknown") == "common" and document["routing"] != "mixture":
        refuse("language.unknown", "'best' or 'error' unless routing is 'mixture'", "common")
    if language["end_token"] >= document["n_outputs"]:
        refuse("language.end_token", "below n_outputs", language["end_token"])


def _check_only_text(document: dict[str, Any]) -> None:
    kinds = [column["kind"] for column in document["columns"]]
    if kinds != ["text"]:
        refuse("columns", "a single one of kind 'text' if input is 'text'", kinds)
    if document["from_table"]:
        refuse("from_table", "false if input is 'text'", document["from_table"])


def _check_columns(columns: list[dict[str, Any]], form: str) -> None:
    if not columns:
        refuse("columns", "at least one", columns)
    _check_distinct("Names of columns", (column["name"] for column in columns))
    inputs = {(column["input"], column["dtype"]) for column in columns}
    if form == "columns":
        taken = [name for column in columns for name in _taken(column)]
        _check_distinct("Inputs of columns", taken)
    elif form == "array" and any(column["kind"] in ("text", "image") for column in columns):
        refuse("columns", "without texts and images if input is 'array'", form)
    elif len(inputs) > 1:
        refuse("columns", "of one input and dtype if input is 'array'", sorted(inputs))
    for i, column in enumerate(columns):
        _check_column(column, f"columns[{i}]")


def _taken(column: dict[str, Any]) -> list[str]:
    """List the names that no other column may have as input."""
    name = column["input"]
    return [name, f"tokens_{name}", f"counts_{name}"] if column["kind"] == "text" else [name]


def _check_column(column: dict[str, Any], where: str) -> None:
    kind, dtype, categories = column["kind"], column["dtype"], column["categories"]
    if kind == "number" and dtype == "string":
        refuse(f"{where}.dtype", "a numeric type if kind is 'number'", dtype)
    if kind == "text" and dtype != "string":
        refuse(f"{where}.dtype", "'string' if kind is 'text'", dtype)
    for part in ("text", "image"):
        if (part in column) != (kind == part):
            rule = f"present if kind is '{part}', and only then"
            refuse(f"{where}.{part}", rule, column.get(part))
    if kind != "image" and dtype == "uint8":
        refuse(f"{where}.dtype", "another type unless kind is 'image'", dtype)
    if kind == "image":
        _check_size(column["image"], f"{where}.image")
        if dtype != column["image"]["dtype"]:
            refuse(f"{where}.dtype", f"that of its image, {column['image']['dtype']}", dtype)
    if categories is not None:
        if kind != "category":
            refuse(f"{where}.categories", f"null if kind is '{kind}'", categories)
        for category in categories:
            if not _fits(category, dtype):
                refuse(f"{where}.categories", f"values of dtype {dtype}", category)
        _check_distinct(f"{where}.categories", categories)
    low, high = column["minimum"], column["maximum"]
    if (low is None) != (high is None) or (low is not None and low > high):
        refuse(f"{where}.minimum", "at most maximum, and null only if maximum is null", (low, high))
    if low is not None and kind != "number":
        refuse(f"{where}.minimum", f"null if kind is '{kind}'", low)
    _check_refusals(column, where)


def _check_refusals(column: dict[str, Any], where: str) -> None:
    refuses, kind = column.get("refuses", []), column["kind"]
    _check_distinct(f"{where}.refuses", refuses)
    if "unseen" in refuses and column["categories"] is None:
        refuse(f"{where}.refuses", "without 'unseen' if there are no categories", refuses)
    low, high = column.get("lowest"), column.get("highest")
    limited = low is not None or high is not None
    if limited and kind != "number":
        refuse(f"{where}.lowest", f"left out, as highest, if kind is '{kind}'", (low, high))
    if low is not None and high is not None and low > high:
        refuse(f"{where}.lowest", "at most highest", (low, high))


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
        refuse("classes", "null unless task is 'classification'", task)
    if classes is None:
        return
    values = classes["values"]
    if len(values) != n_outputs:
        refuse("classes.values", f"of length n_outputs, {n_outputs}", len(values))
    kinds = {type(value) for value in values}
    # Floats may be written as integers.
    if len(kinds - {float, int}) + bool(kinds & {float, int}) != 1:
        refuse("classes.values", "of one type", sorted(kind.__name__ for kind in kinds))
    _check_distinct("classes.values", values)
    if classes["label"] == "value" and not all(
        _fits(value, "int64") or isinstance(value, str) for value in values
    ):
        refuse("classes.label", "'index' if labels are not strings or integers", "value")
    if classes["label"] == "index" and _has_labels(classes["dtype"], values):
        refuse("classes.label", "'value' if labels are strings or 64-bit integers", "index")
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
            refuse("classes.dtype", rule, name)
        _check_label_length(name, values)
    try:
        dtype = np.dtype(name)
        np.array(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError, MemoryError):
        refuse("classes.dtype", rule, name)
    allowed: dict[str, set[type]] = {
        "b": {bool}, "i": {int}, "u": {int}, "f": {int, float},
    }  # fmt: skip
    if not kinds <= allowed.get(dtype.kind, kinds):
        refuse("classes.dtype", rule, name)


def _check_label_length(name: str, values: list[str]) -> None:
    """Check string labels: a longer type would waste memory, a shorter one cuts labels off."""
    longest = max(1, *map(len, values))
    if longest > MAX_LABEL_CHARACTERS or 4 * longest * len(values) > MAX_LABEL_BYTES:
        refuse(
            "classes.values",
            f"strings of at most {MAX_LABEL_CHARACTERS} characters and {MAX_LABEL_BYTES} bytes in "
            "total, at 4 bytes per character and the length of the longest for each",
            f"{len(values)} with up to {longest} characters",
        )
    if name.partition("U")[2] != str(longest):
        refuse("classes.dtype", f"as long as the longest label, U{longest}", name)
