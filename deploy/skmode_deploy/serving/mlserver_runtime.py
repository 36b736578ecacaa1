"""A runtime of MLServer, for those who have one: the same answers, refusals and metrics.

In ``model-settings.json``::

    {"name": "churn", "implementation": "skmode_deploy.serving.mlserver_runtime.SkmodeRuntime",
     "parameters": {"uri": "./bundle", "version": "1"}}
"""

import asyncio
from typing import Any

from mlserver import MLModel, types
from mlserver.errors import MLServerError
from mlserver.utils import get_model_uri
from prometheus_client import REGISTRY

import skmode_deploy
from skmode_deploy.samples import check_samples
from skmode_deploy.serving.models.model import ServedModel
from skmode_deploy.serving.observe.metrics import Metrics, ModelMetrics
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.tensors import Array, Request, Tensor, from_list

FEW_VALUES = 8192  # up to here a thread would cost more than the answer
MAX_ROWS = 10_000

_metrics: Metrics | None = None


class SkmodeRuntime(MLModel):
    """Serve a bundle."""

    async def load(self) -> bool:
        """Check the bundle, and open it."""
        folder = await get_model_uri(self.settings)
        extra: dict[str, Any] = getattr(self.settings.parameters, "extra", None) or {}
        predictor = await asyncio.to_thread(
            skmode_deploy.load,
            folder,
            threads=extra.get("threads", 1),
            require_signature=extra.get("public_key"),
        )
        await asyncio.to_thread(check_samples, predictor)
        version = self.version or "1"
        self._served = ServedModel(
            self.name,
            int(version) if version.isdigit() else 1,
            predictor,
            max_rows=extra.get("max_rows", MAX_ROWS),
        )
        self._counts = ModelMetrics(_get_metrics(), self.name, version, predictor.manifest)
        self.inputs = [types.MetadataTensor(**tensor) for tensor in self._served.inputs]
        self.outputs = [types.MetadataTensor(**tensor) for tensor in self._served.outputs]
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answer a request."""
        try:
            request = _read(payload)
            rows = self._served.check(request)
            if sum(tensor.values.size for tensor in request.inputs) <= FEW_VALUES:
                answered = self._served.answer(request, rows)
            else:
                answered = await asyncio.to_thread(self._served.answer, request, rows)
        except RequestError as error:
            raise MLServerError(error.reason, error.status) from None
        self._counts.count([(rows, answered.prediction)])
        return types.InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[_write(output) for output in answered.answer.outputs],
        )


def _get_metrics() -> Metrics:
    """One set of metrics for all models of a process."""
    global _metrics
    if _metrics is None:
        _metrics = Metrics(REGISTRY)
    return _metrics


def _read(payload: types.InferenceRequest) -> Request:
    tensors = [
        from_list(item.name, _word(item.datatype), item.shape, _plain(item.data))
        for item in payload.inputs
    ]
    outputs = {output.name: False for output in payload.outputs or ()} or None
    return Request(tensors, outputs, payload.id or "")


def _word(datatype: Any) -> str:
    """MLServer has an enumeration for requests by REST, and the word for those by gRPC."""
    return str(getattr(datatype, "value", datatype))


def _plain(data: Any) -> Any:
    """A list of JSON's types; from gRPC strings come as bytes."""
    values = getattr(data, "root", data)
    if not isinstance(values, list):
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        raise RequestError("Strings must be in UTF-8, got other bytes: encode them anew.") from None


def _write(output: Tensor) -> types.ResponseOutput:
    values: Array = output.values
    return types.ResponseOutput(
        name=output.name,
        datatype=output.datatype,
        shape=list(values.shape),
        data=values.reshape(-1).tolist(),
    )
