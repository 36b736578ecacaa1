"""Converters: what skl2onnx is taught, and where it is mended."""
