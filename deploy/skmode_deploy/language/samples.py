"""Sample texts of a language model with its predictions, to check a bundle against.

``samples.json`` is JSON::

    {"texts": ["The first text.", ...],
     "tokens": [[5, 17, ...], ...],
     "probabilities": [[0.9, 0.1], ...],
     "bits_per_byte": {"expert_de.onnx": [2.31, ...], ...},
     "tolerance": 0.001}

`probabilities` are the router's. `bits_per_byte` are those of each expert alone. `tolerance` is
their largest allowed difference; that of the probabilities is 1e-4. The texts are made up, not of
training.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import numpy as np

from skmode_deploy import bundle
from skmode_deploy.bundle import SAMPLES, Manifest
from skmode_deploy.bundle.messages import as_sentence, short_repr, shorten
from skmode_deploy.errors import (
    BundleError,
    LimitError,
    SampleFormatError,
    SampleMismatchError,
)
from skmode_deploy.language.model import LanguageModel

MAX_BYTES = 2**24
MAX_TEXTS = 1000
PROBABILITY_TOLERANCE = 1e-4


@dataclass(frozen=True)
class TextSamples:
    """Sample texts and predictions.

    Attributes
    ----------
    texts : list of str
        Texts.
    tokens : list of list of int
        Tokens of each text.
    probabilities : list of list of float
        The router's probabilities of each text.
    bits_per_byte : dict of list of float
        For the file of each expert, the bits per byte of each text.
    tolerance : float
        Largest difference of bits per byte.
    """

    texts: list[str]
    tokens: list[list[int]]
    probabilities: list[list[float]]
    bits_per_byte: Mapping[str, list[float]]
    tolerance: float

    def to_json(self) -> bytes:
        """Return the content of ``samples.json``.

        Returns
        -------
        bytes
            JSON text in ASCII, with a line feed at the end.
        """
        return (json.dumps(asdict(self), allow_nan=False) + "\n").encode()


def read_text_samples(path: str, manifest: Manifest) -> TextSamples | None:
    """Read the sample texts of a bundle.

    Parameters
    ----------
    path : str
        Folder of the bundle.
    manifest : Manifest
        Its manifest.

    Returns
    -------
    TextSamples or None
        Texts and predictions. None if the bundle has no samples.

    Raises
    ------
    BundleError
        If the file is too large, was changed, or does not fit the manifest.
    """
    if SAMPLES not in manifest.files:
        return None
    if manifest.files[SAMPLES].size > MAX_BYTES:
        raise LimitError(
            f"{SAMPLES} must have at most {MAX_BYTES} bytes, got {manifest.files[SAMPLES].size}: "
            "export the model again."
        )
    try:
        document = json.loads(bundle.read_file(path, manifest, SAMPLES).decode("ascii"))
        samples = TextSamples(**document)
        return _checked(samples, manifest)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        _refuse("be the JSON of sample texts", f"{type(error).__name__}: {shorten(str(error))}")


def _checked(samples: TextSamples, manifest: Manifest) -> TextSamples:
    n_texts = len(samples.texts)
    if not 1 <= n_texts <= MAX_TEXTS or not all(isinstance(t, str) and t for t in samples.texts):
        _refuse(f"have 1 to {MAX_TEXTS} texts", n_texts)
    for row in samples.tokens:
        if not all(type(token) is int and 0 <= token < manifest.n_outputs for token in row):
            _refuse(f"have tokens from 0 to {manifest.n_outputs - 1}", row)
    probabilities = np.asarray(samples.probabilities, np.float64)
    if probabilities.shape != (n_texts, manifest.n_experts) or len(samples.tokens) != n_texts:
        _refuse(f"have tokens and {manifest.n_experts} probabilities for each text", n_texts)
    experts = bundle.layout.language_experts(manifest)
    bits = np.asarray([samples.bits_per_byte.get(name, []) for name in experts], np.float64)
    if bits.shape != (len(experts), n_texts) or len(samples.bits_per_byte) != len(experts):
        _refuse(f"have bits per byte of {experts} for each text", sorted(samples.bits_per_byte))
    if not np.isfinite(samples.tolerance):
        _refuse("have a finite tolerance", samples.tolerance)
    return samples


def _refuse(rule: str, value: object) -> NoReturn:
    raise SampleFormatError(
        f"{SAMPLES} must {rule}, got {short_repr(value)}: export the model again."
    )


def check_samples(model: LanguageModel) -> int:
    """Check that a model predicts for its sample texts what the exported model predicted.

    Parameters
    ----------
    model : LanguageModel
        Model to check. All of its experts are loaded, one after the other.

    Returns
    -------
    int
        Number of texts that were checked; 0 if the bundle has none.

    Raises
    ------
    SampleMismatchError
        If tokens, probabilities or bits per byte differ by more than the tolerance, or if
        onnxruntime fails.
    BundleError
        If the samples cannot be read.

    Examples
    --------
    >>> from skmode_deploy import language
    >>> language.check_samples(language.load("no-such-folder"))
    Traceback (most recent call last):
    skmode_deploy.errors.MissingFileError: A bundle must be a folder with a manifest.json, ...
    """
    samples = read_text_samples(model.path, model.manifest)
    if samples is None:
        return 0
    try:
        _compare(model, samples)
    except (BundleError, MemoryError):
        raise
    except Exception as error:  # onnxruntime has its own types of errors
        raise SampleMismatchError(
            f"The texts of {SAMPLES} must get the predictions of the export, got "
            f"{type(error).__name__}: {shorten(as_sentence(error))} Upgrade onnxruntime, or export "
            "the model again."
        ) from error
    return len(samples.texts)


def _compare(model: LanguageModel, samples: TextSamples) -> None:
    for i, (text, tokens) in enumerate(zip(samples.texts, samples.tokens, strict=True)):
        if model.tokenize(text) != tokens:
            _fail(f"tokens of text {i}", tokens, model.tokenize(text))
    found = model.route_full(samples.texts).probabilities
    _compare_numbers("probabilities", found, samples.probabilities, PROBABILITY_TOLERANCE)
    for name, expected in samples.bits_per_byte.items():
        bits = model.score_file(samples.texts, name)
        _compare_numbers(f"bits per byte of {name}", bits, expected, samples.tolerance)


def _compare_numbers(what: str, found: Any, expected: Any, tolerance: float) -> None:
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
    if not (difference <= tolerance).all():  # also where it is NaN
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        at = np.unravel_index(worst, difference.shape)
        place = f"{what} at {', '.join(map(str, at))}"
        _fail(place, f"{np.asarray(expected)[at]:.6g} within {tolerance:g}", f"{found[at]:.6g}")


def _fail(what: str, rule: object, found: object) -> NoReturn:
    raise SampleMismatchError(
        f"The texts of {SAMPLES} must get the predictions of the export; {what} must be "
        f"{short_repr(rule)}, got {short_repr(found)}: export the model again, or serve it with "
        "the onnxruntime release that the manifest states, on the CPU."
    )
