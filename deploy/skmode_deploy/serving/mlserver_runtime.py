"""A runtime for MLServer, with the same predictions, refusals and metrics as our own server.

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
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.protocol.tensors import Array, Tensor, from_list

MAX_INLINE_VALUES = 8192  # with fewer, a thread would cost more than the prediction
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
            int(version) if version.isdigit() else 1,  # MLServer's versions may be any text
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
            request = _read_request(payload)
            rows = self._served.read_rows(request)
            if sum(tensor.values.size for tensor in request.inputs) <= MAX_INLINE_VALUES:
                scored = self._served.score(request, rows)
            else:
                scored = await asyncio.to_thread(self._served.score, request, rows)
        except RequestError as error:
            raise MLServerError(error.reason, error.status) from None
        self._counts.count([(rows, scored.prediction)])
        return types.InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[_write_output(output) for output in scored.response.outputs],
        )


def _get_metrics() -> Metrics:
    """Share one set of metrics among all models of a process."""
    global _metrics
    if _metrics is None:
        _metrics = Metrics(REGISTRY)
    return _metrics


def _read_request(payload: types.InferenceRequest) -> Request:
    tensors = [
        from_list(item.name, _datatype_name(item.datatype), item.shape, _to_list(item.data))
        for item in payload.inputs
    ]
    outputs = {output.name: False for output in payload.outputs or ()} or None
    return Request(tensors, outputs, payload.id or "")


def _datatype_name(datatype: Any) -> str:
    """Return the name of a datatype: MLServer passes an enumeration by REST, a string by gRPC."""
    return str(getattr(datatype, "value", datatype))


def _to_list(data: Any) -> Any:
    """Return values as JSON has them: by gRPC, strings come as bytes."""
    values = getattr(data, "root", data)
    if not isinstance(values, list):
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        raise RequestError("Strings must be in UTF-8, got other bytes: encode them anew.") from None


def _write_output(output: Tensor) -> types.ResponseOutput:
    values: Array = output.values
    return types.ResponseOutput(
        name=output.name,
        datatype=output.datatype,
        shape=list(values.shape),
        data=values.reshape(-1).tolist(),
    )
