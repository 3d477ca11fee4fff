"""Which outputs an ONNX graph has, and the same graph with fewer of them, without the ``onnx`` package.

An engine computes every output of its graph: ONNX Runtime too, whatever is fetched and even with
``only_execute_path_to_fetches`` (seen in its profile, 1.32). So the frame path gets a graph without the outputs it does
not need. Only protobuf's wire format and the field numbers below are used; both are fixed for good by ONNX's promise of
compatibility (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_TENSOR_NAME, _VALUE_NAME = 8, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# A field as it stands: its number, its own bytes (empty unless of the length-delimited kind) and all bytes of it.
Field = tuple[int, memoryview, memoryview]


def output_names(model: bytes) -> tuple[str, ...]:
    """The names of a model's outputs, in order. Raises ValueError for bytes that are no ONNX model."""
    return tuple(_name(value, _VALUE_NAME) for number, value, _ in fields(_graph(model)) if number == _GRAPH_OUTPUT)


def keep_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The model with the outputs ``names`` alone, and only the nodes and weights that these need.

    Raises ValueError for bytes that are no ONNX model, or when an output is not there.
    """
    if missing := set(names) - set(output_names(model)):
        raise ValueError(f"the model has no output {', '.join(sorted(missing))}")
    pieces: list[bytes | memoryview] = []
    for number, value, whole in fields(memoryview(model)):
        if number == _MODEL_GRAPH:
            graph = _pruned(value, set(names))
            pieces += [_varint(_MODEL_GRAPH << 3 | _BYTES), _varint(len(graph)), graph]
        else:
            pieces.append(whole)
    return b"".join(pieces)


def _graph(model: bytes) -> memoryview:
    for number, value, _ in fields(memoryview(model)):
        if number == _MODEL_GRAPH:
            return value
    raise ValueError("no ONNX model: it has no graph")


def _pruned(graph: memoryview, names: set[str]) -> bytes:
    found = list(fields(graph))
    needed = set(names)
    kept = set()
    for position in range(len(found) - 1, -1, -1):  # nodes stand in topological order, as ONNX demands
        number, node, _ = found[position]
        if number == _GRAPH_NODE and not needed.isdisjoint(_strings(node, _NODE_OUTPUT)):
            kept.add(position)
            needed.update(_reads(node), _strings(node, _NODE_OUTPUT))

    def stays(position: int, number: int, value: memoryview) -> bool:
        if number == _GRAPH_NODE:
            return position in kept
        if number == _GRAPH_OUTPUT:
            return _name(value, _VALUE_NAME) in names
        if number in (_GRAPH_INITIALIZER, _GRAPH_VALUE_INFO):
            return _name(value, _TENSOR_NAME if number == _GRAPH_INITIALIZER else _VALUE_NAME) in needed
        return True

    return b"".join(whole for position, (number, value, whole) in enumerate(found) if stays(position, number, value))


def _reads(node: memoryview) -> Iterator[str]:
    """What a node reads, the bodies of loops and branches included, however deep a stranger has put them."""
    waiting = [node]
    while waiting:
        for number, value, _ in fields(waiting.pop()):
            if number == _NODE_INPUT:
                yield bytes(value).decode()
            elif number == _NODE_ATTRIBUTE:
                bodies = [body for kind, body, _ in fields(value) if kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS)]
                for part, inner, _ in (field for body in bodies for field in fields(body)):
                    if part == _GRAPH_NODE:
                        waiting.append(inner)
                    elif part == _GRAPH_OUTPUT:
                        yield _name(inner, _VALUE_NAME)


def _strings(message: memoryview, field: int) -> list[str]:
    return [bytes(value).decode() for number, value, _ in fields(message) if number == field]


def _name(message: memoryview, field: int) -> str:
    return next(iter(_strings(message, field)), "")


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a protobuf message in order. Raises ValueError where the bytes are none."""
    position = 0
    while position < len(message):
        start = position
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        length = 0
        if kind == _VARINT:
            _, position = read_varint(message, position)
        elif kind == _BYTES:
            length, position = read_varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("no ONNX model: unknown kind of field")
        end = position + length
        if number == 0 or end > len(message):
            raise ValueError("no ONNX model: a field goes beyond its end")
        yield number, message[position:end], message[start:end]
        position = end


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("no ONNX model: a number goes beyond its end")


def _varint(value: int) -> bytes:
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)
