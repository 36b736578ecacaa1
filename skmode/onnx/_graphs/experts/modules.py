"""Convert custom torch modules with torch.onnx."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Iterator

import onnx
import torch
from onnx import inliner, version_converter
from torch import nn

from skmode._common.quiet import hide_output, hide_warnings
from skmode.onnx._graphs.builder import OPSET

# One thread at a time: the exporter, and the levels of its loggers, change state of the process.
_EXPORTING = threading.Lock()


def convert_module(module: nn.Module, shape: tuple[int, ...]) -> onnx.GraphProto:
    """Convert a module to a graph, for rows of a shape."""
    name = type(module).__name__
    # The exporter may take a size of 0, 1 or 2 as fixed.
    example = torch.zeros(3, *shape, dtype=torch.float32, device="cpu")
    rows = torch.export.Dim("n")
    try:
        # A copy, because the estimator goes on with the module, in its own precision.
        copied = copy.deepcopy(module).to("cpu", torch.float32).eval()
        with quiet_exporter():
            program = torch.onnx.export(
                copied,
                (example,),
                input_names=["hidden"],
                output_names=["representation"],
                opset_version=OPSET,
                dynamic_shapes=({0: rows},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise TypeError(
            f"Experts and trunks must be modules that torch.onnx.export (dynamo) can convert, but "
            f"{name} gave {type(error).__name__}: {_first_line(error)} "
            "Rewrite its forward with operations that torch.export can trace."
        ) from error
    assert program is not None
    return _plain_graph(program.model_proto, name)


def _plain_graph(model: onnx.ModelProto, name: str) -> onnx.GraphProto:
    """Convert to our opset, inline functions and drop the exporter's metadata."""
    model = inliner.inline_local_functions(model)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if versions.get("", OPSET) != OPSET:
        model = version_converter.convert_version(model, OPSET)
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx", "ai.onnx.ml"})
    if foreign:
        raise TypeError(
            "Experts and trunks may use the operators of ai.onnx only, but torch.onnx.export "
            f"converted {name} to operators of {foreign}: rewrite its forward with ordinary "
            "operations."
        )
    graph = model.graph
    del graph.value_info[:], graph.metadata_props[:]
    graph.name, graph.doc_string = "expert", ""
    for value in (*graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return graph


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Let one thread at a time export, on the CPU, and hide what the exporter says."""
    with (
        _EXPORTING,
        _quieter_loggers(),
        hide_warnings(),
        hide_output(),
        torch.device("cpu"),
        torch.autocast("cpu", enabled=False),
    ):
        yield


@contextlib.contextmanager
def _quieter_loggers() -> Iterator[None]:
    """Log errors only; the loggers of these packages take their levels from the first."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            if logger.level == logging.ERROR:  # else another thread has changed it
                logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else "no message."
