import contextlib
import random
import time
import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from skmode_deploy.bundle import graph_check as _graph_check
from skmode_deploy.bundle.graph_check import GraphValue, check_graph
from skmode_deploy.errors import (
    BundleError,
    ExternalDataError,
    GraphFormatError,
    GraphInterfaceError,
    OperatorDomainError,
)


def tensor(array=(1.0, 2.0), name="weights"):
    return numpy_helper.from_array(np.asarray(array, np.float32), name)


def external(name="outside"):
    proto = tensor(name=name)
    onnx.external_data_helper.set_external_data(proto, "weights.bin")
    proto.ClearField("raw_data")
    return proto


def sparse(values):
    proto = onnx.SparseTensorProto(dims=[4])
    proto.values.CopyFrom(values)
    proto.indices.CopyFrom(numpy_helper.from_array(np.array([0, 2])))
    return proto


def make_graph(nodes=(), initializers=(), inputs=("x",), outputs=("y",)):
    info = helper.make_tensor_value_info
    return helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"]), *nodes],
        "graph",
        [info(name, TensorProto.FLOAT, ["n"]) for name in inputs],
        [info(name, TensorProto.FLOAT, ["n"]) for name in outputs],
        initializers,
    )


def make_model(graph):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, {"producer": "test"})
    return model


def nest(graph, depth):
    """Put a graph into the branches of so many nodes within each other."""
    for _ in range(depth):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=make_graph())
        graph = make_graph([node])
    return graph


def check(model, inputs=("x",), outputs=("y",)):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    values = [[GraphValue(name, "float32", ("n",)) for name in part] for part in (inputs, outputs)]
    check_graph(data, "model.onnx", *values)


def node_with(**attributes):
    return helper.make_node("Constant", [], ["c"], **attributes)


@pytest.mark.parametrize("depth", [0, 1, 3, 25])
def test_ordinary_models_pass(depth):
    graph = make_graph(
        [
            helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", scale=[1.0]),
            helper.make_node("Relu", ["x"], ["r"], domain="ai.onnx"),
            node_with(value=tensor()),
            node_with(sparse_value=sparse(tensor())),
            helper.make_node(
                "LabelEncoder", ["x"], ["l"], domain="ai.onnx.ml",
                keys_strings=["a", "ö"], values_floats=[1.0, 2.0],
            ),
        ],
        [tensor(), numpy_helper.from_array(np.array(["a", "ö"], object), "strings")],
    )  # fmt: skip
    graph.sparse_initializer.append(sparse(tensor()))
    check(make_model(nest(graph, depth)))


def test_explicitly_internal_data_passes():
    inside = tensor()
    inside.data_location = TensorProto.DEFAULT
    assert inside.SerializeToString() != tensor().SerializeToString()
    check(make_model(make_graph(initializers=[inside])))


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("domain", ["com.microsoft", "AI.ONNX", "ai.onnx.ml ", "ai.onnx.training"])
def test_other_operator_domains_are_refused(domain, depth):
    node = helper.make_node("Gelu", ["x"], ["z"], domain=domain)
    with pytest.raises(
        OperatorDomainError, match=f"ai.onnx and ai.onnx.ml only, got an operator of '{domain}'"
    ):
        check(make_model(nest(make_graph([node]), depth)))


def test_other_operator_sets_are_refused():
    model = make_model(make_graph())
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(OperatorDomainError, match="an operator set of 'com.microsoft'"):
        check(model)


def test_functions_are_refused():
    model = make_model(make_graph())
    model.functions.append(
        helper.make_function(
            "", "Own", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], model.opset_import
        )
    )
    with pytest.raises(OperatorDomainError, match="with functions: inline them"):
        check(model)


def test_training_information_is_refused():
    model = make_model(make_graph())
    model.training_info.add()
    with pytest.raises(GraphFormatError, match="training information"):
        check(model)


def attribute_with(field, proto):
    node = node_with()
    attribute = node.attribute.add(name="value")
    target = getattr(attribute, field)
    if hasattr(target, "append"):
        target.append(proto)
    else:
        target.CopyFrom(proto)
    return node


PLACES = {
    "initializer": lambda proto: make_graph(initializers=[proto]),
    **{
        field: lambda proto, field=field: make_graph([attribute_with(field, proto)])
        for field in ("t", "tensors")
    },
    **{
        field: lambda proto, field=field: make_graph([attribute_with(field, sparse(proto))])
        for field in ("sparse_tensor", "sparse_tensors")
    },
    **{
        field: lambda proto, field=field: make_graph(
            [attribute_with(field, make_graph(initializers=[proto]))]
        )
        for field in ("g", "graphs")
    },
}


