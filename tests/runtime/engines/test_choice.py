"""engine="auto" on real engines: the fastest that passes is taken, remembered, and doubted when anything changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime.bundle import Golden, write_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.engines import choice
from gensoup.runtime.engines.catalogue import ENGINES, check_engine, obstacle
from gensoup.runtime.engines.choice import Candidate, Request, candidates, fastest, recall, remember
from gensoup.runtime.engines.onnxruntime import OnnxRuntimeEngine
from gensoup.runtime.errors import BundleError, EngineError, UsageError
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.private_cache import cache_root

LABELS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def make_bundle(small_graph: Callable[..., bytes], tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle: (precisions=("fp32",), wrong=() for precisions whose graph has other weights) → path."""

    def make(precisions: tuple[str, ...] = ("fp32",), wrong: tuple[str, ...] = ()) -> Path:
        models = {name: small_graph(name, seed=1 if name in wrong else 0) for name in precisions}
        preprocess = Preprocess(32)
        cameras = tuple(np.random.default_rng(n).integers(0, 256, (40 + n, 50, 3), dtype=np.uint8) for n in range(2))
        frames = np.stack([preprocess(camera) for camera in cameras])
        reference = OnnxRuntimeEngine(small_graph("fp32"), 1)
        golden = Golden(cameras, frames, np.stack([reference.infer(frame) for frame in frames]))
        manifest = Manifest(
            labels=LABELS,
            preprocess=preprocess,
            architecture="small",
            macs=1,
            parameters=1,
            precisions={name: {"member": "model", "tolerance": 1e-5 if name == "fp32" else 0.02} for name in models},
        )
        path = tmp_path / "small.gensoup"
        write_bundle(path, manifest, models, golden)
        return path

    return make


def notes() -> list[Path]:
    return sorted((cache_root() / "choices").glob("*.json"))


