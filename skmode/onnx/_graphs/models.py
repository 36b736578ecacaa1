"""The graphs of a bundle: the whole model, the gate, single experts."""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal

import numpy as np
from onnx import TensorProto

from skmode.nn import (
    ImageFeatures,
    MixedTrunk,
    SparseGate,
    TabularTrunk,
    TextTrunk,
    TransformerTrunk,
)
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.columns import (
    emit_array_input,
    emit_codes,
    emit_column_inputs,
    emit_columns_of_array,
    emit_numbers,
)
from skmode.onnx._graphs.experts.stored import StoredExperts
from skmode.onnx._graphs.gate import (
    emit_gate_logits,
    emit_gate_probabilities,
    emit_gate_probability,
    emit_top_expert,
)
from skmode.onnx._graphs.mixture import (
    Head,
    emit_active_mixture,
    emit_dense_mixture,
    emit_top_expert_outputs,
)
from skmode.onnx._graphs.source import Source, label_kind
from skmode.onnx._graphs.trunks.images import (
    emit_image_features,
    emit_image_input,
    emit_image_trunk,
)
from skmode.onnx._graphs.trunks.tables import emit_trunk
from skmode.onnx._graphs.trunks.texts import TEXT_INPUTS, emit_text_inputs, emit_text_trunk
from skmode.onnx._graphs.trunks.transformer import emit_transformer_trunk

Routing = Literal["top_expert", "mixture"]


def _emit_hidden(graph: GraphBuilder, source: Source) -> str:
    """Declare the inputs and compute the trunk's output."""
    if source.image is not None:
        pixels = emit_image_input(graph, source.image)
        return emit_image_trunk(graph, source.image_trunk, source.image, pixels)
    if source.reads_texts:
        tokens, counts = emit_text_inputs(graph, TEXT_INPUTS)
        if isinstance(source.text_trunk, TransformerTrunk):
            return emit_transformer_trunk(graph, source.text_trunk, tokens, counts)
        return emit_text_trunk(graph, source.text_trunk, tokens, counts)
    trunk = source.trunk
    texts, images = (
        [column for column in source.columns if column.kind == kind] for kind in ("text", "image")
    )
    # Before any node, so that none has the name of an input. Sizes of one name are taken to be
    # equal, and texts of two columns differ in length.
    bags = {
        column.input: emit_text_inputs(
            graph,
            (f"tokens_{column.input}", f"counts_{column.input}"),
            f"length_{i}" if i else "length",
        )
        for i, column in enumerate(texts)
    }
    for column in images:
        assert column.image is not None
        emit_image_input(graph, column.image, column.input)
    parts = []
    table = trunk.table if isinstance(trunk, MixedTrunk) else trunk
    if table is not None:
        parts.append(_emit_table(graph, source, table))
    if isinstance(trunk, MixedTrunk):
        for i, (column, text) in enumerate(zip(texts, trunk.texts, strict=True)):
            assert isinstance(text, TextTrunk)
            parts.append(emit_text_trunk(graph, text, *bags[column.input], f"text_{i}"))
        for i, (column, features) in enumerate(zip(images, trunk.images, strict=True)):
            assert isinstance(features, ImageFeatures)
            assert column.image is not None
            parts.append(
                emit_image_features(graph, features, column.image, column.input, f"image_{i}")
            )
        # Columns of texts and images come last in the trunk, but anywhere in the manifest.
        inputs = [bags.get(column.input, (column.input,)) for column in source.columns]
        graph.order_inputs(list(chain.from_iterable(inputs)))
    return parts[0] if len(parts) == 1 else graph.concatenate(parts, "features")


def _emit_table(graph: GraphBuilder, source: Source, trunk: TabularTrunk) -> str:
    """Declare the inputs of numbers and categories, and compute their features."""
    before = source.preprocessing
    columns = [column for column in source.columns if column.kind in ("number", "category")]
    if source.one_input_per_column:
        values = (
            emit_column_inputs(graph, columns)
            if before is None
            else before.emit_columns(graph, columns)
        )
        numbers = [v for v, column in zip(values, columns, strict=True) if column.kind == "number"]
        codes = [v for v, column in zip(values, columns, strict=True) if column.kind == "category"]
    else:
        array = emit_array_input(graph, columns) if before is None else before.emit(graph)
        values = emit_columns_of_array(graph, array, columns)
        has_numbers = any(column.kind == "number" for column in columns)
        numbers, codes = values[:has_numbers], values[has_numbers:]
    categorical = [column for column in columns if column.kind == "category"]
    return emit_trunk(
        graph, trunk, emit_numbers(graph, numbers), emit_codes(graph, categorical, codes)
    )


