from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_faults import SHORT, Healthy, Slow, small_frames

from gensoup.bench import gate, paced
from gensoup.bench.finding import Finding, Kind
from gensoup.bench.gate import capacity_fps, measure, run_gate, taken_up
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.verdict import Outcome
from gensoup.runtime.engines.catalogue import ENGINES
from gensoup.runtime.errors import BundleError, DataError, UsageError

TWICE = replace(SHORT, repetitions=2, seconds=0.2, warmup_s=0.0)


@pytest.fixture(autouse=True)
def _few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings of four frames are drawn at once."""
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 1 << 20)


class Watch:
    """A watch over the device that finds what it is told to."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def findings(self) -> Sequence[Finding]:
        return (Finding(Kind.INVALID, f"{self.engine} had company", "watch"),)

    def log(self) -> Mapping[str, Any]:
        return {"calls": list(self.calls)}


def test_the_whole_gate_on_a_real_bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, asked = gate.load_live, {}

    def told(*arguments: Any, **options: Any) -> Any:
        asked.update(options)
        return load(*arguments, **options)

    monkeypatch.setattr(gate, "load_live", told)
    kept: list[Measurement] = []
    told: list[tuple[int, int]] = []
    measurement = run_gate(
        tiny_bundle,
        source="synthetic:480p",
        tier=replace(SHORT, seconds=0.5),
        engine="onnxruntime-cpu",
        threads=1,
        progress=lambda done, total: told.append((done, total)),
        watch=Watch,
        keep=kept.append,
    )
    verdict = judge(measurement)
    assert (verdict.verdict, verdict.reason) == (Outcome.INVALID, "onnxruntime-cpu had company")
    assert verdict.frames == 32
    assert verdict.capacity_fps is not None and verdict.capacity_fps > 0
    assert verdict.engine in ENGINES and verdict.precision == "fp32"
    assert (verdict.source.kind, verdict.source.height) == ("synthetic", 480)
    assert asked["failover"] and not asked["realtime"]  # as in `gensoup run`, but nobody stands in for a slow engine
    assert len(verdict.bundle_sha256) == 64
    assert measurement.facts["cores"] == verdict.device["cores"]
    assert verdict.device["cores"] >= 1
    assert told[-1] == (45, 45)
    assert kept[-1] == measurement
    assert measurement.device_log == {"calls": ["start", "stop"]}
    assert kept[0].device_log == {"calls": ["start"]}
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_a_measurement_that_was_broken_off_is_taken_up_where_it_stood(tiny_bundle: Path) -> None:
    healthy, kept = Healthy(tiny_bundle), []
    start = Measurement(TWICE, 64.0, small_frames().facts, "onnxruntime-cpu", "fp32", healthy.sha256, {})

    def interrupt(done: int, total: int) -> None:
        if kept:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(healthy, small_frames(), start, progress=interrupt, keep=kept.append)
    (begun,) = kept  # the repetition under way is lost, no more
    assert judge(begun).complete is False
    done = measure(healthy, small_frames(), taken_up(begun, start))
    assert len(done.repetitions) == 2
    assert done.repetitions[0] is begun.repetitions[0]
    assert done.interruptions == 1


def test_what_was_found_before_a_measurement_was_broken_off_still_counts(tiny_bundle: Path) -> None:
    healthy, hot = Healthy(tiny_bundle), Finding(Kind.THROTTLED, "too hot", "nvml")
    start = Measurement(TWICE, 64.0, small_frames().facts, "onnxruntime-cpu", "fp32", healthy.sha256, {})
    begun = measure(healthy, small_frames(), replace(start, tier=replace(TWICE, repetitions=1), findings=(hot,)))
    begun = replace(begun, tier=TWICE)
    done = measure(healthy, small_frames(), taken_up(begun, start), watch=Watch("engine"))
    assert [finding.text for finding in done.findings] == ["too hot", "engine had company"]
    assert done.device_log == {"calls": ["start", "stop"]}
    again = measure(
        healthy, small_frames(), taken_up(replace(done, repetitions=begun.repetitions), start), watch=Watch("engine")
    )
    once = {"calls": ["start", "stop"]}
    assert again.device_log == {"1": once, "2": once}
    third = measure(
        healthy, small_frames(), taken_up(replace(again, repetitions=begun.repetitions), start), watch=Watch("engine")
    )
    assert third.device_log == {"1": once, "2": once, "3": once}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bundle_sha256": "f" * 64}, "the bundle is not"),
        ({"min_fps": 60.0}, "--min-fps is not"),
        ({"engine": "openvino-cpu"}, "the engine is not"),
        ({"device": {"cpu": "another"}}, "the device is not"),
        ({"facts": {"gpu_power_limit_w": "300"}}, "the device's setting is not"),
        ({"precision": "fp16"}, "the precision is not"),
        ({"threads": 2}, "--threads is not"),
        ({"tier": SHORT}, "--tier is not"),
        ({"source": replace(small_frames().facts, height=1080)}, "--source is not"),
        ({"gensoup": "0.0.1"}, "version is not"),
    ],
)
def test_what_was_begun_otherwise_is_not_taken_up(tiny_bundle: Path, change: dict[str, Any], said: str) -> None:
    now = Measurement(TWICE, 64.0, small_frames().facts, "onnxruntime-cpu", "fp32", "a" * 64, {"cpu": "one"})
    assert taken_up(now, now).interruptions == 1
    with pytest.raises(UsageError, match=said):
        taken_up(replace(now, **change), now)


def test_a_finished_measurement_is_not_taken_up(tiny_bundle: Path) -> None:
    healthy = Healthy(tiny_bundle)
    tier = replace(SHORT, seconds=0.1, warmup_s=0.0)
    start = Measurement(tier, 64.0, small_frames().facts, healthy.engine.name, "fp32", healthy.sha256, {})
    done = measure(healthy, small_frames(), start)
    assert done.capacity_fps is not None
    with pytest.raises(UsageError, match="is finished"):
        taken_up(done, start)


def test_mistakes_are_named(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="--min-fps 0"):
        run_gate(tiny_bundle, 0)
    with pytest.raises(BundleError, match=r"no\.gensoup"):
        run_gate(tmp_path / "no.gensoup")
    with pytest.raises(DataError, match=r"no\.mp4"):
        run_gate(tiny_bundle, source=str(tmp_path / "no.mp4"))


def test_capacity_counts_frames_back_to_back(tiny_bundle: Path) -> None:
    capacity = capacity_fps(Slow(tiny_bundle), small_frames().ring, 0.3)
    assert capacity is not None
    assert 0 < capacity <= 50