def sparse_initializer(proto):
    graph = make_graph()
    graph.sparse_initializer.append(sparse(proto))
    return graph


def sparse_indices(proto):
    graph = make_graph()
    graph.sparse_initializer.add().indices.CopyFrom(proto)
    return graph


PLACES |= {"sparse_initializer": sparse_initializer, "indices": sparse_indices}


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused(place, depth):
    check(make_model(nest(PLACES[place](tensor()), depth)))
    location_alone = tensor()
    location_alone.data_location = TensorProto.EXTERNAL
    entries_alone = tensor()
    entries_alone.external_data.add(key="location", value="/etc/passwd")
    for proto in (external(), location_alone, entries_alone):
        with pytest.raises(ExternalDataError, match="external data: save the model in one file"):
            check(make_model(nest(PLACES[place](proto), depth)))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (("x", "z"), ("y",), "must have the inputs .* 'x', 'z', got 'x': export"),
        (("X",), ("y",), "inputs .* 'X', got 'x'"),
        (("x",), (), "outputs .* none, got 'y'"),
        (("x",), ("y", "x"), "outputs .* 'y', 'x', got 'y'"),
    ],
)
def test_other_inputs_and_outputs_are_refused(inputs, outputs, message):
    with pytest.raises(GraphInterfaceError, match=message):
        check(make_model(make_graph()), inputs, outputs)


def test_names_are_compared_in_order_and_in_full():
    names = ("Größe", "", "a" * 1000)
    model = make_model(make_graph(inputs=names))
    check(model, names)
    with pytest.raises(GraphInterfaceError, match="must have the inputs"):
        check(model, names[::-1])
    many = tuple(f"c{i}" for i in range(20))
    with pytest.raises(GraphInterfaceError, match="'c9' and 10 more"):
        check(model, many)


def message(number, content):
    """A field that holds a message."""
    assert len(content) < 16384
    return tag(number, 2) + varint(len(content)) + content


def tag(number, wire):
    return varint(number << 3 | wire)


def varint(value):
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def with_input(info):
    """A model whose input is described by these bytes."""
    graph = make_graph()
    del graph.input[:]
    data = graph.SerializeToString() + message(11, info)
    model = make_model(make_graph())
    model.ClearField("graph")
    return model.SerializeToString() + message(7, data)


NAMED = message(1, b"x")
FLOATS = tag(1, 0) + varint(1)
ROWS = message(1, message(2, b"n"))


def with_type(tensor):
    return with_input(NAMED + message(2, message(1, tensor)))


def test_the_last_of_repeated_names_counts():
    """The same as in protobuf's own readers."""
    data = with_input(NAMED + message(2, message(1, FLOATS + message(2, ROWS))) + message(1, b"e"))
    assert onnx.load_from_string(data).graph.input[0].name == "e"
    with pytest.raises(GraphInterfaceError, match="got 'e'"):
        check(data)


@pytest.mark.parametrize(
    "rows", [ROWS, message(1, b""), message(1, message(3, b"DATA_BATCH") + message(2, b"rows"))]
)
def test_any_number_of_rows_passes(rows):
    data = with_type(FLOATS + message(2, rows))
    onnx.checker.check_model(data)
    check(data)


@pytest.mark.parametrize(
    ("tensor", "got"),
    [
        (tag(1, 0) + varint(11) + message(2, ROWS), r"float64 \(n,\)"),
        (message(2, ROWS), r"element type 0 \(n,\)"),
        (FLOATS, "float32 of any shape"),
        (FLOATS + message(2, b""), r"float32 \(\)"),
        (FLOATS + message(2, ROWS + ROWS), r"float32 \(n, n\)"),
        (FLOATS + message(2, ROWS * 30), r"float32 \(n, n, n, n, n, n, n, n, n, n, \.\.\.\)"),
        (FLOATS + message(2, message(1, tag(1, 0) + varint(0))), r"float32 \(0,\)"),
        (FLOATS + message(2, message(1, tag(1, 0) + varint(2**64 - 1))), r"float32 \(18446744"),
    ],
)
def test_other_types_are_refused(tensor, got):
    data = with_type(tensor)
    onnx.load_from_string(data)
    with pytest.raises(GraphInterfaceError, match=rf"for 'x' float32 \(n,\), got {got}"):
        check(data)


