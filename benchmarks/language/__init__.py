"""Modular language models: what is measured, and on which texts."""
