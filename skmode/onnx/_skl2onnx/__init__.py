"""Converters: our estimators for skl2onnx, and repairs of its own converters around them."""
