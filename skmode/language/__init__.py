"""Modular language models: an expert for each domain, and a router in front of them."""

from skmode.language.router import DomainRouter, Segment

__all__ = ["DomainRouter", "Segment"]
