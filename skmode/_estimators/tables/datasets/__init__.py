"""Tables that are larger than memory: two passes over their batches make rows to train on."""
