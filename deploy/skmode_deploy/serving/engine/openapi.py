"""The OpenAPI document: KServe's routes, and for each model its own inputs and outputs."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from skmode_deploy.bundle.manifest import Manifest
from skmode_deploy.running.random_rows import draw_rows
from skmode_deploy.serving.engine.service import Service
from skmode_deploy.serving.models.model import ServedModel
from skmode_deploy.serving.protocol.tensors import DTYPES

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
REASONS = {
    "400": "The request is refused.",
    "401": "A token is missing.",
    "403": "Management is not open.",
    "404": "There is no such model.",
    "405": "Not with this method.",
    "408": "The request arrived too slowly.",
    "409": "The model cannot be loaded.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "431": "The header is too large.",
    "503": "Too many requests, or not ready.",
    "504": "The answer took too long.",
}


def describe(app: FastAPI, service: Service) -> dict[str, Any]:
    """Describe the routes of a server, and those of its models."""
    # By what serves: every reader would pay for it anew.
    key = tuple((name, id(service.get(name))) for name in service.repository.names())
    cached: tuple[Any, dict[str, Any]] | None = getattr(app.state, "openapi", None)
    if cached is not None and cached[0] == key:
        return cached[1]
    document = _describe(app, service)
    app.state.openapi = (key, document)
    return document


def _describe(app: FastAPI, service: Service) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        summary="Models that skmode exported, by the Open Inference Protocol V2",
        routes=app.routes,
    )
    paths = document["paths"]
    for path in list(paths):
        for operation in paths[path].values():
            operation["responses"].pop("422", None)
            _drop_queries(operation)
            operation["responses"] |= _errors()
        if path.endswith("/infer"):
            _take_bytes(paths[path]["post"])
    for name in service.repository.names():
        paths[f"/v2/models/{name}/infer"] = {"post": _operation(service.get(name).served)}
    return document


def _errors() -> dict[str, Any]:
    content = {"application/json": {"schema": ERROR}}
    return {code: {"description": text, "content": content} for code, text in REASONS.items()}


def _drop_queries(operation: dict[str, Any]) -> None:
    """KServe's routes know of a version as a query, which it does not answer."""
    if "parameters" in operation:
        kept = [item for item in operation["parameters"] if item["in"] != "query"]
        operation["parameters"] = kept


def _take_bytes(operation: dict[str, Any]) -> None:
    """The general route also takes binary tensors."""
    schema = {"$ref": "#/components/schemas/InferenceRequest"}
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": schema},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    operation["responses"]["200"] = {
        "description": "The answer.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }


def _operation(served: ServedModel) -> dict[str, Any]:
    tensors = [_tensor(tensor) for tensor in served.inputs]
    outputs = [output["name"] for output in served.outputs]
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {
                "type": "array",
                "minItems": len(tensors),
                "maxItems": len(tensors),
                "items": {"oneOf": tensors} if len(tensors) > 1 else tensors[0],
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": outputs}},
                },
            },
        },
    }
    operation: dict[str, Any] = {
        "tags": [served.name],
        "operationId": f"infer_{served.name}",
        "summary": f"Ask {served.name}, version {served.version}",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": _example(served)}},
        },
        "responses": {"200": {"description": "The answer."}, **_errors()},
    }
    return operation


def _tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    width = tensor["shape"][1]
    kind = DTYPES[tensor["datatype"]].kind
    item = {"O": "string", "i": "integer"}.get(kind, "number")
    types = [item] if kind == "i" else [item, "null"]
    return {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": tensor["name"]},
            "datatype": {"const": tensor["datatype"]},
            "shape": {
                "type": "array",
                "prefixItems": [{"type": "integer", "minimum": 1}, {"const": width}],
                "minItems": 2,
                "maxItems": 2,
            },
            "data": {"type": "array", "items": {"type": types}},
        },
    }


def _example(served: ServedModel) -> dict[str, Any]:
    """A row made up from what the manifest says; none of training."""
    manifest: Manifest = served.manifest
    rows = draw_rows(manifest, 1)
    inputs = []
    for column, tensor in zip(manifest.columns, served.inputs, strict=False):
        values = rows[column.name] if isinstance(rows, dict) else rows
        data = values.reshape(-1).tolist()
        inputs.append({**tensor, "shape": [1, tensor["shape"][1]], "data": data})
    return {"inputs": inputs}
