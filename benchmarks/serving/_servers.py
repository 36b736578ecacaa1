"""Servers to compare with: ``python -m benchmarks.serving._servers constant|bare PORT BUNDLE``.

``constant`` is KServe as it comes, with a model that always answers the same. ``bare`` is the
engine of skmode-deploy (uvicorn, Starlette, one route) around the bundle's graph, without limits,
checks, metrics, tokens and logs of requests: what a line of each of these costs is the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

import skmode_deploy

LENGTH = "inference-header-content-length"


def serve_constant(port: int, bundle: str) -> None:
    """KServe's own server, routes, documents and codec."""
    from kserve import InferOutput, InferResponse, Model, ModelServer

    manifest = skmode_deploy.load(bundle).manifest
    width = manifest.n_outputs

    class Constant(Model):
        def __init__(self) -> None:
            super().__init__("model")
            self.ready = True

        def predict(self, payload: Any, headers: Mapping[str, str] | None = None) -> InferResponse:
            outputs = [
                InferOutput("label", [1], "INT64", np.zeros(1, np.int64)),
                InferOutput("probabilities", [1, width], "FP32", np.zeros((1, width), np.float32)),
                InferOutput("expert", [1], "INT64", np.zeros(1, np.int64)),
                InferOutput("gate_probability", [1], "FP32", np.zeros(1, np.float32)),
            ]
            return InferResponse("1", self.name, outputs, use_binary_outputs=True)

    server = ModelServer(http_port=port, workers=1, enable_grpc=False, enable_latency_logging=False)
    server.start([Constant()])


def serve_bare(port: int, bundle: str) -> None:
    """The engine with what an answer needs, and nothing else."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    predictor = skmode_deploy.load(bundle)
    datatypes = {"label": "INT64", "expert": "INT64"}

    async def infer(request: Request) -> Response:
        body = await request.body()
        length = int(request.headers[LENGTH])
        tensor = orjson.loads(body[:length])["inputs"][0]
        rows = np.frombuffer(body, np.float32, offset=length).reshape(tensor["shape"])
        answer = predictor.predict_full(rows)
        values = {
            "label": answer.value,
            "probabilities": answer.probabilities,
            "expert": answer.expert,
            "gate_probability": answer.gate_probability,
        }
        outputs, parts = [], [b""]
        for name, array in values.items():
            parts.append(array.tobytes())
            outputs.append(
                {
                    "name": name,
                    "datatype": datatypes.get(name, "FP32"),
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": len(parts[-1])},
                }
            )
        parts[0] = orjson.dumps({"model_name": "model", "outputs": outputs})
        headers = {LENGTH: str(len(parts[0]))}
        return Response(b"".join(parts), headers=headers, media_type="application/octet-stream")

    routes = [
        Route("/v2/models/model/infer", infer, methods=["POST"]),
        Route("/v2/health/ready", lambda request: Response("{}")),
    ]
    uvicorn.run(
        Starlette(routes=routes), port=port, http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    kind, port, bundle = sys.argv[1:]
    sys.argv = sys.argv[:1]  # which KServe would parse
    {"constant": serve_constant, "bare": serve_bare}[kind](int(port), bundle)
