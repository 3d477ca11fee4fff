"""fp16 in the graph, and the graph that rounds as fp16 does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from gensoup.export.half import rounding, to_fp16
from gensoup.export.layers import built
from gensoup.export.parity import ParityError, compare, engine_probabilities
from gensoup.export.samples import Samples
from gensoup.runtime.engines import load_engine


def answers(model: bytes, frames: np.ndarray) -> np.ndarray:
    return engine_probabilities(load_engine(model, threads=1), frames)


def test_layers_are_fp16_and_what_stands_around_them_is_not(make_network: Callable[..., bytes]) -> None:
    model = to_fp16(make_network())
    assert built(model) == {"fp16": 4}
    graph = onnx.load_model_from_string(model).graph
    assert [node.op_type for node in graph.node][:5] == ["Cast", "Transpose", "Sub", "Div", "Cast"]
    assert [node.op_type for node in graph.node][-2:] == ["Cast", "Softmax"]
    assert graph.node[0].input[0] == "frame"
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in graph.output] == ["probabilities"]
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    kinds = {one.name: one.data_type for one in graph.initializer}
    assert kinds["middle"] == kinds["spread"] == onnx.TensorProto.FLOAT
    assert kinds["model.conv0.weight"] == onnx.TensorProto.FLOAT16
    assert sum(node.op_type == "Cast" for node in graph.node) == 3  # in, to fp16, from fp16


def test_the_rounding_graph_gives_numpys_fp16(make_network: Callable[..., bytes], coloured_frames: np.ndarray) -> None:
    model = make_network()
    proto = onnx.load_model_from_string(rounding(to_fp16(model)))
    weight = next(one for one in proto.graph.initializer if one.name == "model.conv1.weight")
    original = next(
        one for one in onnx.load_model_from_string(model).graph.initializer if one.name == "model.conv1.weight"
    )
    rounded = onnx.numpy_helper.to_array(original).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), rounded)
    assert built(proto.SerializeToString()) == {"fp32": 4}
    difference = np.abs(answers(proto.SerializeToString(), coloured_frames) - answers(model, coloured_frames)).max()
    assert 1e-4 < difference < 0.01  # it rounds, and no more


def test_overflow_that_the_cpu_hides_is_refused(
    make_network: Callable[..., bytes], expected: np.ndarray, samples: Samples
) -> None:
    model = make_network(gains=(2.0**15, 1.0))
    np.testing.assert_allclose(answers(model, samples.frames), expected, atol=1e-6)  # the same network in fp32
    half = to_fp16(model)
    with pytest.raises(ParityError, match=r"fp16 on simulated is not equal .*labels agree on") as error:
        compare(
            expected, answers(rounding(half), samples.frames), samples, precision="fp16", engine="simulated"
        ).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gains", [(2.0**-24, 1.0), (1.0, 2.0**-24)])
def test_underflow_to_zero_is_refused(
    make_network: Callable[..., bytes], expected: np.ndarray, samples: Samples, gains: tuple[float, float]
) -> None:
    half = to_fp16(make_network(gains=gains))
    got = answers(rounding(half), samples.frames)
    with pytest.raises(ParityError, match="fp16"):
        compare(expected, got, samples, precision="fp16", engine="simulated").check()


def test_a_sound_network_holds(make_network: Callable[..., bytes], expected: np.ndarray, samples: Samples) -> None:
    half = to_fp16(make_network())
    for model in (half, rounding(half)):
        compare(expected, answers(model, samples.frames), samples, precision="fp16", engine="one").check()
