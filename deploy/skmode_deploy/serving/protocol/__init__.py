"""The Open Inference Protocol: tensors, errors and request ids."""
