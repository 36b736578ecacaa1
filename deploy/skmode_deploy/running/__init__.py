"""Predict rows: convert them, open onnxruntime sessions, route rows to experts."""
