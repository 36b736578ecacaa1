"""Completions in the shape of OpenAI's protocol: ``/v1/completions`` and ``/v1/models``."""

from skmode_deploy.serving.engine.completions.routes import about_completions

__all__ = ["about_completions"]
