"""The file ``samples.json``: its rows and predictions, written and read."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from skmode_deploy import bundle
from skmode_deploy.bundle import IMAGE, MODEL, SAMPLES, GraphValue, Manifest
from skmode_deploy.bundle.messages import short_repr, shorten
from skmode_deploy.errors import LimitError, SampleFormatError

MAX_BYTES = 64 * 2**20  # of the file; some thousand columns need one of them
MAX_ROWS = 10_000

_DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "uint8": "UINT8",
    "string": "BYTES",
}
_APPROXIMATE = ("probabilities", "variable", "gate_probability")
_FIELDS = {"inputs", "outputs", "source", "tolerance"}

_Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """Sample rows and their predictions.

    Attributes
    ----------
    inputs : dict of ndarray of shape (n_samples, n_columns), or (n_samples, ...) for images
        Inputs of ``model.onnx``, by name; texts are strings, by the `input` of their column.
    outputs : dict of ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Its outputs, by name.
    tolerance : dict of tuple of float
        Allowed difference of each float output: one number, or one for each of its columns.
    source : {"estimator", "graph"}
        Where the predictions come from: the estimator, or ``model.onnx`` at the export.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    tolerance: Mapping[str, tuple[float, ...]]
    source: Literal["estimator", "graph"]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.outputs["expert"])

    def to_json(self) -> bytes:
        """Return the content of ``samples.json``.

        Returns
        -------
        bytes
            JSON text in ASCII, with a line feed at the end.

        Raises
        ------
        ValueError
            If a prediction is not a finite number.
        """
        document = {
            "inputs": [_to_tensor(name, values) for name, values in self.inputs.items()],
            "outputs": [_to_tensor(name, values) for name, values in self.outputs.items()],
            "source": self.source,
            "tolerance": {name: list(values) for name, values in self.tolerance.items()},
        }
        return (json.dumps(document, allow_nan=False) + "\n").encode()


