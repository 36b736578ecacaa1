"""Choose how the rows of a call become the inputs of a graph."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import MODEL, Manifest, graph_interface
from skmode_deploy.running.inputs.columns import Array
from skmode_deploy.running.inputs.images import ImageReader
from skmode_deploy.running.inputs.tables import TableReader
from skmode_deploy.running.inputs.texts import TextReader, TokenReader
from skmode_deploy.running.inputs.texts.encoding import Part

ReadFile = Callable[[str], bytes]

# Numbers of all images of a run: convolutions make a hundred bytes and more of each. Larger runs
# are no faster.
MAX_PIXEL_VALUES = 2**18


class InputReader(Protocol):
    """Converts the rows of a call to graph inputs, as the manifest describes them."""

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert rows to arrays, by input."""

    def parts(self, X: Any) -> Iterator[Part]:
        """Convert rows in parts, each with the positions of its rows; None stands for all."""

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the string that UTF-8 cannot encode; onnxruntime's error does not name it."""

    def check_known(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the first value that training did not have, whether it is refused or not."""


def open_reader(
    manifest: Manifest, max_rows: int | None = None, read: ReadFile | None = None
) -> InputReader:
    """Make the reader for the inputs of a model; texts need `read`, which returns a file."""
    if manifest.image is not None:
        return ImageReader(manifest.image, max_rows)
    if not manifest.text_columns:
        return TableReader(manifest, max_rows)
    if read is None:
        raise ValueError(
            "read must return the files of a bundle whose columns hold texts, got None: pass a "
            "function that returns the content of tokenizer.json."
        )
    return TokenReader(_open_string_reader(manifest, max_rows), manifest, read)


def _open_string_reader(manifest: Manifest, max_rows: int | None) -> TextReader | TableReader:
    """Make the reader of rows whose texts stay strings."""
    if manifest.input == "text":
        return TextReader(manifest.columns[0], max_rows)
    return TableReader(manifest, max_rows)


def compute_in_parts(
    reader: InputReader, X: Any, compute: Callable[[dict[str, Array]], list[Array]]
) -> list[Array]:
    """Compute outputs part by part, and put their rows into the order of `X`."""
    parts = (part for each in reader.parts(X) for part in _split_images(*each))
    computed = [(rows, compute(feeds)) for rows, feeds in parts]
    if len(computed) == 1:
        return computed[0][1]
    order = np.argsort(np.concatenate([rows for rows, _ in computed if rows is not None]))
    outputs = zip(*(outputs for _, outputs in computed), strict=True)
    return [np.concatenate(output)[order] for output in outputs]


def _split_images(rows: NDArray[np.int64] | None, feeds: dict[str, Array]) -> Iterator[Part]:
    """Part rows with many pixels; only images have more than two axes."""
    images = [array for array in feeds.values() if array.ndim > 2]
    n_rows = len(images[0]) if images else 0
    n_values = sum(math.prod(array.shape[1:]) for array in images)
    if n_rows * n_values <= MAX_PIXEL_VALUES:
        yield rows, feeds
        return
    rows = np.arange(n_rows) if rows is None else rows
    n_at_once = max(1, MAX_PIXEL_VALUES // n_values)
    for start in range(0, n_rows, n_at_once):
        part = slice(start, start + n_at_once)
        yield rows[part], {name: array[part] for name, array in feeds.items()}


def sample_inputs(manifest: Manifest, X: Any) -> dict[str, Array]:
    """Convert rows to the inputs that ``samples.json`` holds.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    X : ndarray of shape (n_samples, n_features), table, mapping of columns, images or texts
        Rows, as :meth:`skmode_deploy.Predictor.predict` takes them.

    Returns
    -------
    dict of ndarray
        The inputs of ``model.onnx``, in its order, as :func:`graph_inputs` returns them, but texts
        as strings of shape (n_samples, 1), by the `input` of their column.

    Raises
    ------
    ValueError
        If the rows are invalid.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> from skmode_deploy.samples import sample_inputs
    >>> text = bundle.Text("tokenizer.json", n_tokens=8000, max_tokens=512, max_bytes=2**20)
    >>> manifest = bundle.Manifest(
    ...     task="regression",
    ...     routing="top_expert",
    ...     input="text",
    ...     from_table=False,
    ...     columns=(bundle.Column("text", "text", "text", "string", text=text),),
    ...     n_outputs=1,
    ...     classes=None,
    ...     n_experts=1,
    ...     alpha=0.0,
    ...     expert_usage=(1.0,),
    ...     validation_scores=None,
    ...     versions={},
    ... )
    >>> sample_inputs(manifest, ["Good.", None])
    {'text': array([['Good.'],
           ['']], dtype=object)}
    """
    if not manifest.text_columns:
        feeds = graph_inputs(manifest, X)
        return {name: feeds[name] for name in graph_interface(manifest, MODEL)[0]}
    values = _open_string_reader(manifest, None)(X)
    return {column.input: values[column.input] for column in manifest.columns}


def graph_inputs(manifest: Manifest, X: Any, read: ReadFile | None = None) -> dict[str, Array]:
    """Convert rows to the inputs of ``model.onnx``.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    X : ndarray of shape (n_samples, n_features), table, mapping of columns, images or texts
        Rows, as :meth:`skmode_deploy.Predictor.predict` takes them.
    read : callable or None, default=None
        Returns the content of a file of the bundle, given its name. Only columns of texts need it,
        for their tokenizer.

    Returns
    -------
    dict of ndarray
        Inputs by name: one of shape (n_samples, 1) for each column, or a single one of shape
        (n_samples, n_features) for a model that was trained on an array, or ``image`` for a model
        of images. A column of texts has two, see :func:`skmode_deploy.bundle.text_inputs`.

    Raises
    ------
    ValueError
        If the rows are invalid; the message names the column, the image or the text.

    Examples
    --------
    >>> from skmode_deploy import bundle
    >>> from skmode_deploy.samples import graph_inputs
    >>> manifest = bundle.Manifest(
    ...     task="regression",
    ...     routing="top_expert",
    ...     input="columns",
    ...     from_table=True,
    ...     columns=(bundle.Column("age", "age", "number", "float32"),),
    ...     n_outputs=1,
    ...     classes=None,
    ...     n_experts=1,
    ...     alpha=0.0,
    ...     expert_usage=(1.0,),
    ...     validation_scores=None,
    ...     versions={},
    ... )
    >>> graph_inputs(manifest, {"age": [30, None]})
    {'age': array([[30.],
           [nan]], dtype=float32)}
    """
    return open_reader(manifest, read=read)(X)
