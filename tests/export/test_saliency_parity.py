"""A graph keeps its maps only while they are the network's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gensoup.export.graph import to_onnx
from gensoup.export.half import to_fp16
from gensoup.export.layers import built, layers
from gensoup.export.parity import ParityError
from gensoup.export.precisions import BuiltGraph
from gensoup.export.saliency import SaliencyRange
from gensoup.export.saliency_parity import prove_saliency, reference_maps
from gensoup.runtime.engines import load_engine
from gensoup.runtime.engines.graph_outputs import output_names

SIZE = 32
SHOWN = SaliencyRange((0.0, 0.0), (3.0, 3.0), (8, 8), 0)
FRAMES = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    net = nn.Sequential(*layers).eval()
    with torch.no_grad():
        net[4].weight.mul_(8)
    return net


@pytest.fixture(scope="module")
def graph(model: nn.Module) -> bytes:
    return to_onnx(model, 1.0, SIZE, SHOWN)


def test_maps_that_are_the_networks_stay(model: nn.Module, graph: bytes) -> None:
    expected = reference_maps(model, 1.0, SHOWN, FRAMES)
    assert max(saliency.max() for _, saliency in expected) > 0.1
    for precision, content in (("fp32", graph), ("fp16", to_fp16(graph))):
        proven = prove_saliency(BuiltGraph(precision, content, {}), expected, FRAMES, [load_engine(content, 1)])
        assert proven.model == content and proven.how["saliency"] is True
        reached = proven.how["saliency_parity"]
        assert 0 < reached["largest_difference"] < reached["tolerance"] and reached["frames"] == len(FRAMES)


def test_maps_that_are_off_are_refused_in_fp32_and_left_out_elsewhere(model: nn.Module, graph: bytes) -> None:
    other = SaliencyRange((0.0, 0.0), (1.0, 1.0), (8, 8), 0)
    expected = reference_maps(model, 1.0, other, FRAMES)
    with pytest.raises(ParityError, match="fp32 on onnxruntime-cpu: saliency maps are apart by 0"):
        prove_saliency(BuiltGraph("fp32", graph, {}), expected, FRAMES, [load_engine(graph, 1)])
    half = to_fp16(graph)
    proven = prove_saliency(BuiltGraph("fp16", half, {"fp16": 2}), expected, FRAMES, [load_engine(half, 1)])
    assert output_names(proven.model) == ("probabilities",)
    assert proven.how["saliency"] is False and proven.how["saliency_parity"]["largest_difference"] > 0.05
    for frame in FRAMES:
        np.testing.assert_array_equal(load_engine(proven.model, 1).infer(frame), load_engine(half, 1).infer(frame))


def test_maps_must_be_the_networks_on_every_engine(model: nn.Module, graph: bytes) -> None:
    class NoNumbers:
        name = "broken"

        def explain(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            probabilities, saliency = load_engine(graph, 1).explain(frame)
            return probabilities, np.full_like(saliency, np.nan)

    expected, engines = reference_maps(model, 1.0, SHOWN, FRAMES), [load_engine(graph, 1), NoNumbers()]
    with pytest.raises(ParityError, match=r"fp32 on broken: saliency maps are apart by 1 "):
        prove_saliency(BuiltGraph("fp32", graph, {}), expected, FRAMES, engines)  # type: ignore[arg-type]
    proven = prove_saliency(BuiltGraph("fp16", graph, {}), expected, FRAMES, engines)  # type: ignore[arg-type]
    assert output_names(proven.model) == ("probabilities",)
    reached = proven.how["saliency_parity"]
    assert (reached["engine"], reached["largest_difference"]) == ("broken", 1.0)


def test_a_network_without_maps_says_so(model: nn.Module) -> None:
    plain = BuiltGraph("fp32", to_onnx(model, 1.0, SIZE), {})
    proven = prove_saliency(plain, (), FRAMES, ())
    assert proven.model == plain.model and proven.how == {"saliency": False}


def test_saliency_does_not_count_as_layers_nor_go_to_fp16(model: nn.Module, graph: bytes) -> None:
    plain = to_onnx(model, 1.0, SIZE)
    assert layers(graph) == layers(plain) and built(plain) == {"fp32": 2}
    assert built(to_fp16(graph)) == {"fp16": 2}
    for frame in FRAMES:  # the same answers to the bit, in either precision
        for whole, bare in ((graph, plain), (to_fp16(graph), to_fp16(plain))):
            np.testing.assert_array_equal(load_engine(whole, 1).explain(frame)[0], load_engine(bare, 1).infer(frame))
