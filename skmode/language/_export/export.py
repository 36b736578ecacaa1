"""Export a modular language model as a bundle, or one of its domains into a bundle."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal

import numpy as np
import onnx

from skmode.language._export.experts import convert_expert, serialize
from skmode.language._export.parity import TOLERANCE, find_difference, open_session
from skmode.language._export.quantization import LossMeter
from skmode.language._export.quantization import quantize as reduce_to_8_bits
from skmode.language._export.router import build_router
from skmode.language._export.samples import make_samples
from skmode.language._export.source import Source, make_manifest, read_model
from skmode_deploy import bundle
from skmode_deploy.language import check_samples, load
from skmode_deploy.language.samples import TextSamples, read_text_samples

Path = str | os.PathLike[str]


def export(
    model: Any,
    directory: Path,
    *,
    only: Sequence[str] | None = None,
    base: Path | None = None,
    quantize: Literal["dynamic"] | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    notes: str = "",
) -> None:
    """Write a modular language model as a bundle of ONNX files.

    The bundle holds:

    - ``router.onnx``: from the bytes of texts to the probabilities of the domains;
    - ``expert_<domain>.onnx`` for each domain, and ``common.onnx`` if there is a common expert:
      from tokens and a cache to logits and the new cache;
    - ``tokenizer.json``: the tokenizer, as the package tokenizers writes it;
    - ``manifest.json``: a description of the model, with the size and hash of each file;
    - ``README.md``: a model card, the same description for people;
    - ``samples.json``: a few texts, none of training, with the model's predictions.

    `skmode_deploy.language.load` opens a bundle. The graphs use only the operators of ``ai.onnx``.
    The same model gives the same bytes if the environment variable ``SOURCE_DATE_EPOCH`` fixes the
    time in the manifest.

    Parameters
    ----------
    model : ModularLanguageModel
        A fitted model.
    directory : path
        Folder to write. It must be new, empty or a bundle; an existing bundle is replaced as a
        whole once the new one is complete.
    only : sequence of str or None, default=None
        Domains whose experts are written. All other experts, and the tokenizer, are those of the
        bundle `base`, byte for byte; the router is too, unless that of the model differs, as it
        does when a domain was added. So the model must still have those experts: one that was
        replaced after `base` was written must be named too. None writes all.
    base : path or None, default=None
        Bundle to take the other files from, with `only`. None is `directory`. For a server that
        keeps versions, write a new version from the one before: ``export(model, "models/lm/2",
        only=["de"], base="models/lm/1")``; ``skmode-deploy rollback`` returns to the old one.
    quantize : {"dynamic"} or None, default=None
        ``"dynamic"`` reduces the weights of the experts that are written to 8 bits. The manifest
        and ``README.md`` state what each lost in bits per byte.
    texts : mapping from str to sequence of str, or None, default=None
        Texts of each domain to measure that loss on. For domains without texts, it is measured on
        texts that the expert itself writes.
    notes : str, default=""
        Free text for the manifest and ``README.md``.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    ValueError
        If a parameter has an invalid value, if the graph of an expert differs from the model by
        more than 1e-5 of its largest logit, or if the bundle `base` does not fit the model: it has
        other domains, another tokenizer, or another expert than the model where it is to be kept,
        or if it was replaced by another export meanwhile.
    TypeError
        If an expert cannot be converted to ONNX.
    FileExistsError
        If `directory` is not empty and not a bundle.

    Notes
    -----
    Experts take at most `max_length_` tokens; the runtime refuses more. The first export of an
    architecture takes some seconds. Later ones take its graph, and put the weights of each expert
    into it. Each graph is compared with its model, for texts that are read at once, token by token,
    and in other parts.

    Examples
    --------
    >>> from skmode.language import export
    >>> export(object(), "bundle")
    Traceback (most recent call last):
    sklearn.exceptions.NotFittedError: model must be a fitted ModularLanguageModel, got object: ...
    """
    _check_options(quantize, texts, notes, only, base)
    only = None if only is None else list(only)
    source = read_model(model)
    texts = _read_texts(texts, source)
    former = None if only is None else _Former(directory if base is None else base, source, only)
    chosen = _choose(source, only)
    losses: dict[str, float | None] = dict.fromkeys(source.models())
    if former is not None:
        losses |= former.losses
    files, quantized = {}, {}
    meter = LossMeter(source.text_tokenizer, source.max_length, source.end_token)
    by_file = {bundle.domain_file(name): own for name, own in texts.items()}
    for name, expert in chosen.items():
        graph = _convert(expert, name, source.max_length)
        files[name] = serialize(graph, name)
        losses[name] = None
        if quantize is not None:
            quantized[name] = reduce_to_8_bits(graph, name)
            losses[name] = meter.measure(files[name], quantized[name], name, by_file.get(name))
    files |= quantized
    files[bundle.TOKENIZER] = source.tokenizer
    files[bundle.ROUTER] = serialize(build_router(source.router), bundle.ROUTER)
    if former is not None:
        kept = source.models().keys() - chosen.keys()
        files = {**former.files(kept), **files}
        # What the model's own experts say, in the same number of bits.
        quantized |= {
            name: reduce_to_8_bits(_convert(source.models()[name], name, source.max_length), name)
            for name in kept
            if losses[name] is not None
        }
    samples = make_samples(
        source, quantized, any_8_bits=any(loss is not None for loss in losses.values())
    )
    if former is not None:
        samples = former.keep_samples(samples, kept)
    _write(directory, make_manifest(source, losses, notes), files, samples, former)


def _write(
    directory: Path,
    manifest: bundle.Manifest,
    files: dict[str, bytes],
    samples: TextSamples,
    former: _Former | None,
) -> None:
    """Check the bundle in a folder of its own as a server would, then put it in place."""
    files[bundle.SAMPLES] = samples.to_json()
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(folder, manifest, files)
        check_samples(load(folder, providers=("CPUExecutionProvider",), max_loaded_experts=1))
    if former is not None:
        former.check_unchanged(directory)
    bundle.write(directory, manifest, files)


def _convert(expert: Any, name: str, max_length: int) -> onnx.ModelProto:
    """Convert an expert with the graph of its architecture, or else with its own."""
    for trace_anew in (False, True):
        graph = convert_expert(expert, name, trace_anew=trace_anew)
        session = open_session(serialize(graph, name), name)
        difference = find_difference(session, expert, max_length)
        if difference <= TOLERANCE:
            return graph
    raise ValueError(
        f"The graph of {name} must give the logits of its model within {TOLERANCE:g} of the "
        f"largest one, got a difference of {difference:.3g}: use another architecture, "
        "such as GPT-2 or Llama."
    )


def _choose(source: Source, only: Sequence[str] | None) -> dict[str, Any]:
    """Choose the experts that are written."""
    models = source.models()
    if only is None:
        return models
    unknown = [name for name in only if name not in source.experts]
    if unknown or not only:
        raise ValueError(
            f"only must be domains of the model, {list(source.experts)}, got {list(only)}: pass "
            "one or more of these, or None for all."
        )
    names = {bundle.domain_file(name) for name in only}
    return {name: model for name, model in models.items() if name in names}


def _read_texts(texts: Mapping[str, Sequence[str]] | None, source: Source) -> dict[str, list[str]]:
    """Check the texts to measure on: without any, a loss of 0 would be stated."""
    read = {name: list(own) for name, own in (texts or {}).items()}
    for name, own in read.items():
        if name not in source.experts:
            raise ValueError(
                f"texts must be of domains of the model, {list(source.experts)}, got {name!r}: use "
                "these names."
            )
        if not own or not all(isinstance(text, str) and text for text in own):
            raise ValueError(
                f"texts must have strings that are not empty for each domain, got others for "
                f"{name!r}: pass some, or leave the domain out."
            )
    return read


class _Former:
    """The bundle that the other files are taken from."""

    def __init__(self, directory: Path, source: Source, only: Sequence[str]) -> None:
        self._directory = os.fspath(directory)
        self._manifest = bundle.verify(directory)
        language = self._manifest.language
        if language is None:
            self._refuse("hold a language model", "one for rows or images")
        assert language is not None
        kept = [name for name in source.experts if name not in only]
        missing = [name for name in kept if name not in language.names]
        if missing:
            self._refuse(f"have the domains {kept}", f"one without {missing}")
        gone = [name for name in language.names if name not in source.experts]
        if gone:
            self._refuse(f"have no domains but those of the model, {list(source.experts)}", gone)
        if bundle.read_file(directory, self._manifest, bundle.TOKENIZER) != source.tokenizer:
            self._refuse("have the tokenizer of the model", "another one")
        stated = (language.max_length, self._manifest.n_outputs, bundle.COMMON in self._files)
        wanted = (source.max_length, source.n_tokens, source.common is not None)
        if stated != wanted:
            self._refuse(f"have max_length, tokens and common expert {wanted}", stated)
        self.losses: dict[str, float | None] = {
            bundle.domain_file(domain.name): domain.quantization_loss for domain in language.domains
        }

    @property
    def _files(self) -> Mapping[str, bundle.File]:
        return self._manifest.files

    def files(self, names: set[str]) -> dict[str, bytes]:
        """Read the files of experts."""
        return {name: bundle.read_file(self._directory, self._manifest, name) for name in names}

    def keep_samples(self, samples: TextSamples, names: Set[str]) -> TextSamples:
        """Take what the bundle states of experts; refuse if those of the model are others."""
        stated = read_text_samples(self._directory, self._manifest)
        if stated is None or stated.texts != samples.texts:
            return samples
        for name in sorted(names):
            own, former = samples.bits_per_byte[name], stated.bits_per_byte[name]
            if not np.allclose(own, former, rtol=0, atol=samples.tolerance):
                raise ValueError(
                    "With only=..., experts that are not named must be those of the bundle in "
                    f"{self._directory!r}, but {name} of the model is another one, replaced since "
                    "that bundle was written: name its domain in only too, or export the whole "
                    "model."
                )
        kept = {name: list(stated.bits_per_byte[name]) for name in names}
        return dataclasses.replace(samples, bits_per_byte={**samples.bits_per_byte, **kept})

    def check_unchanged(self, directory: Path) -> None:
        """Refuse to undo what another export has written in place meanwhile."""
        if not os.path.isdir(directory) or not os.path.samefile(directory, self._directory):
            return
        if bundle.read(directory).file_hash() != self._manifest.file_hash():
            raise ValueError(
                "With only=..., the bundle must stay as it is until the export is done, but that "
                f"in {self._directory!r} was replaced meanwhile: export again, one after the other."
            )

    def _refuse(self, rule: str, found: object) -> None:
        raise ValueError(
            f"With only=..., the bundle in {self._directory!r} must {rule}, got {found}: export "
            "the whole model."
        )


def _check_options(quantize: Any, texts: Any, notes: Any, only: Any, base: Any) -> None:
    if quantize not in (None, "dynamic"):
        raise ValueError(
            f'quantize must be None or "dynamic", got {quantize!r}: choose one of these.'
        )
    if isinstance(only, str):
        raise TypeError(f"only must be a list of domains, got {only!r}: pass [{only!r}].")
    if base is not None and only is None:
        raise ValueError("base needs only, got None: name the domains to write.")
    if not isinstance(notes, str):
        raise TypeError(f"notes must be a str, got {notes!r}: pass a string.")
    if texts is not None and (
        not isinstance(texts, Mapping) or any(isinstance(own, str) for own in texts.values())
    ):
        raise TypeError(
            f"texts must be lists of texts by domain, got {type(texts).__name__}: pass for example "
            '{"de": ["Ein Text."]}.'
        )
