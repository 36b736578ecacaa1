"""The OpenAPI document: routes of the protocol, and inputs and outputs of each model."""

import json
from typing import Any

import skmode_deploy
from skmode_deploy.bundle.manifest import Manifest
from skmode_deploy.running.random_rows import draw_rows
from skmode_deploy.serving.engine.completions.requests import NEUTRAL
from skmode_deploy.serving.engine.service import NAME, Service
from skmode_deploy.serving.models.model import ServedModel
from skmode_deploy.serving.protocol.errors import is_openai
from skmode_deploy.serving.protocol.tensors import DTYPES

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
NULL: Schema = {"type": "null"}
MAYBE_STRING: Schema = {"type": ["string", "null"]}
TRUE: Schema = {"const": True}
EVENTS: Schema = {"text/event-stream": {"schema": STRING}}
BYTES: Schema = {"type": "string", "format": "binary"}
MAX_EXAMPLE_VALUES = 4096  # of an image; larger ones would fill the document
MAX_NAMED_CLASSES, MAX_LABEL = 100, 100  # of a description, and characters of each


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PARAMETERS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_TENSOR = {"name": STRING, "datatype": STRING, "shape": _array(INTEGER)}
_DATA = {"type": "array", "items": {}}
SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": STRING}),
    "ServerMetadata": _object({"name": STRING, "version": STRING, "extensions": _array(STRING)}),
    "ModelMetadata": _object(
        {
            "name": STRING,
            "versions": _array(STRING),
            "platform": STRING,
            "inputs": _array(_object(_TENSOR)),
            "outputs": _array(_object(_TENSOR)),
        }
    ),
    "CompletionError": _object(
        {"error": _object({"message": STRING, "type": STRING, "param": NULL, "code": NULL})}
    ),
    "CompletionRequest": _object(
        {"model": STRING, "prompt": {"oneOf": [STRING, _array(STRING)]}},
        {
            "domain": STRING,
            "max_tokens": INTEGER,
            "n": INTEGER,
            "seed": INTEGER,
            "stop": {"oneOf": [STRING, _array(STRING)]},
            "stream": BOOLEAN,
            "stream_options": _object({}, {"include_usage": BOOLEAN}),
            "temperature": NUMBER,
            "top_k": INTEGER,
            "top_p": NUMBER,
            "user": STRING,
            **{name: {"enum": list(values)} for name, values in NEUTRAL.items()},
        },
    ),
    "Completion": _object(
        {
            "id": STRING,
            "object": STRING,
            "created": INTEGER,
            "model": STRING,
            "choices": _array(
                _object(
                    {
                        "index": INTEGER,
                        "text": STRING,
                        "logprobs": NULL,
                        "finish_reason": MAYBE_STRING,
                        "domain": MAYBE_STRING,
                    }
                )
            ),
            "usage": _object(
                {"prompt_tokens": INTEGER, "completion_tokens": INTEGER, "total_tokens": INTEGER}
            ),
        }
    ),
    "InferenceRequest": _object(
        {"inputs": _array(_object({**_TENSOR, "data": _DATA}, {"parameters": _PARAMETERS}))},
        {
            "id": STRING,
            "parameters": _PARAMETERS,
            "outputs": _array(_object({"name": STRING}, {"parameters": _PARAMETERS})),
        },
    ),
    "InferenceResponse": _object(
        {
            "model_name": STRING,
            "model_version": STRING,
            "outputs": _array(_object(_TENSOR, {"data": _DATA, "parameters": _PARAMETERS})),
        },
        {"id": STRING},
    ),
}
REFUSALS = {
    "400": "The request does not fit the protocol or the model.",
    "401": "The token is missing or wrong.",
    "403": "Management is not open.",
    "404": "There is no such model or route.",
    "405": "The route does not accept this method.",
    "408": "The request arrived too slowly.",
    "409": "The model cannot be loaded.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "431": "The header is too large.",
    "500": "The server failed.",
    "503": "Too many requests, or not ready.",
    "504": "The response took too long.",
}
_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"
_READY = _object({"name": STRING, "ready": TRUE})
_LANGUAGE_MODEL = _object({"id": STRING, "object": STRING, "created": INTEGER, "owned_by": STRING})
# path: (operation, summary, schema of the response)
GETS: dict[str, tuple[str, str, Schema]] = {
    "/": ("root", "Tell whether the server runs, for simple probes", _object({"status": STRING})),
    "/openapi.json": ("openapi", "Describe the routes, as here", {"type": "object"}),
    "/v2": ("server_metadata", "Describe the server", _reference("ServerMetadata")),
    "/v2/": ("server_metadata_slash", "The same as /v2", _reference("ServerMetadata")),
    "/v2/health/live": ("live", "Tell whether the server runs", _object({"live": TRUE})),
    "/v2/health/ready": (
        "ready", "Tell whether the server takes requests; 503 if not", _object({"ready": TRUE})),
    "/v2/models": ("models", "List the models", _object({"models": _array(STRING)})),
    _MODEL: ("model_metadata", "Describe a model", _reference("ModelMetadata")),
    _VERSION: ("version_metadata", "Describe a version", _reference("ModelMetadata")),
    f"{_MODEL}/ready": ("model_ready", "Tell whether a model is ready; 404 if not", _READY),
    f"{_VERSION}/ready": ("version_ready", "Tell whether a version is ready; 404 if not", _READY),
    "/v1/models": (
        "language_models", "List the language models",
        _object({"object": STRING, "data": _array(_LANGUAGE_MODEL)})),
    "/v1/models/{name}": ("language_model", "Describe a language model", _LANGUAGE_MODEL),
}  # fmt: skip
_STATE = _object({"name": STRING, "version": STRING, "state": STRING, "reason": STRING})
POSTS: dict[str, tuple[str, str, Schema]] = {
    "/v2/repository/index": (
        "index", "List all models with their state, with --management", _array(_STATE)),
    "/v2/repository/models/{name}/load": (
        "load", "Load a model, with --management", _object({"name": STRING, "load": BOOLEAN})),
    "/v2/repository/models/{name}/unload": (
        "unload", "Unload a model, with --management",
        _object({"name": STRING, "unload": BOOLEAN})),
}  # fmt: skip
# These need no token: probes ask for them.
OPEN = ("/", "/v2/health/live", "/v2/health/ready")
TEXT: Schema = {"text/plain": {"schema": STRING}}
ABOUT = (
    "Where a path has the name of a model, a version may stand behind it, as in `credit@1`, except "
    "to load and unload; so it may in `model` of a completion. Each response has the header "
    "`X-Request-Id`: that of the request if it has at most 128 letters, digits and characters of "
    "`._:-`, else a new one."
)


