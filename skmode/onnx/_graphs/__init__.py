"""Graphs: a fitted estimator, and each of its parts, in ONNX operators."""
