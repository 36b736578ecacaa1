"""QuantileTransformer in both directions, and its converter; skl2onnx knows no normal outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.preprocessing import QuantileTransformer

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.numbers import (
    check_numbers,
    insert_on_numbers,
    is_all_float32,
    numbers_input,
)
from skmode.onnx._skl2onnx.replacements import replace_converter

# Scikit-learn maps values closer than this to an end of the range to that end, if the output is
# normal.
NEAR = 1e-7
# Rational functions of algorithm AS 241 (Wichura, 1988) for quantiles of the normal distribution,
# highest power first: near the median, and in the tails down to 1e-11.
_CENTER = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.3871328727963666080,
    ),
    (
        5226.4952788528545610,
        28729.085735721942674,
        39307.895800092710610,
        21213.794301586595867,
        5394.1960214247511077,
        687.18700749205790830,
        42.313330701600911252,
        1.0,
    ),
)
_TAIL = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258,
        3.64784832476320460504,
        5.76949722146069140550,
        4.63033784615654529590,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940,
        2.05319162663775882187,
        1.0,
    ),
)
# Hart's rational function for the lower tail of the normal distribution, up to 7 deviations.
_DISTRIBUTION = (
    (
        0.0352624965998911,
        0.700383064443688,
        6.37396220353165,
        33.912866078383,
        112.079291497871,
        221.213596169931,
        220.206867912376,
    ),
    (
        0.0883883476483184,
        1.75566716318264,
        16.064177579207,
        86.7807322029461,
        296.564248779674,
        637.333633378831,
        793.826512519948,
        440.413735824752,
    ),
)
_FARTHEST = 7.0


def replace_quantiles() -> None:
    """Replace skl2onnx's converter of QuantileTransformer."""
    replace_converter("SklearnQuantileTransformer", QuantileTransformer, _infer, _convert)


def _infer(operator: Any) -> None:
    check_numbers(operator)
    width = operator.raw_operator.n_features_in_
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = GraphBuilder()
    # scikit-learn computes in the type of its input.
    narrow = all(map(is_all_float32, operator.inputs))
    value = _emit_quantiles(graph, model, numbers_input(graph, model.n_features_in_), narrow)
    insert_on_numbers(scope, operator, container, graph, value)


def _number(graph: GraphBuilder, value: Any) -> str:
    return graph.constant(value, "number", np.float64)


def _emit_quantiles(graph: GraphBuilder, model: Any, x: str, narrow: bool) -> str:
    """Interpolate between the quantiles of training; equal ones get the mean of their shares."""
    quantiles, shares = model.quantiles_.T, model.references_
    uniform = model.output_distribution == "uniform"
    lowest, highest = (_number(graph, quantiles[:, [end]].T) for end in (0, -1))
    for bound, operator in ((lowest, "Less"), (highest, "Greater")):
        outside = graph.add(operator, [x, bound], "is_outside")
        x = graph.add("Where", [outside, bound, x], "inside")
    position = _emit_search(graph, quantiles, x)
    steps = np.diff(quantiles, append=np.inf)
    rises = np.diff(shares, append=1.0)
    tables = {
        "start": quantiles,
        "share": np.broadcast_to(shares, quantiles.shape),
        "slope": np.divide(rises, steps, out=np.zeros_like(steps), where=steps > 0),
        "tie": np.stack([_shares_of_ties(row, shares, uniform) for row in quantiles]),
    }
    start, share, slope, tie = (
        graph.add("Gather", [graph.add_weight(table.ravel(), name), position], name)
        for name, table in tables.items()
    )
    step = graph.add("Mul", [graph.add("Sub", [x, start], "step"), slope], "step")
    between = graph.add("Add", [share, step], "between")
    is_tie = graph.add("Equal", [x, start], "is_tie")
    value = graph.add("Where", [is_tie, tie, between], "share")
    if uniform:
        return value
    for bound, operator, distance, end in (
        (highest, "Greater", NEAR, 1.0),
        (lowest, "Less", -NEAR, 0.0),
    ):
        outside = graph.add(operator, [_emit_moved(graph, x, distance, narrow), bound], "is_end")
        value = graph.add("Where", [outside, _number(graph, end), value], "share")
    return _emit_normal_quantile(graph, value)


