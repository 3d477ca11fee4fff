from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from faulty import FaultyEngine

from gensoup.runtime import Classifier, Guarded, load_guarded
from gensoup.runtime.bundle import read_bundle, write_bundle
from gensoup.runtime.classifier import Explaining
from gensoup.runtime.errors import BundleError, UsageError
from gensoup.runtime.failover import golden_proof

FRAME = np.full((48, 64, 3), 90, np.uint8)


def returned(guard: Guarded, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        guard(FRAME)
        if not guard.degraded:
            return True
        time.sleep(0.02)
    return False


def test_the_reference_stands_by(tiny_bundle: Path) -> None:
    guard = load_guarded(tiny_bundle, "openvino-cpu", threads=1, retry_s=60)
    assert guard.engine.name == "openvino-cpu"
    expected = Classifier.load(tiny_bundle, "onnxruntime-cpu")(FRAME).probabilities
    first = guard.current
    assert isinstance(first, Classifier)
    first.engine = FaultyEngine(first.engine, fault="raise")
    assert guard(FRAME).probabilities == pytest.approx(expected)
    assert guard.engine.name == "onnxruntime-cpu" and guard.degraded
    assert (guard.labels, guard.sha256) == (("blue", "green", "red"), read_bundle(tiny_bundle).sha256)
    guard.close(engines=True)


def test_a_second_session_stands_by_where_the_first_is_the_reference(tiny_bundle: Path) -> None:
    guard = load_guarded(tiny_bundle, "onnxruntime-cpu", threads=1, slow_ms=0.000001)
    first = guard.engine
    started = time.monotonic()
    while time.monotonic() - started < 0.6:
        guard(FRAME)
    assert guard.engine is first  # no speed is judged: the other would be no faster
    guard.close(engines=True)


def test_a_hanging_engine_is_loaded_anew_from_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "here.gensoup"
    shutil.copy(tiny_bundle, path)
    guard = load_guarded(path, "onnxruntime-cpu", threads=1, retry_s=0.05)
    unit = guard._first
    unit.usable, unit.stuck = False, True  # as after a call that was given up
    guard._current = guard._second
    guard._revival.start()
    assert returned(guard)
    assert unit.mine and isinstance(guard.current, Classifier)
    path.unlink()
    unit.usable, unit.stuck = False, True
    guard._current = guard._second
    guard._revival.start()
    assert not returned(guard, 0.5)  # the bundle is gone: the other one goes on
    guard.close(engines=True)


def test_both_tell_where_the_evidence_lies(looking_bundle: Path, tiny_bundle: Path) -> None:
    guard = load_guarded(looking_bundle, threads=1, saliency=True, retry_s=60)
    assert guard(FRAME).saliency is not None
    guard._fail_over("for a test")
    assert guard(FRAME).saliency is not None
    guard.close(engines=True)
    with pytest.raises(UsageError, match="--saliency"):
        load_guarded(tiny_bundle, saliency=True)


def test_the_proof_refuses_other_answers_and_tells_the_time(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    classifier = Classifier.load(tiny_bundle, "onnxruntime-cpu", threads=1)
    assert 0 < golden_proof(bundle)(classifier) < 1000
    classifier.engine = FaultyEngine(classifier.engine, fault="nan")
    with pytest.raises(BundleError, match="faulty gives other probabilities"):
        golden_proof(bundle)(classifier)


def test_what_explains_is_proven_by_the_graph_that_it_runs(looking_bundle: Path) -> None:
    class OtherGraph(FaultyEngine):
        def explain(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            probabilities, saliency = super().explain(frame)
            return probabilities[::-1].copy(), saliency

    prove = golden_proof(read_bundle(looking_bundle))
    classifier = Classifier.load(looking_bundle, "onnxruntime-cpu", threads=1)
    assert prove(Explaining(classifier)) > 0
    classifier.engine = OtherGraph(classifier.engine)
    assert prove(classifier) > 0
    with pytest.raises(BundleError, match="faulty with saliency gives other probabilities"):
        prove(Explaining(classifier))


def test_a_bundle_whose_reference_fails_its_golden_frames_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    wrong = type(bundle.golden)(
        bundle.golden.camera_frames, bundle.golden.frames, bundle.golden.probabilities[:, ::-1].copy()
    )
    path = tmp_path / "wrong.gensoup"
    write_bundle(path, bundle.manifest, bundle.models, wrong)
    with pytest.raises(BundleError, match="wrong"):
        load_guarded(path)
