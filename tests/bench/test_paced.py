from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gensoup.bench import paced, pacer
from gensoup.bench.paced import fill_ring, ring_length, run_live, run_paced
from gensoup.runtime import Classifier, Prediction
from gensoup.runtime.device import last_level_cache_bytes
from gensoup.runtime.errors import DataError, EngineError

FRAMES = [np.full((60, 80, 3), value, np.uint8) for value in (10, 20, 30, 40)]


class Slow:
    """A real classifier that takes ``seconds`` longer and fails on frames of the value ``bad``."""

    def __init__(self, bundle: Path, seconds: float = 0.0, bad: int | None = None) -> None:
        self.real = Classifier.load(bundle, threads=1)
        self.engine = self.real.engine
        self.seconds = seconds
        self.bad = bad

    def __call__(self, frame: np.ndarray) -> Prediction:
        time.sleep(self.seconds)
        if frame[0, 0, 0] == self.bad:
            raise EngineError("device lost")
        return self.real(frame)


def test_a_trace_has_one_entry_per_frame_after_the_warm_up(tiny_bundle: Path) -> None:
    told: list[tuple[int, int]] = []
    trace = run_paced(
        Classifier.load(tiny_bundle), FRAMES, 64.0, 1.0, 0.25, progress=lambda done, total: told.append((done, total))
    )
    assert len(trace.scheduled) == 64
    np.testing.assert_allclose(np.diff(trace.scheduled), 1 / 64, rtol=1e-6)
    done = ~trace.dropped
    assert done.any()
    assert (trace.pushed >= trace.scheduled).all()
    assert (trace.started[done] >= trace.pushed[done]).all()
    assert (trace.done[done] >= trace.started[done]).all()
    stages = trace.preprocess_ms[done] + trace.engine_ms[done]
    assert (stages <= (trace.done - trace.started)[done] * 1e3).all()
    np.testing.assert_allclose(trace.latency_ms[done], (trace.done - trace.scheduled)[done] * 1e3)
    assert not trace.failed.any()
    assert told[-1] == (80, 80)


def test_arrivals_do_not_wait_for_a_slow_engine(tiny_bundle: Path) -> None:
    trace = run_paced(Slow(tiny_bundle, 0.05), FRAMES, 64.0, 1.0)
    assert len(trace.scheduled) == 64
    assert trace.dropped.sum() >= 64 - 1.5 * 20  # at most 20 a second can be classified
    assert np.isinf(trace.latency_ms[trace.dropped]).all()
    assert np.isnan(trace.done[trace.dropped]).all()
    assert (trace.latency_ms >= 50).all()


def test_failures_have_infinite_latency(tiny_bundle: Path) -> None:
    trace = run_paced(Slow(tiny_bundle, bad=20), FRAMES, 50.0, 0.4)
    assert trace.failed.any()
    assert np.isinf(trace.latency_ms[trace.failed]).all()
    assert np.isfinite(trace.latency_ms[~trace.failed & ~trace.dropped]).all()


class Told:
    """A live source of the past minute, told at once: frames at ``rate_hz``, some of which nobody took in time."""

    failure = ""

    def __init__(self, rate_hz: float, seconds: float, missed: range) -> None:
        self.rate_hz, self.frames, self.missed, self.overwritten = rate_hz, round(rate_hz * seconds) + 1, missed, 0

    def arrivals(self) -> Iterator[tuple[float, np.ndarray]]:
        start = time.monotonic() - 60.0
        for number in range(self.frames):
            if number in self.missed:
                self.overwritten += 1
            else:
                yield start + number / self.rate_hz, FRAMES[0]


@pytest.mark.parametrize(
    ("camera_hz", "missed", "lost"),
    [(64.0, 0, 0), (64.0, 1, 1), (64.0, 5, 5), (128.0, 0, 0), (128.0, 1, 0), (128.0, 11, 5), (63.9, 5, 5)],
)
def test_what_a_camera_sent_while_nobody_took_it_is_lost(
    tiny_bundle: Path, camera_hz: float, missed: int, lost: int
) -> None:
    source: Any = Told(camera_hz, 1.5, range(70, 70 + missed))
    trace, size = run_live(Slow(tiny_bundle), source, 64.0, 1.0, 0.5)
    assert (trace.lost, size, trace.source_failure) == (lost, (60, 80), "")
    assert len(trace.scheduled) + lost == pytest.approx(min(camera_hz, 64.0), abs=1.1)
    assert trace.rate_hz == pytest.approx(camera_hz)


