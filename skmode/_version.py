"""The one place that holds skmode's version."""

__version__ = "0.1.0"