def _emit_moved(graph: GraphBuilder, x: str, distance: float, narrow: bool) -> str:
    """Add a distance, in float32 if `narrow`, where it may be too small to change the number."""
    if not narrow:
        return graph.add("Add", [x, _number(graph, distance)], "moved")
    x = graph.add("Cast", [x], "narrow", to=TensorProto.FLOAT)
    moved = graph.add("Add", [x, graph.constant(distance, "distance", np.float32)], "moved")
    return graph.add("Cast", [moved], "moved", to=TensorProto.DOUBLE)


def _shares_of_ties(quantiles: NDArray[Any], shares: NDArray[Any], uniform: bool) -> NDArray[Any]:
    """Get the output for a value that equals a quantile."""
    first = np.searchsorted(quantiles, quantiles, side="left")
    last = np.searchsorted(quantiles, quantiles, side="right") - 1
    means: NDArray[Any] = 0.5 * (shares[first] + shares[last])
    if uniform:
        means[quantiles == quantiles[-1]] = 1.0
        means[quantiles == quantiles[0]] = 0.0
    return means


def _emit_search(graph: GraphBuilder, quantiles: NDArray[Any], x: str) -> str:
    """Find the last quantile that is not above a value, as a position in the flattened table."""
    n_features, n_quantiles = quantiles.shape
    half = 1 << (n_quantiles.bit_length() - 1)
    padding = np.full((n_features, 2 * half - n_quantiles), np.inf)
    table = graph.add_weight(np.concatenate([quantiles, padding], axis=1).ravel(), "search")
    offsets = graph.constant([np.arange(n_features) * 2 * half], "offsets")
    count = graph.constant([[0]], "count")
    while half:
        probe = graph.add("Add", [count, graph.constant(half, "half")], "probe")
        place = graph.add("Add", [probe, offsets], "place")
        place = graph.add("Sub", [place, graph.constant(1, "one")], "place")
        passed = graph.add(
            "LessOrEqual", [graph.add("Gather", [table, place], "quantile"), x], "passed"
        )
        count = graph.add("Where", [passed, probe, count], "count")
        half //= 2
    # A missing value passes no quantile.
    position = graph.add("Sub", [count, graph.constant(1, "one")], "position")
    position = graph.add("Max", [position, graph.constant(0, "zero")], "position")
    offsets = graph.constant([np.arange(n_features) * n_quantiles], "offsets")
    return graph.add("Add", [position, offsets], "position")


def _emit_polynomial(graph: GraphBuilder, coefficients: Sequence[float], x: str) -> str:
    value = _number(graph, coefficients[0])
    for coefficient in coefficients[1:]:
        value = graph.add("Mul", [value, x], "term")
        value = graph.add("Add", [value, _number(graph, coefficient)], "sum")
    return value


def _emit_ratio(graph: GraphBuilder, functions: tuple[Any, Any], x: str) -> str:
    parts = [_emit_polynomial(graph, one, x) for one in functions]
    return graph.add("Div", parts, "ratio")


