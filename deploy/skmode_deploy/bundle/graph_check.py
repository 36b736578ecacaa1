"""Check the bytes of a graph before onnxruntime parses them.

This module reads the wire format of protocol buffers itself, so that it needs neither onnx nor
protobuf. The field numbers come from onnx.proto. An unknown field is an error.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from skmode_deploy.bundle.messages import list_names
from skmode_deploy.errors import (
    ExternalDataError,
    GraphFormatError,
    GraphInterfaceError,
    OperatorDomainError,
)

DOMAINS = frozenset((b"", b"ai.onnx", b"ai.onnx.ml"))
LENGTH = "length"  # of the lists of tokens: the only size besides the rows that is not fixed
MAX_DEPTH = 100  # messages within messages, as protobuf's own readers allow

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# For each message the fields that are checked; fields in _OTHER are allowed without a check.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_MODEL_OTHER = frozenset((1, 2, 3, 4, 5, 6, 14, 26))
_OPSET_DOMAIN = 1
_OPSET_OTHER = frozenset((2,))
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 15, 11, 12
_GRAPH_OTHER = frozenset((2, 10, 13, 14, 16))
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_NODE_OTHER = frozenset((1, 2, 3, 4, 6, 8, 9, 10))
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_ATTRIBUTE_OTHER = frozenset((1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21))
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_TENSOR_OTHER = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16))
_SPARSE_TENSORS = (1, 2)
_SPARSE_OTHER = frozenset((3,))
_VALUE_NAME, _VALUE_TYPE = 1, 2
_VALUE_OTHER = frozenset((3, 4))
_TYPE_TENSOR, _TYPE_OTHER = 1, frozenset((6,))
_KIND_ELEMENT, _KIND_SHAPE = 1, 2
_SHAPE_DIMENSION = 1
_DIMENSION_SIZE, _DIMENSION_NAME, _DIMENSION_OTHER = 1, 2, frozenset((3,))

_ELEMENTS = {1: "float32", 2: "uint8", 7: "int64", 8: "string", 11: "float64"}

_Field = tuple[int, int, memoryview]
_Value = tuple[bytes, memoryview | None]  # name and type of an input or output


class GraphValue(NamedTuple):
    """Name, element type and shape of an input or output.

    Attributes
    ----------
    name : str
        Name in the graph.
    dtype : {"float32", "float64", "int64", "uint8", "string"}
        Element type.
    shape : tuple of (int or str)
        Sizes of the dimensions. The first one is "n", any number of rows, and "length" is any
        number of tokens. Another string, such as "width", stands for one size of at least 1, the
        same wherever it occurs.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def check_graph(
    data: bytes, name: str, inputs: Sequence[GraphValue], outputs: Sequence[GraphValue]
) -> dict[str, int]:
    """Check a graph; return the sizes that the manifest leaves open, such as ``width``."""
    checker = _GraphChecker(name)
    checker.check_model(memoryview(data), inputs, outputs)
    return checker.sizes


