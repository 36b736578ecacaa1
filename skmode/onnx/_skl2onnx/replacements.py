"""Replace converters of skl2onnx while it converts a model that contains one of our estimators.

skl2onnx has one table of converters for the whole process. Our estimators are registered in it
permanently, through its public call. The replacements for its converters of scikit-learn's own
classes are in the table only while a model with one of our estimators is converted; they are
removed when the last such conversion ends, even by an error. If another thread converts a different
model meanwhile, it finds the replacements too; these check the conversion of their own context, and
call the original if it does not need them. So a model without our estimators is converted by
skl2onnx alone, whether :mod:`skmode.onnx` was imported or not.

To notice a conversion, the two functions that all entry points of skl2onnx call are wrapped once;
the wrappers do nothing for other models. Alternatives that do not work:

- Wrapping ``skl2onnx.to_onnx`` and ``skl2onnx.convert_sklearn`` misses code that imported these
  names earlier.
- The parser, shape calculator or converter of our estimators runs too late: by then skl2onnx has
  parsed the steps before them, and has begun to convert an ensemble around them.
- ``convert_sklearn`` takes converters for a single call, but a Pipeline or a search inside an
  ensemble does not pass them on.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skmode.onnx._graphs.builder import OPSET
from skmode.onnx._skl2onnx import compat
from skmode.onnx._skl2onnx.containers import check_target_opset, main_opset


@dataclass(frozen=True)
class _Conversion:
    """Which replacements a conversion needs."""

    # All of them, or only those with `also_for`, which models without our estimators need too.
    everything: bool
    # Whether the input is float32, so that categories must be compared in float32.
    float32_input: bool = False


@dataclass(frozen=True)
class _Replacement:
    """An entry of one of skl2onnx's tables, None if there is none, and its replacement."""

    table: dict[Any, Any]
    key: Any
    original: Any
    replacement: Any
    # For a class that skl2onnx does not know: the class, whose own converter stays in use if a user
    # has registered one.
    added: type | None = None


class _Tables:
    """All replacements, which are in skl2onnx's tables while at least one conversion needs them."""

    def __init__(self) -> None:
        self.replacements: list[_Replacement] = []
        self._n_conversions = 0
        self._lock = threading.Lock()

    def add(self, entry: _Replacement) -> None:
        with self._lock:
            self.replacements.append(entry)
            if self._n_conversions:
                self._change(entry, entry.original, entry.replacement)

    def begin(self) -> None:
        with self._lock:
            self._n_conversions += 1
            if self._n_conversions == 1:
                for entry in self.replacements:
                    self._change(entry, entry.original, entry.replacement)

    def end(self) -> None:
        with self._lock:
            self._n_conversions -= 1
            if self._n_conversions == 0:
                for entry in self.replacements:
                    self._change(entry, entry.replacement, entry.original)

    def _change(self, entry: _Replacement, old: Any, new: Any) -> None:
        # Keep what a user has registered since the import, or during a conversion.
        if entry.table.get(entry.key) is not old:
            return
        if new is None:
            del entry.table[entry.key]
        elif compat.aliases.get(entry.added) in (None, _alias(entry.added)):
            entry.table[entry.key] = new


_tables = _Tables()
_estimators: list[type] = []
# The original converter and shape calculator of each alias.
_originals: dict[str, tuple[Any, Any]] = {}
# None outside of the conversions that need replacements.
_conversion: ContextVar[_Conversion | None] = ContextVar("_conversion", default=None)


@contextlib.contextmanager
def _replaced(conversion: _Conversion) -> Iterator[None]:
    """Use the replacements for the conversions of the block."""
    _tables.begin()
    token = _conversion.set(conversion)
    try:
        yield
    finally:
        _conversion.reset(token)
        _tables.end()


def watch_conversions(*estimators: type, check: Callable[[Any], None]) -> None:
    """Use the replacements for all models that contain one of these estimators.

    `check` gets such a model first, and raises if it cannot be converted. This function must be
    called only once per process, because it wraps functions of skl2onnx.
    """
    _estimators.extend(estimators)
    replace_parser(Pipeline, _parse_pipeline)
    for name, find_model in compat.CONVERSION_STEPS.items():
        step = getattr(compat.conversion, name)
        setattr(compat.conversion, name, _with_replacements(step, find_model, check))


def _with_replacements(
    step: Callable[..., Any], find_model: Callable[[Any], Any], check: Callable[[Any], None]
) -> Callable[..., Any]:
    @functools.wraps(step)
    def watched(subject: Any, *args: Any, **kwargs: Any) -> Any:
        model = find_model(subject)
        everything = contains_estimator(model)
        nested = _conversion.get() is not None
        if nested or not (everything or contains(model, FrozenEstimator)):
            return step(subject, *args, **kwargs)
        if everything:
            check(model)
        with _replaced(_Conversion(everything)):
            return step(subject, *args, **kwargs)

    return watched


