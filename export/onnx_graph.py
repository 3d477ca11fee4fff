"""ONNX bytes as a graph that can be changed, and back."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass, TopologicalSortPass


def parse(model: bytes) -> ir.Model:
    """The graph of ONNX bytes, with the type of every value inferred."""
    proto = onnx.load_model_from_string(model)
    del proto.graph.value_info[:]  # what other tools wrote there is not always so
    parsed = ir.from_proto(proto)
    assert isinstance(parsed, ir.Model)
    TopologicalSortPass()(parsed)
    return ShapeInferencePass()(parsed).model


def makers(graph: ir.Graph, output: str) -> list[ir.Node]:
    """The nodes that the graph's output of this name comes from, in the graph's order."""
    waiting = [value for value in graph.outputs if value.name == output]
    found: set[ir.Node] = set()
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            waiting += [value for value in node.inputs if value is not None]
    return [node for node in graph if node in found]


def finish(model: ir.Model) -> bytes:
    """Sorted, without what nothing uses, checked: ONNX bytes, the same for the same graph."""
    TopologicalSortPass()(model)
    RemoveUnusedNodesPass()(model)
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))
