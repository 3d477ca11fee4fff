"""int8 by static calibration, and which layers stay in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
import pytest

from gensoup.export.int8 import Calibrated, calibrate
from gensoup.export.layers import built, layers
from gensoup.export.parity import Parity, ParityError, compare, engine_probabilities
from gensoup.export.samples import Samples
from gensoup.export.sensitivity import choose_int8, divergence, rank_layers
from gensoup.runtime.engines import Engine, load_engine

CONVOLUTIONS = ["conv0", "conv1", "conv2"]


def engines(model: bytes) -> Iterable[Engine]:
    return [load_engine(model, threads=1)]


@pytest.fixture
def judge(expected: np.ndarray, samples: Samples) -> Callable[[bytes], Parity]:
    def judge(model: bytes) -> Parity:
        got = engine_probabilities(load_engine(model, threads=1), samples.frames)
        return compare(expected, got, samples, precision="int8", engine="one")

    return judge


@pytest.fixture
def calibrated(make_network: Callable[..., bytes], coloured_frames: np.ndarray) -> Calibrated:
    return calibrate(make_network(), coloured_frames[:40])


def test_convolutions_are_int8_with_a_scale_a_filter_and_no_quantised_bias(calibrated: Calibrated) -> None:
    model = calibrated.quantised(CONVOLUTIONS)
    assert built(model) == {"fp32": 1, "int8": 3}
    assert [(layer.node, layer.name, layer.precision) for layer in layers(model)][:2] == [
        ("conv0", "conv0", "int8"),
        ("conv1", "conv1", "int8"),
    ]
    graph = onnx.load_model_from_string(model).graph
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    assert tensors["model.conv1.weight_quantized"].dtype == np.int8
    assert tensors["model.conv1.weight_scale"].shape == (8,)
    assert all((value == 0).all() for name, value in tensors.items() if name.endswith("zero_point"))  # symmetric
    assert all(value.dtype != np.int32 for value in tensors.values())  # what a quantised bias would be
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Relu":  # nothing between a convolution and its activation
            assert producers[node.input[0]].op_type == "Conv"


def test_ranges_come_from_all_calibration_frames(
    make_network: Callable[..., bytes], coloured_frames: np.ndarray
) -> None:
    model, frames = make_network(), coloured_frames[:40]
    values = (frames.astype(np.float64).reshape(-1) - 110) / 60
    low, high = (np.asarray(value).item() for value in calibrate(model, frames).ranges["x0"].range_value)
    assert high == pytest.approx(np.abs(values).max(), rel=1e-5) and low == -high
    seen: list[tuple[str, int, int]] = []
    one = calibrate(model, frames[:1], lambda *step: seen.append(step))
    assert one.frames == 1 and seen[-1] == ("calibrate", 1, 1)


def test_none_quantised_is_the_graph_itself_and_a_part_is_a_part(calibrated: Calibrated) -> None:
    assert calibrated.quantised([]) == calibrated.model
    model = calibrated.quantised(["conv1"])
    assert {layer.node: layer.precision for layer in layers(model)} == {
        "conv0": "fp32",
        "conv1": "int8",
        "conv2": "fp32",
        "head": "fp32",
    }
    assert calibrated.quantised(["conv1"]) == model  # the same bytes


def test_a_sound_network_goes_to_int8_whole(
    calibrated: Calibrated, coloured_frames: np.ndarray, judge: Callable[[bytes], Parity]
) -> None:
    choice = choose_int8(calibrated, coloured_frames[:40], judge, engines)
    assert choice.accepted and choice.kept == ()
    choice.parity.check()
    assert built(choice.model)["int8"] == 3


@pytest.mark.parametrize(("outliers", "planted"), [((1024.0,), "conv1"), ((1.0, 1024.0), "conv2")])
def test_the_planted_sensitive_layer_is_ranked_first_and_it_alone_stays_in_fp32(
    make_network: Callable[..., bytes],
    coloured_frames: np.ndarray,
    judge: Callable[[bytes], Parity],
    outliers: tuple[float, ...],
    planted: str,
) -> None:
    calibrated = calibrate(make_network(outliers=outliers), coloured_frames[:40])
    assert rank_layers(calibrated, coloured_frames, engines)[0].node == planted
    assert not judge(calibrated.quantised(CONVOLUTIONS)).holds
    choice = choose_int8(calibrated, coloured_frames[:40], judge, engines)
    assert choice.accepted and [layer.node for layer in choice.kept] == [planted]
    assert built(choice.model) == {"fp32": 2, "int8": 2}


def test_an_int8_that_collapses_is_refused_with_the_numbers(
    make_network: Callable[..., bytes], coloured_frames: np.ndarray, judge: Callable[[bytes], Parity]
) -> None:
    calibrated = calibrate(make_network(outliers=(1024.0, 1024.0)), coloured_frames[:40])
    choice = choose_int8(calibrated, coloured_frames[:40], judge, engines)
    assert not choice.accepted
    with pytest.raises(
        ParityError, match=r"int8 on one .* labels agree on \d+\.\d% of 120 frames \(needed: 99%\)"
    ) as error:
        choice.parity.check()
    assert "a loss of at most" in str(error.value) and "allowed: 0.01" in str(error.value)


def test_a_layer_is_as_sensitive_as_the_engine_it_hurts_most(
    calibrated: Calibrated, coloured_frames: np.ndarray
) -> None:
    class WrongOnConv2:
        name = "wrong"

        def __init__(self, model: bytes) -> None:
            self.engine = load_engine(model, threads=1)
            self.turned = any(layer.node == "conv2" and layer.precision == "int8" for layer in layers(model))

        def infer(self, frame: np.ndarray) -> np.ndarray:
            return np.roll(self.engine.infer(frame), int(self.turned))

    ranked = rank_layers(
        calibrated,
        coloured_frames,
        lambda model: [*engines(model), WrongOnConv2(model)],  # type: ignore[list-item]
    )
    assert ranked[0].node == "conv2"


def test_divergence_is_zero_for_equals_and_infinite_for_no_numbers() -> None:
    one = np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    assert divergence(one, one) == 0
    assert divergence(one, np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)) == pytest.approx(np.log(4 / 3) / 4)
    assert divergence(one, np.full((2, 2), np.nan, np.float32)) == np.inf