def _emit_normal_quantile(graph: GraphBuilder, share: str) -> str:
    """Compute quantiles of the normal distribution, which has no operator, for shares away from the
    ends by about 1e-7; scikit-learn clips them there.
    """
    end = NEAR - np.spacing(1)
    share = graph.add("Clip", [share, _number(graph, end), _number(graph, 1 - end)], "clipped")
    offset = graph.add("Sub", [share, _number(graph, 0.5)], "offset")
    square = graph.add("Mul", [offset, offset], "square")
    inner = graph.add("Sub", [_number(graph, 0.180625), square], "inner")
    center = graph.add("Mul", [offset, _emit_ratio(graph, _CENTER, inner)], "center")
    rest = graph.add("Sub", [_number(graph, 1), share], "rest")
    logarithm = graph.add("Log", [graph.add("Min", [share, rest], "tail")], "log")
    root = graph.add("Sqrt", [graph.add("Neg", [logarithm], "log")], "root")
    outer = graph.add("Sub", [root, _number(graph, 1.6)], "outer")
    sign = graph.add("Sign", [offset], "sign")
    tail = graph.add("Mul", [sign, _emit_ratio(graph, _TAIL, outer)], "tail")
    near = graph.add(
        "LessOrEqual", [graph.add("Abs", [offset], "size"), _number(graph, 0.425)], "near"
    )
    return graph.add("Where", [near, center, tail], "quantile")


def _emit_normal_share(graph: GraphBuilder, x: str) -> str:
    """Compute the normal distribution function; ``Erf`` has no float64."""
    size = graph.add("Abs", [x], "size")
    far = graph.add("Greater", [size, _number(graph, _FARTHEST)], "is_far")
    size = graph.add("Where", [far, _number(graph, _FARTHEST), size], "size")
    square = graph.add("Mul", [size, size], "square")
    density = graph.add(
        "Exp", [graph.add("Mul", [square, _number(graph, -0.5)], "half")], "density"
    )
    tail = graph.add("Mul", [density, _emit_ratio(graph, _DISTRIBUTION, size)], "tail")
    above = graph.add("Greater", [x, _number(graph, 0)], "is_above")
    rest = graph.add("Sub", [_number(graph, 1), tail], "rest")
    return graph.add("Where", [above, rest, tail], "share")


def emit_inverse_quantiles(graph: GraphBuilder, model: Any, value: str) -> str:
    """Undo a QuantileTransformer."""
    quantiles = model.quantiles_
    normal = model.output_distribution == "normal"
    share = _emit_normal_share(graph, value) if normal else value
    bounds = [_number(graph, NEAR if normal else 0), _number(graph, 1 - NEAR if normal else 1)]
    is_missing = graph.add("IsNaN", [share], "is_missing")
    known = graph.add("Where", [is_missing, _number(graph, 0), share], "known")
    known = graph.add("Clip", [known, _number(graph, 0), _number(graph, 1)], "known")
    n_steps = max(len(quantiles) - 1, 1)
    scaled = graph.add("Mul", [known, _number(graph, n_steps)], "scaled")
    position = graph.add("Floor", [scaled], "position")
    position = graph.add("Min", [position, _number(graph, n_steps - 1)], "position")
    step = graph.add("Sub", [scaled, position], "step")
    position = graph.add("Cast", [position], "position", to=TensorProto.INT64)
    ends = [quantiles[:-1], quantiles[1:]] if len(quantiles) > 1 else [quantiles, quantiles]
    low, rise = (_emit_columns(graph, table, position) for table in (ends[0], ends[1] - ends[0]))
    between = graph.add("Add", [low, graph.add("Mul", [step, rise], "rise")], "between")
    for operator, bound, row in (("Greater", bounds[1], -1), ("Less", bounds[0], 0)):
        outside = graph.add(operator, [share, bound], "is_outside")
        between = graph.add(
            "Where", [outside, _number(graph, quantiles[[row]]), between], "bounded"
        )
    return graph.add("Where", [is_missing, share, between], "value")


def _emit_columns(graph: GraphBuilder, table: NDArray[Any], position: str) -> str:
    """Look up each column of positions in its own column of a table."""
    n_rows, n_columns = table.shape
    offsets = graph.constant([np.arange(n_columns) * n_rows], "offsets")
    place = graph.add("Add", [position, offsets], "place")
    return graph.add("Gather", [graph.add_weight(table.T.ravel(), "table"), place], "found")
