"""Rules for single fields of a manifest's JSON document.

Each check takes a value and its place in the document. It raises an error with the rule, the value
and the fix.
"""

import math
import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, NoReturn

from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.errors import ManifestError

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
AGAIN = "export the model again"

Check = Callable[[Any, str], None]


def refuse(where: str, rule: str, value: object) -> NoReturn:
    what = f"{where} in {MANIFEST}" if where else MANIFEST
    raise ManifestError(f"{what} must be {rule}, got {short_repr(value)}: {AGAIN}.")


def text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        refuse(where, "a string", value)


def flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        refuse(where, "true or false", value)


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def number(value: Any, where: str) -> None:
    if not is_number(value):
        refuse(where, "a finite number", value)


def share(value: Any, where: str) -> None:
    if not is_number(value) or not 0 <= value <= 1:
        refuse(where, "a number from 0 to 1", value)


def weight(value: Any, where: str) -> None:
    if not is_number(value) or value < 0:
        refuse(where, "a finite number of at least 0", value)


def weight_or_rule(value: Any, where: str) -> None:
    """A weight, or the name of what set it; a card shows it."""
    if isinstance(value, str):
        if not re.fullmatch("[a-z0-9_]{1,100}", value):
            refuse(where, "a name of small letters, digits and _", value)
        return
    weight(value, where)


def whole(minimum: int, maximum: int = 2**63 - 1) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not int or not minimum <= value <= maximum:
            largest = "2**63 - 1" if maximum == 2**63 - 1 else maximum
            refuse(where, f"a whole number from {minimum} to {largest}", value)

    return check


def scalar(value: Any, where: str) -> None:
    if not isinstance(value, str | bool) and not is_number(value):
        refuse(where, "a string, true, false or a finite number", value)


def choice(*choices: str) -> Check:
    def check(value: Any, where: str) -> None:
        if value not in choices:
            refuse(where, " or ".join(map(repr, choices)), value)

    return check


def matching(pattern: str, rule: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            refuse(where, rule, value)

    return check


def time(value: Any, where: str) -> None:
    rule = "a time in UTC such as 2026-11-22T05:00:00Z"
    digits = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
    matching(digits, rule)(value, where)
    try:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        refuse(where, rule, value)


def optional(check: Check) -> Check:
    def check_optional(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return check_optional


def array_of(check: Check) -> Check:
    def check_items(value: Any, where: str) -> None:
        if not isinstance(value, list):
            refuse(where, "an array", value)
        for i, item in enumerate(value):
            check(item, f"{where}[{i}]")

    return check_items


def mapping_of(check: Check) -> Check:
    def check_items(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        for name, item in value.items():
            check(item, f"{where}[{short_repr(name)}]")

    return check_items


def object_of(fields: dict[str, Check], optional: Collection[str] = ()) -> Check:
    def check(value: Any, where: str) -> None:
        check_object(value, where, fields, optional)

    return check


def check_object(
    value: Any, where: str, fields: dict[str, Check], optional: Collection[str] = ()
) -> None:
    if not isinstance(value, dict):
        refuse(where, "an object", value)
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
