"""From encoded rows to a trained network."""
