"""The deployed graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import gensoup
from gensoup.export.architectures import initial_model
from gensoup.export.batch_norm import reestimate_batch_norm
from gensoup.export.graph import MEAN, STD, DeployGraph, standardise, to_onnx, to_planes
from gensoup.runtime.engines import load_engine

SIZE, TEMPERATURE = 32, 1.7
NAMES = ("squeezenet1_1", "mobilenet_v3_small")


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, bytes]:
    torch.set_num_threads(1)
    model = initial_model(request.param, 4, seed=0, pretrained=None)
    noise = np.random.default_rng(9).integers(0, 256, (32, SIZE, SIZE, 3), dtype=np.uint8)
    reestimate_batch_norm(model, noise, torch.device("cpu"))  # else a fresh network says the same to everything
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(5)
    model.eval()
    return model, to_onnx(model, TEMPERATURE, SIZE)


def test_input_is_one_bgr_uint8_frame_and_the_first_node_casts_it(pair: tuple[torch.nn.Module, bytes]) -> None:
    graph = onnx.load_from_string(pair[1]).graph
    (frame,) = graph.input
    assert frame.name == "frame" and frame.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [axis.dim_value for axis in frame.type.tensor_type.shape.dim] == [1, SIZE, SIZE, 3]
    (answer,) = graph.output
    assert answer.name == "probabilities" and answer.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [axis.dim_value for axis in answer.type.tensor_type.shape.dim] == [1, 4]
    assert graph.node[0].op_type == "Cast" and list(graph.node[0].input) == ["frame"]


def test_probabilities_equal_torchs_and_sum_to_one(pair: tuple[torch.nn.Module, bytes]) -> None:
    model, graph = pair
    engine = load_engine(graph, threads=1)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, high + 1, (SIZE, SIZE, 3), dtype=np.uint8) for high in (255, 60, 255, 0)]
    answers = np.stack([engine.infer(frame) for frame in frames])
    with torch.inference_mode():
        expected = DeployGraph(model, TEMPERATURE).eval()(torch.from_numpy(np.stack(frames))).numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)
    assert np.abs(np.diff(answers[:3], axis=0)).max() > 1e-3  # it does look at its input


def test_the_temperature_divides_the_logits(pair: tuple[torch.nn.Module, bytes]) -> None:
    model, graph = pair
    frame = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    with torch.inference_mode():
        logits = model(standardise(to_planes(torch.from_numpy(frame[None]))))[0].double().numpy()
    shares = np.exp(logits / TEMPERATURE)
    np.testing.assert_allclose(load_engine(graph, threads=1).infer(frame), shares / shares.sum(), atol=1e-5)


def test_no_paths_of_this_machine_and_no_stack_traces_in_the_file(pair: tuple[torch.nn.Module, bytes]) -> None:
    graph = pair[1]
    assert b"probabilities" in graph  # names are plain text in the file, so paths would be found
    checkout = str(Path(gensoup.__file__).resolve().parent.parent)
    for trace in (checkout, str(Path.home()), "site-packages", ".py", "stack_trace", "Traceback", 'File "'):
        assert trace.encode() not in graph, trace


def test_planes_are_rgb_and_standardised() -> None:
    frames = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    frames[..., 0] = 10  # blue
    frames[..., 2] = 200  # red
    planes = to_planes(frames)
    assert planes.dtype == torch.float32 and planes.shape == (1, 3, 2, 2)
    assert [float(value) for value in planes[0, :, 0, 0]] == [200.0, 0.0, 10.0]
    red, green, blue = (float(value) for value in standardise(planes)[0, :, 0, 0])
    assert red == pytest.approx((200 - MEAN[0]) / STD[0])
    assert green == pytest.approx(-0.456 / 0.224)
    assert blue == pytest.approx((10 / 255 - 0.406) / 0.225, rel=1e-5)
