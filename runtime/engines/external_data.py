"""Whether a graph takes weights from files beside it: those no digest covers, and no signature.

ONNX Runtime and OpenVINO look for such files in the working directory, whatever the graph came out of (seen with 1.32
and 2026.4). Field numbers as in :mod:`gensoup.runtime.engines.graph_outputs`.
"""

from __future__ import annotations

from gensoup.runtime.engines.graph_outputs import Field, fields, read_varint

# Kind of message → number of a field that holds another message → its kind, on every way to a tensor.
_INNER = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def names_files(model: bytes) -> bool:
    """Whether any tensor of an ONNX model lies outside of it. Raises ValueError for bytes that are no ONNX model."""
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, message = waiting.pop()
        for field in fields(message):
            number, value, _ = field
            if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and _number(field))):
                return True
            if (inner := _INNER[kind].get(number)) is not None:
                waiting.append((inner, value))
    return False


def _number(field: Field) -> int:
    """The value of a field of the varint kind."""
    _, start = read_varint(field[2], 0)
    return read_varint(field[2], start)[0]
