"""Negative controls: what the gate must not pass. Each is the real gate within a second, on a real bundle."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gate_faults
import pytest
from gate_faults import Camera, Failing, Healthy, Slow, SlowWhenPaced, Stalling, gate, small_frames
from gate_samples import latencies, trace_of

from gensoup.bench import gate as gate_module
from gensoup.bench import paced, pacer
from gensoup.bench.gate import capacity_fps, measure
from gensoup.bench.gate_source import GateFrames
from gensoup.bench.measurement import GateSource, Measurement
from gensoup.bench.trace import Trace
from gensoup.bench.verdict import Outcome, Verdict
from gensoup.runtime.guard import Guarded
from gensoup.runtime.sources.live import LiveSource

_TRIES = 8


@pytest.fixture(autouse=True)
def _few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings of four frames are drawn at once."""
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 1 << 20)


def a_pass(attempt: Callable[[], Verdict]) -> Verdict:
    """The first PASS: on a machine that does other work besides, not every second is a good one."""
    verdicts = []
    for _ in range(_TRIES):
        verdicts.append(attempt())
        if verdicts[-1].verdict is Outcome.PASS:
            return verdicts[-1]
    pytest.fail(f"never passed: {[verdict.reason for verdict in verdicts]}")


def camera(rate_hz: float, frames: int | None = None) -> GateFrames:
    source = LiveSource("camera", Camera(rate_hz, frames), reconnect=False)
    return GateFrames(GateSource("camera", "camera", 0, 0), live=source)


def test_without_a_fault_it_passes(tiny_bundle: Path) -> None:
    verdict = a_pass(lambda: gate(Healthy(tiny_bundle), tiny_bundle))
    assert verdict.frames == 48
    assert verdict.latency_ms["p50"] < 1000 / 64


def test_an_engine_slowed_to_20_ms_fails(tiny_bundle: Path) -> None:
    verdict = gate(Slow(tiny_bundle), tiny_bundle)
    assert verdict.verdict is not Outcome.PASS
    assert verdict.misses == verdict.frames == 48
    assert verdict.drops > 0


def test_a_stall_of_100_ms_fails(tiny_bundle: Path) -> None:
    verdict = gate(Stalling(tiny_bundle, every_s=0.5), tiny_bundle)
    assert verdict.verdict is not Outcome.PASS
    assert verdict.longest_miss_run >= 4


def test_an_engine_that_is_quick_back_to_back_and_slow_when_paced_fails(tiny_bundle: Path) -> None:
    engine = SlowWhenPaced(tiny_bundle)
    capacity = capacity_fps(engine, small_frames().ring, 0.3)
    assert capacity is not None
    assert capacity > 64
    verdict = gate(engine, tiny_bundle)
    assert verdict.verdict is not Outcome.PASS
    assert verdict.misses > 12


@pytest.mark.parametrize("fault", ["swapped", "gone"])
def test_another_bundle_in_its_place_is_invalid(tiny_bundle: Path, tmp_path: Path, fault: str) -> None:
    path = Path(shutil.copy(tiny_bundle, tmp_path / "b.gensoup"))

    def meddle(done: int, total: int) -> None:
        path.unlink(missing_ok=True)
        if fault == "swapped":
            path.write_bytes(tiny_bundle.read_bytes()[:-70] + b"x" * 70)

    verdict = gate(Healthy(tiny_bundle), path, progress=meddle, seconds=0.2)
    assert verdict.verdict is Outcome.INVALID
    assert "bundle changed" in verdict.reason


def test_falling_back_to_another_engine_is_invalid(tiny_bundle: Path) -> None:
    guard = Guarded(Failing(tiny_bundle), Healthy(tiny_bundle), lambda classifier: 1.0, slow_ms=None, retry_s=60.0)
    try:
        verdict = gate(guard, tiny_bundle)
    finally:
        guard.close()
    assert verdict.verdict is Outcome.INVALID
    assert "fell back" in verdict.reason
    assert "device lost" in verdict.reason
    assert verdict.failures == 0  # the other engine answered every frame: misses alone would not have told


def test_a_camera_slower_than_the_limit_is_invalid(tiny_bundle: Path) -> None:
    verdict = gate(Healthy(tiny_bundle), tiny_bundle, camera(30.0))
    assert verdict.verdict is Outcome.INVALID
    assert "camera-limited" in verdict.reason
    assert verdict.source.height == 480


