"""A model that is served: from a request of the Open Inference Protocol to its response."""

import math
from typing import Any, NamedTuple

import numpy as np

from skmode_deploy.bundle import Manifest
from skmode_deploy.errors import InferenceError
from skmode_deploy.running.predictor import Prediction, Predictor
from skmode_deploy.serving.models.inputs import describe_inputs, open_tensor_reader
from skmode_deploy.serving.protocol.errors import RequestError, shorten
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.protocol.responses import Response
from skmode_deploy.serving.protocol.tensors import Array, Tensor

PLATFORM = "onnxruntime_onnx"


class ScoredRequest(NamedTuple):
    """A response, with what metrics and shadow models need to know about it."""

    response: Response
    prediction: Prediction  # all outputs, whichever the client asked for
    rows: Any  # as the predictor read them: an array, or a dict of columns


class ServedModel:
    """Answer requests with a predictor."""

    def __init__(
        self, name: str, version: int, predictor: Predictor, *, max_rows: int = 10_000
    ) -> None:
        self.name = name
        self.version = version
        self.predictor = predictor
        self.manifest = predictor.manifest
        self.reads_texts = bool(self.manifest.text_columns)
        self.inputs = describe_inputs(self.manifest)
        self.outputs = _describe_outputs(self.manifest)
        self._reader = open_tensor_reader(self.manifest, max_rows)
        self._datatypes = {output["name"]: output["datatype"] for output in self.outputs}

    def metadata(self) -> dict[str, Any]:
        """Describe the model as the protocol wants it."""
        return {
            "name": self.name,
            "versions": [str(self.version)],
            "platform": PLATFORM,
            "inputs": self.inputs,
            "outputs": self.outputs,
        }

    def read_rows(self, request: Request) -> Any:
        """Check a request, and read its rows as the predictor takes them."""
        for name in request.outputs or ():
            if name not in self._datatypes:
                raise RequestError(
                    f"An output must be one of {', '.join(self._datatypes)}, got {shorten(name)}: "
                    "see the metadata of the model."
                )
        return self._reader.read(request.inputs)

    def score(self, request: Request, rows: Any, end: float = math.inf) -> ScoredRequest:
        """Answer a request, whose rows :meth:`read_rows` has read; their number bounds the time."""
        try:
            prediction = self.predictor.predict_full(rows)
        except ValueError as error:
            self._reader.check_refused(rows)
            raise RequestError(str(error)) from None
        except MemoryError:
            raise RequestError(
                "The rows must fit into the server's memory, and they did not: send fewer rows, or "
                "try again later.",
                503,
            ) from None
        except InferenceError as error:
            raise RequestError(str(error), 500) from error
        values = _name_outputs(prediction)
        wanted = request.outputs
        if wanted is None:
            wanted = dict.fromkeys(values, request.binary)
        outputs = [Tensor(name, self._datatypes[name], values[name]) for name in wanted]
        binary = frozenset([name for name in wanted if wanted[name]])
        response = Response(self.name, str(self.version), outputs, binary, request.id)
        return ScoredRequest(response, prediction, rows)


def _name_outputs(prediction: Prediction) -> dict[str, Array]:
    route: dict[str, Array] = {
        "expert": prediction.expert,
        "gate_probability": prediction.gate_probability,
    }
    if prediction.probabilities is None:
        values = prediction.value.reshape(len(prediction.value), -1)
        return {"variable": values, **route}
    return {"label": prediction.value, "probabilities": prediction.probabilities, **route}


def _describe_outputs(manifest: Manifest) -> list[dict[str, Any]]:
    """Describe the outputs as the metadata of a model does; -1 stands for any number of rows."""
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
    """Translate the dtype of labels into the protocol's name for it.

    Examples
    --------
    >>> from skmode_deploy.serving.models.model import label_datatype
    >>> label_datatype("<i4"), label_datatype("<U5"), label_datatype("|b1")
    ('INT32', 'BYTES', 'BOOL')
    """
    numpy_dtype = np.dtype(dtype)
    if numpy_dtype.kind == "b":
        return "BOOL"
    prefix = {"i": "INT", "u": "UINT", "f": "FP"}.get(numpy_dtype.kind)
    return "BYTES" if prefix is None else f"{prefix}{8 * numpy_dtype.itemsize}"
