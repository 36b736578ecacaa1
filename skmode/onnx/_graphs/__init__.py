"""Build ONNX graphs of a fitted estimator and of its parts."""
