"""Experts with 8-bit weights, and what that costs in bits per byte."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from skmode._common.quiet import hide_records
from skmode.language._export.experts import serialize
from skmode.language._export.parity import open_session
from skmode_deploy.language.experts import Context, Expert
from skmode_deploy.language.scoring import score_tokens
from skmode_deploy.language.tokenizer import TextTokenizer

N_TEXTS = 32
MAX_TOKENS = 64
SEED = 0


def quantize(graph: onnx.ModelProto, name: str) -> bytes:
    """Reduce the weights of an expert to 8 bits; the runtime does so with the inputs of its layers.

    There is one scale per output of a layer. Weights use 7 of the 8 bits, as sums of two products
    saturate with all 8 on processors without VNNI. Embeddings keep their 32 bits.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    _fold_transposes(folded.graph)
    # onnxruntime advises to preprocess the model first, which changes nothing here.
    with tempfile.TemporaryDirectory() as folder, hide_records(logging.getLogger()):
        path = Path(folder) / "expert.onnx"
        options: dict[str, Any] = {
            "per_channel": True,
            "weight_type": QuantType.QInt8,
            "reduce_range": True,
            "op_types_to_quantize": ["MatMul", "Gemm"],
        }
        quantize_dynamic(folded, path, **options)
        made = onnx.load(path)
    del made.graph.value_info[:], made.metadata_props[:]
    made.producer_name, made.producer_version = "skmode", ""
    if len(made.functions) or {node.domain for node in made.graph.node} - {"", "ai.onnx"}:
        raise RuntimeError(f"The quantization of {name} must use the operators of ai.onnx only.")
    return serialize(made, name)


def _fold_transposes(graph: onnx.GraphProto) -> None:
    """Transpose weights once: the quantization looks for products with weights as they are."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        source = weights.get(node.input[0]) if node.op_type == "Transpose" else None
        if source is None:
            kept.append(node)
            continue
        order = next((list(each.ints) for each in node.attribute if each.name == "perm"), None)
        values = np.ascontiguousarray(numpy_helper.to_array(source).transpose(order))
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


class LossMeter:
    """Measures bits per byte before and after quantization.

    Without texts it takes some that the expert writes itself: what is lost on these is an estimate
    of how far the two distributions are from each other.
    """

    def __init__(self, tokenizer: TextTokenizer, max_length: int, end_token: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._end_token = end_token

    def measure(self, before: bytes, after: bytes, name: str, texts: Sequence[str] | None) -> float:
        """Return how many bits per byte an expert lost."""
        own = self._open(before, name)
        tokens = (
            self._write_texts(own)
            if texts is None
            else [self._tokenizer.encode(text) for text in texts]
        )
        n_bytes = sum(len(self._tokenizer.decode(each).encode()) for each in tokens)
        bits = [self._score(expert, tokens) for expert in (own, self._open(after, name))]
        return float((bits[1] - bits[0]) / max(n_bytes, 1))

    def _open(self, data: bytes, name: str) -> Expert:
        session = open_session(data, name)
        return Expert(session, name, session.get_outputs()[0].shape[2], self._max_length)

    def _score(self, expert: Expert, tokens: list[list[int]]) -> float:
        bits = score_tokens(
            lambda n_rows: Context([expert], n_rows), tokens, self._max_length, self._end_token
        )
        return float(bits.sum())

    def _write_texts(self, expert: Expert) -> list[list[int]]:
        """Draw texts from an expert, at temperature 1."""
        rng = np.random.default_rng(SEED)
        context = Context([expert], N_TEXTS)
        last = np.full((N_TEXTS, 1), self._end_token, np.int64)
        rows: list[NDArray[np.int64]] = []
        for _ in range(min(self._max_length, MAX_TOKENS)):
            logits = context.read(last)[:, -1].astype(np.float64)
            logits[:, self._end_token] = -np.inf  # all texts have the same length
            noise = -np.log(rng.exponential(size=logits.shape))  # of Gumbel: the largest is a draw
            last = (logits + noise).argmax(axis=1)[:, None]
            rows.append(last)
        drawn: list[list[int]] = np.concatenate(rows, axis=1).tolist()
        return drawn
