"""The router as an ONNX graph: bytes in, stock operators only.

It computes what :class:`skmode.language.DomainRouter` states: the sum of the weights of all n-grams
of one to three bytes, in float64, then logits, probabilities and the confidence.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skmode.onnx._graphs.builder import IR_VERSION
from skmode.onnx._graphs.builder import OPSET as ROUTER_OPSET

N_ONE, N_TWO = 256, 65_536
MULTIPLIER = 2_654_435_761


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: Any, name: str = "", **attributes: Any) -> str:
        """Add a node; inputs that are no names become constants. Return the name of its output."""
        output = name or f"v{len(self.nodes)}"
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        self.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def constant(self, values: Any) -> str:
        """Add a constant; equal ones are one."""
        array = np.asarray(values)
        name = f"c{len(self.constants)}"
        for known, tensor in self.constants.items():
            if numpy_helper.to_array(tensor).dtype == array.dtype and np.array_equal(
                numpy_helper.to_array(tensor), array
            ):
                return known
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def build_router(router: Any) -> onnx.ModelProto:
    """Convert a fitted router."""
    graph = _Graph()
    n_domains = len(router.domains_)
    codes = _shift(graph, graph.add("Cast", "bytes", to=TensorProto.INT64), ord("\n"))
    tables = [router.weights_]
    judges_likelihood = router.method == "naive_bayes" and router.abstain != "probability"
    if judges_likelihood:
        tables.append(router.log_proba_)
    table = np.concatenate(tables, axis=1, dtype=np.float32)
    both, n_ngrams = _add_sums(graph, codes, table)
    sums = _columns(graph, both, 0, n_domains)
    n_bytes = graph.add("Cast", "lengths", to=TensorProto.DOUBLE)
    per_row = np.array([1])
    if router.method == "naive_bayes":
        scaled = graph.add("Div", sums, float(router.temperature_))
    else:
        scaled = graph.add(
            "Div", sums, graph.add("Unsqueeze", graph.add("Sqrt", n_ngrams), per_row)
        )
    logits = graph.add("Add", scaled, np.asarray(router.bias_, np.float64))
    precise = graph.add("Softmax", logits, axis=1)
    graph.add("Cast", precise, name="probabilities", to=TensorProto.FLOAT)
    graph.add("ArgMax", precise, name="domain", axis=1, keepdims=0)
    if judges_likelihood:
        likelihoods = _columns(graph, both, n_domains, 2 * n_domains)
        _add_typicality(graph, likelihoods, n_ngrams, n_bytes, router)
    else:
        graph.add("ReduceMax", precise, per_row, name="confidence", keepdims=0)
    inputs = [("bytes", TensorProto.UINT8, ("batch", "length")),
              ("lengths", TensorProto.INT64, ("batch",))]  # fmt: skip
    outputs = [("probabilities", TensorProto.FLOAT, ("batch", n_domains)),
               ("domain", TensorProto.INT64, ("batch",)),
               ("confidence", TensorProto.DOUBLE, ("batch",))]  # fmt: skip
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "router",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", ROUTER_OPSET)],
        ir_version=IR_VERSION,
    )
    model.producer_name = "skmode"
    return model


def _columns(graph: _Graph, matrix: str, start: int, stop: int) -> str:
    """Add some columns of a matrix."""
    return graph.add("Slice", matrix, np.array([start]), np.array([stop]), np.array([1]))


def _shift(graph: _Graph, codes: str, first: int) -> str:
    """Put a value in front of each row."""
    shape = graph.add("Concat", _shape(graph, codes, 0), np.array([1]), axis=0)
    return graph.add("Concat", graph.add("Expand", np.array([[first]]), shape), codes, axis=1)


def _shape(graph: _Graph, codes: str, axis: int) -> str:
    """Return the length of an axis, as a tensor with one element."""
    return graph.add("Gather", graph.add("Shape", codes), np.array([axis]), axis=0)


def _add_sums(graph: _Graph, one: str, weights: NDArray[np.float32]) -> tuple[str, str]:
    """Add the sums of weights of all n-grams, (batch, number of columns), and their number."""
    n_buckets = len(weights) - N_ONE - N_TWO
    shift = 32 - round(math.log2(n_buckets))
    two = graph.add(
        "Add", graph.add("Mul", _cut(graph, one, 0, -1), 256), _cut(graph, one, 1, None)
    )
    first, second, third = (_cut(graph, one, *cut) for cut in ((0, -2), (1, -1), (2, None)))
    three = graph.add("Add", graph.add("Mul", first, 65_536), graph.add("Mul", second, 256))
    three = graph.add("Mod", graph.add("Mul", graph.add("Add", three, third), MULTIPLIER), 2**32)
    three = graph.add("Div", three, 2**shift)
    table = graph.constant(weights)
    # Places of a row from its own end on are padding, behind the line break in front.
    end = graph.add("Add", graph.add("Unsqueeze", "lengths", np.array([1])), 1)
    total, number = "", ""
    for n, grams in ((1, one), (2, graph.add("Add", two, N_ONE)),
                     (3, graph.add("Add", three, N_ONE + N_TWO))):  # fmt: skip
        size = graph.add("Gather", graph.add("Shape", grams), 1, axis=0)
        inside = graph.add("Less", graph.add("Range", 0, size, 1), graph.add("Sub", end, n - 1))
        before = _cut(graph, _shift(graph, grams, -1), 0, -1)
        kept = graph.add("And", inside, graph.add("Not", graph.add("Equal", grams, before)))
        mask = graph.add("Cast", kept, to=TensorProto.DOUBLE)
        found = graph.add("Cast", graph.add("Gather", table, grams, axis=0), to=TensorProto.DOUBLE)
        found = graph.add("Mul", found, graph.add("Unsqueeze", mask, np.array([2])))
        part = graph.add("ReduceSum", found, np.array([1]), keepdims=0)
        count = graph.add("ReduceSum", mask, np.array([1]), keepdims=0)
        total = graph.add("Add", total, part) if total else part
        number = graph.add("Add", number, count) if number else count
    return total, number


def _cut(graph: _Graph, codes: str, start: int, stop: int | None) -> str:
    """Add the part of each row from `start` to `stop`."""
    last = np.iinfo(np.int64).max if stop is None else stop
    return graph.add("Slice", codes, np.array([start]), np.array([last]), np.array([1]))


def _add_typicality(graph: _Graph, sums: str, n_ngrams: str, n_bytes: str, router: Any) -> None:
    """Add how typical a text is of its most probable domain, among held-out texts of that."""
    typical = np.asarray(router.typical_, np.float64)
    mean, level, slope = (graph.add("Gather", typical[:, i], "domain", axis=0) for i in range(3))
    column = graph.add("Unsqueeze", "domain", np.array([1]))
    own = graph.add("Squeeze", graph.add("GatherElements", sums, column, axis=1), np.array([1]))
    likelihood = graph.add("Div", own, n_ngrams)
    variance = graph.add("Add", level, graph.add("Div", slope, n_bytes))
    difference = graph.add("Sub", likelihood, mean)
    graph.add("Div", difference, graph.add("Sqrt", variance), name="confidence")
