"""The reference engine: answers, refusals, and what it says when it is not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gensoup.runtime.engines import (
    Layer,
    built_precisions,
    check_precision,
    inspect_engine,
    load_engine,
    precisions_run,
)
from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine
from gensoup.runtime.errors import EngineError


def softmax_of_means(frame: np.ndarray) -> np.ndarray:
    """What the tiny model computes."""
    logits = 0.05 * frame.astype(np.float64).mean((0, 1))
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def graph_with(inputs: list[str], outputs: list[str]) -> bytes:
    """A model that hands its first input on under other names."""
    nodes = [helper.make_node("Identity", [inputs[0]], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "names",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 8, 8, 3]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 8, 8, 3]) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_answers_are_right_in_any_thread_count(tiny_model: bytes, threads: int | None) -> None:
    engine = load_engine(tiny_model, threads)
    assert engine.name == "onnxruntime-cpu"
    for seed in range(5):
        answer = engine.infer(frame(seed))
        assert answer.dtype == np.float32
        assert answer.shape == (3,)
        assert answer == pytest.approx(softmax_of_means(frame(seed)), abs=1e-5)


def test_views_give_what_their_copies_give(tiny_model: bytes) -> None:
    engine = load_engine(tiny_model, 1)
    for view in (frame(0)[::-1], frame(0)[..., ::-1], frame(0).transpose(1, 0, 2)):
        assert np.array_equal(engine.infer(view), engine.infer(np.ascontiguousarray(view)))


def test_an_answer_is_not_overwritten_by_the_next(tiny_model: bytes) -> None:
    engine = load_engine(tiny_model, 1)
    first = engine.infer(frame(0))
    kept = first.copy()
    engine.infer(frame(1) // 2)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("cut", [0, 1, 10, 100])
def test_a_model_that_cannot_be_loaded_is_one_line(tiny_model: bytes, cut: int) -> None:
    with pytest.raises(EngineError, match="cannot load the model") as caught:
        load_engine(tiny_model[:cut], 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(["image"], ["probabilities"]), (["frame"], ["logits"]), (["frame", "extra"], ["probabilities"])],
)
def test_a_foreign_model_says_what_it_has(inputs: list[str], outputs: list[str]) -> None:
    with pytest.raises(EngineError) as caught:
        load_engine(graph_with(inputs, outputs), 1)
    assert str(inputs) in str(caught.value)
    assert str(outputs) in str(caught.value)


def test_further_outputs_are_allowed() -> None:
    load_engine(graph_with(["frame"], ["probabilities", "saliency"]), 1)


@pytest.mark.parametrize(
    "wrong", [np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.uint8)]
)
def test_a_wrong_frame_is_one_line_and_the_engine_lives_on(tiny_model: bytes, wrong: np.ndarray) -> None:
    engine = OnnxRuntimeEngine(tiny_model, 1)
    with pytest.raises(EngineError, match="failed on a frame") as caught:
        engine.infer(wrong)
    assert "\n" not in str(caught.value)
    assert engine.infer(frame(0)) == pytest.approx(softmax_of_means(frame(0)), abs=1e-5)


def test_without_onnxruntime_it_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from gensoup.runtime.engines import load_engine\n"
        "from gensoup.runtime.errors import MissingDependencyError\n"
        "try:\n    load_engine(b'')\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "'onnxruntime' is not installed: pip install 'gensoup[cpu]'"


def test_explaining_gives_the_same_answer_and_a_map(
    small_graph: Callable[..., bytes], frames: list[np.ndarray]
) -> None:
    engine = OnnxRuntimeEngine(small_graph(saliency=True), 1)
    for image in frames:
        probabilities, saliency = engine.explain(image)
        assert np.array_equal(probabilities, engine.infer(image))
        assert saliency.shape == (8, 8) and saliency.dtype == np.float32
    with pytest.raises(EngineError, match="the graph has no saliency output"):
        OnnxRuntimeEngine(small_graph(), 1).explain(frames[0])


def test_the_frame_path_computes_no_saliency(small_graph: Callable[..., bytes]) -> None:
    kernels = [layer.name for layer in OnnxRuntimeEngine(small_graph(saliency=True), 1).layers()]
    assert kernels and not any("map" in name for name in kernels)


def test_fp16_that_runs_as_fp32_is_noticed(small_graph: Callable[..., bytes]) -> None:
    layers = inspect_engine(OnnxRuntimeEngine(small_graph("fp16"), 1))
    assert any(layer.kind == "Cast" and layer.precision == "fp16" for layer in layers)
    if built_precisions(layers) == {"fp32": 3}:  # CPUs without half precision
        with pytest.raises(EngineError, match="asked for fp16 and built otherwise"):
            check_precision("fp16", layers, "onnxruntime-cpu")
    check_precision("fp32", inspect_engine(OnnxRuntimeEngine(small_graph(), 1)), "onnxruntime-cpu")
    assert precisions_run(OnnxRuntimeEngine(small_graph(), 1)) == {"fp32": 3}


def test_an_engine_that_cannot_tell_tells_nothing() -> None:
    class Silent:
        def layers(self) -> list[Layer]:
            raise EngineError("no inspector")

    assert precisions_run(Silent()) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_refused_not_replaced(tiny_model: bytes, provider: str) -> None:
    import onnxruntime

    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    if wanted in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {wanted}")
    with pytest.raises(EngineError, match=rf"no {wanted}: pip uninstall onnxruntime, then .*gensoup\[gpu\]"):
        OnnxRuntimeEngine(tiny_model, 1, provider)  # type: ignore[arg-type]


def test_a_silent_fall_back_to_the_cpu_is_refused(tiny_model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime only warns when a provider that it has cannot start, and gives a session on the CPU."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: real(model, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(EngineError, match="took CPUExecutionProvider in place of CUDAExecutionProvider"):
        OnnxRuntimeEngine(tiny_model, 1, "cuda")
