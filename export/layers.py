"""What a graph computes in: each layer with weights and its precision, read from the graph itself, never believed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from gensoup.export.onnx_graph import makers, parse
from gensoup.runtime.engines import PROBABILITIES

WEIGHTED = ("Conv", "Gemm", "MatMul")
_NAMES = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.INT8: "int8", ir.DataType.UINT8: "int8"}
_UNCHANGED = ("Reshape", "Transpose", "Identity", "Cast")  # weights pass these as they are


@dataclass(frozen=True)
class WeightedLayer:
    """A node with weights. node: its name in the graph; name: that of its weights in PyTorch, where it is known."""

    node: str
    name: str
    kind: str
    precision: str


def layers(model: bytes) -> tuple[WeightedLayer, ...]:
    """The layers with weights that an ONNX graph's probabilities come from, in order.

    A layer counts as int8 where both its operands come from DequantizeLinear; what a strongly typed engine makes of it.
    """
    nodes = makers(parse(model).graph, PROBABILITIES)
    return tuple(_layer(node) for node in nodes if node.op_type in WEIGHTED and _weight(node) is not None)


def built(model: bytes) -> dict[str, int]:
    """Layers of each precision: {"fp32": 1, "int8": 25}."""
    return dict(sorted(Counter(layer.precision for layer in layers(model)).items()))


def _layer(node: ir.Node) -> WeightedLayer:
    weight = _weight(node)
    assert weight is not None
    quantised = [value is not None and _made_by(value, "DequantizeLinear") for value in node.inputs[:2]]
    precision = "int8" if all(quantised) else _NAMES.get(weight.dtype or ir.DataType.UNDEFINED, "other")
    known = (weight.name or "").removeprefix("model.").removesuffix("_quantized")
    name = known.removesuffix(".weight") if known.endswith(".weight") else node.name or ""
    return WeightedLayer(node.name or "", name, node.op_type, precision)


def _weight(node: ir.Node) -> ir.Value | None:
    """The initializer behind a layer's second operand; None where two activations meet."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type not in (*_UNCHANGED, "DequantizeLinear", "QuantizeLinear"):
            return None
        value = producer.inputs[0]
    return value if value is not None and value.is_initializer() else None


def _made_by(value: ir.Value, kind: str) -> bool:
    producer = value.producer()
    while producer is not None and producer.op_type in _UNCHANGED and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is not None and producer.op_type == kind
