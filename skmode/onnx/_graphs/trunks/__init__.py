"""Trunks as ONNX operators: of tables, of images, of texts."""
