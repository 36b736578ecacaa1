"""Encode what a user passes as tensors."""

from skmode._encoding.tables import Column, TableEncoder

__all__ = ["Column", "TableEncoder"]  # by these names in pickles of 0.1.0
