"""Random requests: some from the published document, some from random bytes."""

import itertools

import numpy as np
import orjson
import pytest

hypothesis = pytest.importorskip("hypothesis")
schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as messages  # noqa: E402
from skmode_deploy.serving.engine.grpc_service.messages import read_message  # noqa: E402
from skmode_deploy.serving.protocol.errors import RequestError  # noqa: E402
from skmode_deploy.serving.protocol.requests import read_request  # noqa: E402
from skmode_deploy.serving.protocol.tensors import DTYPES, from_bytes  # noqa: E402

pytestmark = pytest.mark.slow
MANY = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DATATYPES = st.sampled_from([*DTYPES, "", "FP8", "bytes"])
SIZES = st.one_of(
    st.integers(-2, 6),
    st.sampled_from([2**31 - 1, 2**31, 2**63 - 1, -(2**63), 10**12]),
)
SHAPES = st.lists(SIZES, max_size=5)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)
BYTES = st.binary(max_size=64)


def mostly(strategy):
    """The strategy as a rule, and anything at all now and then."""
    return st.integers(0, 9).flatmap(lambda i: JSON if i == 0 else strategy)


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "name": mostly(st.text(max_size=5)),
        "datatype": mostly(DATATYPES),
        "shape": mostly(SHAPES),
        "data": mostly(st.lists(SCALARS | st.lists(SCALARS, max_size=4), max_size=8)),
        "parameters": mostly(
            st.dictionaries(st.just("binary_data_size"), st.integers(-1, 70) | JSON)
        ),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": mostly(st.lists(mostly(ITEMS), max_size=3))},
    optional={
        "id": JSON,
        "outputs": mostly(st.lists(mostly(st.fixed_dictionaries({"name": mostly(st.text())})))),
        "parameters": mostly(st.dictionaries(st.just("binary_data_output"), JSON)),
    },
)


def check_request(read):
    """A request, or why it is none; whatever else is raised fails the test."""
    refusal = None
    try:
        request = read()
    except RequestError as error:
        refusal = error
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert orjson.dumps(refusal.reason) != b'""'  # it can be sent
        return
    for tensor in request.inputs:
        assert tensor.values.dtype == DTYPES[tensor.datatype]


@settings(MANY, max_examples=4000)
@given(document=DOCUMENTS, rest=BYTES, length=st.none() | st.integers(-2, 400), exact=st.booleans())
def test_json_documents(document, rest, length, exact):
    try:
        text = orjson.dumps(document)
    except TypeError:  # integers that JSON may have and orjson does not write
        text = b'{"inputs": [{"name": "X", "shape": [1], "data": [99999999999999999999]}]}'
    check_request(lambda: read_request(text + rest, len(text) if exact else length))


@settings(MANY, max_examples=2000)
@given(body=st.binary(max_size=200), length=st.none() | st.integers(-1, 200))
def test_bytes_instead_of_json(body, length):
    check_request(lambda: read_request(body, length))


@settings(MANY, max_examples=2000)
@given(name=st.text(max_size=5), datatype=DATATYPES, shape=SHAPES, data=st.binary(max_size=48))
def test_bytes_of_tensors(name, datatype, shape, data):
    try:
        tensor = from_bytes(name, datatype, shape, data)
    except RequestError:
        return
    assert list(tensor.values.shape) == shape


@settings(MANY, max_examples=2000)
@given(
    datatype=st.sampled_from(list(DTYPES)),
    rows=st.integers(1, 4),
    width=st.integers(1, 3),
    draw=st.data(),
)
def test_values_round_trip(datatype, rows, width, draw):
    """What is a tensor is read as such, from JSON and from bytes."""
    dtype = DTYPES[datatype]
    n_values = rows * width
    if datatype == "BYTES":
        values = draw.draw(st.lists(st.text(max_size=5), min_size=n_values, max_size=n_values))
        data = b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)
        expected = np.array(values, object).reshape(rows, width)
    else:
        data = draw.draw(
            st.binary(min_size=n_values * dtype.itemsize, max_size=n_values * dtype.itemsize)
        )
        if datatype == "BOOL":
            data = bytes(byte & 1 for byte in data)
        expected = np.frombuffer(data, dtype).reshape(rows, width)
    tensor = from_bytes("X", datatype, [rows, width], data)
    np.testing.assert_array_equal(tensor.values, expected)
    if dtype.kind == "f":
        expected = np.where(np.isfinite(expected), expected, 0)
    item = {"name": "X", "datatype": datatype, "shape": [rows, width], "data": expected.tolist()}
    request = read_request(orjson.dumps({"inputs": [item]}), None)
    np.testing.assert_array_equal(request.inputs[0].values, expected)


MESSAGES = st.builds(
    lambda name, datatype, shape, contents: messages.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=contents
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    DATATYPES,
    st.lists(st.integers(-2, 6) | st.sampled_from([2**63 - 1, -(2**63)]), max_size=4),
    st.builds(
        messages.InferTensorContents,
        bool_contents=st.lists(st.booleans(), max_size=3),
        int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=3),
        uint64_contents=st.lists(st.integers(0, 2**64 - 1), max_size=3),
        fp32_contents=st.lists(st.floats(width=32), max_size=3),
        fp64_contents=st.lists(st.floats(), max_size=3),
        bytes_contents=st.lists(st.binary(max_size=5), max_size=3),
    )
    | st.none(),
)


@settings(MANY, max_examples=2000)
@given(inputs=st.lists(MESSAGES, max_size=3), raw=st.lists(BYTES, max_size=3))
def test_messages(inputs, raw):
    message = messages.ModelInferRequest(inputs=inputs, raw_input_contents=raw)
    check_request(lambda: read_message(message))


def operations(server):
    """Those of the published document, which is OpenAPI 3."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return [result.ok() for result in schema.get_all_operations()]


def test_published_document(server):
    """Whatever is made up for a route gets an answer that the document foresees, and no 5xx."""
    codes = {}
    found = operations(server)
    assert {"/v2", "/v2/models/iris/infer", "/v2/models/{name}/infer"} <= {
        operation.path for operation in found
    }
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for operation, mode in itertools.product(found, modes):

        def ask(case):
            response = case.call()
            case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])
            codes.setdefault(response.status_code, []).append(case.path)
            assert "Traceback" not in response.text
            assert "<class" not in response.text

        strategy = operation.as_strategy(generation_mode=mode)
        try:
            settings(MANY, max_examples=60)(given(case=strategy)(ask))()
        except hypothesis.errors.Unsatisfiable:
            continue  # a route without parameters cannot be asked wrongly
    assert set(codes) <= {200, 400, 403, 404, 405, 409, 413}
    assert len(codes[400]) >= 50
    assert "/v2/models/iris/infer" in codes[200]
