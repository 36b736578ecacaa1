"""Operators: the parts of an estimator as ONNX graphs."""
