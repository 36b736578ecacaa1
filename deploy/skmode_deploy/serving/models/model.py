"""A bundle that answers requests of the Open Inference Protocol."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from skmode_deploy.bundle import Manifest
from skmode_deploy.bundle.manifest import Column
from skmode_deploy.running.predictor import Prediction, Predictor
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.tensors import DTYPES, Answer, Array, Request, Tensor, shorten

PLATFORM = "onnxruntime_onnx"
DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "string": "BYTES"}
_NUMBERS = frozenset(DTYPES) - {"BYTES"}
_ALLOWED = {
    "float32": _NUMBERS,
    "float64": _NUMBERS,
    "int64": frozenset(name for name in _NUMBERS if DTYPES[name].kind in "iub") - {"UINT64"},
    "string": frozenset({"BYTES"}),
}
MOST_NAMED = 5


class Answered(NamedTuple):
    """An answer, and what the model said in full, for the metrics.

    Attributes
    ----------
    answer : Answer
        What to send.
    prediction : Prediction
        All outputs.
    columns : mapping from str to ndarray, or ndarray of shape (n_samples, n_features)
        The rows as the predictor read them.
    """

    answer: Answer
    prediction: Prediction
    columns: Any


class ServedModel:
    """Answer requests from a bundle.

    Attributes
    ----------
    name : str
        Name of the model.
    version : int
        Version of the model.
    manifest : Manifest
        What the bundle says.
    inputs, outputs : list of dict
        Names, datatypes and shapes, as the metadata of a model shows them; -1 is any number of
        rows.
    """

    def __init__(
        self, name: str, version: int, predictor: Predictor, *, max_rows: int = 10_000
    ) -> None:
        self.name = name
        self.version = version
        self.predictor = predictor
        self.manifest = predictor.manifest
        self.inputs = _inputs(self.manifest)
        self.outputs = _outputs(self.manifest)
        self._max_rows = max_rows
        self._datatypes = {output["name"]: output["datatype"] for output in self.outputs}
        self._columns = {column.input: column for column in self.manifest.columns}
        self._array = self.manifest.input == "array"
        self._array_names = {column.name: column for column in self.manifest.columns}

    def metadata(self) -> dict[str, Any]:
        """Describe the model."""
        return {
            "name": self.name,
            "versions": [str(self.version)],
            "platform": PLATFORM,
            "inputs": self.inputs,
            "outputs": self.outputs,
        }

    def check(self, request: Request) -> Any:
        """Check a request, and bring its rows into the form of the predictor."""
        for name in request.outputs or ():
            if name not in self._datatypes:
                raise RequestError(
                    f"An output must be one of {', '.join(self._datatypes)}, got {shorten(name)}: "
                    "see the metadata of the model."
                )
        tensors = {tensor.name: tensor for tensor in request.inputs}
        if len(tensors) < len(request.inputs):
            raise RequestError(
                "The inputs must have different names, got one of them twice: send each once."
            )
        return self._read_array(tensors) if self._array else self._read_columns(tensors)

    def answer(self, request: Request, rows: Any) -> Answered:
        """Answer a request that was checked."""
        try:
            prediction = self.predictor.predict_full(rows)
        except ValueError as error:
            if self._array:  # which the predictor looks through, and once is enough
                _check_finite(self.manifest.columns[0].input, self.manifest.columns[0], rows)
            raise RequestError(str(error)) from None
        values = self._values(prediction)
        wanted = request.outputs
        if wanted is None:
            wanted = dict.fromkeys(values, request.binary)
        outputs = [Tensor(name, self._datatypes[name], values[name]) for name in wanted]
        binary = frozenset([name for name in wanted if wanted[name]])
        answer = Answer(self.name, str(self.version), outputs, binary, request.id)
        return Answered(answer, prediction, rows)

    def _values(self, prediction: Prediction) -> dict[str, Array]:
        route: dict[str, Array] = {
            "expert": prediction.expert,
            "gate_probability": prediction.gate_probability,
        }
        if prediction.probabilities is None:
            values = prediction.value.reshape(len(prediction.value), -1)
            return {"variable": values, **route}
        return {"label": prediction.value, "probabilities": prediction.probabilities, **route}

    def _read_columns(self, tensors: Mapping[str, Tensor]) -> dict[str, Array]:
        self._check_names(tensors, list(self._columns))
        rows = {
            column.name: _read_column(tensors[name], column)
            for name, column in self._columns.items()
        }
        heights = {len(values) for values in rows.values()}
        if len(heights) > 1:
            raise RequestError(
                "All inputs must have the same number of rows, got "
                f"{min(heights)} and {max(heights)}: send each column of the same rows."
            )
        self._check_height(heights.pop())
        return rows

    def _read_array(self, tensors: Mapping[str, Tensor]) -> Array:
        name = self.manifest.columns[0].input
        if name not in tensors and tensors.keys() == self._array_names.keys():
            return self._stack(tensors)
        self._check_names(tensors, [name])
        values = tensors[name].values
        _check_datatype(tensors[name], self.manifest.columns[0])
        width = len(self.manifest.columns)
        if values.ndim == 1 and width == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != width:
            raise RequestError(
                f"Input {name!r} must have the shape [n, {width}], got {list(values.shape)}: send "
                "the columns of training; a single row has the shape "
                f"[1, {width}]."
            )
        self._check_height(len(values))
        return _convert(self.manifest.columns[0], values)

    def _stack(self, tensors: Mapping[str, Tensor]) -> Array:
        """One tensor per column, as tables are sent, for a model of arrays."""
        columns = [
            _read_column(tensors[name], column) for name, column in self._array_names.items()
        ]
        if len({len(values) for values in columns}) > 1:
            raise RequestError(
                "All inputs must have the same number of rows, got different ones: send each "
                "column of the same rows."
            )
        self._check_height(len(columns[0]))
        return np.column_stack(columns)

    def _check_names(self, tensors: Mapping[str, Tensor], expected: list[str]) -> None:
        if len(tensors) == 1 and expected == [*tensors]:
            return
        missing = [name for name in expected if name not in tensors]
        if missing:
            raise RequestError(
                f"The inputs must be those of the model, got none called {_some(missing)}: send "
                f"{_some(expected)}."
            )
        if len(tensors) > len(expected):
            known = set(expected)
            extra = [name for name in tensors if name not in known]
            raise RequestError(
                f"The inputs must be those of the model, got {_some(extra)} as well: send "
                f"{_some(expected)}."
            )

    def _check_height(self, n_rows: int) -> None:
        if not 1 <= n_rows <= self._max_rows:
            raise RequestError(
                f"A request must have from 1 to {self._max_rows} rows, got {n_rows}: send more "
                "rows in several requests."
            )


def _read_column(tensor: Tensor, column: Column) -> Array:
    _check_datatype(tensor, column)
    values = tensor.values
    if values.ndim == 2:
        if values.shape[1] != 1:
            raise RequestError(
                f"Input {tensor.name!r} must have the shape [n, 1] or [n], got "
                f"{list(values.shape)}: send one value for each row."
            )
        values = values[:, 0]
    return values if column.dtype == "string" else _check_finite(tensor.name, column, values)


def _check_datatype(tensor: Tensor, column: Column) -> None:
    if tensor.datatype not in _ALLOWED[column.dtype]:
        others = {"string": "", "int64": " or another type of whole numbers"}
        words = DATATYPES[column.dtype] + others.get(column.dtype, " or another type of numbers")
        raise RequestError(
            f"Input {tensor.name!r} must be of {words}, got {tensor.datatype}: see the metadata of "
            "the model."
        )


def _convert(column: Column, values: Array) -> Array:
    """Values of the column's own type; a number too large for it becomes infinite."""
    if values.dtype.kind == "O" or values.dtype == column.dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(column.dtype)


