"""Gate, experts and the ways from them to an answer: top expert, active experts, all experts.

The routed graph computes the chosen experts only. One row, the case of a request, gathers the
weights of its expert from the stack of all experts: that costs the same for 4 and for 64 experts.
More rows are sorted by expert and visit each expert in turn inside an If: that is one product
per layer on weights that the runtime has packed, and an expert without rows costs the If
alone. Gathered weights would be copied at each call there, and one If inside another costs more
than the copy: the runtime hands every weight below it down at each level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from torch import nn

from skmode.nn import (
    CrossEntropy,
    DenseGate,
    MixtureOfExperts,
    MLPExperts,
    SparseGate,
    StackedLinear,
)
from skmode.onnx._builder import GraphBuilder
from skmode.onnx._trunk import to_float32


def emit_linear(graph: GraphBuilder, linear: nn.Linear, value: str, name: str) -> str:
    """Apply a linear layer.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    linear : torch.nn.Linear
        The module.
    value : str
        Its input, `(n, in_features)`.
    name : str
        Name of node and output.

    Returns
    -------
    str
        A value `(n, out_features)`.
    """
    weight = graph.add_weight(to_float32(linear.weight).T, f"{name}/weight")
    bias = graph.add_weight(to_float32(linear.bias), f"{name}/bias")
    return graph.add("Gemm", [value, weight, bias], name)


def emit_activation(graph: GraphBuilder, module: nn.Module, value: str, name: str) -> str:
    """Apply an activation of :func:`skmode.nn.make_activation`.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    module : torch.nn.Module
        The module.
    value : str
        Its input.
    name : str
        Name of the last node and the output.

    Returns
    -------
    str
        A value of the same shape.
    """
    simple = {nn.ReLU: "Relu", nn.Tanh: "Tanh", nn.Sigmoid: "Sigmoid"}
    if isinstance(module, nn.Identity):
        return value
    if isinstance(module, nn.SiLU):
        factor = graph.add("Sigmoid", [value], f"{name}/sigmoid")
        return graph.add("Mul", [value, factor], name)
    if isinstance(module, nn.GELU):
        root = graph.constant(2**0.5, "square_root_of_2", np.float32)
        factor = graph.add("Div", [value, root], f"{name}/scaled")
        factor = graph.add("Erf", [factor], f"{name}/erf")
        factor = graph.add("Add", [factor, graph.constant(1, "one", np.float32)], f"{name}/plus_1")
        factor = graph.add("Mul", [value, factor], f"{name}/product")
        return graph.add("Mul", [factor, graph.constant(0.5, "half", np.float32)], name)
    return graph.add(simple[type(module)], [value], name)


def emit_gate_logits(graph: GraphBuilder, gate: DenseGate, hidden: str) -> str:
    """Score the experts.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    gate : DenseGate
        The module.
    hidden : str
        Output of the trunk.

    Returns
    -------
    str
        A value `(n, n_experts)`.
    """
    value = hidden
    for i, layer in enumerate(gate.layers):
        if isinstance(layer, nn.Linear):
            value = emit_linear(graph, layer, value, f"gate/layer_{i}")
        else:
            value = emit_activation(graph, layer, value, f"gate/activation_{i}")
    if gate.temperature == 1.0:
        return value
    temperature = graph.constant(gate.temperature, "gate/temperature", np.float32)
    return graph.add("Div", [value, temperature], "gate/logits")


def emit_top_expert(graph: GraphBuilder, logits: str) -> str:
    """Choose the expert with the largest logit, the first of equals.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    logits : str
        Scores of the experts.

    Returns
    -------
    str
        The value ``"expert"``, int64 `(n,)`.
    """
    return graph.add("ArgMax", [logits], "expert", axis=1, keepdims=0)


def emit_gate_probabilities(
    graph: GraphBuilder, gate: DenseGate, logits: str, name: str = "gate/probabilities"
) -> str:
    """Weigh the experts; a sparse gate gives zeros to those that it does not choose.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    gate : DenseGate
        The module.
    logits : str
        Scores of the experts.
    name : str, default="gate/probabilities"
        Name of the output.

    Returns
    -------
    str
        A value `(n, n_experts)`.
    """
    if not isinstance(gate, SparseGate) or gate.top_k == gate.n_experts:
        return graph.add("Softmax", [logits], name, axis=1)
    # TopK of no rows ends some releases of onnxruntime (1.20 among them), hence one row more.
    extra_row = graph.constant(np.zeros((1, gate.n_experts)), "gate/extra_row", np.float32)
    logits = graph.add("Concat", [logits, extra_row], "gate/logits_and_extra_row", axis=0)
    top_k = graph.constant([gate.top_k], "gate/top_k")
    scores, chosen = graph.add_many("TopK", [logits, top_k], ["gate/scores", "gate/chosen"], axis=1)
    weights = graph.add("Softmax", [scores], "gate/weights", axis=1)
    zeros = graph.add("Sub", [logits, logits], "gate/zeros")
    weights = graph.add("ScatterElements", [zeros, chosen, weights], "gate/sparse_weights", axis=1)
    start, stop = graph.constant([0], "first_axis"), graph.constant([-1], "gate/before_last")
    return graph.add("Slice", [weights, start, stop, start], name)


@dataclass(frozen=True)
class StackedExperts:
    """Weights of all experts in a graph.

    Attributes
    ----------
    module : MLPExperts
        The module.
    weights, biases : list of str
        For each layer, values `(n_experts, in, out)` and `(n_experts, 1, out)`.
    """

    module: MLPExperts
    weights: list[str]
    biases: list[str]


def store_experts(graph: GraphBuilder, module: MLPExperts) -> StackedExperts:
    """Store the weights of all experts.

    Parameters
    ----------
    graph : GraphBuilder
        Where to store them.
    module : MLPExperts
        The module.

    Returns
    -------
    StackedExperts
        Their names.
    """
    weights, biases = [], []
    for i, layer in enumerate(module.layers):
        assert isinstance(layer, StackedLinear)
        weights.append(graph.add_weight(to_float32(layer.weight), f"experts/layer_{i}/weight"))
        biases.append(graph.add_weight(to_float32(layer.bias), f"experts/layer_{i}/bias"))
    return StackedExperts(module, weights, biases)


def emit_layers(
    graph: GraphBuilder, module: MLPExperts, layers: list[tuple[str, str]], value: str, name: str
) -> str:
    """Apply the layers of one expert.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    module : MLPExperts
        The module that the expert is of.
    layers : list of (str, str)
        Weight `(in, out)` and bias of each layer.
    value : str
        Rows for the expert.
    name : str
        Beginning of the names.

    Returns
    -------
    str
        The expert's representation of the rows.
    """
    for i, (weight, bias) in enumerate(layers):
        value = graph.add("Gemm", [value, weight, bias], f"{name}/layer_{i}")
        value = emit_activation(graph, module.activation, value, f"{name}/activation_{i}")
    return value


def emit_single_expert(graph: GraphBuilder, module: MLPExperts, expert: int, hidden: str) -> str:
    """Store and apply one expert alone.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    module : MLPExperts
        The module.
    expert : int
        Which expert.
    hidden : str
        Output of the trunk.

    Returns
    -------
    str
        The expert's representation of the rows.
    """
    layers = []
    for i, layer in enumerate(module.layers):
        assert isinstance(layer, StackedLinear)
        weight = graph.add_weight(to_float32(layer.weight[expert]), f"expert/layer_{i}/weight")
        bias = graph.add_weight(to_float32(layer.bias[expert]), f"expert/layer_{i}/bias")
        layers.append((weight, bias))
    return emit_layers(graph, module, layers, hidden, "expert")


class Head:
    """The output layer, stored once, applied to experts or to their mixture.

    Parameters
    ----------
    graph : GraphBuilder
        Where to store its weights.
    mixture : MixtureOfExperts
        The module.
    """

    def __init__(self, graph: GraphBuilder, mixture: MixtureOfExperts) -> None:
        head = mixture.head
        assert isinstance(head, nn.Linear)
        self.weight = graph.add_weight(to_float32(head.weight).T, "head/weight")
        self.bias = graph.add_weight(to_float32(head.bias), "head/bias")
        self.n_outputs = head.out_features
        self.classify = isinstance(mixture.task_loss, CrossEntropy)

    def apply(self, graph: GraphBuilder, value: str, name: str) -> str:
        """Apply the layer to rows.

        Parameters
        ----------
        graph : GraphBuilder
            Where to add nodes.
        value : str
            Representations `(n, width)`.
        name : str
            Name of node and output.

        Returns
        -------
        str
            Scores or values `(n, n_outputs)`.
        """
        return graph.add("Gemm", [value, self.weight, self.bias], name)

    def apply_stacked(self, graph: GraphBuilder, value: str, name: str) -> str:
        """Apply the layer to a stack of rows.

        Parameters
        ----------
        graph : GraphBuilder
            Where to add nodes.
        value : str
            Representations `(n_experts, n, width)`.
        name : str
            Name of node and output.

        Returns
        -------
        str
            Scores or values `(n_experts, n, n_outputs)`.
        """
        value = graph.add("MatMul", [value, self.weight], name)
        return graph.add("Add", [value, self.bias], name)

    def to_answer(self, graph: GraphBuilder, value: str, name: str) -> str:
        """Turn scores into probabilities; values stay as they are.

        Parameters
        ----------
        graph : GraphBuilder
            Where to add nodes.
        value : str
            Scores or values, outputs last.
        name : str
            Name of the output.

        Returns
        -------
        str
            A value of the same shape.
        """
        return graph.add("Softmax", [value], name, axis=-1) if self.classify else value


def emit_top_expert_outputs(
    graph: GraphBuilder, mixture: MixtureOfExperts, head: Head, hidden: str, expert: str
) -> str:
    """Compute each row by its top expert alone.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    mixture : MixtureOfExperts
        The module.
    head : Head
        Its output layer.
    hidden : str
        Output of the trunk.
    expert : str
        Top expert of each row.

    Returns
    -------
    str
        Scores or values `(n, n_outputs)` of the chosen experts.
    """
    module = mixture.experts
    assert isinstance(module, MLPExperts)
    if module.n_experts == 1:
        return head.apply(graph, emit_single_expert(graph, module, 0, hidden), "head")
    experts = store_experts(graph, module)
    one_row = graph.branch()
    answer = _emit_one_row(one_row, experts, head, hidden, expert)
    one_row.add_output(answer, TensorProto.FLOAT, ["n", head.n_outputs])
    rows = graph.branch()
    numbers = rows.constant(np.arange(module.n_experts)[:, None], "routing/experts")
    active = rows.add("Equal", [numbers, expert], "routing/active")

    def finish(branch: GraphBuilder, value: str, i: int, rows: str) -> str:
        return head.apply(branch, value, f"expert_{i}/head")

    assigned = _emit_counts(rows, _emit_rows_by_expert(rows, expert, module.n_experts), active)
    answers = _emit_active_experts(rows, experts, hidden, assigned, finish, head.n_outputs)
    rows.add_output(answers, TensorProto.FLOAT, ["n", head.n_outputs])
    n_rows = graph.add("Size", [expert], "routing/n_rows")
    single = graph.add("Equal", [n_rows, graph.constant(1, "routing/one")], "routing/is_one_row")
    return graph.add("If", [single], "routing/outputs", then_branch=one_row, else_branch=rows)


def emit_active_mixture(
    graph: GraphBuilder, mixture: MixtureOfExperts, head: Head, hidden: str, gate: str, name: str
) -> str:
    """Mix the experts that a sparse gate chose; the others are not computed.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    mixture : MixtureOfExperts
        The module.
    head : Head
        Its output layer.
    hidden : str
        Output of the trunk.
    gate : str
        Weights of the experts, zero where not chosen.
    name : str
        Name of the output.

    Returns
    -------
    str
        Probabilities or values `(n, n_outputs)`.
    """
    module = mixture.experts
    assert isinstance(module, MLPExperts)
    experts = store_experts(graph, module)
    by_expert = graph.add("Transpose", [gate], "gate/by_expert", perm=[1, 0])
    zero = graph.constant(0, "zero", np.float32)
    active = graph.add("Greater", [by_expert, zero], "routing/active")
    places = graph.add("NonZero", [active], "routing/places")  # (expert, row), by expert
    row = graph.constant(1, "routing/row")
    assigned = _emit_counts(graph, graph.add("Gather", [places, row], "routing/rows"), active)
    mix_outputs = mixture.mixing != "representation"

    def finish(branch: GraphBuilder, value: str, i: int, rows: str) -> str:
        if mix_outputs:
            value = head.apply(branch, value, f"expert_{i}/head")
            value = head.to_answer(branch, value, f"expert_{i}/answer")
        index = branch.constant(i, "routing/index")
        weight = branch.add("Gather", [by_expert, index], f"expert_{i}/weight", axis=0)
        weight = branch.add("Gather", [weight, rows], f"expert_{i}/weight", axis=0)
        last = branch.constant([1], "routing/axis")
        weight = branch.add("Unsqueeze", [weight, last], f"expert_{i}/weight")
        return branch.add("Mul", [value, weight], f"expert_{i}/share")

    width = head.n_outputs if mix_outputs else module.width
    if mix_outputs:
        return _emit_active_experts(
            graph, experts, hidden, assigned, finish, width, reduction="add", name=name
        )
    value = _emit_active_experts(graph, experts, hidden, assigned, finish, width, reduction="add")
    value = head.apply(graph, value, "head" if head.classify else name)
    return head.to_answer(graph, value, name)


def emit_dense_mixture(
    graph: GraphBuilder, mixture: MixtureOfExperts, head: Head, hidden: str, gate: str, name: str
) -> str:
    """Mix all experts.

    Parameters
    ----------
    graph : GraphBuilder
        Where to add nodes.
    mixture : MixtureOfExperts
        The module.
    head : Head
        Its output layer.
    hidden : str
        Output of the trunk.
    gate : str
        Weights of the experts.
    name : str
        Name of the output.

    Returns
    -------
    str
        Probabilities or values `(n, n_outputs)`.
    """
    module = mixture.experts
    assert isinstance(module, MLPExperts)
    experts = store_experts(graph, module)
    value = hidden
    for i, (weight, bias) in enumerate(zip(experts.weights, experts.biases, strict=True)):
        value = graph.add("MatMul", [value, weight], f"experts/layer_{i}/product")
        value = graph.add("Add", [value, bias], f"experts/layer_{i}")
        value = emit_activation(graph, module.activation, value, f"experts/activation_{i}")
    share = graph.add("Transpose", [gate], "gate/by_expert", perm=[1, 0])
    share = graph.add("Unsqueeze", [share, graph.constant([2], "last_axis")], "gate/share")
    first = graph.constant([0], "mixture/axis")
    if mixture.mixing == "representation":
        value = graph.add("Mul", [value, share], "mixture/shares")
        value = graph.add("ReduceSum", [value, first], "mixture/sum", keepdims=0)
        value = head.apply(graph, value, "head" if head.classify else name)
        return head.to_answer(graph, value, name)
    value = head.apply_stacked(graph, value, "head")
    value = head.to_answer(graph, value, "experts/answers")
    value = graph.add("Mul", [value, share], "mixture/shares")
    return graph.add("ReduceSum", [value, first], name, keepdims=0)


def _emit_one_row(
    graph: GraphBuilder, experts: StackedExperts, head: Head, hidden: str, expert: str
) -> str:
    index = graph.add("Squeeze", [expert], "one_row/expert")
    layers = []
    for i, stacks in enumerate(zip(experts.weights, experts.biases, strict=True)):
        weight, bias = (
            graph.add("Gather", [stack, index], f"one_row/layer_{i}/{what}", axis=0)
            for stack, what in zip(stacks, ("weight", "bias"), strict=True)
        )
        layers.append((weight, bias))
    value = emit_layers(graph, experts.module, layers, hidden, "one_row")
    return head.apply(graph, value, "one_row/head")


@dataclass(frozen=True)
class _Assigned:
    """Rows of the experts: all of them one after the other, and where those of each lie."""

    rows: str
    starts: str
    ends: str
    any_rows: str


def _emit_rows_by_expert(graph: GraphBuilder, expert: str, n_experts: int) -> str:
    """Sort the rows by expert."""
    # TopK of no rows ends some releases of onnxruntime (1.20 among them), hence one row more.
    extra = graph.constant([n_experts], "routing/extra_row")
    experts = graph.add("Concat", [expert, extra], "routing/experts_and_extra_row", axis=0)
    height = graph.add("Shape", [experts], "routing/sorted_height")
    _, order = graph.add_many(
        "TopK", [experts, height], ["routing/sorted_experts", "routing/order"], axis=0, largest=0
    )
    start, stop = graph.constant([0], "first_axis"), graph.constant([-1], "before_last")
    return graph.add("Slice", [order, start, stop], "routing/rows")


def _emit_counts(graph: GraphBuilder, rows: str, active: str) -> _Assigned:
    """Count the rows of each expert; `active` is bool `(n_experts, n)`."""
    counts = graph.add("Cast", [active], "routing/active_float", to=TensorProto.FLOAT)
    axis = graph.constant([1], "routing/axis")
    counts = graph.add("ReduceSum", [counts, axis], "routing/counts_float", keepdims=0)
    any_rows = graph.add("Cast", [counts], "routing/any_rows", to=TensorProto.BOOL)
    counts = graph.add("Cast", [counts], "routing/counts", to=TensorProto.INT64)
    ends = graph.add("CumSum", [counts, graph.constant(0, "routing/first")], "routing/ends")
    starts = graph.add("Sub", [ends, counts], "routing/starts")
    return _Assigned(rows, starts, ends, any_rows)


Finish = Callable[[GraphBuilder, str, int, str], str]


def _emit_active_experts(
    graph: GraphBuilder,
    experts: StackedExperts,
    hidden: str,
    assigned: _Assigned,
    finish: Finish,
    width: int,
    reduction: str = "none",
    name: str = "routing/answers",
) -> str:
    """Visit each expert that has rows, and put or add what it makes of them into their places.

    `finish` turns (graph, representation, expert, rows) into values of the given width.
    """
    module = experts.module
    layers = _emit_unstacked(graph, experts)
    starts, ends, conditions = (
        graph.add_many("Split", [value], [f"expert_{i}/{what}" for i in range(module.n_experts)])
        for value, what in (
            (assigned.starts, "start"),
            (assigned.ends, "end"),
            (assigned.any_rows, "any_rows"),
        )
    )
    no_values = graph.constant(np.empty((0, width)), "routing/no_values", np.float32)
    answers = []
    for i in range(module.n_experts):
        visit, skip = graph.branch(), graph.branch()
        rows = visit.add("Slice", [assigned.rows, starts[i], ends[i]], f"expert_{i}/rows")
        value = visit.add("Gather", [hidden, rows], f"expert_{i}/hidden", axis=0)
        value = emit_layers(visit, module, layers[i], value, f"expert_{i}")
        value = finish(visit, value, i, rows)
        nothing = skip.add("Identity", [no_values], f"expert_{i}/nothing")
        visit.add_output(value, TensorProto.FLOAT, [None, width])
        skip.add_output(nothing, TensorProto.FLOAT, [None, width])
        answers.append(
            graph.add(
                "If", [conditions[i]], f"expert_{i}/answers", then_branch=visit, else_branch=skip
            )
        )
    last = graph.constant([1], "routing/axis")
    places = graph.add("Unsqueeze", [assigned.rows, last], "routing/places")
    updates = graph.add("Concat", answers, "routing/values", axis=0)
    height = graph.add("Shape", [hidden], "routing/height", start=0, end=1)
    shape = graph.add(
        "Concat", [height, graph.constant([width], "routing/width")], "routing/shape", axis=0
    )
    zeros = graph.add("ConstantOfShape", [shape], "routing/zeros")  # of float32
    return graph.add("ScatterND", [zeros, places, updates], name, reduction=reduction)


def _emit_unstacked(graph: GraphBuilder, experts: StackedExperts) -> list[list[tuple[str, str]]]:
    """Weights and biases of each expert: the runtime cuts the stacks once, when it loads them."""
    n_experts = experts.module.n_experts
    first = graph.constant([0], "first_axis")
    parts = []
    for what, stacks in (("weight", experts.weights), ("bias", experts.biases)):
        for layer, stack in enumerate(stacks):
            names = [f"expert_{i}/layer_{layer}/{what}" for i in range(n_experts)]
            slices = graph.add_many("Split", [stack], [f"{name}_slice" for name in names], axis=0)
            parts.append(
                [
                    graph.add("Squeeze", [part, first], name)
                    for part, name in zip(slices, names, strict=True)
                ]
            )
    half = len(experts.weights)
    return [
        [(parts[layer][i], parts[half + layer][i]) for layer in range(half)]
        for i in range(n_experts)
    ]
