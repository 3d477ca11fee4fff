"""The reference engine: answers, refusals, and what it says when it is not installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gensoup.runtime.engines import load_engine
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
