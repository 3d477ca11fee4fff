from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from faulty import FaultyEngine

from gensoup.runtime import Classifier, Event, Guarded, Result, State, Stream, load_guarded
from gensoup.runtime.bundle import read_bundle, write_bundle
from gensoup.runtime.classifier import Explaining
from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.manifest import Manifest
from gensoup.runtime.swap import load_like

RED = np.zeros((48, 64, 3), np.uint8)
RED[..., 2] = 200


@pytest.fixture(scope="module")
def renamed_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_bundle`` with other labels."""
    bundle = read_bundle(tiny_bundle)
    names = Manifest.__dataclass_fields__
    values = {name: getattr(bundle.manifest, name) for name in names} | {"labels": ("bleu", "vert", "rouge")}
    path = tmp_path_factory.mktemp("renamed") / "renamed.gensoup"
    write_bundle(path, Manifest(**values), bundle.models, bundle.golden)
    return path


class Resets:
    """A smoother that counts what it saw since it was reset."""

    def __init__(self) -> None:
        self.since = self.resets = 0

    def update(self, prediction: object, captured_at: float, frame: np.ndarray) -> int:
        self.since += 1
        return self.since

    def reset(self) -> None:
        self.since, self.resets = 0, self.resets + 1


def ask(stream: Stream) -> None:
    stream.push(RED)
    assert stream.drain(30)


def test_another_bundle_answers_from_the_next_frame_on(tiny_bundle: Path, renamed_bundle: Path) -> None:
    results: list[Result] = []
    events: list[Event] = []
    smoother = Resets()
    classifier = Classifier.load(tiny_bundle, "onnxruntime-cpu", threads=1)
    with Stream(classifier, results.append, on_event=events.append, smoother=smoother, limit_ms=9e4) as stream:
        ask(stream)
        stream.swap(renamed_bundle)
        ask(stream)
        stream.swap(str(renamed_bundle))  # the same labels: smoothing goes on
        ask(stream)
    assert [result.prediction and result.prediction.label for result in results] == ["red", "rouge", "rouge"]
    shas = [read_bundle(path).sha256 for path in (tiny_bundle, renamed_bundle, renamed_bundle)]
    assert [result.bundle for result in results] == shas
    assert [result.smoothed for result in results] == [1, 1, 2]
    assert smoother.resets == 1
    assert [(event.kind, event.engine) for event in events] == [("swapped", "onnxruntime-cpu")] * 2
    assert shas[1][:16] in events[0].reason


def test_frames_flow_while_the_new_bundle_is_loaded_and_none_is_lost(tiny_bundle: Path, renamed_bundle: Path) -> None:
    results: list[Result] = []
    with Stream(Classifier.load(tiny_bundle, threads=1), results.append, mode="throughput") as stream:
        swapping = threading.Thread(target=stream.swap, args=(renamed_bundle,))
        swapping.start()
        pushed = 0
        while swapping.is_alive() or pushed < 20:
            stream.push(RED)
            pushed += 1
        swapping.join(30)
        stream.push(RED)
    labels = [result.prediction.label for result in results if result.prediction is not None]
    assert len(labels) == pushed + 1
    assert labels == sorted(labels, key=["red", "rouge"].index)  # one switch
    assert labels[-1] == "rouge"
    assert all(
        (result.bundle == results[0].bundle) == (label == "red") for result, label in zip(results, labels, strict=True)
    )


@pytest.mark.parametrize("damage", ["missing", "truncated", "wrong"])
def test_a_bad_bundle_is_refused_and_the_old_one_goes_on(tiny_bundle: Path, tmp_path: Path, damage: str) -> None:
    bad = tmp_path / "bad.gensoup"
    if damage == "truncated":
        bad.write_bytes(tiny_bundle.read_bytes()[:-100])
    if damage == "wrong":  # whole and valid, but does not give its golden outputs
        bundle = read_bundle(tiny_bundle)
        golden = type(bundle.golden)(
            bundle.golden.camera_frames, bundle.golden.frames, bundle.golden.probabilities[:, ::-1].copy()
        )
        write_bundle(bad, bundle.manifest, bundle.models, golden)
    results: list[Result] = []
    with Stream(Classifier.load(tiny_bundle, threads=1), results.append) as stream:
        with pytest.raises(BundleError, match="bad") as caught:
            stream.swap(bad)
        assert "\n" not in str(caught.value)
        ask(stream)
    assert results[0].prediction is not None and results[0].prediction.label == "red"


def test_a_loaded_classifier_is_taken_and_stays_its_owners(tiny_bundle: Path, renamed_bundle: Path) -> None:
    before, after = (Classifier.load(path, "onnxruntime-cpu", threads=1) for path in (tiny_bundle, renamed_bundle))
    results: list[Result] = []
    with Stream(before, results.append) as stream:
        stream.swap(after)
        ask(stream)
    assert results[0].bundle == after.sha256
    assert before(RED).label == "red" and after(RED).label == "rouge"  # neither was closed


def test_what_a_swap_loaded_is_closed_with_its_successor_or_the_stream(tiny_bundle: Path) -> None:
    stream = Stream(Classifier.load(tiny_bundle, "onnxruntime-cpu", threads=1))
    loaded = []
    for _ in range(2):
        stream.swap(tiny_bundle)
        loaded.append(stream._inference.classifier.engine)
    assert [engine._session is None for engine in loaded] == [True, False]  # type: ignore[attr-defined]
    stream.close()
    assert loaded[1]._session is None  # type: ignore[attr-defined]


def test_a_swap_waits_for_the_frame_in_work(tiny_bundle: Path, renamed_bundle: Path) -> None:
    old = Classifier.load(tiny_bundle, threads=1)
    engine = FaultyEngine(old.engine, fault="hang")
    results: list[Result] = []
    with Stream(Classifier(old.labels, old.preprocess, engine), results.append) as stream:
        stream.push(RED)
        new = Classifier.load(renamed_bundle, threads=1)
        swapping = threading.Thread(target=stream.swap, args=(new,))
        swapping.start()
        swapping.join(0.2)
        assert swapping.is_alive()
        engine.release.set()
        swapping.join(30)
        assert stream.drain(30)
        ask(stream)
    assert [result.prediction and result.prediction.label for result in results] == ["red", "rouge"]


def test_swapping_away_from_a_hanging_engine_is_an_error_in_time(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gensoup.runtime.inference._SWITCH_S", 0.1)
    old = Classifier.load(tiny_bundle, threads=1)
    engine = FaultyEngine(old.engine, fault="hang")
    with Stream(Classifier(old.labels, old.preprocess, engine)) as stream:
        stream.push(RED)
        time.sleep(0.05)
        with pytest.raises(Exception, match="faulty hangs: there is no moment between two frames"):
            stream.swap(old)
        engine.release.set()


def test_after_closing_nothing_is_loaded(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(running: object, path: Path) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr("gensoup.runtime.stream.load_like", load)
    stream = Stream(Classifier.load(tiny_bundle, threads=1))
    stream.close()
    with pytest.raises(UsageError, match="closed"):
        stream.swap(tiny_bundle)


def test_what_was_loaded_while_the_stream_was_closed_is_given_back(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Classifier.load(tiny_bundle, threads=1)
    loaded.engine = engine = FaultyEngine(loaded.engine)
    stream = Stream(Classifier.load(tiny_bundle, threads=1))
    closing = threading.Thread(target=stream.close)

    def load(running: object, path: Path) -> Classifier:
        closing.start()
        assert stream._inference.join(30)
        return loaded

    monkeypatch.setattr("gensoup.runtime.stream.load_like", load)
    before = set(threading.enumerate())
    with pytest.raises(UsageError, match="closed"):
        stream.swap(tiny_bundle)
    closing.join(30)
    assert set(threading.enumerate()) <= before
    assert engine.closed == 1


def test_a_guarded_stream_is_guarded_after_a_swap_too(tiny_bundle: Path, renamed_bundle: Path) -> None:
    guard = load_guarded(tiny_bundle, "onnxruntime-cpu", threads=1, retry_s=60)
    results: list[Result] = []
    with Stream(guard, results.append, limit_ms=9e4, stale_after_ms=9e4) as stream:
        stream.swap(renamed_bundle)
        now = stream._inference.classifier
        assert isinstance(now, Guarded) and now is not guard
        first = now.current
        assert isinstance(first, Classifier)
        first.engine = FaultyEngine(first.engine, fault="raise")
        ask(stream)
    guard.close()
    assert results[0].state is State.DEGRADED
    assert results[0].prediction is not None and results[0].prediction.label == "rouge"


def test_a_bundle_is_opened_as_the_running_one_was(looking_bundle: Path, tiny_bundle: Path) -> None:
    plain = Classifier.load(tiny_bundle, "openvino-cpu", threads=1)
    again = load_like(plain, looking_bundle)
    assert again.engine.name == "openvino-cpu"
    explaining = Explaining(Classifier.load(looking_bundle, threads=1))
    assert load_like(explaining, looking_bundle)(RED).saliency is not None
    with pytest.raises(UsageError, match="--saliency"):
        load_like(explaining, tiny_bundle)
    with pytest.raises(UsageError, match="was not loaded from a bundle"):
        load_like(FaultyEngine(plain.engine), tiny_bundle)  # type: ignore[arg-type]
