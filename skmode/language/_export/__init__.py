"""Modular language models as bundles of ONNX files."""
