"""Values of tensors: what is read from lists and bytes, what is written, what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("orjson")

from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.tensors import DTYPES, from_bytes, from_list, to_bytes

NUMBERS = sorted(set(DTYPES) - {"BYTES", "BOOL"})


# Values


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_round_trip_as_bytes(datatype):
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
def test_strings_round_trip_as_bytes(texts):
    values = np.array(texts, object)
    read = from_bytes("a", "BYTES", [len(texts)], to_bytes("BYTES", values))
    assert read.values.tolist() == texts
    assert read.values.dtype == object


def test_strings_are_prefixed_by_their_length():
    assert to_bytes("BYTES", np.array(["ab", ""], object)) == b"\2\0\0\0ab\0\0\0\0"


def test_booleans():
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
    images = np.arange(48).reshape(2, 4, 2, 3)
    for data in (images.tolist(), images.ravel().tolist()):
        assert_array_equal(from_list("a", "UINT8", [2, 4, 2, 3], data).values, images)


# Values that are refused: the rule, the value and the fix


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", [3], [1, 2], r'Input "a" must have as many values as its shape \[3\] says, 3, '
         "got 2: correct the shape or the data"),
        ("FP32", [1], ["1"], 'of FP32 must hold numbers, and null for missing, got "1"'),
        ("FP32", [1], [True],
         "must hold numbers, and null for missing, got true: send 1 or 0, or make the datatype "
         "BOOL"),
        ("FP32", [2], [None, "1"], 'got "1": correct the data or the datatype'),
        ("BYTES", [1], [True], "got true: correct the data or the datatype"),
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
        ("FP32", [], [1], r"must have a shape of one to four whole numbers .*, got \[\]"),
        ("FP32", [1, 1, 1, 1, 1], [1], "must have a shape of one to four whole numbers"),
        ("FP32", [0, 2**31 - 1, 2**31 - 1, 1], [], "must have a shape of one to four"),
        ("FP32", [1, 2, 2], [[[1, 2], [3]]], r"must have nested data of its shape \[1, 2, 2\]"),
        ("FP32", [1, 2, 2], [[1, 2, 3, 4]], "must have nested data"),
        ("FP32", [-1], [1], "must have a shape of one to four whole numbers"),
        ("FP32", [1.0], [1], "must have a shape of one to four whole numbers"),
        ("FP32", [True], [1], "must have a shape of one to four whole numbers"),
        ("FP32", "1", [1], "must have a shape of one to four whole numbers"),
        ("FP32", [2**31, 2**31], [1], "must have a shape of one to four whole numbers"),
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
