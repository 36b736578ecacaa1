"""Modular language models: an expert for each domain, and a router in front of them."""

from skmode.language._export.export import export

__all__ = ["export"]
