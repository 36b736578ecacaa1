"""Choose how the rows of a call become the inputs of a graph."""

from collections.abc import Mapping
from typing import Any, Protocol

from skmode_deploy.bundle import Manifest
from skmode_deploy.running.inputs.columns import Array
from skmode_deploy.running.inputs.images import ImageReader
from skmode_deploy.running.inputs.tables import TableReader


class InputReader(Protocol):
    """Converts the rows of a call to graph inputs, as the manifest describes them."""

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert rows to arrays, by input."""

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the string that UTF-8 cannot encode; onnxruntime's error does not name it."""

    def check_known(self, feeds: Mapping[str, Array]) -> None:
        """Raise for the first value that training did not have, whether it is refused or not."""


def open_reader(manifest: Manifest, max_rows: int | None = None) -> InputReader:
    """Make the reader for the inputs of a model."""
    if manifest.image is not None:
        return ImageReader(manifest.image, max_rows)
    return TableReader(manifest, max_rows)


def graph_inputs(manifest: Manifest, X: Any) -> dict[str, Array]:
    """Convert rows to the inputs of ``model.onnx``.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the bundle.
    X : ndarray of shape (n_samples, n_features), table, mapping of columns, or images
        Rows, as :meth:`skmode_deploy.Predictor.predict` takes them.

    Returns
    -------
    dict of ndarray
        Inputs by name: one of shape (n_samples, 1) for each column, or a single one of shape
        (n_samples, n_features) for a model that was trained on an array, or ``image`` for a model
        of images.

    Raises
    ------
    ValueError
        If the rows are invalid; the message names the column, or the image.

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
    return open_reader(manifest)(X)