def test_what_was_lost_at_the_end_counts_as_well(tiny_bundle: Path) -> None:
    source: Any = Told(64.0, 1.5, range(90, 96))
    trace, _ = run_live(Slow(tiny_bundle), source, 64.0, 1.0, 0.5)
    assert (trace.lost, len(trace.scheduled)) == (6, 58)


@pytest.mark.parametrize(("waited_s", "lost"), [(0.0, 0), (0.07, 4)])
def test_what_a_camera_did_not_send_is_lost_only_where_the_process_had_no_core(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, waited_s: float, lost: int
) -> None:
    class Waits:
        pushes = 0

        def seconds(self) -> float:
            self.pushes += 1
            return 0.0 if self.pushes < 2 * 30 else waited_s  # asked before and at each push

        def close(self) -> None: ...

    class Gap(Told):
        def arrivals(self) -> Iterator[tuple[float, np.ndarray]]:
            for number, (at, frame) in enumerate(super().arrivals()):
                yield at + (4 / 64 if number >= 30 else 0.0), frame

    monkeypatch.setattr(pacer, "CoreWait", Waits)
    source: Any = Gap(64.0, 1.0, range(0))
    trace, _ = run_live(Slow(tiny_bundle), source, 64.0, 1.0)
    assert trace.lost == lost


def test_an_empty_ring_or_no_time_is_refused(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle)
    for frames, seconds in (([], 1.0), (FRAMES, 0.0)):
        with pytest.raises(DataError, match="nothing to measure"):
            run_paced(classifier, frames, 64.0, seconds)


def test_what_the_stream_refuses_ends_the_run(tiny_bundle: Path) -> None:
    with pytest.raises(DataError, match="BGR uint8"):
        run_paced(Classifier.load(tiny_bundle), [np.zeros((4, 4), np.uint8)], 64.0, 30.0)


def test_an_engine_that_hangs_ends_the_run(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paced, "HANGS_S", 0.2)
    hanging = Slow(tiny_bundle, 1.5)
    with pytest.raises(EngineError, match=r"hangs: no answer for 0\.2 s"):
        run_paced(hanging, FRAMES, 64.0, 0.1)


def test_clocks_and_waits_are_in_the_trace(tiny_bundle: Path) -> None:
    trace = run_paced(Classifier.load(tiny_bundle, threads=1), FRAMES, 64.0, 0.5, 0.2)
    assert len(trace.waited_s) == len(trace.cpu_s) == 32
    assert (trace.waited_s >= 0).all() and (trace.cpu_s >= 0).all()
    assert len(trace.clocks) >= 3
    assert trace.fell_back == ()
    np.testing.assert_allclose(np.diff(trace.clocks[:, 2]), np.diff(trace.clocks[:, 0]), atol=0.02)


def test_a_ring_exceeds_twice_the_last_level_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    frame_bytes = 1080 * 1920 * 3
    assert ring_length(frame_bytes) * frame_bytes >= min(2 * last_level_cache_bytes(), (1 << 30) - frame_bytes)
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 1 << 20)
    assert ring_length(frame_bytes) == 4
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 8 << 30)
    assert 0.9 * (1 << 30) < ring_length(frame_bytes) * frame_bytes <= 1 << 30


def test_a_short_source_fills_the_ring_with_shifted_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 5 * 3000)
    frames = [np.random.default_rng(seed).integers(0, 255, (20, 50, 3), dtype=np.uint8) for seed in range(3)]
    ring = fill_ring(frames)
    assert len(ring) == 10
    assert len({frame.tobytes() for frame in ring}) == 10
    assert not any(np.shares_memory(ring[at], ring[at + 3]) for at in range(7))