@contextlib.contextmanager
def as_before_an_estimator(float32_input: bool) -> Iterator[None]:
    """Use the replacements for all conversions in the block, as for steps before an estimator.

    With `float32_input` the categories of encoders are compared in float32.
    """
    with _replaced(_Conversion(everything=True, float32_input=float32_input)):
        yield


def reads_float32() -> bool:
    """Whether categories must be compared in float32; see :func:`as_before_an_estimator`."""
    conversion = _conversion.get()
    return conversion is not None and conversion.float32_input


def contains_estimator(model: Any) -> bool:
    """Whether a model is one of our estimators, or contains one."""
    return contains(model, tuple(_estimators))


def is_estimator(model: Any) -> bool:
    """Whether a model is one of our estimators itself."""
    return isinstance(model, tuple(_estimators))


def contains(model: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a model, or a part of it, is an instance of some class."""
    todo, seen = [model], set()
    while todo:
        part = todo.pop()
        if isinstance(part, kinds):
            return True
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            todo += part
        elif isinstance(part, dict):
            todo += part.values()
        elif hasattr(part, "get_params") or hasattr(part, "calibrators"):
            todo += vars(part).values()
    return False


def replace_parser(model: type, parse: Callable[..., Any]) -> None:
    """Replace a parser of skl2onnx; `parse` gets the original as its last argument."""
    known = compat.parsers.get(model)
    original = known or compat.parse_as_operator

    def parse_either(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        conversion = _conversion.get()
        if conversion is not None and conversion.everything:
            return parse(scope, model, inputs, custom_parsers, original)
        return original(scope, model, inputs, custom_parsers)

    _tables.add(_Replacement(compat.parsers, model, known, parse_either))


def replace_converter(
    alias: str,
    model: type,
    infer: Callable[[Any], None] | None,
    convert: Callable[..., None],
    also_for: Callable[[Any], bool] = lambda model: False,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Replace a converter of skl2onnx, and its shape calculator unless `infer` is None.

    Below opset 18 skl2onnx's own converter is used. `also_for` says which models need the
    replacement although they contain none of our estimators. `options` are allowed instead of
    those of the original.
    """
    converter, shapes = compat.converters[alias], compat.shape_calculators[alias]
    _originals[alias] = (converter, shapes)

    def applies(operator: Any) -> bool:
        raw, conversion = operator.raw_operator, _conversion.get()
        if (
            conversion is None
            or type(raw) is not model
            or main_opset(operator.target_opset) < OPSET
        ):
            return False
        return conversion.everything or also_for(raw)

    def convert_either(scope: Any, operator: Any, container: Any) -> None:
        chosen = convert if applies(operator) else converter
        chosen(scope, operator, container)

    allowed = options or converter.get_allowed_options()
    either = type(converter)(convert_either, allowed)
    _tables.add(_Replacement(compat.converters, alias, converter, either))
    if infer is None:
        return

    def infer_either(operator: Any) -> None:
        (infer if applies(operator) else shapes)(operator)

    _tables.add(_Replacement(compat.shape_calculators, alias, shapes, infer_either))


def add_converter(
    model: type,
    infer: Callable[[Any], None],
    convert: Callable[..., None],
    parse: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Add a converter of a class that skl2onnx does not know; do nothing if it knows it."""
    if can_convert(model):
        return
    alias = _alias(model)
    registered = type(compat.converters["SklearnPipeline"])(convert, options)
    entries: list[tuple[dict[Any, Any], Any, Any]] = [
        (compat.aliases, model, alias),
        (compat.converters, alias, registered),
        (compat.shape_calculators, alias, infer),
    ]
    if parse is not None:
        entries.append((compat.parsers, model, parse))
    for table, key, value in entries:
        _tables.add(_Replacement(table, key, None, value, model))


def can_convert(kind: type) -> bool:
    """Whether a class has a converter while a model with one of our estimators is converted."""
    added = {entry.added for entry in _tables.replacements}
    return kind in added or kind in compat.aliases


def _alias(model: type | None) -> str | None:
    return None if model is None else f"Skmode{model.__name__}"


def original_converter(alias: str) -> Callable[..., None]:
    """Get the converter that :func:`replace_converter` has replaced."""
    converter: Callable[..., None] = _originals[alias][0]
    return converter


def original_shapes(alias: str) -> Callable[[Any], None]:
    """Get the shape calculator that :func:`replace_converter` has replaced."""
    calculate: Callable[[Any], None] = _originals[alias][1]
    return calculate


def refuse_routing(scope: Any, model: Any) -> None:
    """Raise if option ``routing`` was set for a model around an estimator."""
    options = scope.options or {}
    for key in (id(model), type(model)):
        if "routing" in (options.get(key) or {}):
            raise ValueError(
                "Option routing must be set for the estimator itself, got it for "
                f"{type(model).__name__}: pass options={{MoDEClassifier: {{'routing': ...}}}}, or "
                "the id of one estimator as the key."
            )


def _parse_pipeline(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Callable[..., Any]
) -> Any:
    if contains_estimator(model):
        refuse_routing(scope, model)
        check_target_opset(scope.target_opset, "A Pipeline with a MoDE estimator")
    return original(scope, model, inputs, custom_parsers)
