"""From rows to answers: inputs, sessions of onnxruntime, routing."""