def _check_finite(name: str, column: Column, values: Array) -> Array:
    """Numbers of the column's own type, none of them infinite."""
    values = _convert(column, values)
    # A category is compared only, and an infinite one is one that training did not see.
    number = column.kind == "number" or column.dtype == "float32"
    if number and values.dtype.kind == "f" and np.count_nonzero(np.isinf(values)):
        raise RequestError(
            f"Input {name!r} must hold numbers that are finite as {column.dtype}, or "
            "missing (NaN, in JSON null), got an infinite or too large one: correct it, or send it "
            "as missing."
        )
    return values


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(shorten(name) for name in names[:MOST_NAMED])
    rest = len(names) - MOST_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown


def _inputs(manifest: Manifest) -> list[dict[str, Any]]:
    if manifest.input == "array":
        first = manifest.columns[0]
        shape = [-1, len(manifest.columns)]
        return [{"name": first.input, "datatype": DATATYPES[first.dtype], "shape": shape}]
    return [
        {"name": column.input, "datatype": DATATYPES[column.dtype], "shape": [-1, 1]}
        for column in manifest.columns
    ]


def _outputs(manifest: Manifest) -> list[dict[str, Any]]:
    route = [
        {"name": "expert", "datatype": "INT64", "shape": [-1]},
        {"name": "gate_probability", "datatype": "FP32", "shape": [-1]},
    ]
    n = manifest.n_outputs
    if manifest.classes is None:
        return [{"name": "variable", "datatype": "FP32", "shape": [-1, n]}, *route]
    datatype = label_datatype(manifest.classes.dtype)
    return [
        {"name": "label", "datatype": datatype, "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, n]},
        *route,
    ]


def label_datatype(dtype: str) -> str:
    """Name the type that labels have in the protocol.

    Examples
    --------
    >>> from skmode_deploy.serving.models.model import label_datatype
    >>> label_datatype("<i4"), label_datatype("<U5"), label_datatype("|b1")
    ('INT32', 'BYTES', 'BOOL')
    """
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return "BOOL"
    letters = {"i": "INT", "u": "UINT", "f": "FP"}.get(kind.kind)
    return "BYTES" if letters is None else f"{letters}{8 * kind.itemsize}"