class _GraphChecker:
    """Checks messages, one method for each kind; `depth` counts the messages around one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sizes: dict[str, int] = {}

    def check_model(
        self, data: memoryview, inputs: Sequence[GraphValue], outputs: Sequence[GraphValue]
    ) -> None:
        found: tuple[list[_Value], list[_Value]] = ([], [])
        graphs = 0
        for number, wire, value in self.read_fields(data):
            if number == _MODEL_GRAPH:
                graphs += 1
                found = self.check_graph(self.as_message(wire, value), 1)
            elif number == _MODEL_OPSETS:
                self.check_opset(self.as_message(wire, value))
            elif number == _MODEL_FUNCTIONS:
                raise OperatorDomainError(
                    f"{self.name} must use ONNX's own operators only, got a model with functions: "
                    "inline them (onnx.inliner) before the export."
                )
            elif number == _MODEL_TRAINING:
                raise GraphFormatError(
                    f"{self.name} must be a model for inference, got one with training "
                    "information: export the model again."
                )
            elif number not in _MODEL_OTHER:
                raise self.unknown(number, "model")
        if graphs != 1:
            raise self.malformed(f"it has {graphs} graphs instead of 1")
        self.check_interface("inputs", found[0], inputs)
        self.check_interface("outputs", found[1], outputs)

    def check_interface(
        self, what: str, found: Sequence[_Value], expected: Sequence[GraphValue]
    ) -> None:
        names = [name for name, _ in found]
        wanted = [value.name for value in expected]
        if names != [name.encode("utf-8", "surrogatepass") for name in wanted]:
            got = list_names([name.decode("utf-8", "replace") for name in names]) or "none"
            raise GraphInterfaceError(
                f"{self.name} must have the {what} that manifest.json implies, "
                f"{list_names(wanted) or 'none'}, got {got}: export the model again."
            )
        for value, (_, kind) in zip(expected, found, strict=True):
            self.check_value(value, kind)

    def check_value(self, expected: GraphValue, data: memoryview | None) -> None:
        """Check element type and shape of an input or output."""
        element, shape = ("nothing", None) if data is None else self.read_tensor_type(data)
        fits = element == expected.dtype and shape is not None
        fits = fits and len(shape or ()) == len(expected.shape)
        for size, wanted in zip(shape or (), expected.shape, strict=False):
            if wanted in ("n", LENGTH):
                fits = fits and size is None
            elif isinstance(wanted, int):
                fits = fits and size == wanted
            else:
                fits = fits and bool(size) and self.sizes.setdefault(wanted, size or 0) == size
        if not fits:
            sizes = [self.sizes.get(str(size), size) for size in expected.shape]
            raise GraphInterfaceError(
                f"{self.name} must have the types and shapes that manifest.json implies, for "
                f"{expected.name!r} {expected.dtype} {_shape(sizes)}, got {element} "
                f"{'of any shape' if shape is None else _shape(shape)}: export the model again."
            )

    def read_tensor_type(self, data: memoryview) -> tuple[str, list[int | None] | None]:
        """Read element type and shape. None is a size, or a shape, that is not fixed."""
        kind = self.read_unique_fields(data, "type", {_TYPE_TENSOR, *_TYPE_OTHER}).get(_TYPE_TENSOR)
        if kind is None:
            return "nothing", None
        parts = self.read_unique_fields(
            self.as_message(*kind), "tensor type", {_KIND_ELEMENT, _KIND_SHAPE}
        )
        number = self.read_number(*parts[_KIND_ELEMENT]) if _KIND_ELEMENT in parts else 0
        element = _ELEMENTS.get(number, f"element type {number}")
        if _KIND_SHAPE not in parts:
            return element, None
        sizes = []
        for field, wire, value in self.read_fields(self.as_message(*parts[_KIND_SHAPE])):
            if field != _SHAPE_DIMENSION:
                raise self.unknown(field, "shape")
            sizes.append(self.read_dimension(self.as_message(wire, value)))
        return element, sizes

    def read_dimension(self, data: memoryview) -> int | None:
        """Read the size of a dimension. None if it has a name instead."""
        known = {_DIMENSION_SIZE, _DIMENSION_NAME, *_DIMENSION_OTHER}
        parts = self.read_unique_fields(data, "dimension", known)
        if _DIMENSION_SIZE not in parts:
            return None
        if _DIMENSION_NAME in parts:
            raise self.malformed("a dimension has both a size and a name")
        return self.read_number(*parts[_DIMENSION_SIZE])

    def read_unique_fields(
        self, data: memoryview, what: str, known: Collection[int]
    ) -> dict[int, tuple[int, memoryview]]:
        """Read a message whose fields must not repeat: parsers disagree on which one counts."""
        parts: dict[int, tuple[int, memoryview]] = {}
        for number, wire, value in self.read_fields(data):
            if number not in known:
                raise self.unknown(number, what)
            if number in parts:
                raise self.malformed(f"a {what} has its field {number} twice")
            parts[number] = wire, value
        return parts

    def read_number(self, wire: int, value: memoryview) -> int:
        if wire != _VARINT:
            raise self.malformed("a message stands where a number is expected")
        return self.read_varint(value, 0)[0]

    def check_opset(self, data: memoryview) -> None:
        for number, wire, value in self.read_fields(data):
            if number == _OPSET_DOMAIN:
                self.check_domain(self.as_message(wire, value), "an operator set")
            elif number not in _OPSET_OTHER:
                raise self.unknown(number, "operator set")

    def check_graph(self, data: memoryview, depth: int) -> tuple[list[_Value], list[_Value]]:
        """Check a graph; return its inputs and outputs."""
        self.check_depth(depth)
        inputs: list[_Value] = []
        outputs: list[_Value] = []
        for number, wire, value in self.read_fields(data):
            if number == _GRAPH_NODE:
                self.check_node(self.as_message(wire, value), depth + 1)
            elif number == _GRAPH_TENSOR:
                self.check_tensor(self.as_message(wire, value))
            elif number == _GRAPH_INPUT:
                inputs.append(self.read_value(self.as_message(wire, value)))
            elif number == _GRAPH_OUTPUT:
                outputs.append(self.read_value(self.as_message(wire, value)))
            elif number == _GRAPH_SPARSE:
                self.check_sparse_tensor(self.as_message(wire, value))
            elif number not in _GRAPH_OTHER:
                raise self.unknown(number, "graph")
        return inputs, outputs

    def read_value(self, data: memoryview) -> _Value:
        name, kind = b"", None
        for number, wire, value in self.read_fields(data):
            if number == _VALUE_NAME:
                name = bytes(self.as_message(wire, value))
            elif number == _VALUE_TYPE:
                if kind is not None:
                    raise self.malformed("an input or output has two types")
                kind = self.as_message(wire, value)
            elif number not in _VALUE_OTHER:
                raise self.unknown(number, "input or output")
        return name, kind

    def check_node(self, data: memoryview, depth: int) -> None:
        for number, wire, value in self.read_fields(data):
            if number == _NODE_DOMAIN:
                self.check_domain(self.as_message(wire, value), "an operator")
            elif number == _NODE_ATTRIBUTE:
                self.check_attribute(self.as_message(wire, value), depth + 1)
            elif number not in _NODE_OTHER:
                raise self.unknown(number, "node")

    def check_attribute(self, data: memoryview, depth: int) -> None:
        for number, wire, value in self.read_fields(data):
            if number in _ATTRIBUTE_GRAPHS:
                self.check_graph(self.as_message(wire, value), depth + 1)
            elif number in _ATTRIBUTE_TENSORS:
                self.check_tensor(self.as_message(wire, value))
            elif number in _ATTRIBUTE_SPARSE:
                self.check_sparse_tensor(self.as_message(wire, value))
            elif number not in _ATTRIBUTE_OTHER:
                raise self.unknown(number, "attribute")

    def check_tensor(self, data: memoryview) -> None:
        for number, _, value in self.read_fields(data):
            # Writers may state the default location, 0, which means inside the file.
            if number == _TENSOR_EXTERNAL or (
                number == _TENSOR_LOCATION and bytes(value).strip(b"\x00\x80")
            ):
                raise ExternalDataError(
                    f"{self.name} must hold its weights itself, got a tensor with external data: "
                    "save the model in one file (onnx.save with save_as_external_data=False)."
                )
            if number not in _TENSOR_OTHER and number != _TENSOR_LOCATION:
                raise self.unknown(number, "tensor")

    def check_sparse_tensor(self, data: memoryview) -> None:
        for number, wire, value in self.read_fields(data):
            if number in _SPARSE_TENSORS:
                self.check_tensor(self.as_message(wire, value))
            elif number not in _SPARSE_OTHER:
                raise self.unknown(number, "sparse tensor")

    def check_domain(self, data: memoryview, what: str) -> None:
        """Raise for operators that are not ONNX's own."""
        if bytes(data) not in DOMAINS:
            raise OperatorDomainError(
                f"{self.name} must use the operator domains ai.onnx and ai.onnx.ml only, got "
                f"{what} of {bytes(data[:100]).decode('utf-8', 'replace')!r}: export the model "
                "without operators of other libraries."
            )

    def check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.malformed(f"its graphs are nested more than {MAX_DEPTH} messages deep")

    def as_message(self, wire: int, value: memoryview) -> memoryview:
        if wire != _BYTES:
            raise self.malformed("a number stands where a message is expected")
        return value

    def unknown(self, number: int, what: str) -> GraphFormatError:
        return self.malformed(f"a {what} has a field {number}, which this release does not know")

    def malformed(self, problem: str) -> GraphFormatError:
        return GraphFormatError(
            f"{self.name} must be a serialized ONNX model, but reading it failed: {problem}. "
            "Export the model again."
        )

    def read_fields(self, data: memoryview) -> Iterator[_Field]:
        """Split a message into number, wire type and raw value of each field."""
        position, end = 0, len(data)
        while position < end:
            tag, position = self.read_varint(data, position)
            number, wire = tag >> 3, tag & 7
            start = position
            if wire == _BYTES:
                length, start = self.read_varint(data, position)
                position = start + length
            elif wire == _VARINT:
                _, position = self.read_varint(data, position)
            elif wire == _FIXED32:
                position += 4
            elif wire == _FIXED64:
                position += 8
            else:
                raise self.malformed(f"a field has the unknown wire type {wire}")
            if number == 0 or position > end:
                raise self.malformed("a field has no number or extends past its message")
            yield number, wire, data[start:position]

    def read_varint(self, data: memoryview, position: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= len(data):
                break
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
        raise self.malformed("a number is cut off or too long")


def _shape(sizes: Sequence[int | str | None]) -> str:
    shown = ["n" if size is None else str(size) for size in sizes[:10]]
    shown += ["..."] * (len(sizes) > 10)
    return f"({shown[0]},)" if len(shown) == 1 else f"({', '.join(shown)})"
