"""The Open Inference Protocol: tensors, requests, responses, refusals and request ids."""
