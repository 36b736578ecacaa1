"""Converters of our estimators for skl2onnx, and replacements for some of its own converters."""
