"""Faulty requests are refused with a reason, and the next good one succeeds."""

import contextlib
import json
import re
import socket
import struct

import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")
grpc = pytest.importorskip("grpc")
from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as messages  # noqa: E402

MEBIBYTE = 2**20
GIGABYTE = 10**9
# Whatever could only come from the inside of the program.
INSIDE = re.compile(
    r"Traceback|<class|numpy|orjson|onnxruntime|skmode_deploy|protobuf|\.py\b|object at 0x"
    r"|\b[A-Z]\w*(Error|Exception)\b"
)
NUMPY = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT8": "i1", "BOOL": "?", "FP16": "<f2"}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
GRPC_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


def tensor(name, datatype, shape, values):
    return {"name": name, "datatype": datatype, "shape": list(shape), "values": values}


def iris(**changes):
    good = tensor("X", "FP32", [2, 4], [5.1, 3.5, 1.4, 0.2, 6.1, 2.8, 4.0, 1.3])
    return [{**good, **changes}]


def credit(**changes):
    """Two applicants; `changes` are of the column Home, or None to leave it out."""
    numbers = ["Seniority", "Time", "Age", "Expenses", "Income", "Assets", "Debt", "Amount"]
    words = {"Marital": "married", "Records": "no", "Job": "fixed"}
    tensors = [tensor(name, "FP32", [2, 1], [30, 40]) for name in [*numbers, "Price"]]
    tensors += [tensor(name, "BYTES", [2, 1], [word] * 2) for name, word in words.items()]
    home = tensor("Home", "BYTES", [2, 1], ["rent", "owner"])
    return tensors if changes.get("name", "") is None else [*tensors, {**home, **changes}]


def to_bytes(item):
    if item["datatype"] == "BYTES":
        texts = [value if isinstance(value, bytes) else value.encode() for value in item["values"]]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(item["values"], NUMPY.get(item["datatype"], "<f4")).tobytes()


class Json:
    """REST with values as JSON."""

    def __init__(self, server):
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=60)

    def post(self, body, model="iris", **headers):
        answer = self.client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
        text = answer.json()["error"] if answer.is_error else ""
        return answer.status_code, text

    def ask(self, model, tensors, outputs=()):
        inputs = []
        for item in tensors:
            item = dict(item)
            inputs.append({**item, "data": item.pop("values")})
        return self.post(json.dumps(self.document(inputs, outputs), allow_nan=False), model)

    def document(self, inputs, outputs):
        document = {"inputs": inputs}
        return document | {"outputs": [{"name": name} for name in outputs]} if outputs else document

    def close(self):
        self.client.close()


class Binary(Json):
    """REST with values as bytes."""

    def ask(self, model, tensors, outputs=()):
        inputs, rest = [], b""
        for item in tensors:
            data = to_bytes(item)
            item = {key: value for key, value in item.items() if key != "values"}
            inputs.append({**item, "parameters": {"binary_data_size": len(data)}})
            rest += data
        head = json.dumps(self.document(inputs, outputs)).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        return self.post(head + rest, model, **length)


class GrpcContents:
    """gRPC with typed values."""

    def __init__(self, server):
        self.server = server
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(server.grpc_address, options)

    def call(self, data, method="ModelInfer", **options):
        """Answer to bytes that may be no message."""
        call = self.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            call(data, timeout=60, **options)
        except grpc.RpcError as error:
            status = 400 if error.code() in GRPC_REFUSALS else error.code()
            return status, error.details()
        return 200, ""

    def ask(self, model, tensors, outputs=()):
        return self.call(self.message(model, tensors, outputs).SerializeToString())

    def message(self, model, tensors, outputs=()):
        request = messages.ModelInferRequest(model_name=model)
        for item in tensors:
            added = request.inputs.add(
                name=item["name"], datatype=item["datatype"], shape=item["shape"]
            )
            self.add_values(request, added, item)
        for name in outputs:
            request.outputs.add(name=name)
        return request

    def add_values(self, request, added, item):
        values = item["values"]
        if item["datatype"] == "BYTES":
            values = [text if isinstance(text, bytes) else text.encode() for text in values]
        getattr(added.contents, CONTENTS.get(item["datatype"], "fp32_contents")).extend(values)

    def close(self):
        self.channel.close()


