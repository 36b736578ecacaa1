"""A language model that is served: routing and scoring by the Open Inference Protocol."""

import math
import time
from typing import Any

import numpy as np

from skmode_deploy.errors import InferenceError
from skmode_deploy.language import LanguageModel, Routing
from skmode_deploy.running.predictor import Prediction
from skmode_deploy.serving.models.inputs import check_n_rows
from skmode_deploy.serving.models.model.rows import PLATFORM, ScoredRequest
from skmode_deploy.serving.protocol.errors import RequestError, shorten
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.protocol.responses import Response
from skmode_deploy.serving.protocol.tensors import Array, Tensor

TEXT = "text"


class ServedLanguageModel:
    """Answer requests with a language model."""

    def __init__(
        self, name: str, version: int, model: LanguageModel, *, max_rows: int = 10_000
    ) -> None:
        self.name = name
        self.version = version
        self.model = model
        self.manifest = model.manifest
        self.reads_texts = True
        self._max_rows = max_rows
        self.inputs = [{"name": TEXT, "datatype": "BYTES", "shape": [-1]}]
        self.outputs = [
            {"name": "domain", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.domains)]},
            {"name": "confidence", "datatype": "FP64", "shape": [-1]},
            {"name": "bits_per_byte", "datatype": "FP64", "shape": [-1]},
        ]
        self._datatypes = {str(each["name"]): str(each["datatype"]) for each in self.outputs}

    def metadata(self) -> dict[str, Any]:
        """Describe the model as the protocol wants it."""
        return {
            "name": self.name,
            "versions": [str(self.version)],
            "platform": PLATFORM,
            "inputs": self.inputs,
            "outputs": self.outputs,
        }

    def read_rows(self, request: Request) -> list[str]:
        """Check a request, and read its texts."""
        for name in request.outputs or ():
            if name not in self._datatypes:
                raise RequestError(
                    f"An output must be one of {', '.join(self._datatypes)}, got {shorten(name)}: "
                    "see the metadata of the model."
                )
        if [tensor.name for tensor in request.inputs] != [TEXT]:
            names = [tensor.name for tensor in request.inputs][:5]
            raise RequestError(f"The input must be {TEXT!r}, got {shorten(names)}: send it alone.")
        _, datatype, values = request.inputs[0]
        if datatype != "BYTES" or values.shape not in ((len(values),), (len(values), 1)):
            raise RequestError(
                f"Input {TEXT!r} must be of BYTES and shape [n], got {datatype} of shape "
                f"{list(values.shape)}: send one text for each row."
            )
        check_n_rows(len(values), self._max_rows)
        texts: list[str] = values.reshape(-1).tolist()
        return texts

    def score(self, request: Request, rows: list[str], end: float = math.inf) -> ScoredRequest:
        """Answer a request, whose texts :meth:`read_rows` has read, before `perf_counter` is `end`.

        Many long texts take minutes, in which others would wait for the turn of one who has left.
        """

        def go_on() -> None:
            if time.perf_counter() > end:
                raise TimeoutError

        wanted = request.outputs
        if wanted is None:
            wanted = dict.fromkeys(self._datatypes, request.binary)
        try:
            routing = self.model.route_full(rows)
            values = self._name_outputs(routing)
            if "bits_per_byte" in wanted:
                chosen = self.model.choose_experts(routing)
                values["bits_per_byte"] = self.model.score_by(rows, chosen, go_on)
        except MemoryError:
            raise RequestError(
                "The texts must fit into the server's memory, and they did not: send fewer, or "
                "try again later.",
                503,
            ) from None
        except InferenceError as error:
            raise RequestError(str(error), 500) from error
        except ValueError as error:
            raise RequestError(str(error)) from None
        outputs = [Tensor(name, self._datatypes[name], values[name]) for name in wanted]
        binary = frozenset([name for name in wanted if wanted[name]])
        response = Response(self.name, str(self.version), outputs, binary, request.id)
        return ScoredRequest(response, to_prediction(routing), None)

    def _name_outputs(self, routing: Routing) -> dict[str, Array]:
        # The protocol has no null in strings: an unknown domain is empty.
        names = np.array([*self.model.domains, ""], dtype=object)
        return {
            "domain": names[routing.domain],
            "probabilities": routing.probabilities,
            "confidence": routing.confidence,
        }


def to_prediction(routing: Routing) -> Prediction:
    """Describe how texts were routed, as metrics count it."""
    likely = routing.probabilities.max(axis=1)
    return Prediction(routing.domain, routing.probabilities, routing.domain, likely)
