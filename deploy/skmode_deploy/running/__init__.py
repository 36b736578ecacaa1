"""Answer rows: convert them, open sessions of onnxruntime, route rows to experts."""
