"""Which names of the packages are public, and which methods of a class are this project's."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

MODULES = [
    "skmode",
    "skmode.nn",
    "skmode.inspection",
    "skmode.onnx",
    "skmode.datasets",
    "skmode.language",
    "skmode_deploy",
    "skmode_deploy.batch",
    "skmode_deploy.bundle",
    "skmode_deploy.errors",
    "skmode_deploy.language",
    "skmode_deploy.samples",
    "skmode_deploy.signing",
]


def names() -> Iterator[str]:
    """Yield each public name with its module, such as ``skmode.nn.DenseGate``."""
    for module in MODULES:
        yield from (f"{module}.{name}" for name in importlib.import_module(module).__all__)


def find(path: str) -> Any:
    """Return what a public name stands for."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def methods(class_path: str) -> list[str]:
    """Return the public methods that a class has from this project's classes."""
    cls = find(class_path)
    described = (classmethod, property, staticmethod)
    found = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("skmode")
        for name, member in vars(base).items()
        if inspect.isfunction(member) or isinstance(member, described)
    }
    return sorted(name for name in found if not name.startswith("_") and _has_text(cls, name))


def directive(class_path: str, member: str) -> str:
    """Return which directive documents a member of a class."""
    is_property = isinstance(inspect.getattr_static(find(class_path), member), property)
    return "autoproperty" if is_property else "automethod"


def _has_text(cls: type, name: str) -> bool:
    return bool(inspect.getdoc(getattr(cls, name)))
