"""Modular language models: an expert for each domain, and a router in front of them.

It needs transformers and tokenizers (extra ``language``), and loads them when a model is fitted.
"""

from skmode.language._export.export import export
from skmode.language.model import ModularLanguageModel
from skmode.language.objectives import cross_entropy, forward_kl, reverse_kl
from skmode.language.router import DomainRouter, Segment
from skmode.language.setups import TeacherNotAheadWarning

__all__ = [
    "DomainRouter",
    "ModularLanguageModel",
    "Segment",
    "TeacherNotAheadWarning",
    "cross_entropy",
    "export",
    "forward_kl",
    "reverse_kl",
]
