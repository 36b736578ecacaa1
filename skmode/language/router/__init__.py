"""Which domain a text is of: byte n-grams, naive Bayes or logistic regression, abstention."""

from skmode.language.router.estimator import DomainRouter
from skmode.language.router.segments import Segment

__all__ = ["DomainRouter", "Segment"]
