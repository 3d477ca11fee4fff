"""Weights beside a graph are found wherever ONNX lets them stand, and nothing is said of graphs that are whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gensoup.runtime.engines.external_data import names_files


def outside() -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def body(*nodes: Any, tensors: Any = ()) -> Any:
    return helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])], tensors)


def constant() -> Any:
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(outside())
    return node


def sparse() -> Any:
    return onnx.SparseTensorProto(values=outside(), dims=[2])


def model_with(**fields: Any) -> bytes:
    return bytes(onnx.ModelProto(ir_version=10, **fields).SerializeToString())


def places() -> dict[str, bytes]:
    branch = helper.make_node("If", ["c"], ["y"], then_branch=body(constant()), else_branch=body())
    attribute = onnx.AttributeProto(name="w", type=onnx.AttributeProto.TENSOR, t=outside())
    many = helper.make_node("Any", [], ["y"])
    many.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(outside())
    graphs = helper.make_node("Any", [], ["y"])
    graphs.attribute.add(name="bodies", type=onnx.AttributeProto.GRAPHS).graphs.append(body(tensors=[outside()]))
    sparse_node = helper.make_node("Constant", [], ["y"])
    sparse_node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(
        sparse()
    )
    sparse_graph = body()
    sparse_graph.sparse_initializer.append(sparse())
    return {
        "initializer": model_with(graph=body(tensors=[outside()])),
        "constant": model_with(graph=body(constant())),
        "branch": model_with(graph=body(branch)),
        "tensors": model_with(graph=body(many)),
        "graphs": model_with(graph=body(graphs)),
        "sparse initializer": model_with(graph=sparse_graph),
        "sparse constant": model_with(graph=body(sparse_node)),
        "function": model_with(graph=body(), functions=[onnx.FunctionProto(name="f", node=[constant()])]),
        "function's default": model_with(
            graph=body(), functions=[onnx.FunctionProto(name="f", attribute_proto=[attribute])]
        ),
        "training": model_with(
            graph=body(), training_info=[onnx.TrainingInfoProto(algorithm=body(tensors=[outside()]))]
        ),
        "a second graph": model_with(graph=body()) + model_with(graph=body(tensors=[outside()])),
    }


@pytest.mark.parametrize("place", sorted(places()))
def test_weights_outside_are_found_wherever_they_may_be_named(place: str) -> None:
    assert names_files(places()[place])


def test_whole_graphs_are_whole(small_graph: Callable[..., bytes]) -> None:
    for precision in ("fp32", "fp16", "int8"):
        assert not names_files(small_graph(precision, saliency=True))
    inside = numpy_helper.from_array(np.ones(2, np.float32), "w")
    inside.data_location = TensorProto.DEFAULT  # as onnx leaves it once it has read a file
    assert not names_files(model_with(graph=body(tensors=[inside])))


def test_a_stranger_may_nest_graphs_as_deep_as_memory_goes(field: Callable[[int, bytes], bytes]) -> None:
    node = constant().SerializeToString()
    for _ in range(5_000):
        node = field(5, field(6, field(1, node)))
    assert names_files(field(7, field(1, node)))


@pytest.mark.parametrize("content", [b"no model", b"\x3a\xff", b"\x3b\x08\x01\x3c"])
def test_what_is_no_model_is_a_value_error(content: bytes) -> None:
    """The last one is a group, which protobuf reads over and newer ONNX never writes: no way around the check."""
    with pytest.raises(ValueError, match="no ONNX model"):
        names_files(content)