def test_values_other_than_tensors_are_refused():
    for info in (NAMED, NAMED + message(2, b""), NAMED + message(2, message(6, b"IMAGE"))):
        with pytest.raises(GraphInterfaceError, match="got nothing of any shape"):
            check(with_input(info))
    sequence = NAMED + message(2, message(4, message(1, message(1, FLOATS + message(2, ROWS)))))
    assert onnx.load_from_string(with_input(sequence)).graph.input[0].type.HasField("sequence_type")
    with pytest.raises(GraphFormatError, match="a type has a field 4"):
        check(with_input(sequence))


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (NAMED + message(2, message(1, FLOATS)) + message(2, message(1, message(2, ROWS))), "two"),
        (NAMED + message(2, message(1, FLOATS) + message(1, message(2, ROWS))), "field 1 twice"),
        (NAMED + message(2, message(1, FLOATS * 2 + message(2, ROWS))), "field 1 twice"),
        (NAMED + message(2, message(1, FLOATS + message(2, ROWS) * 2)), "field 2 twice"),
        (NAMED + message(2, message(1, FLOATS + message(2, message(1, FLOATS + message(2, b"n"))))),
         "both a size and a name"),
        (NAMED + message(2, message(1, message(1, b"x") + message(2, ROWS))), "where a number is"),
        (NAMED + message(2, message(1, FLOATS + message(2, message(2, b"x")))), "a shape has"),
        (NAMED + message(2, tag(1, 0) + b"\1"), "number stands where a message"),
    ],
)  # fmt: skip
def test_ambiguous_types_are_refused(info, problem):
    with pytest.raises(GraphFormatError, match=problem):
        check(with_input(info))


def test_equal_dimension_names_mean_equal_sizes():
    info = helper.make_tensor_value_info
    graph = make_graph()
    graph.input[0].CopyFrom(info("x", TensorProto.FLOAT, ["n", 3]))
    values = (
        [GraphValue("x", "float32", ("n", "width"))],
        [GraphValue("y", "float32", ("n", "width"))],
    )
    for sizes, fits in (
        (["n", 3], True),
        (["n", 4], False),
        (["n", "m"], False),
        (["n", 0], False),
    ):
        graph.output[0].CopyFrom(info("y", TensorProto.FLOAT, sizes))
        data = make_model(graph).SerializeToString()
        if fits:
            assert check_graph(data, "model.onnx", *values) == {"width": 3}
        else:
            with pytest.raises(GraphInterfaceError, match=r"for 'y' float32 \(n, 3\), got float32"):
                check_graph(data, "model.onnx", *values)


def test_a_second_graph_is_refused():
    """Protobuf's readers would merge the two."""
    data = make_model(make_graph()).SerializeToString()
    extra = onnx.ModelProto(graph=onnx.GraphProto(name="more")).SerializeToString()
    assert onnx.load_from_string(data + extra).graph.name == "more"
    with pytest.raises(GraphFormatError, match="it has 2 graphs instead of 1"):
        check(data + extra)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 graphs"),
        (b"\x08", "cut off"),
        (b"\x08" + b"\xff" * 20, "too long"),
        (b"\x3a\x05ab", "extends past its message"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "extends past its message"),
        (b"\x00\x01", "no number"),
        (b"\x0b\x0c", "unknown wire type 3"),
        (b"\x38\x01", "number stands where a message"),
        (b"\xfa\x3f\x00", "a field 1023, which this release does not know"),
        (b"PK\x03\x04", "serialized ONNX model"),
    ],
)
def test_other_bytes_are_refused(data, message):
    with pytest.raises(GraphFormatError, match=message):
        check(data)


def test_deep_nesting_is_refused():
    graph = b"\x0a\x00"
    for _ in range(5000):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # graph of an attribute of a node
            length, size = len(graph), b""
            while length > 127:
                size += bytes([length & 127 | 128])
                length >>= 7
            graph = tag + size + bytes([length]) + graph
    model = onnx.ModelProto(ir_version=8).SerializeToString()
    length, size = len(graph), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    with pytest.raises(GraphFormatError, match="nested more than 100 messages deep"):
        check(model + b"\x3a" + size + bytes([length]) + graph)


def full_model():
    """One with every kind of part that may occur."""
    graph = nest(
        make_graph(
            [
                helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", scale=[1.0, 2.0]),
                node_with(value=tensor()),
                node_with(sparse_value=sparse(tensor())),
            ],
            [tensor()],
        ),
        2,
    )
    graph.sparse_initializer.append(sparse(tensor()))
    return make_model(graph).SerializeToString()


FULL = full_model()


