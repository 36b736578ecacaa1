"""Experts with 8-bit weights, through onnxruntime.quantization."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from skmode._common.quiet import hide_records
from skmode.onnx._graphs.builder import IR_VERSION, OPSET


def quantize_experts(experts: Sequence[onnx.GraphProto]) -> list[onnx.GraphProto]:
    """Reduce the weights of experts to 8 bits; the runtime does so with layer inputs at each call.

    There is one scale per output of a layer for the weights, and one per call for its input.
    Weights are signed and use 7 of the 8 bits: with all 8, sums of two products saturate on
    processors without VNNI. Unsigned weights would not, but are slow on processors with VNNI.
    """
    return [_quantize(expert) for expert in experts]


def _quantize(expert: onnx.GraphProto) -> onnx.GraphProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(expert, opset_imports=[opset], ir_version=IR_VERSION)
    # onnxruntime advises to preprocess the model first, which changes nothing here.
    with tempfile.TemporaryDirectory() as folder, hide_records(logging.getLogger()):
        path = Path(folder) / "expert.onnx"
        options: dict[str, Any] = {
            "per_channel": True,
            "weight_type": QuantType.QInt8,
            "reduce_range": True,
        }
        quantize_dynamic(model, path, **options)
        graph = onnx.load(path).graph
    del graph.value_info[:]
    return graph
