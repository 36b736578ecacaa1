"""Graphs of experts: building, storing, and routing rows to them."""