def build_model(source: Source, routing: Routing) -> GraphBuilder:
    """Build the graph from columns to predictions."""
    graph = GraphBuilder()
    mixture = source.mixture
    gate = mixture.gate
    hidden = _emit_hidden(graph, source)
    logits = emit_gate_logits(graph, gate, hidden)
    expert = emit_top_expert(graph, logits)
    weights = emit_gate_probabilities(graph, gate, logits)
    experts, head = StoredExperts(graph, source.experts), Head(graph, mixture)
    one_active = isinstance(gate, SparseGate) and gate.top_k == 1
    name = "probabilities" if head.classify else "mixture"
    if routing == "top_expert" or one_active or mixture.n_experts == 1:
        value = emit_top_expert_outputs(graph, experts, head, hidden, expert)
        value = head.activate(graph, value, source.output_name)
    elif isinstance(gate, SparseGate):
        value = emit_active_mixture(graph, mixture, experts, head, hidden, logits, name)
    else:
        value = emit_dense_mixture(graph, mixture, experts, head, hidden, weights, name)
    _emit_prediction(graph, source, value)
    graph.add_output(expert, TensorProto.INT64, ["n"])
    graph.add_output(emit_gate_probability(graph, weights), TensorProto.FLOAT, ["n"])
    return graph


def _emit_prediction(graph: GraphBuilder, source: Source, value: str) -> None:
    """Add the labels to probabilities, or scale regression values back to the target's unit."""
    shape: list[int | str | None] = ["n", source.n_outputs]
    if source.classes is None:
        _emit_target_scale(graph, source, value)
        graph.add_output("variable", TensorProto.FLOAT, shape)
        return
    kind = label_kind(source.classes)
    indices = kind == "index" or np.array_equal(source.classes, np.arange(len(source.classes)))
    name = "label" if indices else "label/index"
    if source.choose is None:
        label = graph.add("ArgMax", [value], name, axis=1, keepdims=0)
    else:
        label = graph.add("Identity", [source.choose(graph, value)], name)
    if not indices:
        dtype = object if source.classes.dtype.kind in "OU" else np.int64
        classes = graph.add_weight(source.classes.astype(dtype), "label/classes")
        label = graph.add("Gather", [classes, label], "label", axis=0)
    strings = not indices and source.classes.dtype.kind in "OU"
    graph.add_output(label, TensorProto.STRING if strings else TensorProto.INT64, ["n"])
    graph.add_output("probabilities", TensorProto.FLOAT, shape)


def _emit_target_scale(graph: GraphBuilder, source: Source, value: str) -> None:
    assert source.target_scale is not None
    assert source.target_mean is not None
    dtype: Any = np.float32
    if source.invert is not None:
        dtype, value = np.float64, graph.add("Cast", [value], "target/value", to=TensorProto.DOUBLE)
    scale = graph.add_weight(source.target_scale.astype(dtype), "target/scale")
    mean = graph.add_weight(source.target_mean.astype(dtype), "target/mean")
    value = graph.add("Mul", [value, scale], "target/scaled")
    if source.invert is None:
        graph.add("Add", [value, mean], "variable")
        return
    value = source.invert(graph, graph.add("Add", [value, mean], "target/transformed"))
    graph.add("Cast", [value], "variable", to=TensorProto.FLOAT)


def build_gate(source: Source) -> GraphBuilder:
    """Build the graph from columns to gate probabilities, top expert and the input of experts."""
    graph = GraphBuilder()
    gate = source.mixture.gate
    hidden = _emit_hidden(graph, source)
    logits = emit_gate_logits(graph, gate, hidden)
    emit_gate_probabilities(graph, gate, logits, "gate_probabilities")
    emit_top_expert(graph, logits)
    graph.add("Identity", [hidden], "hidden")
    graph.add_output("gate_probabilities", TensorProto.FLOAT, ["n", gate.n_experts])
    graph.add_output("expert", TensorProto.INT64, ["n"])
    graph.add_output("hidden", TensorProto.FLOAT, ["n", source.n_hidden])
    return graph


def build_expert(source: Source, expert: int) -> GraphBuilder:
    """Build the graph from the input of the experts to the predictions of one alone."""
    graph = GraphBuilder()
    hidden = graph.add_input("hidden", TensorProto.FLOAT, ["n", source.n_hidden])
    stored = StoredExperts(graph, source.experts[expert : expert + 1])
    head = Head(graph, source.mixture)
    value = head.apply(graph, stored.apply(graph, 0, hidden, "expert"), "head")
    value = head.activate(graph, value, "probabilities")
    if source.classes is None:
        _emit_target_scale(graph, source, value)
    graph.add_output(source.output_name, TensorProto.FLOAT, ["n", source.n_outputs])
    return graph
