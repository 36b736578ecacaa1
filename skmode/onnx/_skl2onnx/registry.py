"""Converters of skl2onnx that are replaced, and where.

What is replaced serves two purposes only: models that hold one of our estimators, and the steps
before one. Whatever else a user converts, skl2onnx converts as without us.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import skl2onnx
from skl2onnx._parse import sklearn_parsers_map
from skl2onnx.common._registration import _converter_pool, _shape_calculator_pool
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skmode.onnx._graphs.builder import OPSET
from skmode.onnx._skl2onnx.containers import check_target_opset, main_opset

# What skl2onnx had before: converters and shape calculators by alias, parsers by class.
_originals: dict[str, tuple[Any, Any]] = {}
_original_parsers: dict[type, Any] = {}
_estimators: list[type] = []
# For each scope, whether it holds one of them, and which of its operators were looked at.
_scopes: WeakKeyDictionary[Any, tuple[bool, set[int]]] = WeakKeyDictionary()
# None outside of :func:`steps_of_a_bundle`, within it its argument.
_float32_input: ContextVar[bool | None] = ContextVar("_float32_input", default=None)


def register_estimators(*estimators: type) -> None:
    """Say which models need the replaced converters; another call changes nothing."""
    if _estimators:
        return
    _estimators.extend(estimators)
    for model, parser in ((Pipeline, _parse_pipeline), (GridSearchCV, _parse_search)):
        _original_parsers[model] = sklearn_parsers_map[model]
        skl2onnx.update_registered_parser(model, parser)


@contextlib.contextmanager
def steps_of_a_bundle(float32_input: bool) -> Iterator[None]:
    """Use the replaced converters for whatever is converted meanwhile."""
    token = _float32_input.set(float32_input)
    try:
        yield
    finally:
        _float32_input.reset(token)


def reads_float32() -> bool:
    """Whether categories are to be compared in float32; see :func:`steps_of_a_bundle`."""
    return bool(_float32_input.get())


def in_use(scope: Any) -> bool:
    """Whether the replaced converters are to be used."""
    if _float32_input.get() is not None:
        return True
    found, seen = _scopes.setdefault(scope, (False, set()))
    if not found:
        new = {key: value for key, value in scope.operators.items() if id(value) not in seen}
        found = any(holds_estimator(operator.raw_operator) for operator in new.values())
        _scopes[scope] = (found, seen | {id(operator) for operator in new.values()})
    return found


def holds_estimator(model: Any) -> bool:
    """Whether a model is one of the estimators, or has one as a part."""
    return holds(model, tuple(_estimators))


def holds(model: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a model, or a part of it, is of some class."""
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
    """Replace a parser of skl2onnx where :func:`in_use`."""
    original = sklearn_parsers_map[model]
    _original_parsers[model] = original

    def parse_either(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        if in_use(scope) and main_opset(scope.target_opset) >= OPSET:
            return parse(scope, model, inputs, custom_parsers, original)
        return original(scope, model, inputs, custom_parsers)

    skl2onnx.update_registered_parser(model, parse_either)


def replace_converter(
    alias: str,
    model: type,
    infer: Callable[[Any], None],
    convert: Callable[..., None],
    wanted: Callable[[Any], bool] = lambda model: False,
) -> None:
    """Replace a converter and shape calculator of skl2onnx where :func:`in_use`."""
    known = _converter_pool[alias]
    _originals[alias] = (known, _shape_calculator_pool[alias])

    def applies(operator: Any) -> bool:
        raw = operator.raw_operator
        if type(raw) is not model or main_opset(operator.target_opset) < OPSET:
            return False
        return wanted(raw) or in_use(operator.scope_inst)

    def infer_either(operator: Any) -> None:
        (infer if applies(operator) else _originals[alias][1])(operator)

    def convert_either(scope: Any, operator: Any, container: Any) -> None:
        chosen = convert if applies(operator) else _originals[alias][0]._fct
        chosen(scope, operator, container)

    _shape_calculator_pool[alias] = infer_either
    _converter_pool[alias] = type(known)(convert_either, known.get_allowed_options())


def original_converter(alias: str) -> Callable[..., None]:
    """What :func:`replace_converter` has replaced."""
    function: Callable[..., None] = _originals[alias][0]._fct
    return function


def original_shapes(alias: str) -> Callable[[Any], None]:
    """What :func:`replace_converter` has replaced beside the converter."""
    calculate: Callable[[Any], None] = _originals[alias][1]
    return calculate


def refuse_routing(scope: Any, model: Any) -> None:
    """Refuse option ``routing`` for what holds an estimator."""
    options = scope.options or {}
    for key in (id(model), type(model)):
        if "routing" in (options.get(key) or {}):
            raise ValueError(
                "Option routing must be given for the estimator itself, got it for a "
                f"{type(model).__name__}: pass options={{MoDEClassifier: {{'routing': ...}}}}, or "
                "the id of one estimator as the key."
            )


def _parse_pipeline(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """As skl2onnx, but let the steps know in time that an estimator follows."""
    if holds_estimator(model):
        refuse_routing(scope, model)
        check_target_opset(scope.target_opset, "A Pipeline with a MoDE estimator")
        _scopes[scope] = (True, set())
    return _original_parsers[Pipeline](scope, model, inputs, custom_parsers)


def _parse_search(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    if holds_estimator(model):
        refuse_routing(scope, model)
    return _original_parsers[GridSearchCV](scope, model, inputs, custom_parsers)
