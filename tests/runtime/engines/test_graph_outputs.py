"""Cutting outputs off a graph, against the ``onnx`` package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gensoup.runtime.engines.graph_outputs import keep_outputs, output_names
from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_without_saliency_it_is_the_graph_that_never_had_it(small_graph: Callable[..., bytes], precision: str) -> None:
    whole, plain = small_graph(precision, saliency=True), small_graph(precision)
    assert output_names(whole) == ("probabilities", "saliency")
    cut = onnx.load_from_string(keep_outputs(whole, ["probabilities"]))
    onnx.checker.check_model(cut, full_check=True)
    expected = onnx.load_from_string(plain)
    assert list(cut.graph.node) == list(expected.graph.node)
    assert list(cut.graph.output) == list(expected.graph.output)
    assert {tensor.name for tensor in cut.graph.initializer} == {
        name for node in cut.graph.node for name in node.input
    } & {tensor.name for tensor in expected.graph.initializer}


def test_keeping_all_keeps_every_answer(small_graph: Callable[..., bytes], frames: list[np.ndarray]) -> None:
    whole = small_graph(saliency=True)
    again = keep_outputs(whole, ["probabilities", "saliency"])
    one, other = OnnxRuntimeEngine(whole, 1), OnnxRuntimeEngine(again, 1)
    for frame in frames:
        for mine, theirs in zip(one.explain(frame), other.explain(frame), strict=True):
            assert np.array_equal(mine, theirs)


def test_what_branches_read_stays() -> None:
    """The body of an If reads a weight of the graph around it, which nothing else names."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    bodies = {
        name: helper.make_graph([helper.make_node("Add", ["weight", "weight"], ["y"])], name, [], [value])
        for name in ("then_branch", "else_branch")
    }
    graph = helper.make_graph(
        [
            helper.make_node("If", ["condition"], ["kept"], **bodies),
            helper.make_node("Neg", ["unused_weight"], ["cut"]),
        ],
        "branches",
        [helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("kept", "cut")],
        [numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("weight", "unused_weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    cut = onnx.load_from_string(keep_outputs(model, ["kept"]))
    onnx.checker.check_model(cut, full_check=True)
    assert [tensor.name for tensor in cut.graph.initializer] == ["weight"]


def test_branches_may_be_nested_as_deep_as_memory_goes(
    small_graph: Callable[..., bytes], field: Callable[[int, bytes], bytes]
) -> None:
    node = field(1, b"weight") + field(2, b"probabilities")
    for _ in range(5_000):
        node = field(2, b"probabilities") + field(5, field(6, field(1, node)))
    cut = keep_outputs(small_graph(saliency=True) + field(7, field(1, node) + field(12, b"")), ["probabilities"])
    assert len(cut) > 50_000  # the node stays: it says that it makes the output


def test_an_output_that_is_not_there_is_named(small_graph: Callable[..., bytes]) -> None:
    with pytest.raises(ValueError, match="no output logits"):
        keep_outputs(small_graph(), ["logits"])


def test_foreign_bytes_are_a_value_error_or_a_graph(small_graph: Callable[..., bytes]) -> None:
    model = small_graph()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(model[: int(rng.integers(0, len(model)))])
        for position in rng.integers(0, max(1, len(content)), 3):
            if content:
                content[position] ^= 1 << int(rng.integers(0, 8))
        try:
            output_names(bytes(content))
        except ValueError:  # UnicodeDecodeError too
            refused += 1
    assert refused > 150
