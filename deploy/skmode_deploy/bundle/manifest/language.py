"""What a manifest says of a modular language model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Domain:
    """A domain of a language model, which has an expert of its own.

    Attributes
    ----------
    name : str
        Name of the domain.
    quantization_loss : float or None
        How many bits per byte the expert lost by 8-bit weights. None if its weights are not
        quantized.
    alpha : float, str or None
        Weight of the teacher's loss in the training of the expert: a number, or the name of the
        rule or schedule that set it. None if no teacher taught the expert, or if that is not known;
        then the JSON text has no such field.
    """

    name: str
    quantization_loss: float | None = None
    alpha: float | str | None = None


@dataclass(frozen=True)
class Language:
    """The domains of a modular language model, and the limits of its graphs.

    Attributes
    ----------
    domains : tuple of Domain
        Domains in the order of the router's probabilities.
    max_length : int
        Number of positions: the most tokens that an expert reads at a time.
    end_token : int
        Token that ends a text.
    router_bytes : int
        Number of bytes of a text that the router reads; the rest does not count.
    min_confidence : float or None
        The least confidence of the router. Below it, the domain of a text is unknown. None if
        each text gets a domain.
    unknown : {"best", "common", "error"} or None
        What becomes of texts whose domain is unknown, unless ``skmode_deploy.language.load``
        is told otherwise. None is "common" if there is a common expert, else "best"; then the
        JSON text has no such field.
    """

    domains: tuple[Domain, ...]
    max_length: int
    end_token: int
    router_bytes: int
    min_confidence: float | None = None
    unknown: Literal["best", "common", "error"] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the domains."""
        return tuple(domain.name for domain in self.domains)
