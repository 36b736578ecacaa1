"""Requests by REST: what is read, and what is refused."""

import json

import pytest

pytest.importorskip("orjson")

from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.requests import read_request


def body(*inputs, **more):
    return json.dumps({"inputs": inputs, **more}).encode()


def tensor(**change):
    plain = {"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]}
    return {**plain, **change}


def test_a_request():
    request = read_request(
        body(
            tensor(),
            tensor(name="b", datatype="BYTES", data=["x", None]),
            id="r1",
            outputs=[{"name": "label"}, {"name": "expert", "parameters": {"binary_data": True}}],
        ),
        None,
    )
    assert [t.name for t in request.inputs] == ["a", "b"]
    assert request.inputs[0].values.tolist() == [1, 2]
    assert request.outputs == {"label": False, "expert": True}
    assert request.id == "r1"
    assert request.binary is False


def test_a_request_with_bytes():
    document = body(
        {"name": "a", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}},
        tensor(name="b"),
        {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        parameters={"binary_data_output": True},
        outputs=[{"name": "label"}, {"name": "expert", "parameters": {"binary_data": False}}],
    )
    request = read_request(document + b"\1\0\2\0\1\0\0\0x", len(document))
    values = [t.values.tolist() for t in request.inputs]
    assert values == [[1, 2], [1.0, 2.0], ["x"]]
    assert request.binary is True
    assert request.outputs == {"label": True, "expert": False}


def test_null_equals_a_missing_field():
    plain = read_request(body(tensor()), None)
    request = read_request(
        body(tensor(parameters=None), id=None, parameters=None, outputs=None), None
    )
    assert request._replace(inputs=[]) == plain._replace(inputs=[])
    assert request.id == ""


@pytest.mark.parametrize("outputs", [None, []])
def test_empty_outputs_mean_all(outputs):
    assert read_request(body(tensor(), outputs=outputs), None).outputs is None


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (b"", None, "The body must be JSON"),
        (b"{", None, "The body must be JSON"),
        (b'{"inputs": [NaN]}', None, "NaN and Infinity are no JSON: a missing value is null"),
        (b"\xff\xfe{}", None, "The body must be JSON"),
        (b"[]", None, r'must be a JSON object with "inputs", got \[\]'),
        (b"{}", None, 'must have a list "inputs" of at least one tensor, got null'),
        (b'{"inputs": {}}', None, 'must have a list "inputs"'),
        (b'{"inputs": []}', None, 'must have a list "inputs"'),
        (b'{"inputs": [1]}', None, "An input must be an object with name, datatype"),
        (b"{}", 3, "must be the length of the JSON at the start of the body, from 1 to its 2"),
        (b"{}", 0, "got 0"),
        (body(tensor(name=1)), None, "The name of an input must be a string"),
        (body(tensor(name="a" * 1001)), None, "must be a string of at most 1000 characters"),
        (body(tensor(parameters=[])), None, 'must have an object as its "parameters"'),
        (body(tensor(), parameters=1), None, 'The body must have an object as its "parameters"'),
        (body(tensor(), id=1), None, 'The "id" of a request must be a string'),
        (body(tensor(), id=0), None, 'The "id" of a request must be a string'),
        (body(tensor(), id=False), None, 'The "id" of a request must be a string'),
        (body(tensor(), id=[]), None, 'The "id" of a request must be a string'),
        (body(tensor(), id="a" * 1001), None, "must be a string of at most 1000 characters"),
        (body(tensor(), outputs={"name": "a"}), None, '"outputs" of a request must be a list'),
        (body(tensor(), outputs=["label"]), None, '"outputs" of a request must be a list'),
        (body(tensor(), outputs=[{}]), None, "The name of an output must be a string"),
        (body(tensor(), outputs=[{"name": "a", "parameters": {"classification": 2}}]), None,
         "asked for as it is, got the parameter 'classification'"),
        (body(tensor(), outputs=[{"name": "a", "parameters": {"shared_memory_region": "r"}}]), None,
         "got the parameter 'shared_memory_region', an extension that this server lacks"),
        (body(tensor(parameters={"binary_data_size": 8})), None,
         "must have a binary_data_size from 0 to the 0 bytes that are left"),
        (body(tensor(parameters={"binary_data_size": -1})), None, "must have a binary_data_size"),
        (body(tensor(parameters={"binary_data_size": 0})), None,
         'must have either "data" or a binary_data_size, got both'),
    ],
)  # fmt: skip
def test_a_bad_request(content, length, message):
    with pytest.raises(RequestError, match=message):
        read_request(content, length)


def test_surplus_bytes_are_refused():
    document = body(tensor())
    with pytest.raises(RequestError, match="must be those of the tensors, 0, got 3: state each"):
        read_request(document + b"abc", len(document))


@pytest.mark.parametrize("levels", [17, 500])
def test_depth_is_bounded(levels):
    deep = b'{"inputs": ' + b"[" * levels + b"]" * levels + b"}"
    with pytest.raises(RequestError, match="nested at most 16 levels deep"):
        read_request(deep, None)