def test_truncated_and_changed_models_give_a_bundle_error_or_pass():
    data = FULL
    check(data)
    generator = random.Random(0)
    refused = 0
    for length in range(len(data)):
        try:
            check(data[:length])
        except BundleError:
            refused += 1
        else:  # what is cut off lies behind the graph
            assert onnx.load_from_string(data[:length]).graph == onnx.load_from_string(data).graph
    assert refused > len(data) - 10
    refused = 0
    for _ in range(5000):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 3)):
            changed[generator.randrange(len(data))] = generator.randrange(256)
        try:
            check(bytes(changed))
        except BundleError:
            refused += 1
    assert refused > 2000


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(BundleError):
        check(data)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(FULL)), junk=st.binary(max_size=40))
def test_inserted_bytes_give_a_bundle_error_or_pass(position, junk):
    data = FULL
    with contextlib.suppress(BundleError):
        check(data[:position] + junk + data[position:])


def test_accepted_bytes_are_read_the_same_by_onnx():
    """Where onnx can parse a changed model, the reader has looked at the same parts."""
    data = FULL
    generator = random.Random(1)
    compared = 0
    for _ in range(3000):
        changed = bytearray(data)
        changed[generator.randrange(len(data))] = generator.randrange(256)
        try:
            check(bytes(changed))
        except BundleError:
            continue
        try:
            model = onnx.load_from_string(bytes(changed))
        except Exception:  # text that is not UTF-8, which this reader passes over
            continue
        compared += 1
        assert [value.name for value in model.graph.input] == ["x"]
        assert [value.name for value in model.graph.output] == ["y"]
        assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx", "ai.onnx.ml"}
        assert not model.functions
    assert compared > 500


def test_large_weights_are_neither_copied_nor_walked():
    data = make_model(
        make_graph(initializers=[tensor(np.zeros(250_000), f"w{i}") for i in range(20)])
    ).SerializeToString()
    tracemalloc.start()
    start = time.perf_counter()
    check(data)
    duration = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) > 20_000_000
    assert peak < 100_000
    assert duration < 1


MESSAGES = {
    "ModelProto": ("_MODEL_GRAPH _MODEL_OPSETS _MODEL_TRAINING _MODEL_FUNCTIONS", "_MODEL_OTHER"),
    "OperatorSetIdProto": ("_OPSET_DOMAIN", "_OPSET_OTHER"),
    "GraphProto": (
        "_GRAPH_NODE _GRAPH_TENSOR _GRAPH_SPARSE _GRAPH_INPUT _GRAPH_OUTPUT", "_GRAPH_OTHER",
    ),
    "NodeProto": ("_NODE_ATTRIBUTE _NODE_DOMAIN", "_NODE_OTHER"),
    "AttributeProto": (
        "_ATTRIBUTE_TENSORS _ATTRIBUTE_GRAPHS _ATTRIBUTE_SPARSE", "_ATTRIBUTE_OTHER",
    ),
    "TensorProto": ("_TENSOR_EXTERNAL _TENSOR_LOCATION", "_TENSOR_OTHER"),
    "SparseTensorProto": ("_SPARSE_TENSORS", "_SPARSE_OTHER"),
    "ValueInfoProto": ("_VALUE_NAME _VALUE_TYPE", "_VALUE_OTHER"),
    "TypeProto": ("_TYPE_TENSOR", "_TYPE_OTHER"),
}  # fmt: skip
# Parts that cannot hold operators or data and are passed over.
HARMLESS = {
    "StringStringEntryProto", "TypeProto", "TensorAnnotation", "ValueInfoProto", "Segment",
    "DeviceConfigurationProto", "NodeDeviceConfigurationProto",
}  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_field_numbers_equal_onnx(message):
    looked_at, passed_over = MESSAGES[message]
    numbers = set()
    for name in looked_at.split():
        value = getattr(_graph_check, name)
        numbers |= set(value) if isinstance(value, tuple) else {value}
    others = getattr(_graph_check, passed_over)
    assert not numbers & others
    fields = dict(getattr(onnx, message).DESCRIPTOR.fields_by_number)
    # Older releases of onnx lack some fields, newer ones may have more, which are refused.
    for number in others & fields.keys():
        kind = fields[number].message_type
        assert kind is None or kind.name in HARMLESS
    assert numbers <= fields.keys()
    words = {word for name in looked_at.lower().split() for word in name.split("_")[2:]}
    for number in numbers:
        field = fields[number]
        name = f"{field.name} {field.message_type.name if field.message_type else ''}".lower()
        assert any(word.rstrip("s") in name for word in words) or "operatorset" in name
