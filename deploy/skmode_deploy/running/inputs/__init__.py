"""From what users pass, tables, arrays or images, to the inputs of a graph."""

from skmode_deploy.running.inputs.reader import InputReader, graph_inputs, open_reader

__all__ = ["InputReader", "graph_inputs", "open_reader"]