def read_samples(directory: str | os.PathLike[str], manifest: Manifest) -> Samples | None:
    """Read the sample rows of a bundle.

    Parameters
    ----------
    directory : path
        Folder of the bundle.
    manifest : Manifest
        Its manifest.

    Returns
    -------
    Samples or None
        Rows and predictions. None if the bundle has no sample rows.

    Raises
    ------
    BundleError
        If the file is too large, was changed, or does not fit the manifest.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> import skmode_deploy
    >>> from skmode import MoDEClassifier
    >>> from skmode.onnx import export
    >>> from skmode_deploy.samples import check_samples, read_samples
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator = MoDEClassifier(n_experts=2, max_epochs=20, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(estimator, folder)
    ...     predictor = skmode_deploy.load(folder)
    ...     check_samples(predictor)
    ...     samples = read_samples(folder, predictor.manifest)
    >>> samples.n_rows, samples.source
    (32, 'estimator')
    """
    if SAMPLES not in manifest.files:
        return None
    if manifest.files[SAMPLES].size > MAX_BYTES:
        raise LimitError(
            f"{SAMPLES} must have at most {MAX_BYTES} bytes, got {manifest.files[SAMPLES].size}: "
            "export the model again."
        )
    text = bundle.read_file(directory, manifest, SAMPLES)
    try:
        document = json.loads(text.decode("ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SampleFormatError(
            f"{SAMPLES} must be JSON in ASCII, but reading it failed with {type(error).__name__}: "
            f"{shorten(str(error))}. Export the model again."
        ) from None
    return _from_document(document, manifest)


# Writing.


def _to_tensor(name: str, values: NDArray[Any]) -> dict[str, Any]:
    flat = values.ravel()
    data: list[Any]
    if flat.dtype == object:
        datatype, data = "BYTES", flat.tolist()
    elif flat.dtype in (np.int64, np.uint8):
        datatype, data = _DATATYPES[flat.dtype.name], flat.tolist()
    elif flat.dtype == np.float32:
        # The shortest text that identifies the float32.
        datatype, data = "FP32", [None if x != x else float(str(x)) for x in flat]
    else:
        datatype, data = "FP64", [None if x != x else x for x in flat.tolist()]
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": data}


# Reading; the file is not trusted.


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse(where: str, rule: str, value: object) -> NoReturn:
    what = f"{where} in {SAMPLES}" if where else SAMPLES
    raise SampleFormatError(
        f"{what} must be {rule}, got {short_repr(value)}: export the model again."
    )


def _from_document(document: Any, manifest: Manifest) -> Samples:
    if not isinstance(document, dict) or document.keys() != _FIELDS:
        found = sorted(document) if isinstance(document, dict) else document
        _refuse("", f"an object with the fields {', '.join(sorted(_FIELDS))}", found)
    if document["source"] not in ("estimator", "graph"):
        _refuse("source", "'estimator' or 'graph'", document["source"])
    n_rows = _count_rows(document["inputs"])
    outputs = bundle.graph_values(manifest, MODEL)[1]
    return Samples(
        _read_inputs(document["inputs"], _input_values(manifest), n_rows, manifest),
        _read_tensors(document["outputs"], outputs, n_rows, "outputs"),
        _read_tolerance(document["tolerance"], outputs),
        document["source"],
    )


def _input_values(manifest: Manifest) -> tuple[GraphValue, ...]:
    """State what the file holds for each input: texts are strings, so that tokens are checked."""
    inputs = bundle.graph_values(manifest, MODEL)[0]
    if not manifest.text_columns:
        return inputs
    others = {value.name: value for value in inputs}
    return tuple(
        others.get(column.input) or GraphValue(column.input, "string", ("n", 1))
        for column in manifest.columns
    )


def _count_rows(tensors: Any) -> int:
    try:
        n_rows = tensors[0]["shape"][0]
    except (TypeError, LookupError):
        n_rows = None
    if type(n_rows) is not int or not 1 <= n_rows <= MAX_ROWS:
        _refuse("inputs", f"tensors of 1 to {MAX_ROWS} rows", n_rows)
    return n_rows


def _read_inputs(
    tensors: Any, values: tuple[GraphValue, ...], n_rows: int, manifest: Manifest
) -> _Arrays:
    arrays = _read_tensors(tensors, values, n_rows, "inputs")
    images = {column.input: column.image for column in manifest.image_columns}
    for i, (name, pixels) in enumerate(arrays.items()):
        image = manifest.image if name == IMAGE and manifest.image is not None else images.get(name)
        if image is None or image.dtype != "float32":
            continue
        if not ((pixels >= 0) & (pixels <= 1)).all():  # also where it is NaN
            _refuse(f"inputs[{i}].data", "numbers from 0 to 1, none missing", pixels)
    return arrays


def _read_tensors(tensors: Any, values: tuple[GraphValue, ...], n_rows: int, where: str) -> _Arrays:
    expected = [value.name for value in values]
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        _refuse(where, "an array of objects", tensors)
    names = [tensor.get("name") for tensor in tensors]
    if names != expected:
        _refuse(where, f"the {where} of {MODEL}, {short_repr(expected)}", names)
    return {
        value.name: _read_tensor(tensor, value, n_rows, f"{where}[{i}]", where == "inputs")
        for i, (tensor, value) in enumerate(zip(tensors, values, strict=True))
    }


def _read_tensor(
    tensor: dict[str, Any], value: GraphValue, n_rows: int, where: str, may_miss: bool
) -> NDArray[Any]:
    if tensor.keys() != {"name", "datatype", "shape", "data"}:
        _refuse(where, "an object with name, datatype, shape and data", sorted(tensor))
    if tensor["datatype"] != _DATATYPES[value.dtype]:
        _refuse(f"{where}.datatype", repr(_DATATYPES[value.dtype]), tensor["datatype"])
    shape = [n_rows, *(int(size) for size in value.shape[1:])]
    if tensor["shape"] != shape:
        _refuse(f"{where}.shape", str(shape), tensor["shape"])
    data = tensor["data"]
    if not isinstance(data, list) or len(data) != math.prod(shape):
        found = len(data) if isinstance(data, list) else data
        _refuse(f"{where}.data", f"a flat array of {math.prod(shape)} values", found)
    check, rule = _CELLS[value.dtype]
    for cell in data:
        if not check(cell) and not (cell is None and may_miss and "float" in value.dtype):
            _refuse(f"{where}.data", rule, cell)
    dtype = object if value.dtype == "string" else np.dtype(value.dtype)
    # A number that is too large becomes infinite, and differs from any prediction.
    with np.errstate(over="ignore"):
        return np.array([np.nan if x is None else x for x in data], dtype=dtype).reshape(shape)


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str)


def _is_integer(cell: Any) -> bool:
    return type(cell) is int and -(2**63) <= cell < 2**63


def _is_byte(cell: Any) -> bool:
    return type(cell) is int and 0 <= cell <= 255


def _is_float(cell: Any) -> bool:
    # Compared rather than converted: an integer may be larger than any float.
    return type(cell) in (int, float) and abs(cell) <= 1.7976931348623157e308


_CELLS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "string": (_is_text, "strings"),
    "int64": (_is_integer, "whole numbers of 64 bits"),
    "uint8": (_is_byte, "whole numbers from 0 to 255"),
    "float32": (_is_float, "numbers"),
    "float64": (_is_float, "numbers"),
}


def _read_tolerance(
    tolerance: Any, outputs: tuple[GraphValue, ...]
) -> dict[str, tuple[float, ...]]:
    allowed = {
        value.name: {1, *(int(size) for size in value.shape[1:])}
        for value in outputs
        if value.name in _APPROXIMATE
    }
    if not isinstance(tolerance, dict) or tolerance.keys() != allowed.keys():
        _refuse("tolerance", f"an object with the fields {', '.join(allowed)}", tolerance)
    for name, numbers in tolerance.items():
        fits = isinstance(numbers, list) and len(numbers) in allowed[name]
        if not fits or not all(_is_float(number) and number > 0 for number in numbers):
            _refuse(f"tolerance.{name}", "one positive number, or one for each column", numbers)
    return {name: tuple(map(float, numbers)) for name, numbers in tolerance.items()}
