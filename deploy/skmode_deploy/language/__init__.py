"""Modular language models: score, route and continue texts with onnxruntime.

A bundle of kind ``language`` has a router and an expert for each domain, see
:mod:`skmode_deploy.bundle`. :func:`load` opens one.
"""

from skmode_deploy.language.generation import Generation
from skmode_deploy.language.model import LanguageModel, load
from skmode_deploy.language.routing import Routing
from skmode_deploy.language.samples import check_samples

__all__ = ["Generation", "LanguageModel", "Routing", "check_samples", "load"]
