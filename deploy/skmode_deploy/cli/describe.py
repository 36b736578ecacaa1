"""Describe a bundle in lines of text."""

from collections.abc import Iterator, Sequence
from typing import Any

from skmode_deploy.bundle import IMAGE, Column, Manifest
from skmode_deploy.bundle.card import describe_image, describe_text, list_refusals


def describe(manifest: Manifest) -> Iterator[str]:
    """Yield the lines that ``inspect`` prints."""
    if manifest.language is not None:
        yield from _describe_language(manifest)
        return
    yield f"task        {manifest.task}, {manifest.routing.replace('_', ' ')} routing"
    if manifest.classes is not None:
        yield f"classes     {_join(manifest.classes.values)}"
    elif manifest.n_outputs > 1:
        yield f"outputs     {manifest.n_outputs}"
    yield f"experts     {manifest.n_experts}, alpha {manifest.alpha:g}"
    yield f"usage       {_join(f'{share:.1%}' for share in manifest.expert_usage)}"
    if manifest.validation_scores:
        scores = manifest.validation_scores.items()
        yield f"scores      {_join(f'{name} {score:.4f}' for name, score in scores)} (validation)"
    yield from _describe_export(manifest)
    yield ""
    if manifest.image is not None:
        yield f"images      {describe_image(manifest.image)}"
        axes = ", ".join(manifest.image.layout)
        yield f"input       {IMAGE}, {manifest.image.dtype} (n, {axes})"
    elif manifest.input == "text":
        yield f"texts       {describe_text(manifest.columns[0])}"
        yield "inputs      tokens, int64, and counts, float32 (n, length)"
    else:
        by = "by name" if manifest.from_table else "by position"
        yield f"columns     {len(manifest.columns)}, {by}"
        yield from _describe_columns(manifest.columns)
    yield ""
    yield from _describe_files(manifest)


def _describe_language(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a language model."""
    language = manifest.language
    assert language is not None
    yield f"task        language modeling, {len(language.domains)} domains"
    if manifest.routing == "mixture":
        yield "common      the logits of the common expert are averaged with those of the domain's"
    yield f"tokens      {manifest.n_outputs}, at most {language.max_length} of them at a time"
    least = language.min_confidence
    yield f"unknown     {'never' if least is None else f'below a confidence of {least:.4g}'}"
    if manifest.validation_scores:
        scores = manifest.validation_scores.items()
        yield f"scores      {_join(f'{name} {score:.4f}' for name, score in scores)}"
    yield from _describe_export(manifest)
    yield ""
    yield "domains"
    width = min(max(len(domain.name) for domain in language.domains), 40)
    for domain, share in zip(language.domains, manifest.expert_usage, strict=True):
        loss = domain.quantization_loss
        weights = "" if loss is None else f"  8 bits, {loss:+.4f} bits per byte"
        taught = "" if domain.alpha is None else f"  alpha {domain.alpha}"
        yield f"  {domain.name:<{width}}  {share:>6.1%}{weights}{taught}"
    yield ""
    yield from _describe_files(manifest)


def _describe_export(manifest: Manifest) -> Iterator[str]:
    if manifest.quantization:
        yield f"quantized   {manifest.quantization}"
    yield f"created     {manifest.created}"
    yield f"versions    {_join(f'{name} {text}' for name, text in manifest.versions.items())}"
    for i, line in enumerate(manifest.notes.splitlines()):
        yield f"{'' if i else 'notes':<12}{line}"


def _describe_files(manifest: Manifest) -> Iterator[str]:
    yield f"files       {len(manifest.files)}"
    width = max(map(len, manifest.files), default=0)
    for name, file in manifest.files.items():
        yield f"  {name:<{width}}  {file.size:>12,} bytes"


def _describe_columns(columns: Sequence[Column]) -> Iterator[str]:
    width = min(max(len(column.name) for column in columns), 40)
    for column in columns:
        if column.kind == "category":
            what = f"{len(column.categories or ())} known: {_join(column.categories or ())}"
        elif column.minimum is not None and column.maximum is not None:
            what = f"{column.minimum:g} to {column.maximum:g}"
        elif column.image is not None:
            what = describe_image(column.image)
        else:
            what = describe_text(column) if column.kind == "text" else ""
        missing = "may be missing" if column.has_missing else ""
        parts = filter(None, (what, missing, *list_refusals(column)))
        yield f"  {column.name:<{width}}  {column.kind:<8}  {column.dtype:<7}  {'; '.join(parts)}"


def _join(values: Any) -> str:
    texts = list(map(str, values))
    shown = ", ".join(texts[:20])
    return shown if len(texts) <= 20 else f"{shown} and {len(texts) - 20} more"
