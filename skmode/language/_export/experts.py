"""Causal language models as ONNX graphs with a cache.

Tracing takes seconds, so the graph of one model serves all others of its architecture: their
weights take the place of its own. The exporter runs without optimizations, so that each weight is
one initializer of its own name; onnxruntime optimizes the graph when it opens it.
"""

from __future__ import annotations

import copy
import inspect
import json
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from skmode.onnx._graphs.experts.modules import quiet_exporter

OPSET = 20
MAX_GRAPH_BYTES = 2**31 - 1  # of a message of protobuf
MAX_TRACES = 8

_traces: dict[str, onnx.ModelProto] = {}


class _WithCache(nn.Module):
    """A model whose cache is one tensor of shape (layers, 2, batch, heads, past, head_dim)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor, past: torch.Tensor) -> tuple[Any, torch.Tensor]:
        from transformers import DynamicCache

        cache = DynamicCache()
        for i in range(past.shape[0]):
            cache.update(past[i, 0], past[i, 1], i)
        name = _name_of_cache(self.model)
        output = self.model(input_ids=tokens, use_cache=True, **{name: cache})
        layers = [torch.stack([each.keys, each.values]) for each in output[name].layers]
        return output.logits, torch.stack(layers)


def convert_expert(model: Any, name: str, *, trace_anew: bool = False) -> onnx.ModelProto:
    """Convert a causal language model of transformers to a graph.

    `trace_anew` traces this very model, in case that its weights do not fit the graph of another.
    """
    key = _architecture(model)
    if trace_anew or key not in _traces:
        while len(_traces) >= MAX_TRACES:
            _traces.pop(next(iter(_traces)))
        _traces[key] = _trace(model)
    graph = onnx.ModelProto()
    graph.CopyFrom(_traces[key])
    _set_weights(graph, model)
    graph.graph.name = name.removesuffix(".onnx")
    return graph


def serialize(graph: onnx.ModelProto, name: str) -> bytes:
    """Return the bytes of a graph, the same for the same weights."""
    if graph.ByteSize() > MAX_GRAPH_BYTES:
        raise ValueError(
            f"{name} must have at most {MAX_GRAPH_BYTES} bytes, the limit of an ONNX file, got "
            f"{graph.ByteSize()}: train smaller experts."
        )
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _architecture(model: Any) -> str:
    """Describe all of a model but its weights."""
    config = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_")}
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    kind = type(model)
    where = f"{kind.__module__}.{kind.__qualname__}"
    return json.dumps([where, config, shapes], sort_keys=True, default=repr)


def _name_of_cache(model: Any) -> str:
    """Return what the model's release of transformers calls the cache."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def cache_sizes(model: Any) -> tuple[int, int, int]:
    """Return layers, heads and head size of a model's cache."""
    with torch.no_grad():
        token = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device)
        output = model(input_ids=token, use_cache=True)
    layers = getattr(output.get(_name_of_cache(model)), "layers", None) or []
    keys = getattr(layers[0], "keys", None) if layers else None
    if keys is None or keys.ndim != 4:
        raise TypeError(
            "An expert must be a causal model of transformers with a cache of keys and values, got "
            f"{type(model).__name__}: use an architecture such as GPT-2 or Llama."
        )
    return len(layers), keys.shape[1], keys.shape[3]


def _trace(model: Any) -> onnx.ModelProto:
    """Export a model, and drop its weights and what the exporter notes."""
    layers, heads, width = cache_sizes(model)
    plain = copy.deepcopy(model).to("cpu", torch.float32).eval()
    if hasattr(plain, "set_attn_implementation"):
        # It depends on sizes least, and is faster in onnxruntime than the others.
        plain.set_attn_implementation("eager")
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    past = torch.zeros(layers, 2, 2, heads, 5, width)
    size = torch.export.Dim.DYNAMIC
    shapes = {"tokens": {0: size, 1: size}, "past": {2: size, 4: size}}
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                _WithCache(plain),
                (tokens, past),
                input_names=["tokens", "past"],
                output_names=["logits", "present"],
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                optimize=False,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "no message").rstrip(".")
        raise TypeError(
            "An expert must be a model that torch.onnx.export (dynamo) can convert, but "
            f"{type(model).__name__} gave {type(error).__name__}: {reason}. Use an architecture "
            "such as GPT-2 or Llama."
        ) from error
    assert program is not None
    return _clean(program.model_proto, (layers, heads, width), model)


def _clean(graph: onnx.ModelProto, sizes: tuple[int, int, int], model: Any) -> onnx.ModelProto:
    """Keep what onnxruntime needs, with names for the sizes that each call chooses."""
    foreign = sorted({node.domain for node in graph.graph.node} - {"", "ai.onnx"})
    if foreign or graph.functions:
        raise TypeError(
            "An expert may use the operators of ai.onnx only, but torch.onnx.export converted "
            f"{type(model).__name__} to operators of {foreign}: use another architecture."
        )
    layers, heads, width = sizes
    n_tokens = graph.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    cache = (layers, 2, "batch", heads)
    values = {
        "tokens": (TensorProto.INT64, ("batch", "length")),
        "past": (TensorProto.FLOAT, (*cache, "past_length", width)),
        "logits": (TensorProto.FLOAT, ("batch", "length", n_tokens)),
        "present": (TensorProto.FLOAT, (*cache, "total_length", width)),
    }
    for fields in (graph.graph.input, graph.graph.output):
        fresh = [helper.make_tensor_value_info(each.name, *values[each.name]) for each in fields]
        del fields[:]
        fields.extend(fresh)
    del graph.graph.value_info[:], graph.graph.metadata_props[:], graph.metadata_props[:]
    for part in (*graph.graph.node, *graph.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    graph.doc_string = graph.graph.doc_string = ""
    graph.producer_name, graph.producer_version = "skmode", ""
    weights = _weights(model)
    for tensor in graph.graph.initializer:
        if tensor.name in weights:
            tensor.raw_data = b""
    return graph


def _weights(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights by the names of their initializers."""
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


def _set_weights(graph: onnx.ModelProto, model: Any) -> None:
    weights = _weights(model)
    for tensor in graph.graph.initializer:
        if tensor.name in weights:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            values: NDArray[Any] = weights[tensor.name].detach().cpu().numpy().astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