class GrpcRaw(GrpcContents):
    """gRPC with values as bytes."""

    def add_values(self, request, added, item):
        request.raw_input_contents.append(to_bytes(item))


WAYS = {"json": Json, "binary": Binary, "grpc raw": GrpcRaw, "grpc contents": GrpcContents}


@pytest.fixture(scope="module")
def own_server(start_module_server, models):
    """A server that others do not ask, with few rows so that their limit is soon met."""
    return start_module_server(models, "--max-rows", 1000)


@pytest.fixture(params=WAYS)
def way(request, own_server):
    made = WAYS[request.param](own_server)
    yield made
    made.close()


@pytest.fixture
def rest(own_server):
    made = Json(own_server)
    yield made
    made.close()


@pytest.fixture
def grpc_client(own_server):
    made = GrpcContents(own_server)
    yield made
    made.close()


def check_refused(client, answer, words, status=400):
    assert answer[0] == status, answer
    assert words in answer[1]
    assert not INSIDE.search(answer[1]), answer[1]
    assert client.ask("iris", iris())[0] == 200
    assert client.ask("credit", credit())[0] == 200
    defects = [log for log in client.server.logs() if log["level"] in ("error", "critical")]
    assert not defects


MANY = [1.0] * 4004
BAD = {
    "a shape of trillions": ("iris", iris(shape=[10**12, 20]), "must have a shape of one to four"),
    "a product beyond 64 bits": ("iris", iris(shape=[2**31 - 1, 2**31 - 1]), "its shape"),
    "a negative shape": ("iris", iris(shape=[-1, 4]), "got [-1,4]"),
    "negative twice": ("iris", iris(shape=[-2, -4]), "got [-2,-4]"),
    "a wider shape than values": ("iris", iris(shape=[3, 4]), "its shape [3, 4]"),
    "no dimensions": ("iris", iris(shape=[], values=[1.0]), "got []"),
    "three dimensions": ("iris", iris(shape=[2, 2, 2]), "the shape [n, 4], got [2, 2, 2]"),
    "a column of three": ("credit", credit(shape=[2, 1, 1]), "[n, 1] or [n], got [2, 1, 1]"),
    "five dimensions": ("iris", iris(shape=[2, 1, 1, 1, 4]), "got [2,1,1,1,4]"),
    "no values of a huge shape": (
        "iris", iris(shape=[0, 2**31 - 1, 2**31 - 1], values=[]), "one to four whole numbers"),
    "100,000 dimensions": ("iris", iris(shape=[1] * 100_000), "one to four whole numbers"),
    "no rows": ("iris", iris(shape=[0, 4], values=[]), "from 1 to 1000 rows, got 0"),
    "no rows of no width": ("iris", iris(shape=[2**31 - 1, 0], values=[]), "the shape [n, 4]"),
    "too many rows": ("iris", iris(shape=[1001, 4], values=MANY), "got 1001"),
    "columns turned into rows": ("iris", iris(shape=[4, 2]), "the shape [n, 4]"),
    "a million columns": (
        "iris", iris(shape=[1, 10**6], values=[0] * 10**6), "got [1, 1000000]"),
    "a million inputs": (
        "credit", [tensor(f"x{i}", "FP32", [1], [0]) for i in range(120_000)], "at most"),
    "another name": ("iris", iris(name="Y"), 'none called "X"'),
    "no name": ("iris", iris(name=""), 'none called "X"'),
    "a long name": ("iris", iris(name="x" * 100_000), "The "),
    "one input too many": ("credit", [*credit(), iris()[0]], '"X" as well'),
    "an input twice": ("credit", [*credit(), credit()[-1]], "different names"),
    "an input too few": ("credit", credit(name=None), 'none called "Home"'),
    "no inputs": ("credit", [], "inputs"),
    "columns of two lengths": (
        "credit", credit(shape=[3, 1], values=["rent"] * 3), "the same number of rows"),
    "two columns in one": (
        "credit", credit(shape=[2, 2], values=["rent"] * 4), "[n, 1] or [n]"),
    "no such datatype": ("iris", iris(datatype="FLOAT"), 'got "FLOAT"'),
    "no datatype": ("iris", iris(datatype=""), 'got ""'),
    "words for numbers": (
        "iris", iris(datatype="BYTES", values=["one"] * 8), "must hold numbers"),
    "numbers for strings": (
        "credit", credit(datatype="FP32", values=[1, 2]), "must be of BYTES"),
    "beyond float32": (
        "iris", iris(datatype="FP64", values=[1e39] * 8), "finite as float32"),
    "another output": ("iris", iris(), 'got "nonsense"'),
    "another model": ("nonsense", iris(), "The model must be one of"),
    "another version": ("iris@7", iris(), "must be one of '1', got '7'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_request(way, case):
    model, tensors, words = BAD[case]
    outputs = ["label", "nonsense"] if case == "another output" else ()
    status = 404 if "model" in words or "version" in case else 400
    status = 400 if isinstance(way, GrpcContents) else status
    check_refused(way, way.ask(model, tensors, outputs), words, status)


@pytest.mark.parametrize("way_name", ["binary", "grpc raw", "grpc contents"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_infinity(own_server, way_name, value):
    way = WAYS[way_name](own_server)
    values = [1.0] * 7 + [value]
    check_refused(way, way.ask("iris", iris(values=values)), "finite as float32")
    way.close()


@pytest.mark.parametrize("way_name", ["binary", "grpc raw", "grpc contents"])
def test_text_that_is_not_utf8(own_server, way_name):
    way = WAYS[way_name](own_server)
    answer = way.ask("credit", credit(values=[b"rent", b"\xff\xfe"]))
    check_refused(way, answer, "strings in UTF-8")
    way.close()


@pytest.mark.parametrize("way_name", ["binary", "grpc raw", "grpc contents"])
def test_nan_is_a_missing_value(own_server, way_name):
    way = WAYS[way_name](own_server)
    assert way.ask("iris", iris(values=[float("nan")] * 8))[0] == 200
    way.close()


def body_of(data, shape="[2, 4]", datatype="FP32", rest=""):
    tensor = f'{{"name": "X", "datatype": "{datatype}", "shape": {shape}, "data": {data}{rest}}}'
    return f'{{"inputs": [{tensor}]}}'.encode()


BAD_JSON = {
    "nothing": (b"", "must be JSON"),
    "garbage": (bytes(range(256)) * 100, "must be JSON"),
    "half of it": (body_of("[1, 2")[:60], "must be JSON"),
    "something after it": (body_of("[1]") + b"{}", "must be JSON"),
    "no UTF-8": (body_of("[1]").replace(b"X", b"\xff\xfe"), "must be JSON"),
    "UTF-16": (body_of("[1]").decode().encode("utf-16"), "must be JSON"),
    "half a surrogate": (body_of("[1]").replace(b"X", b"\\ud800"), "must be JSON"),
    "NaN": (body_of("[NaN, 1, 2, 3, 4, 5, 6, 7]"), "NaN and Infinity are no JSON"),
    "Infinity": (body_of("[Infinity, 1, 2, 3, 4, 5, 6, 7]"), "NaN and Infinity are no JSON"),
    "-Infinity": (body_of("[-Infinity, 1, 2, 3, 4, 5, 6, 7]"), "NaN and Infinity are no JSON"),
    "beyond float64": (body_of("[1e999, 1, 2, 3, 4, 5, 6, 7]"), "must be JSON"),
    "ten thousand digits": (body_of("[" + "1" * 10_000 + "]", "[1, 1]"), "must be JSON"),
    "a list": (b"[]", "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "no inputs": (b"{}", "at least one tensor, got null"),
    "inputs is an object": (b'{"inputs": {"X": [1, 2, 3, 4]}}', "at least one tensor"),
    "an input is a number": (b'{"inputs": [1]}', "An input must be an object"),
    "an input is null": (b'{"inputs": [null]}', "An input must be an object"),
    "parameters is a list": (body_of("[1]", rest=', "parameters": []'), '"parameters"'),
    "a name is a list": (body_of("[1]").replace(b'"X"', b'["X"]'), "The name of an input"),
    "a datatype is a number": (body_of("[1]").replace(b'"FP32"', b"32"), "got 32"),
    "a shape is a number": (body_of("[1]", "8"), "got 8"),
    "a shape is null": (body_of("[1]", "null"), "got null"),
    "a shape of texts": (body_of("[1]", '["2", "4"]'), 'got ["2","4"]'),
    "a shape of fractions": (body_of("[1]", "[2.0, 4.0]"), "got [2.0,4.0]"),
    "a shape of truth": (body_of("[1]", "[true, true]"), "got [true,true]"),
    "a shape beyond 64 bits": (body_of("[1]", "[99999999999999999999, 4]"), "must have a shape"),
    "no data": (body_of("null"), "values as a list"),
    "data is an object": (body_of('{"a": 1}'), "values as a list"),
    "rows of unequal length": (body_of("[[1, 2, 3, 4], [1, 2, 3]]"), "rows of equal length"),
    "a row and a number": (body_of("[[1, 2, 3, 4], 5]"), "got a row 5"),
    "a text": (body_of('[1, 2, 3, 4, 5, 6, 7, "8"]'), 'got "8"'),
    "a truth": (body_of("[1, 2, 3, 4, 5, 6, 7, true]"), "got true"),
    "an object": (body_of("[1, 2, 3, 4, 5, 6, 7, {}]"), "got {}"),
    "a fraction of an integer": (body_of("[1.5]", "[1, 1]", "INT64"), "got 1.5"),
    "a null of an integer": (body_of("[null]", "[1, 1]", "INT64"), "got null"),
    "too large for a byte": (body_of("[300]", "[1, 1]", "INT8"), "that INT8 can represent"),
    "negative and unsigned": (body_of("[-1]", "[1, 1]", "UINT64"), "that UINT64 can represent"),
    "nested deeply": (body_of("[" * 100 + "1" + "]" * 100), "nested at most 16 levels"),
    "nested without end": (b"[" * 200_000, "must be JSON"),
    "nested without end, large": (b"[" * MEBIBYTE, "at most 250000 lists and objects"),
    "lists without end": (body_of("[" + "[]," * MEBIBYTE + "[]]"), "at most 250000 lists"),
    "a million columns, nested": (
        body_of("[[" + "0," * (10**6 - 1) + "0]]", "[1, 1000000]"), "got [1, 1000000]"),
    "a size that is a text": (
        body_of("null", rest=', "parameters": {"binary_data_size": "8"}'), 'got "8"'),
    "a size that is negative": (
        body_of("null", rest=', "parameters": {"binary_data_size": -8}'), "got -8"),
    "a size without bytes": (
        body_of("null", rest=', "parameters": {"binary_data_size": 32}'), "0 bytes that are left"),
    "an id that is an object": (b'{"id": {}, ' + body_of("[1]", "[1, 1]")[1:], '"id"'),
    "outputs is a text": (b'{"outputs": "X", ' + body_of("[1]", "[1, 1]")[1:], '"outputs"'),
    "an output without a name": (b'{"outputs": [{}], ' + body_of("[1]", "[1, 1]")[1:], "output"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json(rest, case):
    body, words = BAD_JSON[case]
    check_refused(rest, rest.post(body), words)


@pytest.mark.parametrize("length", ["0", "-1", "x", "1e3", "99999999999999999999", "100000", "²"])
def test_wrong_length_of_the_json(rest, length):
    header = {"Inference-Header-Content-Length": length.encode("latin-1")}
    check_refused(rest, rest.post(body_of("[1]"), **header), "Inference-Header-Content-Length")


def test_surplus_binary_data(rest):
    head = body_of("[1, 2, 3, 4]", "[1, 4]")
    header = {"Inference-Header-Content-Length": str(len(head))}
    check_refused(rest, rest.post(head + b"1234", **header), "bytes after the JSON")


def test_compressed_body(rest):
    answer = rest.post(body_of("[1]"), **{"Content-Encoding": "gzip"})
    check_refused(rest, answer, "must not be compressed", 415)


@pytest.mark.parametrize(
    "path", ["/v2/models/iris/infer", f"/v2/models/{'a' * 300}/infer", "/v2/models/a/b", "/v2"]
)
def test_gigabyte_declared(rest, path):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {GIGABYTE}\r\n\r\n"
    status, text = ask_raw(rest.server, head.encode())
    check_refused(rest, (status, text), "at most 16777216 bytes", 413)


@pytest.mark.parametrize("path", ["/v2/models/iris/infer", f"/v2/models/{'a' * 300}/infer"])
def test_endless_body(rest, path):
    before = psutil.Process(rest.server.pid).memory_info().rss
    answer = rest.client.post(path, content=(bytes(MEBIBYTE) for _ in range(64)))
    check_refused(rest, (answer.status_code, answer.text), "at most 16777216 bytes", 413)
    assert psutil.Process(rest.server.pid).memory_info().rss - before < 64 * MEBIBYTE


END = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
INFER = b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\n"
RAW = {
    "garbage": b"\x00\x01\x02\xff" * 30 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET /v2 HTTP/9.9\r\n\r\n",
    "no such method": b"FOO /v2" + END,
    "CONNECT": b"CONNECT x:80" + END,
    "no path": b"GET http://x" + END,
    "an asterisk": b"GET *" + END,
    "bytes in a path": b"GET /v2/\xff\xfe" + END,
    "bytes in a path, quoted": b"GET /v2/%ff%fe" + END,
    "zero in a path": b"GET /v2/%00" + END,
    "half a quote": b"GET /v2/%" + END,
    "a line in a path": b"POST /v2/models/%0d%0ax-y:z/infer" + END,
    "bytes as the name of a header": b"GET /v2 HTTP/1.1\r\n\xff\xfe: 1\r\n\r\n",
    "two lengths": INFER + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a length and chunks": INFER + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a negative length": INFER + b"Content-Length: -5\r\n\r\n",
    "a length beyond 64 bits": INFER + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "no chunk": INFER + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk beyond 64 bits": INFER + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "another transfer": INFER + b"Transfer-Encoding: gzip\r\n\r\n",
    "a long path": b"GET /" + b"a" * 20_000,
    "a long header": b"GET /v2 HTTP/1.1\r\na: " + b"b" * 20_000,
    "many headers": b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "a trailer without end": (
        INFER + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 5000
    ),
}


def ask_raw(server, data):
    """Status and text of the answer to bytes."""
    with socket.create_connection(("127.0.0.1", server.http_port), 20) as connection:
        connection.settimeout(20)
        with contextlib.suppress(ConnectionError):  # it was refused before all was sent
            connection.sendall(data)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize("case", RAW)
def test_invalid_http_bytes(rest, case):
    status, text = ask_raw(rest.server, RAW[case])
    assert status in (400, 404, 405, 415, 431)
    check_refused(rest, (status, text), " ", status)


def test_grpc_garbage(grpc_client):
    refused = "must hold a message of the Open Inference Protocol"
    for garbage in (b"\xff\xfe\xfd garbage", b"\x0a\x02\xff\xff", b"\x0a\xff", bytes(1000)):
        check_refused(grpc_client, grpc_client.call(garbage), refused)
        check_refused(grpc_client, grpc_client.call(garbage, "ModelReady"), refused)


def test_grpc_oversized_message(grpc_client):
    answer = grpc_client.call(bytes(17 * MEBIBYTE))
    check_refused(grpc_client, answer, "larger than max (17825792 vs. 4194304)")


def test_grpc_oversized_metadata(grpc_client):
    answer = grpc_client.call(b"", "ServerLive", metadata=(("x-request-id", "a" * 20_000),))
    check_refused(grpc_client, answer, "exceeds hard limit")


def test_grpc_compressed_message(grpc_client):
    """Eight mebibytes of zeros, which are eight kilobytes on their way."""
    answer = grpc_client.call(bytes(8 * MEBIBYTE), compression=grpc.Compression.Gzip)
    check_refused(grpc_client, answer, "'gzip' is disabled")


def test_grpc_unknown_method(grpc_client):
    check_refused(grpc_client, grpc_client.call(b"", "Nonsense"), "not found")


def test_grpc_endless_message(grpc_client):
    """Two bytes are an input without anything, of eighty bytes in memory."""
    before = psutil.Process(grpc_client.server.pid).memory_info().rss
    answer = grpc_client.call(b"\x0a\x04iris" + b"\x2a\x00" * (2 * MEBIBYTE - 8))
    check_refused(grpc_client, answer, "at most 100000 inputs")
    assert psutil.Process(grpc_client.server.pid).memory_info().rss - before < 100 * MEBIBYTE


def test_grpc_contents_and_raw_contents(grpc_client):
    request = grpc_client.message("iris", iris())
    request.raw_input_contents.append(bytes(32))
    check_refused(grpc_client, grpc_client.call(request.SerializeToString()), "got both")


def test_grpc_raw_contents_for_some(own_server):
    client = GrpcRaw(own_server)
    request = client.message("credit", credit())
    del request.raw_input_contents[1:]
    answer = client.call(request.SerializeToString())
    check_refused(client, answer, "one raw_input_contents for each of the 13 inputs")
    client.close()


@pytest.mark.slow
def test_memory_stays_flat(start_server, models):
    """240 of the worst requests after 80 of them take less than 96 MiB more.

    Each of the eight threads that compute keeps some memory for its next request, so that the
    first ones take more.
    """
    server = start_server(models)
    process = psutil.Process(server.pid)
    rest, raw = Json(server), GrpcRaw(server)
    bodies = [BAD_JSON[name][0] for name in ("lists without end", "a million columns, nested")]
    bodies.append(b'{"inputs": [' + b"1," * 300_000 + b"1]}")
    bodies.append(b"{" + b",".join(b'"%d": 0' % i for i in range(50_000)) + b"}")
    parts = b"\x0a\x04iris" + b"\x2a\x00" * 90_000
    wide = raw.message("iris", iris(shape=[1, 10**6], values=[0] * 10**6)).SerializeToString()
    after = []
    for i in range(40):
        answers = [rest.post(body) for body in bodies]
        answers += [raw.call(parts), raw.call(wide)]
        answers.append(ask_raw(server, RAW["many headers"]))
        answers.append(ask_raw(server, INFER + b"Content-Length: 1000000000\r\n\r\n"))
        assert {status for status, _ in answers} <= {400, 413, 431}
        if i >= 9:
            after.append(process.memory_info().rss)
    assert max(after) - after[0] < 96 * MEBIBYTE, [size // MEBIBYTE for size in after]
    assert rest.ask("iris", iris()) == (200, "")
    rest.close()
    raw.close()
