"""Experts: their graphs, how one graph stores them, which of them compute a row."""
