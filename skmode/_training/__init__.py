"""From encoded rows to a trained network."""

from skmode._training.net import MixtureNet

__all__ = ["MixtureNet"]  # by this name in pickles of 0.1.0
