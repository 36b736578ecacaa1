"""Tensors of the protocol: what is read, what is written, and what is refused."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("orjson")

from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.tensors import (
    DTYPES,
    Answer,
    Tensor,
    from_bytes,
    from_list,
    read_request,
    shorten,
    to_bytes,
    write_answer,
)

NUMBERS = sorted(set(DTYPES) - {"BYTES", "BOOL"})


def body(*inputs, **more):
    return json.dumps({"inputs": inputs, **more}).encode()


def tensor(**change):
    plain = {"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]}
    return {**plain, **change}


# Values


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_come_back_from_bytes(datatype):
    values = np.array([[0, 1], [2, 100]], DTYPES[datatype])
    data = to_bytes(datatype, values)
    assert len(data) == values.nbytes
    read = from_bytes("a", datatype, [2, 2], data)
    assert read.values.dtype == DTYPES[datatype]
    assert_array_equal(read.values, values)
    assert_array_equal(from_list("a", datatype, [2, 2], values.tolist()).values, values)


def test_bytes_are_little_endian_and_in_rows():
    values = np.asfortranarray([[1, 2], [3, 4]], dtype=">i4")
    data = to_bytes("INT32", values)
    assert data == b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"


@pytest.mark.parametrize("texts", [["", "a", "Köln", "\x00", "🦓" * 300], [""], []])
def test_strings_come_back_from_bytes(texts):
    values = np.array(texts, object)
    read = from_bytes("a", "BYTES", [len(texts)], to_bytes("BYTES", values))
    assert read.values.tolist() == texts
    assert read.values.dtype == object


def test_a_string_has_its_length_before_it():
    assert to_bytes("BYTES", np.array(["ab", ""], object)) == b"\2\0\0\0ab\0\0\0\0"


def test_truth_values():
    read = from_list("a", "BOOL", [2, 1], [True, False])
    assert read.values.tolist() == [[True], [False]]
    assert from_bytes("a", "BOOL", [2], b"\1\0").values.tolist() == [True, False]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_missing_in_floats(datatype):
    values = from_list("a", datatype, [2], [None, 1]).values
    assert np.isnan(values[0])
    assert values[1] == 1


def test_null_is_missing_in_strings():
    assert from_list("a", "BYTES", [2], [None, "x"]).values.tolist() == ["", "x"]


def test_floats_keep_their_precision():
    number = 0.1 + 2**-50
    assert from_list("a", "FP64", [1], [number]).values[0] == number
    assert from_list("a", "FP32", [1], [number]).values[0] == np.float32(number)


def test_nested_data_are_read_in_rows():
    read = from_list("a", "INT64", [2, 3], [[1, 2, 3], [4, 5, 6]])
    assert read.values.tolist() == [[1, 2, 3], [4, 5, 6]]


# Values that are refused: the rule, the value and the fix


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", [3], [1, 2], r'Input "a" must have as many values as its shape \[3\] says, 3, '
         "got 2: correct the shape or the data"),
        ("FP32", [1], ["1"], 'of FP32 must hold numbers, and null for missing, got "1"'),
        ("FP32", [1], [True], "must hold numbers, and null for missing, got true"),
        ("INT64", [1], [1.5], "of INT64 must hold whole numbers, got 1.5"),
        ("INT64", [1], [None], "must hold whole numbers, got null"),
        ("INT64", [1], [True], "must hold whole numbers, got true"),
        ("BOOL", [1], [1], "of BOOL must hold true and false, got 1"),
        ("BYTES", [1], [1], "of BYTES must hold strings, and null for missing, got 1"),
        ("UINT8", [1], [256], "must hold numbers that UINT8 can represent"),
        ("UINT8", [1], [-1], "must hold numbers that UINT8 can represent"),
        ("INT64", [1], [2**63], "must hold numbers that INT64 can represent"),
        ("FP32", [2, 2], [[1, 2], [3]], r"must have nested data of its shape \[2, 2\]"),
        ("FP32", [2, 2], [[1, 2], 3, 4], "must have nested data"),
        ("FP32", [2], [[1], [2]], "must have nested data"),
        ("FP32", [1], [[[1]]], "must have nested data|must hold numbers"),
        ("FP32", [1, 1], [[[1]]], "must hold numbers"),
        ("FP32", [1], None, 'must have its values as a list "data", got null'),
        ("FP32", [1], {"0": 1}, 'must have its values as a list "data"'),
        ("FP31", [1], [1], r"must have one of the datatypes BOOL, .*BYTES, got \"FP31\""),
        (None, [1], [1], "must have one of the datatypes .* got null"),
        (["FP32"], [1], [1], "must have one of the datatypes"),
        ("FP32", [], [1], r"must have a shape of one or two whole numbers .*, got \[\]"),
        ("FP32", [1, 1, 1], [1], "must have a shape of one or two whole numbers"),
        ("FP32", [-1], [1], "must have a shape of one or two whole numbers"),
        ("FP32", [1.0], [1], "must have a shape of one or two whole numbers"),
        ("FP32", [True], [1], "must have a shape of one or two whole numbers"),
        ("FP32", "1", [1], "must have a shape of one or two whole numbers"),
        ("FP32", [2**31, 2**31], [1], "must have a shape of one or two whole numbers"),
        ("FP32", [2**30, 2**30], [1], "must have as many values as its shape"),
    ],
)  # fmt: skip
def test_a_bad_list(datatype, shape, data, message):
    with pytest.raises(RequestError, match=message) as error:
        from_list("a", datatype, shape, data)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        (
            "FP32",
            [2],
            b"\0" * 7,
            r"must have as many bytes as its shape \[2\] of FP32 takes, 8, "
            "got 7: send all values, little endian",
        ),
        ("FP32", [2], b"\0" * 9, "takes, 8, got 9"),
        ("INT64", [10**9], b"", "takes, 8000000000, got 0"),
        ("BOOL", [2], b"\0\2", "must have bytes that are 0 or 1, got 2"),
        ("BYTES", [1], b"", "must be 1 strings, each after its length in 4 bytes"),
        ("BYTES", [1], b"\2\0\0\0a", "must be 1 strings"),
        ("BYTES", [1], b"\1\0\0\0ab", "must be 1 strings"),
        ("BYTES", [2], b"\1\0\0\0a\1\0\0", "must be 2 strings"),
        ("BYTES", [1], b"\xff\xff\xff\xffa", "must be 1 strings"),
        ("BYTES", [2**31 - 1], b"\0" * 8, "must be 2147483647 strings"),
        ("BYTES", [1], b"\2\0\0\0\xff\xfe", "must hold strings in UTF-8, got other bytes"),
    ],
)
def test_bad_bytes(datatype, shape, data, message):
    with pytest.raises(RequestError, match=message):
        from_bytes("a", datatype, shape, data)


# Requests


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


def test_null_is_what_a_client_leaves_out():
    plain = read_request(body(tensor()), None)
    request = read_request(
        body(tensor(parameters=None), id=None, parameters=None, outputs=None), None
    )
    assert request._replace(inputs=[]) == plain._replace(inputs=[])
    assert request.id == ""


@pytest.mark.parametrize("outputs", [None, []])
def test_no_outputs_are_all(outputs):
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


def test_bytes_that_are_left_over_are_refused():
    document = body(tensor())
    with pytest.raises(RequestError, match="must be those of the tensors, 0, got 3: state each"):
        read_request(document + b"abc", len(document))


@pytest.mark.parametrize("levels", [17, 500])
def test_depth_is_bounded(levels):
    deep = b'{"inputs": ' + b"[" * levels + b"]" * levels + b"}"
    with pytest.raises(RequestError, match="nested at most 16 levels deep"):
        read_request(deep, None)


def test_a_refusal_shows_only_the_start_of_a_long_value():
    text = shorten("x" * 10**6)
    assert len(text) < 100
    assert text.endswith("...")


# Answers


OUTPUTS = (
    Tensor("label", "BYTES", np.array(["good", "Köln"], object)),
    Tensor("probabilities", "FP32", np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)),
    Tensor("expert", "INT64", np.array([3, 0])),
    Tensor("flag", "BOOL", np.array([True, False])),
    Tensor("half", "FP16", np.array([0.5, 2], np.float16)),
)


def test_an_answer_in_json():
    content, length = write_answer(Answer("credit", "2", OUTPUTS, id="r1"))
    assert length is None
    document = json.loads(content)
    assert document["model_name"] == "credit"
    assert document["model_version"] == "2"
    assert document["id"] == "r1"
    assert document["outputs"][0] == {
        "name": "label", "datatype": "BYTES", "shape": [2], "data": ["good", "Köln"]
    }  # fmt: skip
    assert document["outputs"][1]["data"] == [0.5, 0.5, 0.25, 0.75]
    assert document["outputs"][1]["shape"] == [2, 2]
    assert document["outputs"][3]["data"] == [True, False]
    assert document["outputs"][4]["data"] == [0.5, 2]


def test_an_answer_without_an_id_has_none():
    content, _ = write_answer(Answer("credit", "2", OUTPUTS))
    assert "id" not in json.loads(content)


def test_an_answer_with_bytes_can_be_read():
    names = frozenset(["label", "probabilities", "expert", "flag", "half"])
    content, length = write_answer(Answer("credit", "2", OUTPUTS, binary=names))
    document = json.loads(content[:length])
    as_inputs = json.dumps({"inputs": document["outputs"]}).encode()
    request = read_request(as_inputs + content[length:], len(as_inputs))
    for written, read in zip(OUTPUTS, request.inputs, strict=True):
        assert read[:2] == written[:2]
        assert_array_equal(read.values, written.values)


def test_outputs_in_fortran_order_are_written_in_rows():
    values = np.asfortranarray([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    answer = Answer("a", "1", [Tensor("p", "FP32", values)])
    assert json.loads(write_answer(answer)[0])["outputs"][0]["data"] == [1, 2, 3, 4]
