"""Predict with the top expert, with the active experts, or with all experts."""

from __future__ import annotations

from torch import nn

from skmode.nn import CrossEntropy, MixtureOfExperts, SparseGate
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.routing import emit_chosen_experts
from skmode.onnx._graphs.experts.stored import StoredExperts
from skmode.onnx._graphs.gate import emit_top_k
from skmode.onnx._graphs.layers import to_float32


class Head:
    """The output layer, stored once, applied to experts or to their mixture."""

    def __init__(self, graph: GraphBuilder, mixture: MixtureOfExperts) -> None:
        head = mixture.head
        assert isinstance(head, nn.Linear)
        self.weight = graph.add_weight(to_float32(head.weight), "head/weight")
        self.bias = graph.add_weight(to_float32(head.bias), "head/bias")
        self.n_outputs = head.out_features
        self.classify = isinstance(mixture.task_loss, CrossEntropy)

    def apply(self, graph: GraphBuilder, value: str, name: str) -> str:
        """Apply the layer to rows."""
        # Transposed, as torch stores it: with few outputs the runtime is faster that way.
        return graph.add("Gemm", [value, self.weight, self.bias], name, transB=1)

    def activate(self, graph: GraphBuilder, value: str, name: str) -> str:
        """Turn scores into probabilities; regression values do not change."""
        return graph.add("Softmax", [value], name, axis=-1) if self.classify else value


def emit_top_expert_outputs(
    graph: GraphBuilder,
    experts: StoredExperts,
    head: Head,
    hidden: str,
    expert: str,
) -> str:
    """Compute each row by its top expert alone."""

    def finish(branch: GraphBuilder, value: str, name: str) -> str:
        return head.apply(branch, value, f"{name}/head")

    return emit_chosen_experts(graph, experts, hidden, expert, finish, head.n_outputs)


def emit_active_mixture(
    graph: GraphBuilder,
    mixture: MixtureOfExperts,
    experts: StoredExperts,
    head: Head,
    hidden: str,
    logits: str,
    name: str,
) -> str:
    """Mix the experts that a sparse gate chose; the other experts are not computed."""
    assert isinstance(mixture.gate, SparseGate)
    top_k = mixture.gate.top_k
    weights, chosen = emit_top_k(graph, mixture.gate, logits)
    flat = graph.constant([-1], "mixture/flat_shape")
    choice = graph.add("Reshape", [chosen, flat], "mixture/choice")
    mix_outputs = mixture.mixing != "representation"

    def finish(branch: GraphBuilder, value: str, name: str) -> str:
        if not mix_outputs:
            return value
        value = head.apply(branch, value, f"{name}/head")
        return head.activate(branch, value, f"{name}/answer")

    width = head.n_outputs if mix_outputs else experts.width
    values = emit_chosen_experts(graph, experts, hidden, choice, finish, width, top_k)
    shape = graph.constant([-1, top_k, width], "mixture/shape")
    values = graph.add("Reshape", [values, shape], "mixture/values")
    share = graph.add("Unsqueeze", [weights, graph.constant([2], "last_axis")], "mixture/share")
    values = graph.add("Mul", [values, share], "mixture/shares")
    axis = graph.constant([1], "mixture/axis")
    if mix_outputs:
        return graph.add("ReduceSum", [values, axis], name, keepdims=0)
    value = graph.add("ReduceSum", [values, axis], "mixture/sum", keepdims=0)
    value = head.apply(graph, value, "head" if head.classify else name)
    return head.activate(graph, value, name)


def emit_dense_mixture(
    graph: GraphBuilder,
    mixture: MixtureOfExperts,
    experts: StoredExperts,
    head: Head,
    hidden: str,
    weights: str,
    name: str,
) -> str:
    """Mix all experts."""
    mix_outputs = mixture.mixing != "representation"
    names = [f"expert_{i}" for i in range(experts.n_experts)]
    shares = graph.add_many(
        "Split", [weights], [f"{one}/weight" for one in names], axis=1, num_outputs=len(names)
    )
    values = []
    for i, one in enumerate(names):
        value = experts.apply(graph, i, hidden, one)
        if mix_outputs:
            value = head.apply(graph, value, f"{one}/head")
            value = head.activate(graph, value, f"{one}/answer")
        values.append(graph.add("Mul", [value, shares[i]], f"{one}/share"))
    if mix_outputs:
        return graph.add("Sum", values, name)
    value = graph.add("Sum", values, "mixture/sum")
    value = head.apply(graph, value, "head" if head.classify else name)
    return head.activate(graph, value, name)
