"""Requests to a bundle: accepted inputs, and the messages for others."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("orjson")

from skmode_deploy import load
from skmode_deploy.serving.models.model import ServedModel, label_datatype
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.requests import Request
from skmode_deploy.serving.protocol.tensors import DTYPES, Tensor


def tensor(name, datatype, values, shape=None):
    array = np.array(values, DTYPES[datatype])
    return Tensor(name, datatype, array if shape is None else array.reshape(shape))


def score(served, tensors, **options):
    request = Request(tensors, **options)
    return served.score(request, served.read_rows(request))


def values(scored):
    return {output.name: output.values for output in scored.response.outputs}


@pytest.fixture
def table(table_bundle):
    """Answers with the code of the city; the expert is 1 where age or plan are missing."""
    return ServedModel("churn", 3, load(table_bundle), max_rows=100)


@pytest.fixture
def array(make_regressor):
    """Answers with the first column; the expert is the largest one."""
    return ServedModel("price", 1, load(make_regressor()))


ROWS = (
    ("age", "FP32", [30.0, np.nan, 40.0]),
    ("city", "BYTES", ["Köln", "", "Rom"]),
    ("plan", "FP64", [1.0, 2.0, np.nan]),
)


def rows(**change):
    """Tensors of three rows; `change` replaces or, where None, removes one of them."""
    plain = {name: tensor(name, datatype, cells) for name, datatype, cells in ROWS}
    return [value for value in (plain | change).values() if value is not None]


def test_metadata(table):
    assert table.metadata() == {
        "name": "churn",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "plan", "datatype": "FP64", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "label", "datatype": "INT32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "expert", "datatype": "INT64", "shape": [-1]},
            {"name": "gate_probability", "datatype": "FP32", "shape": [-1]},
        ],
    }


def test_metadata_of_a_regression(make_regressor):
    served = ServedModel("price", 1, load(make_regressor(2)))
    assert served.inputs == [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}]
    assert served.outputs[0] == {"name": "variable", "datatype": "FP32", "shape": [-1, 2]}


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [("<i8", "INT64"), ("<i4", "INT32"), ("|u1", "UINT8"), ("<f8", "FP64"), ("|b1", "BOOL"),
     ("<U7", "BYTES"), ("|O", "BYTES")],
)  # fmt: skip
def test_labels_have_a_type_of_the_protocol(dtype, datatype):
    assert label_datatype(dtype) == datatype


@pytest.mark.parametrize("shape", [None, (3, 1)])
def test_one_tensor_for_each_column(table, shape):
    tensors = [tensor(name, datatype, cells, shape) for name, datatype, cells in ROWS]
    scored = score(table, tensors[::-1], id="r1")
    found = values(scored)
    assert found["label"].tolist() == [40, 10, 20]
    assert found["probabilities"].argmax(axis=1).tolist() == [3, 0, 1]
    assert found["expert"].tolist() == [0, 1, 1]
    assert found["gate_probability"].tolist() == [0.75] * 3
    assert scored.response.model == "churn"
    assert scored.response.version == "3"
    assert scored.response.id == "r1"


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES"}))
def test_numbers_of_every_type(table, array, datatype):
    found = values(score(table, rows(age=tensor("age", datatype, [1, 0, 1]))))
    assert found["label"].tolist() == [40, 10, 20]
    found = values(score(array, [tensor("X", datatype, [[1, 0, 0]])]))
    assert found["variable"].tolist() == [[1]]


def test_one_tensor_of_an_array_or_one_for_each_column(array):
    X = np.array([[1, 2, 3], [9, 8, 7]], np.float32)
    whole = values(score(array, [Tensor("X", "FP32", X)]))
    apart = values(score(array, [tensor(f"x{i}", "FP64", X[:, i]) for i in (2, 0, 1)]))
    assert whole["variable"].tolist() == [[1], [9]]
    assert whole["expert"].tolist() == [2, 0]
    for name in whole:
        assert_array_equal(apart[name], whole[name])


@pytest.mark.parametrize("outputs", [["label"], ["gate_probability", "expert"]])
def test_outputs_are_chosen(table, outputs):
    scored = score(table, rows(), outputs=dict.fromkeys(outputs, False))
    assert list(values(scored)) == outputs
    assert scored.response.binary == frozenset()


def test_outputs_as_bytes(table):
    assert score(table, rows(), binary=True).response.binary == {
        "label", "probabilities", "expert", "gate_probability"
    }  # fmt: skip
    scored = score(table, rows(), outputs={"label": True, "expert": False}, binary=True)
    assert scored.response.binary == {"label"}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (rows(age=None), 'must be those of the model, got none called "age": send "age", "city"'),
        (rows(size=tensor("size", "FP32", [1] * 3)), 'got "size" as well: send "age", "city"'),
        ([*rows(), rows()[0]], 'must have different names, got "age" more than once'),
        (rows(city=tensor("city", "FP32", [1] * 3)), "'city' must be of BYTES, got FP32"),
        (rows(age=tensor("age", "BYTES", ["1", "2", "old"])), "'age' must hold numbers.*'old'"),
        (rows(age=tensor("age", "FP32", [1] * 4)), "same number of rows, got 3 and 4"),
        (rows(age=tensor("age", "FP32", [1] * 6, (3, 2))),
         r"'age' must have the shape \[n, 1\] or \[n\], got \[3, 2\]"),
        (rows(age=tensor("age", "FP32", [np.inf] * 3)), "'age' must hold numbers that are finite"),
        (rows(age=tensor("age", "FP64", [1e39] * 3)), "'age' must hold numbers that are finite"),
    ],
)  # fmt: skip
def test_invalid_tables_are_refused(table, tensors, message):
    with pytest.raises(RequestError, match=message) as error:
        score(table, tensors)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([tensor("Y", "FP32", [[1, 2, 3]])], 'got none called "X": send "X"'),
        ([tensor("X", "FP32", [[1, 2]])], r"'X' must have the shape \[n, 3\], got \[1, 2\]"),
        ([tensor("X", "FP32", [1, 2, 3])], r"a single row has the shape \[1, 3\]"),
        ([tensor("X", "BYTES", [["1", "2", "old"]])], "X must hold numbers only.*'old'"),
        ([tensor("X", "FP32", [[1, 2, -np.inf]])], "finite as float32"),
        ([tensor("x0", "FP32", [1]), tensor("x1", "FP32", [1])], 'got none called "X"'),
        ([tensor("x0", "FP32", [1, 2]), tensor("x1", "FP32", [1]), tensor("x2", "FP32", [1])],
         "must have the same number of rows"),
    ],
)  # fmt: skip
def test_invalid_arrays_are_refused(array, tensors, message):
    with pytest.raises(RequestError, match=message):
        score(array, tensors)


def test_an_unknown_output_is_refused(table):
    with pytest.raises(RequestError, match='must be one of label, .*, got "variable"'):
        score(table, rows(), outputs={"variable": False})


@pytest.mark.parametrize("n_rows", [0, 101])
def test_rows_are_bounded(table, n_rows):
    tensors = [tensor(name, datatype, cells[:1] * n_rows) for name, datatype, cells in ROWS]
    with pytest.raises(RequestError, match=f"must have from 1 to 100 rows, got {n_rows}"):
        score(table, tensors)


def test_long_lists_of_names_are_cut(table):
    tensors = [tensor(f"n{i}", "FP32", [1]) for i in range(50)]
    with pytest.raises(RequestError) as error:
        score(table, [*rows(), *tensors])
    assert "and 45 more" in error.value.reason
    assert len(error.value.reason) < 400
