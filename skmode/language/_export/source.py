"""What `export` reads of a fitted model, and what it checks."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from skmode._version import __version__
from skmode_deploy import bundle
from skmode_deploy.language.tokenizer import TextTokenizer

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Source:
    """A fitted modular language model, as the export needs it."""

    experts: dict[str, Any]  # by domain, in the order of the router
    common: Any
    router: Any
    tokenizer: bytes
    n_tokens: int
    end_token: int
    max_length: int
    alphas: dict[str, float | str]  # of the domains that a teacher taught
    usage: tuple[float, ...]
    scores: dict[str, float] | None
    unknown: Any  # "best", "common", "error", or None where the bundle cannot do the same

    def models(self) -> dict[str, Any]:
        """Return the models by the names of their files."""
        models = {bundle.domain_file(name): model for name, model in self.experts.items()}
        if self.common is not None:
            models[bundle.COMMON] = self.common
        return models

    @property
    def alpha(self) -> float:
        """The weight of the teacher, if it is one number for all domains, else 0."""
        found = {self.alphas.get(name) for name in self.experts}
        one = found.pop() if len(found) == 1 else None
        return one if isinstance(one, float) else 0.0

    @property
    def text_tokenizer(self) -> TextTokenizer:
        """The tokenizer as the runtime reads it."""
        return TextTokenizer(self.tokenizer, self.n_tokens, self.end_token)

    @property
    def min_confidence(self) -> float | None:
        """The least confidence of the router, or None if it never abstains."""
        threshold = float(self.router.threshold_)
        return threshold if math.isfinite(threshold) else None


def read_model(model: Any) -> Source:
    """Read a fitted modular language model."""
    _check_fitted(model)
    domains = [str(name) for name in model.router_.domains_]
    if set(domains) != set(model.experts_):
        raise ValueError(
            "The router and the experts must have the same domains, got "
            f"{sorted(domains)} and {sorted(model.experts_)}: add or remove a domain with "
            "the methods of the model."
        )
    end_token = model.tokenizer_.token_to_id(END_OF_TEXT)
    if end_token is None:
        raise ValueError(
            f"The tokenizer must have the token {END_OF_TEXT!r}, got one without it: add it before "
            "training."
        )
    experts = {name: model.experts_[name] for name in domains}
    common = getattr(model, "common_", None)
    return Source(
        experts,
        common,
        model.router_,
        model.tokenizer_.to_str().encode(),
        _count_tokens([*experts.values(), *([] if common is None else [common])]),
        end_token,
        int(model.max_length_),
        dict(getattr(model, "domain_alphas_", {})),
        _usage(model, domains),
        _scores(model),
        None if (unknown := getattr(model, "unknown", None)) == "teacher" else unknown,
    )


def make_manifest(source: Source, losses: dict[str, float | None], notes: str) -> bundle.Manifest:
    """Describe the model."""
    domains = tuple(
        bundle.Domain(name, losses[bundle.domain_file(name)], source.alphas.get(name))
        for name in source.experts
    )
    is_quantized = any(loss is not None for loss in losses.values())
    return bundle.Manifest(
        task="language_modeling",
        routing="top_expert" if source.common is None else "mixture",
        input="language",
        from_table=False,
        columns=(),
        n_outputs=source.n_tokens,
        classes=None,
        n_experts=len(domains),
        alpha=source.alpha,
        expert_usage=source.usage,
        validation_scores=source.scores,
        versions=_versions(),
        notes=notes,
        quantization="dynamic" if is_quantized else None,
        language=bundle.Language(
            domains,
            source.max_length,
            source.end_token,
            int(source.router.max_bytes),
            source.min_confidence,
            source.unknown,
        ),
    )


def _check_fitted(model: Any) -> None:
    from sklearn.exceptions import NotFittedError

    names = ("experts_", "router_", "tokenizer_", "max_length_")
    if isinstance(model, type) or not all(hasattr(model, name) for name in names):
        raise NotFittedError(
            "model must be a fitted ModularLanguageModel, got "
            f"{model.__name__ if isinstance(model, type) else type(model).__name__}: call fit."
        )


def _count_tokens(models: list[Any]) -> int:
    sizes = {int(model.config.vocab_size) for model in models}
    if len(sizes) > 1:
        raise ValueError(
            f"All experts must have the same number of tokens, got {sorted(sizes)}: train them "
            "with one tokenizer and one vocab_size."
        )
    return sizes.pop()


def _usage(model: Any, domains: list[str]) -> tuple[float, ...]:
    """Return the domains' shares of the training texts; equal ones if they are not known."""
    shares = getattr(model, "domain_shares_", None)
    if shares is None:
        return (1 / len(domains),) * len(domains)
    return tuple(float(shares[name]) for name in domains)


def _scores(model: Any) -> dict[str, float] | None:
    scores = getattr(model, "validation_scores_", None)
    return scores and {str(name): float(score) for name, score in scores.items()}


def _versions() -> dict[str, str]:
    import tokenizers
    import transformers

    return {
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "skmode": __version__,
        "tokenizers": tokenizers.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
