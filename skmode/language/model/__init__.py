"""The estimator: fit, routing, scores, generation, and experts that come and go."""

from skmode.language.model.estimator import ModularLanguageModel

__all__ = ["ModularLanguageModel"]