@pytest.mark.parametrize(("rate_hz", "expected"), [(63.94, 2), (60.0, 1)])
def test_only_a_camera_that_is_too_slow_ends_a_measurement_of_several_repetitions(
    tiny_bundle: Path, rate_hz: float, expected: int
) -> None:
    """63.94 Hz is how video says 64."""
    run, source = [], Camera(64.0)

    def repetition(*arguments: object) -> tuple[Trace, tuple[int, int]]:
        run.append(arguments)
        return replace(trace_of(latencies(48), rate=rate_hz), live=True), (480, 640)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate_module, "run_live", repetition)
        tier = replace(gate_faults.SHORT, repetitions=2)
        start = Measurement(tier, 64.0, GateSource("camera", "camera", 0, 0), "onnxruntime-cpu", "fp32", "", {})
        frames = GateFrames(start.source, live=LiveSource("camera", source, reconnect=False))
        done = measure(Healthy(tiny_bundle), frames, start)
    assert len(run) == len(done.repetitions) == expected


def test_a_camera_that_ends_early_is_invalid(tiny_bundle: Path) -> None:
    verdict = gate(Healthy(tiny_bundle), tiny_bundle, camera(100.0, frames=60))
    assert verdict.verdict is Outcome.INVALID
    assert re.search(r"ended early: no more frames after 0\.\d s", verdict.reason)


def test_a_camera_that_is_fast_enough_passes_thinned_out_to_the_limit(tiny_bundle: Path) -> None:
    verdict = a_pass(lambda: gate(Healthy(tiny_bundle), tiny_bundle, camera(100.0)))
    assert 40 <= verdict.frames <= 50
    assert verdict.source.stated_hz == 100.0


@pytest.mark.parametrize(("clock", "reason"), [(1, "machine slept"), (2, "clock was set")])
def test_a_clock_that_jumps_is_noticed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, clock: int, reason: str
) -> None:
    read, samples = pacer.read_clocks, []

    def jumping() -> tuple[float, float, float]:
        values = list(read())
        samples.append(values)
        values[clock] += 2.0 * (len(samples) > 2)
        return values[0], values[1], values[2]

    monkeypatch.setattr(pacer, "read_clocks", jumping)
    verdict = gate(Healthy(tiny_bundle), tiny_bundle, seconds=0.3)
    assert verdict.verdict is Outcome.INVALID
    assert reason in verdict.reason


# In a process of its own


@contextlib.contextmanager
def gate_process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, gate_faults.__file__, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def verdict_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(process.communicate(timeout=60)[0].splitlines()[-1])
    return values


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
def test_a_paused_process_is_noticed(tiny_bundle: Path) -> None:
    with gate_process(tiny_bundle) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "measuring\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        process.send_signal(signal.SIGCONT)
        verdict = verdict_of(process)
    assert verdict["verdict"] == "INVALID"
    assert verdict["repetitions"][0]["paused_s"] == pytest.approx(0.4, abs=0.15)
    assert any("paused" in finding["text"] for finding in verdict["findings"])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_cores_taken_away_count_against_the_device(tiny_bundle: Path) -> None:
    """On one core, that the machine's other work is left in peace."""
    core = max(os.sched_getaffinity(0))
    spin = ["stress-ng", "--cpu", "1"] if shutil.which("stress-ng") else ["sh", "-c", "while :; do :; done"]

    def pin() -> None:
        os.setpgid(0, 0)  # no session of its own: each of those has its own share of the core
        os.sched_setaffinity(0, {core})

    spinners: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(8):  # ready, and stopped: to start them takes as long as the measurement
            spinners.append(subprocess.Popen(spin, stdout=subprocess.DEVNULL, preexec_fn=pin))
            time.sleep(0.05)
            os.killpg(spinners[-1].pid, signal.SIGSTOP)
        with gate_process(tiny_bundle, core) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "measuring\n"
            for spinner in spinners:
                os.killpg(spinner.pid, signal.SIGCONT)
            time.sleep(0.7)
            for spinner in spinners:
                os.killpg(spinner.pid, signal.SIGKILL)
            verdict = verdict_of(process)
    finally:
        for spinner in spinners:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(spinner.pid, signal.SIGKILL)
            spinner.wait()
    assert verdict["verdict"] == "FAIL", verdict["reason"]
    assert verdict["taken_fraction"] > 0.1


def test_the_short_gate_is_the_quick_one_in_all_but_length() -> None:
    same = replace(gate_faults.SHORT, name="quick", seconds=30.0, warmup_s=5.0, max_miss_rate=0.01)
    assert same == gate_faults.QUICK
