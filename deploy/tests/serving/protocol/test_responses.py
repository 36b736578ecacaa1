"""Responses by REST: what is written."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("orjson")

from skmode_deploy.serving.protocol.requests import read_request
from skmode_deploy.serving.protocol.responses import Response, write_response
from skmode_deploy.serving.protocol.tensors import Tensor

OUTPUTS = (
    Tensor("label", "BYTES", np.array(["good", "Köln"], object)),
    Tensor("probabilities", "FP32", np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)),
    Tensor("expert", "INT64", np.array([3, 0])),
    Tensor("flag", "BOOL", np.array([True, False])),
    Tensor("half", "FP16", np.array([0.5, 2], np.float16)),
)


def test_a_response_in_json():
    content, length = write_response(Response("credit", "2", OUTPUTS, id="r1"))
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


def test_a_response_without_an_id_has_none():
    content, _ = write_response(Response("credit", "2", OUTPUTS))
    assert "id" not in json.loads(content)


def test_a_response_with_bytes_can_be_read():
    names = frozenset(["label", "probabilities", "expert", "flag", "half"])
    content, length = write_response(Response("credit", "2", OUTPUTS, binary=names))
    document = json.loads(content[:length])
    as_inputs = json.dumps({"inputs": document["outputs"]}).encode()
    request = read_request(as_inputs + content[length:], len(as_inputs))
    for written, read in zip(OUTPUTS, request.inputs, strict=True):
        assert read[:2] == written[:2]
        assert_array_equal(read.values, written.values)


def test_outputs_in_fortran_order_are_written_in_rows():
    values = np.asfortranarray([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    response = Response("a", "1", [Tensor("p", "FP32", values)])
    assert json.loads(write_response(response)[0])["outputs"][0]["data"] == [1, 2, 3, 4]
