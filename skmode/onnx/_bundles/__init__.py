"""Bundles: from a fitted model to files that were checked."""