def test_auto_measures_once_and_remembers(make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs two engines: the extra [openvino]")
    path = make_bundle(("fp32", "int8"))
    told: list[tuple[str, int, int]] = []
    first = Classifier.load(path, threads=1, progress=lambda *step: told.append(step))
    assert told and told[-1][1] == told[-1][2]
    (note,) = notes()
    measured = json.loads(note.read_text())["measured"]
    assert {(entry["engine"], entry["precision"]) for entry in measured} == {
        (engine, precision) for engine in ("onnxruntime-cpu", "openvino-cpu") for precision in ("fp32", "int8")
    }
    assert all(0 < entry["median_ms"] < 1000 for entry in measured)

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(choice, "_measure", never)
    again = Classifier.load(path, threads=1)
    assert (again.engine.name, again.precision) == (first.engine.name, first.precision)
    with pytest.raises(AssertionError, match="measured again"):
        Classifier.load(path, threads=2)  # another question


def test_what_is_remembered_must_still_pass(make_bundle: Callable[..., Path]) -> None:
    """A note that names a candidate that fails its golden frames is no reason to run it."""
    path = make_bundle(("fp32", "int8"), wrong=("int8",))
    Classifier.load(path, threads=1)
    (note,) = notes()
    values = json.loads(note.read_text())
    assert values["precision"] == "fp32"
    note.write_text(json.dumps({**values, "precision": "int8"}))
    assert Classifier.load(path, threads=1).precision == "fp32"


def test_a_precision_that_fails_is_passed_over_by_auto_and_refused_by_name(make_bundle: Callable[..., Path]) -> None:
    path = make_bundle(("fp32", "fp16"), wrong=("fp16",))
    assert Classifier.load(path, threads=1).precision == "fp32"
    for engine in ("onnxruntime-cpu", "openvino-cpu"):
        if obstacle(engine) is None:
            with pytest.raises(BundleError, match=rf"{engine} gives other probabilities .* \(fp16, apart by") as caught:
                Classifier.load(path, engine, "fp16", threads=1)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_a_named_engine_and_precision_are_what_runs(
    make_bundle: Callable[..., Path], engine: str, precision: str
) -> None:
    if (reason := obstacle(engine)) is not None:
        pytest.skip(str(reason))
    classifier = Classifier.load(make_bundle(("fp32", "fp16", "int8")), engine, precision, threads=1)
    assert (classifier.engine.name, classifier.precision) == (engine, precision)
    assert notes() == []


class Flaky:
    """A GPU's engine: the reference's answers, once ``failures`` of opening or of frames are over."""

    name = "onnxruntime-cuda"

    def __init__(self, model: bytes, fails_at: int) -> None:
        self.engine, self.left = OnnxRuntimeEngine(model, 1), fails_at

    def infer(self, frame: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            raise EngineError("cudaErrorUnknown")
        return self.engine.infer(frame)

    def close(self) -> None:
        raise EngineError("cudaErrorUnknown again")


@pytest.mark.parametrize("fails_at", [0, 1, 20])
def test_a_gpu_that_was_not_ready_is_asked_again(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """Failing on opening (0), on the golden frames (1) or while it is measured (20): never remembered as a choice."""
    ready = fails_at != 0

    def opened(name: str, model: bytes, *rest: object) -> object:
        if name != Flaky.name:
            return OnnxRuntimeEngine(model, 1)
        if not ready:
            raise EngineError("no CUDA device") from RuntimeError("driver not loaded yet")
        return Flaky(model, fails_at)

    monkeypatch.setattr(choice, "ready_without_building", lambda name, *rest: name in ("onnxruntime-cpu", Flaky.name))
    monkeypatch.setattr(choice, "open_engine", opened)
    path = make_bundle()
    assert Classifier.load(path).engine.name == "onnxruntime-cpu"
    assert notes() == []
    ready, fails_at = True, -1
    Classifier.load(path)
    assert len(notes()) == 1


def test_engines_of_elsewhere_take_part_and_are_not_passed_over_in_silence(
    make_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"--engines-dir: .*tensorrt-rtx; leave it out with --engine onnxruntime-cpu"):
        Classifier.load(make_bundle(), "onnxruntime-cpu", engines_dir=tmp_path)
    asked: list[object] = []
    monkeypatch.setattr(choice, "ready_without_building", lambda *arguments: asked.append(arguments[-1]) or False)
    candidates(Request(engines_dir=tmp_path), {"fp32": b""})
    assert asked == [tmp_path] * len(ENGINES)


def test_mistakes_name_what_there_is(make_bundle: Callable[..., Path]) -> None:
    path = make_bundle()
    with pytest.raises(UsageError, match=r"^engine 'onnx': no such engine; usable here: auto, onnxruntime-cpu"):
        Classifier.load(path, "onnx")
    with pytest.raises(UsageError, match=r"^precision 'int8': this bundle holds fp32; gensoup export RUN --precision"):
        Classifier.load(path, precision="int8")
    for engine in ENGINES:
        reason = obstacle(engine)
        if reason is not None:
            with pytest.raises(
                UsageError, match=f"engine '{engine}': .*; usable here: auto, onnxruntime-cpu"
            ) as caught:
                Classifier.load(path, engine)
            assert "\n" not in str(caught.value)
            assert "pip install" in str(caught.value) or "nvidia-smi" in str(caught.value)
            with pytest.raises(UsageError, match=engine):
                check_engine("nothing")


def test_the_reference_comes_first_and_only_what_is_there(small_graph: Callable[..., bytes]) -> None:
    models = {"int8": small_graph("int8"), "fp32": small_graph()}
    found = candidates(Request(), models)
    assert found[:2] == [Candidate("onnxruntime-cpu", "fp32"), Candidate("onnxruntime-cpu", "int8")]
    assert not any(candidate.engine.startswith("tensorrt") for candidate in found)  # nothing was built
    assert candidates(Request("onnxruntime-cpu", "int8"), models) == [Candidate("onnxruntime-cpu", "int8")]


def test_less_than_five_percent_is_noise() -> None:
    slow, near, fast = (Candidate(name, "fp32") for name in ("slow", "near", "fast"))
    assert fastest({slow: 1.0, near: 0.96}) == slow
    assert fastest({slow: 1.0, near: 0.96, fast: 0.94}) == fast
    assert fastest({fast: 0.5, slow: 1.0}) == fast


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99, "engine": "e", "precision": "p"}'])
def test_a_note_that_is_none_is_ignored(text: str) -> None:
    known = Candidate("e", "p")
    path = cache_root() / "choices" / "note.json"
    remember(path, known, {known: 1.0})
    assert recall(path, [known]) == known
    assert recall(path, [Candidate("f", "p")]) is None
    path.write_text(text)
    assert recall(path, [known]) is None


def test_a_cache_that_cannot_be_used_costs_measuring_alone(
    make_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Classifier.load(make_bundle(), threads=1).precision == "fp32"
