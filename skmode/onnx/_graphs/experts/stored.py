"""Store the experts of a graph once, and apply them where they are needed.

Experts that differ only in their weights, the usual case, are stored as stacks. A branch for many
rows gathers its expert at a fixed position, which the runtime does once, when it loads the model.
The branch for a single row gathers the chosen expert at each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.experts.build import INPUT


class StoredExperts:
    """The experts of one graph, stored once, applied in its branches."""

    def __init__(self, graph: GraphBuilder, experts: Sequence[onnx.GraphProto]) -> None:
        self._experts = experts
        self.n_experts = len(experts)
        self.width: int = experts[0].output[0].type.tensor_type.shape.dim[-1].dim_value
        self.stacks: dict[str, str] | None = None
        different = _different_weights(experts)
        if self.n_experts > 1 and different is not None:
            self.stacks = {
                name: graph.add_weight(np.stack(arrays), f"experts/{name}")
                for name, arrays in different.items()
            }

    def apply(self, graph: GraphBuilder, expert: int, hidden: str, name: str) -> str:
        """Apply one expert."""
        if self.stacks is None:
            return _inline(graph, self._experts[expert], {INPUT: hidden}, name)
        return self.apply_chosen(graph, graph.constant(expert, f"{name}/index"), hidden, name)

    def apply_chosen(self, graph: GraphBuilder, expert: str, hidden: str, name: str) -> str:
        """Apply an expert that the graph chooses; only where there are `stacks`."""
        assert self.stacks is not None
        weights = {
            weight: graph.add("Gather", [stack, expert], f"{name}/{weight}", axis=0)
            for weight, stack in self.stacks.items()
        }
        return _inline(graph, self._experts[0], weights | {INPUT: hidden}, name)


def _inline(
    graph: GraphBuilder, expert: onnx.GraphProto, values: Mapping[str, str], name: str
) -> str:
    return graph.inline(expert, values, name)[expert.output[0].name]


def _different_weights(
    experts: Sequence[onnx.GraphProto],
) -> dict[str, list[NDArray[Any]]] | None:
    """Find the weights that differ between experts; None if the experts differ in more."""
    if len({_structure(expert) for expert in experts}) > 1:
        return None
    weights = [{t.name: t for t in expert.initializer} for expert in experts]
    different = {}
    for name, first in weights[0].items():
        contents = [numpy_helper.to_array(own[name]) for own in weights]
        if any(array.tobytes() != contents[0].tobytes() for array in contents):
            different[first.name] = contents
    return different


def _structure(expert: onnx.GraphProto) -> bytes:
    """Serialize a graph without the values of its weights."""
    bare = onnx.GraphProto()
    bare.CopyFrom(expert)
    for tensor in bare.initializer:
        shape, dtype, name = list(tensor.dims), tensor.data_type, tensor.name
        tensor.Clear()
        tensor.dims.extend(shape)
        tensor.data_type, tensor.name = dtype, name
    structure: bytes = bare.SerializeToString(deterministic=True)
    return structure
