from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.bench.gate import Outcome, capacity_fps, judge, load_ring, run_gate
from gensoup.bench.paced import Trace, run_paced
from gensoup.runtime import Classifier, Prediction
from gensoup.runtime.engines.catalogue import ENGINES
from gensoup.runtime.errors import BundleError, DataError, UsageError

LIMIT_MS = 1000 / 64


def trace_of(
    latencies_ms: np.ndarray, *, late_ms: float = 0.0, idle: float = 0.5, taken: float = 0.0, rate: float = 64.0
) -> Trace:
    """A trace with these latencies; ∞ is a drop."""
    count = len(latencies_ms)
    scheduled = 100 + np.arange(count) / rate
    dropped = np.isinf(latencies_ms)
    done = np.where(dropped, math.nan, scheduled + np.where(dropped, 0, latencies_ms) / 1e3)
    started = np.where(dropped, math.nan, scheduled + 1e-3)
    stage = np.where(dropped, math.nan, 0.5)
    pushed = scheduled + late_ms / 1e3
    failed = np.zeros(count, bool)
    return Trace(scheduled, pushed, started, done, stage, stage * 10, dropped, failed, rate, idle, 1 - idle - taken)


def latencies(count: int = 1920, **at: float) -> np.ndarray:
    """8 ms each, except where told (``_7=20.0``)."""
    values = np.full(count, 8.0)
    for place, value in at.items():
        values[int(place[1:])] = value
    return values


