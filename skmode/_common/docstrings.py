"""Docstrings of inherited methods, told again for rows of another kind."""

import functools
import inspect
import re
import types
from collections.abc import Mapping
from typing import Any, NamedTuple


class RowTexts(NamedTuple):
    """How docstrings speak of rows: their type, what each method says of them, and what others say.

    `of_methods` has pairs of a method and a parameter as keys.
    """

    kind: str
    of_methods: Mapping[tuple[str, str], str]
    others: str


def retell_methods(estimator: type, rows: RowTexts) -> None:
    """Give an estimator copies of skmode's public methods whose docstrings speak of its rows."""
    for name, method in inspect.getmembers(estimator, inspect.isfunction):
        ours = method.__module__.startswith("skmode.")
        if not name.startswith("_") and ours and method.__doc__:
            setattr(estimator, name, _retold(method, name, estimator, rows))


def _retold(method: Any, name: str, estimator: type, rows: RowTexts) -> Any:
    """Copy a method, with another docstring."""
    copied: Any = types.FunctionType(
        method.__code__, method.__globals__, name, method.__defaults__, method.__closure__
    )
    copied = functools.update_wrapper(copied, method)
    copied.__kwdefaults__ = method.__kwdefaults__
    if hasattr(method, "__wrapped__"):
        copied.__wrapped__ = method.__wrapped__
    else:
        del copied.__wrapped__
    copied.__qualname__ = f"{estimator.__name__}.{name}"
    text = re.sub(r"MoDE(Classifier|Regressor)\b", estimator.__name__, method.__doc__)
    copied.__doc__ = re.sub(
        r"^( +)(X|X_val|X_unlabeled) : [^\n]*?(, \\?\n?default=None)?\n((\1 +[^\n]*\n)+)",
        lambda found: _entry(found, name, rows),
        text,
        flags=re.MULTILINE,
    )
    return copied


def _entry(found: re.Match[str], method: str, rows: RowTexts) -> str:
    indent, parameter, default = found.group(1, 2, 3)
    text = rows.of_methods.get((method, parameter), rows.others)
    lines = "".join(f"{indent}    {line}\n" for line in inspect.cleandoc(text).splitlines())
    size = {"X_val": "n_val", "X_unlabeled": "n_unlabeled"}.get(parameter, "n_samples")
    kind = rows.kind.replace("n_samples", size)
    return f"{indent}{parameter} : {kind}{', default=None' if default else ''}\n{lines}"
