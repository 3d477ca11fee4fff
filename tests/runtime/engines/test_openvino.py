"""OpenVINO against the reference engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime.engines import built_precisions, inspect_engine
from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine
from gensoup.runtime.errors import EngineError

pytest.importorskip("openvino", reason="needs the extra [openvino]")

from gensoup.runtime.engines.openvino import OpenVinoEngine


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-3), ("int8", 1e-3)])
def test_answers_are_the_references(
    small_graph: Callable[..., bytes], frames: list[np.ndarray], precision: str, tolerance: float
) -> None:
    model = small_graph(precision, saliency=True)
    engine, reference = OpenVinoEngine(model, 1), OnnxRuntimeEngine(model, 1)
    for frame in frames:
        expected, expected_map = reference.explain(frame)
        assert engine.infer(frame) == pytest.approx(expected, abs=tolerance)
        answer, saliency = engine.explain(frame)
        assert answer == pytest.approx(expected, abs=tolerance)
        assert saliency.shape == expected_map.shape == (8, 8)
        assert saliency.dtype == answer.dtype == np.float32
        np.testing.assert_allclose(saliency, expected_map, atol=tolerance)


def test_views_and_former_answers(small_graph: Callable[..., bytes], frames: list[np.ndarray]) -> None:
    engine = OpenVinoEngine(small_graph(), 1)
    first = engine.infer(frames[0])
    kept = first.copy()
    for view in (frames[1][::-1], frames[1][..., ::-1], frames[1].transpose(1, 0, 2)):
        assert np.array_equal(engine.infer(view), engine.infer(np.ascontiguousarray(view)))
    assert np.array_equal(first, kept)


def test_it_tells_what_it_runs_in(small_graph: Callable[..., bytes]) -> None:
    asked = {precision: OpenVinoEngine(small_graph(precision), 1) for precision in ("fp32", "fp16", "int8")}
    built = {precision: built_precisions(inspect_engine(engine)) for precision, engine in asked.items()}
    assert built["fp32"] == {"fp32": 3}
    assert built["fp16"].get("fp16", 0) in (0, 3)  # in single precision on CPUs that have no other
    assert built["int8"].get("int8", 0) + built["int8"].get("uint8", 0) == 2


def test_the_frame_path_computes_no_saliency(small_graph: Callable[..., bytes]) -> None:
    engine = OpenVinoEngine(small_graph(saliency=True), 1)
    assert not any("map" in layer.name or "saliency" in layer.name for layer in engine.layers())
    with pytest.raises(EngineError, match="the graph has no saliency output"):
        OpenVinoEngine(small_graph(), 1).explain(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    "wrong", [np.zeros((16, 32, 3), np.uint8), np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.uint8)]
)
def test_a_wrong_frame_is_one_line(small_graph: Callable[..., bytes], wrong: np.ndarray) -> None:
    engine = OpenVinoEngine(small_graph(), 1)
    with pytest.raises(EngineError, match=r"failed on a frame \(uint8 \[32, 32, 3\] is expected") as caught:
        engine.infer(wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 1, 400])
def test_a_model_that_cannot_be_loaded_is_one_line(small_graph: Callable[..., bytes], cut: int) -> None:
    with pytest.raises(EngineError, match="openvino cannot load the model") as caught:
        OpenVinoEngine(small_graph()[:cut], 1)
    assert "\n" not in str(caught.value)


def test_closed_is_closed(small_graph: Callable[..., bytes], frames: list[np.ndarray]) -> None:
    engine = OpenVinoEngine(small_graph(), 1)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(frames[0])


_CLOSED_ELSEWHERE = """
import gc, signal, sys, threading
from pathlib import Path
from gensoup.runtime.engines.openvino import OpenVinoEngine

def close():
    open_engines.pop().close()
    gc.collect()

open_engines = [OpenVinoEngine(Path(sys.argv[1]).read_bytes(), 1)]
thread = threading.Thread(target=close)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda number, frame: print("interrupted"))
signal.raise_signal(signal.SIGINT)
"""


def test_an_interrupt_after_another_thread_closed_the_engine_is_survived(
    small_graph: Callable[..., bytes], tmp_path: Path
) -> None:
    """OpenVINO's plugin takes the stack for signals with it that it gave to the thread which loaded it."""
    (tmp_path / "model.onnx").write_bytes(small_graph())
    command = [sys.executable, "-X", "faulthandler", "-c", _CLOSED_ELSEWHERE, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