def spread(misses: int, value: float = 20.0, count: int = 1920) -> np.ndarray:
    values = latencies(count)
    values[np.arange(misses) * (count // max(misses, 1))] = value
    return values


def test_a_device_that_keeps_up_passes_as_not_refuted() -> None:
    verdict = judge(trace_of(latencies()), 64.0)
    assert verdict.verdict is Outcome.PASS
    assert "not refuted" in verdict.reason
    assert (verdict.frames, verdict.misses, verdict.drops, verdict.longest_miss_run) == (1920, 0, 0, 0)
    assert verdict.latency_ms == pytest.approx({"p50": 8.0, "p95": 8.0, "p99": 8.0, "max": 8.0})
    assert verdict.stages_ms["engine"]["p99"] == pytest.approx(5.0)


@pytest.mark.parametrize("value", [20.0, math.inf])
def test_nine_misses_pass_and_ten_fail(value: float) -> None:
    nine, ten = judge(trace_of(spread(9, value)), 64.0), judge(trace_of(spread(10, value)), 64.0)
    assert (nine.verdict, nine.misses) == (Outcome.PASS, 9)
    assert (ten.verdict, ten.misses) == (Outcome.FAIL, 10)
    assert nine.miss_rate_upper <= 0.01 < ten.miss_rate_upper
    assert nine.drops == (9 if math.isinf(value) else 0)


def test_the_limit_itself_is_no_miss() -> None:
    assert judge(trace_of(latencies() * 0 + LIMIT_MS - 1e-4), 64.0).misses == 0
    assert judge(trace_of(latencies() * 0 + LIMIT_MS + 1e-3), 64.0).misses == 1920


def test_an_engine_slowed_to_20_ms_fails() -> None:
    values = np.full(1920, 20.0)
    values[::4] = math.inf
    verdict = judge(trace_of(values), 64.0)
    assert verdict.verdict is Outcome.FAIL
    assert verdict.drops == 480
    assert verdict.latency_ms["p99"] == math.inf


def test_three_misses_in_a_row_fail_and_two_do_not() -> None:
    assert judge(trace_of(latencies(_500=20.0, _501=math.inf)), 64.0).verdict is Outcome.PASS
    verdict = judge(trace_of(latencies(_500=20.0, _501=math.inf, _502=16.0)), 64.0)
    assert verdict.verdict is Outcome.FAIL
    assert verdict.longest_miss_run == 3
    assert "in a row" in verdict.reason


def test_a_stall_fails() -> None:
    values = latencies()
    values[1000:1013] = [math.inf] * 12 + [200.0]
    verdict = judge(trace_of(values), 64.0)
    assert (verdict.verdict, verdict.longest_miss_run) == (Outcome.FAIL, 13)


def test_failures_of_the_engine_are_misses() -> None:
    trace = trace_of(latencies())
    failed = trace.failed.copy()
    failed[[5, 6, 7]] = True
    verdict = judge(replace(trace, failed=failed), 64.0)
    assert (verdict.verdict, verdict.misses, verdict.failures) == (Outcome.FAIL, 3, 3)


def test_a_late_pacer_is_no_fault_where_others_took_the_cores() -> None:
    late = trace_of(latencies(), late_ms=1.5, idle=0.3, taken=0.3)
    assert judge(late, 64.0).verdict is Outcome.PASS
    assert judge(trace_of(latencies(), late_ms=1.5, idle=0.3, taken=0.05), 64.0).verdict is Outcome.INVALID


@pytest.mark.parametrize(
    ("idle", "expected"), [(0.5, Outcome.INVALID), (math.nan, Outcome.INVALID), (0.02, Outcome.PASS)]
)
def test_a_late_pacer_is_a_fault_only_while_cores_were_idle(idle: float, expected: Outcome) -> None:
    verdict = judge(trace_of(latencies(), late_ms=1.5, idle=idle), 64.0)
    assert verdict.verdict is expected
    assert ("pacer was late" in verdict.reason) == (expected is Outcome.INVALID)
    assert verdict.lateness_ms["p99"] == pytest.approx(1.5)
    assert judge(trace_of(latencies(), late_ms=0.9, idle=idle), 64.0).verdict is Outcome.PASS


def test_late_because_the_cores_were_taken_counts_against_the_device() -> None:
    verdict = judge(trace_of(latencies() + 9, late_ms=9.0, idle=0.0), 64.0)
    assert (verdict.verdict, verdict.misses) == (Outcome.FAIL, 1920)


@pytest.mark.parametrize("values", [latencies(), np.full(1920, 20.0)])
def test_a_changed_bundle_or_engine_is_invalid_whatever_the_frames_say(values: np.ndarray) -> None:
    changed = judge(trace_of(values), 64.0, bundle_changed=True)
    assert changed.verdict is Outcome.INVALID
    assert "bundle changed" in changed.reason
    changed = judge(trace_of(values), 64.0, engine_changed=True)
    assert changed.verdict is Outcome.INVALID
    assert "engine changed" in changed.reason


def test_frames_slower_than_the_limit_are_camera_limited() -> None:
    verdict = judge(trace_of(latencies(), rate=60.0), 64.0)
    assert verdict.verdict is Outcome.INVALID
    assert "camera-limited" in verdict.reason


def test_an_empty_trace_is_invalid() -> None:
    verdict = judge(trace_of(latencies(0)), 64.0)
    assert verdict.verdict is Outcome.INVALID
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_too_few_frames_never_pass_but_may_fail() -> None:
    assert judge(trace_of(latencies(458)), 64.0).verdict is Outcome.INVALID
    assert judge(trace_of(latencies(459)), 64.0).verdict is Outcome.PASS
    assert judge(trace_of(latencies(458, _3=20.0)), 64.0).verdict is Outcome.INVALID
    assert judge(trace_of(spread(40, count=458)), 64.0).verdict is Outcome.FAIL
    assert judge(trace_of(np.full(5, 20.0)), 64.0).verdict is Outcome.FAIL


def test_a_pacer_that_broke_off_is_invalid() -> None:
    trace = trace_of(latencies())
    pushed = trace.pushed.copy()
    pushed[1900:] = math.nan
    assert judge(replace(trace, pushed=pushed), 64.0).verdict is Outcome.INVALID


def test_the_json_has_the_agreed_fields_and_no_infinity() -> None:
    values = judge(trace_of(spread(400, math.inf)), 64.0).to_dict()
    agreed = (
        "verdict reason rate_hz frames misses drops miss_rate_upper longest_miss_run latency_ms capacity_fps stages_ms "
        "engine bundle_sha256 device schema_version lateness_ms"
    )
    assert set(agreed.split()) <= set(values)
    assert values["verdict"] == "FAIL"
    assert values["latency_ms"]["p99"] is None
    assert values["latency_ms"]["p50"] == pytest.approx(8.0)
    json.dumps(values, allow_nan=False)


def test_exit_codes() -> None:
    assert [outcome.exit_code for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INVALID)] == [0, 1, 2]


class Slow:
    """A real classifier slowed by 20 ms: it cannot keep up with 64 Hz on any machine."""

    def __init__(self, bundle: Path) -> None:
        self.real = Classifier.load(bundle)
        self.engine = self.real.engine

    def __call__(self, frame: np.ndarray) -> Prediction:
        time.sleep(0.02)
        return self.real(frame)


def test_a_real_engine_slowed_to_20_ms_fails_at_64_hz(tiny_bundle: Path) -> None:
    trace = run_paced(Slow(tiny_bundle), [np.zeros((480, 640, 3), np.uint8)] * 4, 64.0, seconds=1.5, warmup_s=0.2)
    verdict = judge(replace(trace, pushed=trace.scheduled), 64.0)  # whether this machine's pacer was late is left out
    assert verdict.verdict is Outcome.FAIL
    assert verdict.misses == verdict.frames == 96
    assert verdict.drops > 0


def test_the_whole_gate_on_a_real_bundle(tiny_bundle: Path) -> None:
    verdict, trace = run_gate(tiny_bundle, source="synthetic:480p", seconds=1.0, warmup_s=0.2, threads=1)
    assert verdict.verdict is not Outcome.PASS  # 64 frames are too few
    assert verdict.frames == len(trace.scheduled) == 64
    assert verdict.rate_hz == 64
    assert verdict.capacity_fps is not None
    assert verdict.capacity_fps > 0
    assert verdict.engine in ENGINES and verdict.precision == "fp32"
    assert len(verdict.bundle_sha256) == 64
    assert verdict.device["cores"] >= 1
    assert verdict == replace(judge(trace, 64.0), **{name: getattr(verdict, name) for name in EXTRA})
    json.dumps(verdict.to_dict(), allow_nan=False)


EXTRA = ("capacity_fps", "engine", "precision", "bundle_sha256", "device")


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_bundle_that_changes_meanwhile_is_invalid(tiny_bundle: Path, tmp_path: Path, damage: str) -> None:
    path = Path(shutil.copy(tiny_bundle, tmp_path / "b.gensoup"))

    def meddle(done: int, total: int) -> None:
        if damage == "gone":
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(path.read_bytes()[:-70] + b"x" * 70)

    verdict, _ = run_gate(path, source="synthetic:480p", seconds=0.3, warmup_s=0.0, progress=meddle)
    assert verdict.verdict is Outcome.INVALID
    assert "bundle changed" in verdict.reason


def test_mistakes_are_named(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="--min-fps 0"):
        run_gate(tiny_bundle, 0)
    with pytest.raises(BundleError, match=r"no\.gensoup"):
        run_gate(tmp_path / "no.gensoup")
    with pytest.raises(DataError, match=r"no\.mp4"):
        run_gate(tiny_bundle, source=str(tmp_path / "no.mp4"))


def test_a_live_source_is_not_replayed() -> None:
    with pytest.raises(UsageError, match="record a video and give that"):
        load_ring("rtsp://127.0.0.1:9/live")


def test_rings_come_from_videos_folders_and_synthetic_frames(video_file: Path, tmp_path: Path) -> None:
    assert load_ring("synthetic:720p")[0].shape == (720, 1280, 3)
    assert all(frame.shape == (120, 160, 3) for frame in load_ring(str(video_file)))
    for number, size in enumerate([(60, 80), (60, 80), (90, 90)]):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((*size, 3), number, np.uint8))
    ring = load_ring(str(tmp_path))
    assert {frame.shape for frame in ring} == {(60, 80, 3)}
    assert len(ring) >= 4


def test_capacity_counts_frames_back_to_back(tiny_bundle: Path) -> None:
    capacity = capacity_fps(Slow(tiny_bundle), [np.zeros((48, 64, 3), np.uint8)], 0.3)
    assert capacity is not None
    assert 0 < capacity <= 50
