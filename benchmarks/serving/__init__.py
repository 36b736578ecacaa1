"""Answers of exported models: in one process, quantized, and by servers."""
