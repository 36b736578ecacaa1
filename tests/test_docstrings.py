"""Public docstrings follow numpydoc: the checks are chosen in pyproject.toml."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import ERROR_MSGS, Validator, validate

PACKAGES = [
    "skmode",
    "skmode.nn",
    "skmode.onnx",
    "skmode.datasets",
    "skmode.language",
    "skmode.inspection",
    "skmode_deploy",
    "skmode_deploy.batch",
    "skmode_deploy.bundle",
    "skmode_deploy.errors",
    "skmode_deploy.bundle.manifest",
    "skmode_deploy.language",
    "skmode_deploy.samples",
    "skmode_deploy.signing",
]

# Classes that users get from a method, and do not call.
MADE_ELSEWHERE = {"skmode_deploy.language.Generation"}

with Path(__file__).parents[1].joinpath("pyproject.toml").open("rb") as pyproject:
    LEFT_OUT = set(tomllib.load(pyproject)["tool"]["numpydoc_validation"]["checks"]) - {"all"}


def public_names() -> Iterator[str]:
    """Yield all that the packages export, and the public methods that its classes define."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            exported = getattr(module, name)
            if not (inspect.isclass(exported) or inspect.isroutine(exported)):
                continue
            yield f"{package}.{name}"
            if inspect.isclass(exported):
                yield from (f"{package}.{name}.{method}" for method in public_methods(exported))


def public_methods(cls: type) -> Iterator[str]:
    """Yield the public methods that `cls` takes from this project's classes, its own included."""
    described = (classmethod, property, staticmethod)
    seen = set()
    for base in ours(cls):
        seen |= {
            name
            for name, member in vars(base).items()
            if inspect.isfunction(member) or isinstance(member, described)
        }
    yield from sorted(name for name in seen if not name.startswith("_"))


def ours(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith("skmode")]


def documented_elsewhere(name: str) -> set[str]:
    """Return the checks that conventions of torch, named tuples, dataclasses take the place of."""
    if name in MADE_ELSEWHERE:
        return {"PR01"}
    parent, _, last = name.rpartition(".")
    owner = Validator._load_obj(parent)
    cls = getattr(owner, last)
    if last == "forward" and inspect.isclass(owner):
        # A module's inputs and outputs stand under "Shape:" in its class.
        return {"PR01", "RT01"} if "Shape:" in (inspect.getdoc(owner) or "") else set()
    if inspect.isclass(cls) and (hasattr(cls, "_fields") or dataclasses.is_dataclass(cls)):
        # The fields of named tuples and dataclasses stand under "Attributes".
        described = NumpyDocString(inspect.getdoc(cls))["Attributes"]
        names = [name for field in described for name in field.name.split(", ")]
        return {"PR01"} if names == field_names(cls) else set()
    if inspect.isclass(cls) and not any("__init__" in vars(base) for base in ours(cls)):
        return {"PR01"}  # no parameters of its own
    return set()


def field_names(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return list(cls._fields)  # type: ignore[attr-defined]


def test_left_out_checks_exist():
    assert set(ERROR_MSGS) >= LEFT_OUT


@pytest.mark.parametrize("name", list(public_names()))
def test_docstring(name):
    excused = LEFT_OUT | documented_elsewhere(name)
    errors = validate(name)["errors"]
    assert [f"{code}: {text}" for code, text in errors if code not in excused] == []
