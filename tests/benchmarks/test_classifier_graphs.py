"""The same network on both sides, whatever it takes as input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from classifier_graphs import bundle_from_ultralytics, graph_for_ultralytics

from gensoup.runtime import Classifier

FRAME = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def answer(graph: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": images})
    return np.asarray(probabilities[0])


def images_of(frame: np.ndarray) -> np.ndarray:
    """What Ultralytics gives a classifier: float32 RGB [1, 3, H, W] in 0…1."""
    return (frame[..., ::-1].transpose(2, 0, 1)[None] / 255).astype(np.float32)


def test_a_bundle_answers_the_same_behind_the_input_of_ultralytics(looking_bundle: Path, tmp_path: Path) -> None:
    graph = graph_for_ultralytics(looking_bundle, tmp_path / "peer.onnx")
    expected = Classifier.load(looking_bundle, "onnxruntime-cpu").engine.infer(FRAME)
    np.testing.assert_allclose(answer(graph, images_of(FRAME)), expected, atol=1e-5)
    assert {"task", "names", "imgsz"} <= {entry.key for entry in onnx.load(graph).metadata_props}


def test_and_back_again(tiny_bundle: Path, tmp_path: Path) -> None:
    graph = graph_for_ultralytics(tiny_bundle, tmp_path / "peer.onnx")
    bundle = bundle_from_ultralytics(graph, tmp_path / "back.gensoup")
    got = Classifier.load(bundle, "onnxruntime-cpu").engine.infer(FRAME)
    np.testing.assert_allclose(got, answer(graph, images_of(FRAME)), atol=1e-5)
    assert not np.allclose(got, got[::-1])  # channels in the wrong order would show
