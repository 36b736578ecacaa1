"""Name the files of a bundle, limit their sizes, and state the interfaces of its graphs."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from skmode_deploy.bundle.graph_check import LENGTH, GraphValue
from skmode_deploy.bundle.manifest import MANIFEST, Classes, Column, File, Manifest
from skmode_deploy.errors import (
    FileSizeError,
    GraphInterfaceError,
    LimitError,
    MissingFileError,
    UnsafeNameError,
)

MODEL = "model.onnx"
GATE = "gate.onnx"
ROUTER = "router.onnx"
COMMON = "common.onnx"
TOKENIZER = "tokenizer.json"
README = "README.md"
SAMPLES = "samples.json"
SIGNATURE = "model.sig"

TOKENIZER = "tokenizer.json"

IMAGE = "image"  # the graph input of a model of images

MAX_BYTES = 8 * 2**30  # of all files together
MAX_FILES = 10_000
MAX_MANIFEST_BYTES = 16 * 2**20  # 100,000 columns or experts; more would take long to parse

# Outputs of model.onnx and gate.onnx. A graph must not have an input of the same name.
_OUTPUTS = (
    "label",
    "probabilities",
    "variable",
    "expert",
    "gate_probability",
    "gate_probabilities",
    "hidden",
)

# Safe on every operating system, except for the names of Windows devices.
_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_PLAIN_DOMAIN = re.compile("[A-Za-z0-9_-]{1,100}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_RESERVED = (MANIFEST, SIGNATURE)


def expert_name(expert: int) -> str:
    """Return the name of an expert's file.

    Parameters
    ----------
    expert : int
        Number of the expert.

    Returns
    -------
    str
        Name of its file in a bundle.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> bundle.expert_name(3)
    'expert_3.onnx'
    """
    return f"expert_{expert}.onnx"


def domain_file(domain: str) -> str:
    """Return the name of the file of a language model's expert.

    Parameters
    ----------
    domain : str
        Name of the domain.

    Returns
    -------
    str
        Name of the expert's file in a bundle. Characters that a file name must not have become
        ``_``, with part of the name's SHA-256 behind them, so that the files of two domains differ.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> bundle.domain_file("de"), bundle.domain_file("C++")
    ('expert_de.onnx', 'expert_C__-f1deb75f.onnx')
    """
    if _PLAIN_DOMAIN.fullmatch(domain):
        return f"expert_{domain}.onnx"
    plain = re.sub("[^A-Za-z0-9_-]", "_", domain[:100])
    return f"expert_{plain}-{hashlib.sha256(domain.encode()).hexdigest()[:8]}.onnx"


def input_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return a graph input's name for each column of a table.

    An input has the name of its column. If that is empty, or is the name of an output or of an
    earlier input, ``_input`` is appended.

    Parameters
    ----------
    names : sequence of str
        Names of the columns.

    Returns
    -------
    tuple of str
        Names of the inputs, each different, in the order of `names`.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> bundle.input_names(["age", "label", ""])
    ('age', 'label_input', '_input')
    """
    taken = {"", *_OUTPUTS}
    inputs = []
    for name in names:
        while name in taken:
            name += "_input"
        taken.add(name)
        inputs.append(name)
    return tuple(inputs)


def text_inputs(manifest: Manifest, column: Column) -> tuple[str, str]:
    """Return the names of the two graph inputs of a column of texts.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    column : Column
        A column whose `kind` is "text".

    Returns
    -------
    tokens, counts : str
        Names of the inputs: ``tokens``, int64, and ``counts``, float32, of a model of texts; in a
        table, ``tokens_`` and ``counts_`` and the `input` of the column. Both are of shape
        (n, length), see ``skmode_deploy.running.inputs.texts.count_tokens``.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> text = bundle.Text("tokenizer.json", n_tokens=8000, max_tokens=512, max_bytes=2**20)
    >>> column = bundle.Column("review", "review", "text", "string", text=text)
    >>> manifest = bundle.Manifest(
    ...     task="regression",
    ...     routing="top_expert",
    ...     input="columns",
    ...     from_table=True,
    ...     columns=(column,),
    ...     n_outputs=1,
    ...     classes=None,
    ...     n_experts=1,
    ...     alpha=0.0,
    ...     expert_usage=(1.0,),
    ...     validation_scores=None,
    ...     versions={},
    ... )
    >>> bundle.text_inputs(manifest, column)
    ('tokens_review', 'counts_review')
    """
    end = "" if manifest.input == "text" else f"_{column.input}"
    return f"tokens{end}", f"counts{end}"


