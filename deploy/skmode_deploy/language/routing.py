"""Tell the domains of texts with the bundle's ``router.onnx``, and choose who reads them."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import COMMON, ROUTER, Language, Manifest
from skmode_deploy.errors import GraphInterfaceError
from skmode_deploy.running.sessions import ForkSafeSession, SessionFactory

MAX_BYTES = 2**17  # of a run, padding included

Unknown: TypeAlias = Literal["best", "common", "error"]


class Routing(NamedTuple):
    """What the router says of texts.

    Attributes
    ----------
    domain : ndarray of int64 of shape (n_texts,)
        Positions of the most probable domains; -1 where the domain is unknown.
    probabilities : ndarray of float32 of shape (n_texts, n_domains)
        Probabilities of the domains.
    confidence : ndarray of float64 of shape (n_texts,)
        Confidence of the router, which is compared with the manifest's `min_confidence`.
    """

    domain: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    confidence: NDArray[np.float64]


class Router:
    """Routes texts in batches of similar length."""

    def __init__(self, data: bytes, language: Language, sessions: SessionFactory) -> None:
        self._session = ForkSafeSession(sessions, data, ROUTER)
        self._language = language

    def route(self, texts: Sequence[str]) -> Routing:
        """Route each text."""
        limit = self._language.router_bytes
        # Cut before it is encoded: no character has less than one byte.
        contents = [text[:limit].encode()[:limit] for text in texts]
        n_domains = len(self._language.domains)
        routing = Routing(
            np.empty(len(texts), np.int64),
            np.empty((len(texts), n_domains), np.float32),
            np.empty(len(texts), np.float64),
        )
        for rows in _group(list(map(len, contents))):
            domain, probabilities, confidence = self._run([contents[row] for row in rows])
            if confidence.shape != (len(rows),) or probabilities.shape != (len(rows), n_domains):
                raise GraphInterfaceError(
                    f"{ROUTER} must return {n_domains} probabilities and a confidence for each "
                    f"text, got {probabilities.shape} and {confidence.shape}: export the model "
                    "again."
                )
            if not ((domain >= 0) & (domain < n_domains)).all():
                raise GraphInterfaceError(
                    f"{ROUTER} must choose domains from 0 to {n_domains - 1}, got others: export "
                    "the model again."
                )
            routing.domain[rows] = domain
            routing.probabilities[rows] = probabilities
            routing.confidence[rows] = confidence
        least = self._language.min_confidence
        if least is not None:
            routing.domain[~(routing.confidence >= least)] = -1
        return routing

    def _run(self, contents: Sequence[bytes]) -> list[NDArray[Any]]:
        lengths = np.array([len(content) for content in contents], np.int64)
        padded = np.zeros((len(contents), int(lengths.max())), np.uint8)
        for row, content in zip(padded, contents, strict=True):
            row[: len(content)] = np.frombuffer(content, np.uint8)
        outputs = ["domain", "probabilities", "confidence"]
        return self._session.run(outputs, {"bytes": padded, "lengths": lengths})


def _group(lengths: Sequence[int]) -> list[list[int]]:
    """Group rows of similar length, so that little of a run is padding."""
    groups: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not groups or (len(groups[-1]) + 1) * longest > MAX_BYTES:
            groups.append([])
            longest = lengths[row]
        groups[-1].append(row)
    return groups


def choose_policy(unknown: Any, manifest: Manifest) -> Unknown:
    """Check the policy for unknown domains, or choose the default."""
    assert manifest.language is not None
    has_common = manifest.routing == "mixture"
    if unknown is None:
        unknown = manifest.language.unknown
    if unknown is None:
        return "common" if has_common else "best"
    if unknown not in ("best", "common", "error"):
        raise ValueError(
            f'unknown must be "best", "common", "error" or None, got {unknown!r}: choose one.'
        )
    if unknown == "common" and not has_common:
        raise ValueError(
            f'unknown="common" needs a bundle with {COMMON}, which this one lacks: pass "best" or '
            '"error".'
        )
    policy: Unknown = unknown
    return policy


def choose_experts(routing: Routing, unknown: Unknown, language: Language) -> list[int]:
    """Return who reads each text: the position of a domain, or -1 for the common expert alone."""
    if unknown == "best":
        return [int(i) for i in routing.probabilities.argmax(axis=1)]
    chosen: list[int] = routing.domain.tolist()
    if unknown == "error" and -1 in chosen:
        at = chosen.index(-1)
        best = language.names[int(routing.probabilities[at].argmax())]
        raise ValueError(
            f"The domain of a text must be known, but that of text {at} is not: the router's "
            f"confidence is {routing.confidence[at]:.4g}, below "
            f"{language.min_confidence:.4g}. The most probable is {best!r}. Name the "
            'domain, or load the model with unknown="best".'
        )
    return chosen
