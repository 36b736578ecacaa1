"""Every private name of skl2onnx that skmode uses, each with why and what would replace it.

Because of them pyproject.toml caps skl2onnx below its next minor release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import skl2onnx
import skl2onnx.convert

# Makes dicts of probabilities, as for scikit-learn's classifiers. The parser that a public
# registration gets by default does so too, but gives the probabilities the type of the input.
from skl2onnx._parse import _apply_zipmap as apply_zipmap

# Takes some columns of an input, as the parser of ColumnTransformer does. A parser that keeps
# strings apart must take the same.
from skl2onnx._parse import _fetch_input_slice as fetch_columns

# Parses a model inside another one. skl2onnx has no public call that a parser could make.
from skl2onnx._parse import _parse_sklearn as parse_model

# Parses a model as one operator, as skl2onnx does where it has no parser for a class.
from skl2onnx._parse import _parse_sklearn_simple_model as parse_as_operator

# Parser of each class. `skl2onnx.update_registered_parser` sets one; nothing public reads one, and
# a replacement must be able to call and restore what it replaced.
from skl2onnx._parse import sklearn_parsers_map as parsers

# Alias of each class. `skl2onnx.get_model_alias` reads one; nothing public removes one again.
from skl2onnx._supported_operators import sklearn_operator_name_map as aliases

# Converter and shape calculator of each alias. `skl2onnx.update_registered_converter` sets both;
# nothing public reads them.
from skl2onnx.common._registration import _converter_pool as converters
from skl2onnx.common._registration import _shape_calculator_pool as shape_calculators

# Finds the inputs that hold the columns of a ColumnTransformer, for the same parser.
from skl2onnx.common.utils import get_column_indices

__all__ = [
    "CONVERSION_STEPS",
    "aliases",
    "apply_zipmap",
    "conversion",
    "converters",
    "fetch_columns",
    "find_alias",
    "get_column_indices",
    "parse_as_operator",
    "parse_model",
    "parsers",
    "shape_calculators",
]

# The two functions of `skl2onnx.convert` that every conversion calls, whatever entry point was
# called and whenever that was imported, and how their first argument leads to the model. A public
# hook around a conversion would replace them; there is none.
conversion = skl2onnx.convert
CONVERSION_STEPS: dict[str, Callable[[Any], Any]] = {
    "parse_sklearn_model": lambda model: model,
    "convert_topology": lambda topology: topology.raw_model.raw_model,
}


def find_alias(kind: type) -> str | None:
    """Get the name under which skl2onnx knows a class, None if it does not."""
    try:
        alias: str = skl2onnx.get_model_alias(kind)
    except RuntimeError:
        return None
    return alias
