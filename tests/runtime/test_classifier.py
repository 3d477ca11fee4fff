"""The classifier on a real engine, and the proof on golden frames that precedes its first frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from gensoup.runtime import Classifier as PublicClassifier
from gensoup.runtime.bundle import Bundle, read_bundle, write_bundle
from gensoup.runtime.classifier import Classifier, Explaining
from gensoup.runtime.errors import BundleError, DataError, EngineError, UsageError
from gensoup.runtime.preprocess import Preprocess


def frame_of(color: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    frame = np.random.default_rng(color).integers(0, 40, (height, width, 3), dtype=np.uint8)
    frame[..., color] += 180
    return frame


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def refusal(bundle: Bundle, path: Path) -> str:
    """Why a bundle of this content is refused."""
    write_bundle(path, bundle.manifest, bundle.models, bundle.golden)
    with pytest.raises(BundleError) as caught:
        Classifier.load(path, threads=1)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_classifies_frames_of_any_size(tiny_bundle: Path, threads: int | None) -> None:
    classifier = Classifier.load(str(tiny_bundle), threads=threads)
    for color, label in enumerate(("blue", "green", "red")):
        for size in ((1080, 1920), (33, 47), (1, 1)):
            prediction = classifier(frame_of(color, *size))
            assert prediction.label == label
            assert prediction.index == color
            assert prediction.probabilities.dtype == np.float32
            assert prediction.probabilities.shape == (3,)
            assert prediction.probabilities.sum() == pytest.approx(1)
            assert prediction.probability == prediction.probabilities[color] == prediction.probabilities.max()
            assert prediction.latency_ms == prediction.preprocess_ms + prediction.engine_ms
            assert prediction.preprocess_ms > 0 and prediction.engine_ms > 0


def test_results_stay_what_they_were(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    first = classifier(frame_of(0))
    kept = first.probabilities.copy()
    classifier(frame_of(2))
    assert np.array_equal(first.probabilities, kept)


def test_carries_what_the_bundle_says(tiny_bundle: Path, bundle: Bundle) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    assert classifier.manifest == bundle.manifest
    assert classifier.sha256 == bundle.sha256
    assert classifier.labels == ("blue", "green", "red")


def test_refuses_what_is_no_frame(tiny_bundle: Path) -> None:
    with pytest.raises(DataError, match="BGR uint8"):
        Classifier.load(tiny_bundle, threads=1)(np.zeros((8, 8), np.uint8))


def test_is_what_the_package_offers() -> None:
    assert PublicClassifier is Classifier


def test_golden_frames_catch_another_preprocessing(bundle: Bundle, tmp_path: Path) -> None:
    for wrong in (Preprocess(32, "crop"), Preprocess(32, "letterbox"), Preprocess(32, crop_box=(0.1, 0, 1, 1))):
        changed = replace(bundle, manifest=replace(bundle.manifest, preprocess=wrong))
        assert "preprocessed differently" in refusal(changed, tmp_path / "b.gensoup")
    resized = replace(bundle, manifest=replace(bundle.manifest, preprocess=Preprocess(64)))
    assert "preprocessed differently" in refusal(resized, tmp_path / "b.gensoup")


def with_tolerance(bundle: Bundle, tolerance: float) -> Bundle:
    precisions = {"fp32": {**bundle.manifest.precisions["fp32"], "tolerance": tolerance}}
    return replace(bundle, manifest=replace(bundle.manifest, precisions=precisions))


def test_golden_frames_allow_one_grey_level_not_two(bundle: Bundle, tmp_path: Path) -> None:
    def moved(levels: int) -> Bundle:
        frames = bundle.golden.frames.copy()
        pixel = int(frames[0, 0, 0, 0])
        frames[0, 0, 0, 0] = pixel + levels if pixel < 128 else pixel - levels
        return with_tolerance(replace(bundle, golden=replace(bundle.golden, frames=frames)), 0.01)

    path = tmp_path / "b.gensoup"
    near = moved(1)
    write_bundle(path, near.manifest, near.models, near.golden)
    Classifier.load(path, threads=1)
    assert "(2 levels)" in refusal(moved(2), path)


def test_golden_frames_catch_another_model(bundle: Bundle, tmp_path: Path) -> None:
    model = onnx.load_from_string(bundle.model)
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            weights = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(weights * np.float32(0.99), "weights"))
    message = refusal(replace(bundle, models={"fp32": model.SerializeToString()}), tmp_path / "b.gensoup")
    assert "other probabilities than the reference on golden frame 0" in message
    assert "tolerance" in message


def test_golden_probabilities_are_held_to_the_tolerance(bundle: Bundle, tmp_path: Path) -> None:
    probabilities = bundle.golden.probabilities.copy()
    probabilities[-1] += np.array([2e-3, -1e-3, -1e-3], np.float32)
    changed = replace(bundle, golden=replace(bundle.golden, probabilities=probabilities))
    assert "golden frame 2" in refusal(with_tolerance(changed, 1e-3), tmp_path / "b.gensoup")
    loose = with_tolerance(changed, 3e-3)
    write_bundle(tmp_path / "b.gensoup", loose.manifest, loose.models, loose.golden)
    Classifier.load(tmp_path / "b.gensoup", threads=1)


def test_probabilities_that_are_no_numbers_never_pass(bundle: Bundle, tmp_path: Path) -> None:
    probabilities = np.full_like(bundle.golden.probabilities, np.nan)
    changed = replace(bundle, golden=replace(bundle.golden, probabilities=probabilities))
    assert "other probabilities" in refusal(with_tolerance(changed, 1.0), tmp_path / "b.gensoup")


def test_labels_must_fit_the_outputs(bundle: Bundle, tmp_path: Path) -> None:
    fewer = replace(bundle, manifest=replace(bundle.manifest, labels=("blue", "green")))
    assert "2 labels for 3 outputs" in refusal(fewer, tmp_path / "b.gensoup")
    golden = replace(bundle.golden, probabilities=bundle.golden.probabilities[:, :2].copy())
    assert "2 labels for 3 outputs" in refusal(replace(fewer, golden=golden), tmp_path / "b.gensoup")


def test_a_model_the_engine_cannot_load_names_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    empty = onnx.ModelProto(ir_version=10).SerializeToString()
    assert "cannot load the model" in refusal(replace(bundle, models={"fp32": empty}), tmp_path / "b.gensoup")


def test_a_model_of_another_size_names_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    preprocess = Preprocess(16)
    frames = np.stack([preprocess(camera) for camera in bundle.golden.camera_frames])
    changed = replace(
        bundle,
        manifest=replace(bundle.manifest, preprocess=preprocess),
        golden=replace(bundle.golden, frames=frames),
    )
    assert "failed on a frame" in refusal(changed, tmp_path / "b.gensoup")


def test_a_damaged_bundle_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    content = bytearray(bundle.path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b.gensoup").write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        Classifier.load(tmp_path / "b.gensoup")


def test_saliency_comes_only_when_asked_for(looking_bundle: Path) -> None:
    classifier = Classifier.load(looking_bundle, threads=1)
    frame = np.zeros((80, 160, 3), np.uint8)
    frame[:40, 80:] = 255
    plain, explained = classifier(frame), classifier(frame, saliency=True)
    assert plain.saliency is None
    assert explained.saliency is not None and explained.saliency.dtype == np.float32
    np.testing.assert_array_equal(plain.probabilities, explained.probabilities)
    expected = np.zeros((8, 8), np.float32)
    expected[:4, 4:] = 1
    np.testing.assert_allclose(explained.saliency, expected, atol=0.1)
    always = Explaining(classifier)
    np.testing.assert_array_equal(always(frame).saliency, explained.saliency)
    assert always.engine is classifier.engine


def test_the_graph_with_saliency_is_proven_too(looking_bundle: Path) -> None:
    """On TensorRT it is an engine of its own: one that is wrong must not answer, though the other one is right."""
    classifier = Classifier.load(looking_bundle, threads=1)
    explain = classifier.engine.explain

    def wrong(frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        probabilities, saliency = explain(frame)
        return np.roll(probabilities, 1), saliency

    classifier.engine.explain = wrong  # type: ignore[method-assign]
    classifier(frame_of(0))
    for _ in range(2):  # not only the first time
        with pytest.raises(BundleError, match=r"onnxruntime-cpu with saliency gives other .* golden frame 0"):
            classifier(frame_of(0), saliency=True)
    with pytest.raises(BundleError, match="with saliency"):
        Explaining(classifier)
    classifier.engine.explain = explain  # type: ignore[method-assign]
    assert classifier(frame_of(0), saliency=True).label == "blue"


def test_a_bundle_without_saliency_says_why(tiny_bundle: Path, looking_bundle: Path) -> None:
    with pytest.raises(UsageError, match="--saliency: the bundle is from before there were saliency maps"):
        Explaining(Classifier.load(tiny_bundle, threads=1))
    with pytest.raises(EngineError, match="no saliency output"):
        Classifier.load(tiny_bundle, threads=1)(frame_of(0), saliency=True)
    classifier = Classifier.load(looking_bundle, threads=1)
    assert classifier.manifest is not None
    none = {"available": False, "reason": "its head\nis \x1b[31modd"}
    classifier.manifest = replace(classifier.manifest, saliency=none)
    with pytest.raises(UsageError, match=r"admits no saliency map \(its head is \[31modd\)"):
        Explaining(classifier)
    precisions = {"fp32": {**classifier.manifest.precisions["fp32"], "saliency": False}}
    classifier.manifest = replace(classifier.manifest, saliency={"available": True}, precisions=precisions)
    with pytest.raises(UsageError, match="fp32 graph has none"):
        Explaining(classifier)
