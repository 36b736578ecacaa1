"""From what users pass, tables, arrays, images or texts, to the inputs of a graph."""

from skmode_deploy.running.inputs.reader import (
    InputReader,
    compute_in_parts,
    graph_inputs,
    open_reader,
    sample_inputs,
)

__all__ = ["InputReader", "compute_in_parts", "graph_inputs", "open_reader", "sample_inputs"]