def graph_interface(manifest: Manifest, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of a graph's inputs and outputs.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    name : str
        Name of the graph's file.

    Returns
    -------
    inputs, outputs : tuple of str
        Names in the order of the graph.

    Raises
    ------
    GraphInterfaceError
        If a bundle has no graph of this name.

    See Also
    --------
    graph_values : With types and shapes.
    """
    inputs, outputs = graph_values(manifest, name)
    return tuple(value.name for value in inputs), tuple(value.name for value in outputs)


def graph_values(
    manifest: Manifest, name: str
) -> tuple[tuple[GraphValue, ...], tuple[GraphValue, ...]]:
    """Return names, types and shapes of a graph's inputs and outputs.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    name : str
        Name of the graph's file.

    Returns
    -------
    inputs, outputs : tuple of GraphValue
        Names, element types and shapes, in the order of the graph. In shapes, "n" stands for the
        number of rows, "length" for any number of tokens, and "width" for the width of the
        experts' input, which is the same for all graphs of a bundle. The sizes of a language
        model's cache, "layers", "heads" and "head_dim", belong to each expert.

    Raises
    ------
    GraphInterfaceError
        If a bundle has no graph of this name.
    """
    if manifest.language is not None:
        return _language_values(manifest, name)
    inputs = _inputs(manifest)
    output = "variable" if manifest.classes is None else "probabilities"
    value = GraphValue(output, "float32", ("n", manifest.n_outputs))
    hidden = GraphValue("hidden", "float32", ("n", "width"))
    expert = GraphValue("expert", "int64", ("n",))
    if name == MODEL:
        certainty = GraphValue("gate_probability", "float32", ("n",))
        return inputs, (*_label(manifest.classes), value, expert, certainty)
    if name == GATE:
        gate = GraphValue("gate_probabilities", "float32", ("n", manifest.n_experts))
        return inputs, (gate, expert, hidden)
    number = re.fullmatch(r"expert_(0|[1-9][0-9]{0,17})\.onnx", name)
    if number and int(number[1]) < manifest.n_experts:
        return (hidden,), (value,)
    raise GraphInterfaceError(
        f"The graphs of a bundle must be {MODEL}, {GATE} and {expert_name(0)} to "
        f"{expert_name(manifest.n_experts - 1)}, got {name!r}: export the model again."
    )


def _language_values(
    manifest: Manifest, name: str
) -> tuple[tuple[GraphValue, ...], tuple[GraphValue, ...]]:
    """State the inputs and outputs of a language model's graphs."""
    assert manifest.language is not None
    if name == ROUTER:
        return (
            (GraphValue("bytes", "uint8", ("n", "n")), GraphValue("lengths", "int64", ("n",))),
            (
                GraphValue("probabilities", "float32", ("n", manifest.n_experts)),
                GraphValue("domain", "int64", ("n",)),
                GraphValue("confidence", "float64", ("n",)),
            ),
        )
    experts = language_experts(manifest)
    if name not in experts:
        raise GraphInterfaceError(
            f"The graphs of a language model must be {ROUTER} and {', '.join(experts[:10])}, got "
            f"{name!r}: export the model again."
        )
    cache = ("layers", 2, "n", "heads", "n", "head_dim")
    return (
        (GraphValue("tokens", "int64", ("n", "n")), GraphValue("past", "float32", cache)),
        (
            GraphValue("logits", "float32", ("n", "n", manifest.n_outputs)),
            GraphValue("present", "float32", cache),
        ),
    )


def language_experts(manifest: Manifest) -> list[str]:
    """List the files of a language model's experts, the common one last."""
    assert manifest.language is not None
    names = [domain_file(name) for name in manifest.language.names]
    return [*names, COMMON] if manifest.routing == "mixture" else names


def _inputs(manifest: Manifest) -> tuple[GraphValue, ...]:
    """State the inputs of the model and of its gate."""
    image = manifest.image
    if image is not None:
        return (GraphValue(IMAGE, image.dtype, ("n", *image.shape)),)
    width = len(manifest.columns) if manifest.input == "array" else 1
    values: dict[str, GraphValue] = {}
    for column in manifest.columns:
        if column.kind == "text":
            tokens, counts = text_inputs(manifest, column)
            values[tokens] = GraphValue(tokens, "int64", ("n", LENGTH))
            values[counts] = GraphValue(counts, "float32", ("n", LENGTH))
        elif column.image is not None:
            pixels = GraphValue(column.input, column.dtype, ("n", *column.image.shape))
            values[column.input] = pixels
        else:
            values[column.input] = GraphValue(column.input, column.dtype, ("n", width))
    return tuple(values.values())


def _label(classes: Classes | None) -> tuple[GraphValue, ...]:
    """State the output `label`, which regressors lack."""
    if classes is None:
        return ()
    strings = classes.label == "value" and isinstance(classes.values[0], str)
    return (GraphValue("label", "string" if strings else "int64", ("n",)),)


def check_max_bytes(max_bytes: Any) -> None:
    """Check a limit that a caller passed."""
    whole = isinstance(max_bytes, int | np.integer) and not isinstance(max_bytes, bool)
    if not whole or max_bytes < 1:
        raise ValueError(
            f"max_bytes must be an integer of at least 1, got {max_bytes!r}: pass a number of "
            f"bytes, such as {MAX_BYTES}."
        )


def check_limits(manifest: Manifest, max_bytes: int) -> None:
    """Check the number of files, and the sum of their sizes, that a manifest states."""
    if len(manifest.files) > MAX_FILES:
        raise LimitError(
            f"A bundle must have at most {MAX_FILES} files, got {len(manifest.files)}: export a "
            "model with fewer experts."
        )
    total = sum(file.size for file in manifest.files.values())
    if total > max_bytes:
        raise LimitError(
            f"The files of a bundle must have at most {max_bytes} bytes in total, got {total}: "
            "pass a larger max_bytes if you trust the bundle."
        )


def check_size(name: str, size: int, expected: File) -> None:
    """Compare the size of a file with the one that the manifest states."""
    if size != expected.size:
        raise FileSizeError(
            f"{name} must have the {expected.size} bytes that {MANIFEST} states, got {size}: "
            "copy the whole bundle again."
        )


def check_manifest_size(size: int) -> None:
    """Raise for a manifest that would take long to parse."""
    if size > MAX_MANIFEST_BYTES:
        raise LimitError(
            f"{MANIFEST} must have at most {MAX_MANIFEST_BYTES} bytes, got more: pass the folder "
            "of a bundle that skmode.onnx.export wrote, or export a model with fewer columns, "
            "categories, classes and experts."
        )


def check_names(names: Iterable[str]) -> None:
    """Check that file names are plain, and differ even if case is ignored."""
    seen: dict[str, str] = {}
    for name in names:
        check_name(name)
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UnsafeNameError(
                "The files of a bundle must have names that differ even if case is ignored, got "
                f"{other!r} and {name!r}: export the model again."
            )


def check_name(name: str) -> None:
    """Check that a file name is plain: it must not lead elsewhere on any system."""
    plain = _NAME.fullmatch(name) and not name.endswith(".") and not _DEVICES.fullmatch(name)
    if not plain or name.lower() in _RESERVED:
        raise UnsafeNameError(
            "A file of a bundle must have a plain name, without a folder (letters, digits, '_', "
            f"'-' and '.'; not {MANIFEST} or {SIGNATURE}), got {name[:300]!r}: export the model "
            "again."
        )


def check_complete(manifest: Manifest) -> None:
    """Check that there is a model, gate and experts together or not at all, and tokenizers."""
    if manifest.language is not None:
        needed = {ROUTER, TOKENIZER, *language_experts(manifest)}
        if lacking := sorted(needed - manifest.files.keys()):
            raise MissingFileError(
                f"A language model must have {ROUTER}, {TOKENIZER} and a file for each expert, got "
                f"one without {', '.join(lacking[:10])}: export the model again."
            )
        return
    parts = {GATE, *map(expert_name, range(manifest.n_experts))}
    found = parts & manifest.files.keys()
    if MODEL not in manifest.files or (found and found != parts):
        lacking = sorted(({MODEL} | (parts if found else set())) - manifest.files.keys())
        raise MissingFileError(
            f"A bundle must have {MODEL}, and {GATE} with all experts or none of them, got one "
            f"without {', '.join(lacking[:10])}: export the model again."
        )
    for column in manifest.text_columns:
        if column.text is not None and column.text.tokenizer not in manifest.files:
            raise MissingFileError(
                "A bundle must have the tokenizers of its texts, got one without "
                f"{column.text.tokenizer}: export the model again."
            )
