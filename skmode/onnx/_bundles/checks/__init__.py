"""Comparing a bundle with its model: predictions, refused values, routing."""