class DocumentCache:
    """The document of a server, written anew when other models serve."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._key: Any = None
        self._document: Schema = {}

    def get(self) -> Schema:
        """Return the document."""
        service = self._service
        key = tuple((name, id(service.get(name))) for name in service.repository.names())
        if key != self._key:
            self._document = describe(service)
            self._key = key
        return self._document


def describe(service: Service) -> Schema:
    """Describe the routes of a server, and those of its models."""
    paths: dict[str, Schema] = {}
    for method, operations in (("get", GETS), ("post", POSTS)):
        for path, (name, summary, schema) in operations.items():
            paths[path] = {method: _operation(path, name, summary, _json(schema))}
    metrics = "Read the metrics for Prometheus, unless they have a port of their own"
    paths["/metrics"] = {"get": _operation("/metrics", "metrics", metrics, TEXT)}
    for path in OPEN:
        paths[path]["get"]["security"] = []
    either = {"application/octet-stream": {"schema": BYTES}}
    for path, name in ((f"{_MODEL}/infer", "infer"), (f"{_VERSION}/infer", "infer_version")):
        response = {**_json(_reference("InferenceResponse")), **either}
        operation = _operation(path, name, "Predict rows", response)
        content = {**_json(_reference("InferenceRequest")), **either}
        operation["requestBody"] = {"required": True, "content": content}
        paths[path] = {"post": operation}
    response = {**_json(_reference("Completion")), **EVENTS}
    operation = _operation(
        "/v1/completions", "complete", "Continue texts; with `stream`, as events", response
    )
    content = _json(_reference("CompletionRequest"))
    operation["requestBody"] = {"required": True, "content": content}
    paths["/v1/completions"] = {"post": operation}
    for name in service.repository.names():
        path, served = f"/v2/models/{name}/infer", service.get(name).served
        if isinstance(served, ServedModel):
            paths[path] = {"post": _infer_operation(path, served)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": NAME,
            "summary": "Models that skmode exported, by the Open Inference Protocol V2",
            "description": ABOUT,
            "version": skmode_deploy.__version__,
        },
        "paths": paths,
        # A client that is generated from this document then has a place for a token.
        "security": [{}, {"token": []}],
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A line of --token-file, if the server has one.",
                }
            },
        },
    }


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(path: str, name: str, summary: str, response: Schema) -> Schema:
    error = "CompletionError" if is_openai(path) else "Error"
    refusals = {
        code: {"description": text, "content": _json(_reference(error))}
        for code, text in REFUSALS.items()
    }
    parameters = [
        {"name": part, "in": "path", "required": True, "schema": STRING}
        for part in ("name", "version")
        if f"{{{part}}}" in path
    ]
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": {"description": "The response.", "content": response}, **refusals},
    }


def _infer_operation(path: str, served: ServedModel) -> Schema:
    is_image = served.manifest.image is not None
    columns = served.manifest.columns
    of_images = {column.input for column in columns if column.image is not None}
    tensors = [
        _describe_tensor(tensor, may_miss=not is_image and tensor["name"] not in of_images)
        for tensor in served.inputs
    ]
    for column, tensor in zip(columns, tensors, strict=False):
        if column.text is not None:  # a character has at least one byte
            tensor["properties"]["data"]["items"]["maxLength"] = column.text.max_bytes
    inputs = {
        "type": "array",
        "minItems": len(tensors),
        "maxItems": len(tensors),
        "items": {"oneOf": tensors} if len(tensors) > 1 else tensors[0],
    }
    output = _object({"name": {"enum": [output["name"] for output in served.outputs]}})
    schema = _object({"inputs": inputs}, {"id": STRING, "outputs": _array(output)})
    operation = _operation(
        path,
        f"infer_{served.name}",
        f"Predict rows with {served.name}, version {served.version}",
        _json(_reference("InferenceResponse")),
    )
    if served.manifest.classes is not None:
        operation["responses"]["200"]["description"] = _name_classes(served.manifest.classes.values)
    content = {"schema": schema}
    if served.manifest.n_pixel_values <= MAX_EXAMPLE_VALUES:
        make = _make_image_example if is_image else _make_example
        content["example"] = make(served)
    return {
        **operation,
        "tags": [served.name],
        "requestBody": {"required": True, "content": {"application/json": content}},
    }


def _name_classes(values: tuple[Any, ...]) -> str:
    """Say which probability is of which class, which no output tells."""
    labels = [
        f"{value[:MAX_LABEL]}..." if isinstance(value, str) and len(value) > MAX_LABEL else value
        for value in values[:MAX_NAMED_CLASSES]
    ]
    named = json.dumps(labels, ensure_ascii=False, default=str)[1:-1]
    rest = len(values) - MAX_NAMED_CLASSES
    more = f", and {rest} more" if rest > 0 else ""
    return f"The response. Its probabilities are in the order of the classes: {named}{more}."


def _describe_tensor(tensor: Schema, may_miss: bool) -> Schema:
    kind = DTYPES[tensor["datatype"]].kind
    item = {"O": "string", "i": "integer", "u": "integer"}.get(kind, "number")
    sizes = tensor["shape"][1:]
    shape = {
        "type": "array",
        "prefixItems": [{"type": "integer", "minimum": 1}, *({"const": size} for size in sizes)],
        "minItems": len(tensor["shape"]),
        "maxItems": len(tensor["shape"]),
    }
    types = [item, "null"] if may_miss and kind not in "iu" else [item]
    return _object(
        {
            "name": {"const": tensor["name"]},
            "datatype": {"const": tensor["datatype"]},
            "shape": shape,
            "data": _array({"type": types}),
        }
    )


def _make_image_example(served: ServedModel) -> Schema:
    tensor = served.inputs[0]
    data = draw_rows(served.manifest, 1).reshape(-1).tolist()
    return {"inputs": [{**tensor, "shape": [1, *tensor["shape"][1:]], "data": data}]}


def _make_example(served: ServedModel) -> Schema:
    """Make a row up from the manifest; none of training."""
    manifest: Manifest = served.manifest
    rows = draw_rows(manifest, 1)
    inputs = []
    for column, tensor in zip(manifest.columns, served.inputs, strict=False):
        values = rows[column.name] if isinstance(rows, dict) else rows
        if column.image is not None:
            values = values[0]
        data = values.reshape(-1).tolist()
        inputs.append({**tensor, "shape": [1, *tensor["shape"][1:]], "data": data})
    return {"inputs": inputs}
