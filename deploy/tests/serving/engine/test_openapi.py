"""The OpenAPI document describes the inputs of the models, with valid examples."""

import pytest

httpx = pytest.importorskip("httpx")
jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("starlette")

from prometheus_client import CollectorRegistry  # noqa: E402


@pytest.fixture
def document(table_bundle, make_regressor, make_image_bundle, tmp_path):
    """Of three hand-made bundles, without a server."""
    from skmode_deploy.serving.engine.openapi import describe
    from skmode_deploy.serving.engine.service import Service
    from skmode_deploy.serving.observe.metrics import Metrics
    from skmode_deploy.serving.settings import Settings

    array = make_regressor(2)
    (tmp_path / "models").mkdir()
    for bundle in (table_bundle, array, make_image_bundle("hwc", channels=3)):
        bundle.rename(tmp_path / "models" / bundle.name)
    service = Service(Settings(str(tmp_path / "models")), Metrics(CollectorRegistry()))
    events = service.repository.scan()
    assert [event.kind for event in events].count("failed") == 0
    yield describe(service)
    service.close()


def schema(document, model):
    operation = document["paths"][f"/v2/models/{model}/infer"]["post"]
    return operation["requestBody"]["content"]["application/json"]


def test_the_routes_of_the_models_are_there(document):
    assert document["openapi"].startswith("3.1")
    assert {"/v2/models/table/infer", "/v2/models/array/infer", "/v2", "/v2/models",
            "/v2/health/live", "/v2/health/ready", "/v2/models/{name}"} <= set(
        document["paths"])  # fmt: skip


@pytest.mark.parametrize("model", ["table", "array", "images"])
def test_the_example_fits_the_schema(document, model):
    content = schema(document, model)
    jsonschema.Draft202012Validator.check_schema(content["schema"])
    jsonschema.validate(content["example"], content["schema"])


def test_inputs_are_those_of_the_manifest(document):
    inputs = schema(document, "table")["schema"]["properties"]["inputs"]
    assert inputs["minItems"] == inputs["maxItems"] == 3
    found = {
        item["properties"]["name"]["const"]: item["properties"]["datatype"]["const"]
        for item in inputs["items"]["oneOf"]
    }
    assert found == {"age": "FP32", "city": "BYTES", "plan": "FP64"}
    outputs = schema(document, "array")["schema"]["properties"]["outputs"]["items"]
    assert outputs["properties"]["name"]["enum"] == ["variable", "expert", "gate_probability"]


def test_the_response_says_which_probability_is_of_which_class(document):
    def described(model):
        operation = document["paths"][f"/v2/models/{model}/infer"]["post"]
        return operation["responses"]["200"]["description"]

    assert described("table").endswith("the order of the classes: 10, 20, 30, 40.")
    assert described("array") == "The response."


def test_a_hundred_classes_are_named():
    from skmode_deploy.serving.engine.openapi import _name_classes

    assert _name_classes(tuple(range(102))).endswith(" 98, 99, and 2 more.")
    assert _name_classes(("a" * 101, "b")).endswith(f': "{"a" * 100}...", "b".')


@pytest.mark.parametrize(
    "change", [{"name": "height"}, {"datatype": "BYTES"}, {"shape": [1, 2]}, {"data": ["x"]}]
)
def test_invalid_requests_violate_the_schema(document, change):
    content = schema(document, "table")
    body = content["example"]
    body = {"inputs": [{**body["inputs"][0], **change}, *body["inputs"][1:]]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, content["schema"])


def test_every_operation_is_named_once(document):
    names = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(set(names)) == len(names)
    assert all(
        "422" not in operation["responses"]
        for path in document["paths"].values()
        for operation in path.values()
    )


def test_the_examples_get_predictions(server, credit_rows):
    document = httpx.get(f"{server.url}/openapi.json").json()
    for model in ("credit", "iris", "diabetes"):
        content = schema(document, model)
        jsonschema.validate(content["example"], content["schema"])
        response = httpx.post(f"{server.url}/v2/models/{model}/infer", json=content["example"])
        assert response.status_code == 200, response.text
    properties = schema(document, "credit")["schema"]["properties"]
    names = [item["properties"]["name"]["const"] for item in properties["inputs"]["items"]["oneOf"]]
    assert names == list(credit_rows)


def test_a_client_made_from_the_document_knows_where_the_token_goes(document):
    """With tokens or without: the server may have none, and probes send none."""
    assert document["security"] == [{}, {"token": []}]
    scheme = document["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    without = {
        path
        for path, each in document["paths"].items()
        if each.get("get", {}).get("security") == []
    }
    assert without == {"/", "/v2/health/live", "/v2/health/ready"}


def test_every_route_of_the_server_is_described(server, document):
    """Those that no model answers, and the statuses that any may have."""
    for path in ("/", "/openapi.json", "/metrics"):
        assert httpx.get(server.url + path).status_code == 200
        assert {"200", "401", "500"} <= document["paths"][path]["get"]["responses"].keys()
