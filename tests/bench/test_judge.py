from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from gate_samples import LIMIT_MS, certified, latencies, measurement_of, spread, trace_of

from gensoup.bench.finding import Finding, Kind
from gensoup.bench.judge import judge
from gensoup.bench.tier import CERTIFY
from gensoup.bench.trace import Trace
from gensoup.bench.verdict import Outcome, Verdict


def quick(trace: Trace, **changes: Any) -> Verdict:
    return judge(measurement_of(trace, **changes))


def test_a_device_that_keeps_up_passes_as_not_refuted() -> None:
    verdict = quick(trace_of(latencies()))
    assert verdict.verdict is Outcome.PASS
    assert "not refuted" in verdict.reason
    assert (verdict.frames, verdict.misses, verdict.drops, verdict.longest_miss_run) == (1920, 0, 0, 0)
    assert verdict.latency_ms == pytest.approx({"p50": 8.0, "p95": 8.0, "p99": 8.0, "max": 8.0})
    assert verdict.stages_ms["engine"]["p99"] == pytest.approx(5.0)
    assert verdict.stages_ms["delivery"]["p50"] == pytest.approx(1.5)
    assert verdict.findings == ()


@pytest.mark.parametrize("value", [20.0, math.inf])
def test_nine_misses_pass_and_ten_fail(value: float) -> None:
    nine, ten = quick(trace_of(spread(9, value))), quick(trace_of(spread(10, value)))
    assert (nine.verdict, nine.misses) == (Outcome.PASS, 9)
    assert (ten.verdict, ten.misses) == (Outcome.FAIL, 10)
    assert nine.miss_rate_upper <= 0.01 < ten.miss_rate_upper
    assert nine.drops == (9 if math.isinf(value) else 0)


def test_the_limit_itself_is_no_miss() -> None:
    assert quick(trace_of(latencies() * 0 + LIMIT_MS - 1e-4)).misses == 0
    assert quick(trace_of(latencies() * 0 + LIMIT_MS + 1e-3)).misses == 1920


@pytest.mark.parametrize(("rate", "frames"), [(30.0, 900), (60.0, 1800), (120.0, 3600)])
def test_other_rates_have_limits_of_their_own(rate: float, frames: int) -> None:
    inside = quick(trace_of(np.full(frames, 999 / rate), rate=rate), min_fps=rate)
    outside = quick(trace_of(np.full(frames, 1001 / rate), rate=rate), min_fps=rate)
    assert (inside.verdict, outside.verdict) == (Outcome.PASS, Outcome.FAIL)
    assert (inside.limits.rate_hz, inside.limits.latency_ms) == (rate, 1000 / rate)


def test_three_misses_in_a_row_fail_and_two_do_not() -> None:
    assert quick(trace_of(latencies(_500=20.0, _501=math.inf))).verdict is Outcome.PASS
    verdict = quick(trace_of(latencies(_500=20.0, _501=math.inf, _502=16.0)))
    assert verdict.verdict is Outcome.FAIL
    assert verdict.longest_miss_run == 3
    assert "in a row" in verdict.reason


def test_failures_of_the_engine_are_misses() -> None:
    trace = trace_of(latencies())
    failed = trace.failed.copy()
    failed[[5, 6, 7]] = True
    verdict = quick(replace(trace, failed=failed))
    assert (verdict.verdict, verdict.misses, verdict.failures) == (Outcome.FAIL, 3, 3)


def test_a_late_pacer_is_no_fault_where_others_took_the_cores() -> None:
    late = trace_of(latencies(), late_ms=1.5, idle=0.3, taken=0.3)
    assert quick(late).verdict is Outcome.PASS
    assert quick(trace_of(latencies(), late_ms=1.5, idle=0.3, taken=0.05)).verdict is Outcome.INVALID


@pytest.mark.parametrize(
    ("idle", "expected"), [(0.5, Outcome.INVALID), (math.nan, Outcome.INVALID), (0.02, Outcome.PASS)]
)
def test_a_late_pacer_is_a_fault_only_while_cores_were_idle(idle: float, expected: Outcome) -> None:
    verdict = quick(trace_of(latencies(), late_ms=1.5, idle=idle))
    assert verdict.verdict is expected
    assert ("pacer was late" in verdict.reason) == (expected is Outcome.INVALID)
    assert verdict.lateness_ms["p99"] == pytest.approx(1.5)
    assert quick(trace_of(latencies(), late_ms=0.9, idle=idle)).verdict is Outcome.PASS


def test_a_pacer_that_waited_for_a_core_is_no_fault_however_idle_the_whole_run_was() -> None:
    late = trace_of(latencies(), late_ms=1.5)
    assert quick(replace(late, waited_s=np.full(1920, 1.4e-3))).verdict is Outcome.PASS
    assert quick(replace(late, waited_s=np.full(1920, 0.4e-3))).verdict is Outcome.INVALID


def test_late_because_the_cores_were_taken_counts_against_the_device() -> None:
    verdict = quick(trace_of(latencies() + 9, late_ms=9.0, idle=0.0))
    assert (verdict.verdict, verdict.misses) == (Outcome.FAIL, 1920)


@pytest.mark.parametrize(("taken", "told"), [(0.69, True), (0.11, True), (0.09, False), (math.nan, False)])
def test_cores_that_others_took_are_told_and_decide_nothing(taken: float, told: bool) -> None:
    verdict = quick(trace_of(latencies(), idle=0.2, taken=taken))
    assert verdict.verdict is Outcome.PASS
    texts = [finding.text for finding in verdict.findings]
    assert any(f"others took {taken:.0%} of all cores' time" in text for text in texts) == told


@pytest.mark.parametrize("values", [latencies(), np.full(1920, 20.0)])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bundle_after": "cd" * 32}, "the bundle changed"),
        ({"bundle_after": ""}, "the bundle changed"),
        ({"fell_back": ("failed over: onnxruntime-cpu (device lost)",)}, "fell back .*device lost"),
        ({"clocks": np.array([[0.0, 0, 0], [1, 1, 1], [2, 2, 5]])}, r"clock was set by \+3\.00 s"),
        ({"source_failure": "no frame for 2 s"}, "ended early: no frame for 2 s"),
    ],
)
def test_what_makes_it_invalid_does_so_whatever_the_frames_say(
    values: np.ndarray, change: dict[str, Any], reason: str
) -> None:
    verdict = quick(replace(trace_of(values), **change))
    assert verdict.verdict is Outcome.INVALID
    assert re.search(reason, verdict.reason)


def test_frames_slower_than_the_limit_are_camera_limited() -> None:
    verdict = quick(trace_of(latencies(), rate=60.0))
    assert verdict.verdict is Outcome.INVALID
    assert "camera-limited" in verdict.reason
    assert quick(trace_of(latencies(), rate=64 / 1.001)).verdict is Outcome.INVALID  # a schedule has no such excuse
    camera = replace(trace_of(latencies(), rate=64 / 1.001), live=True)
    assert quick(camera).verdict is Outcome.PASS  # 63.94 Hz: how video says 64


def test_frames_of_a_camera_that_were_lost_are_misses_and_gaps_are_no_measurement() -> None:
    camera = replace(trace_of(latencies()), live=True)
    assert quick(replace(camera, pushed=camera.scheduled + 2e-3)).verdict is Outcome.PASS  # no schedule to be late for
    lossy = quick(replace(camera, lost=30))
    assert (lossy.verdict, lossy.frames, lossy.misses, lossy.drops) == (Outcome.FAIL, 1950, 30, 30)
    scheduled = camera.scheduled.copy()
    scheduled[900:] += 0.4
    gap = replace(camera, scheduled=scheduled, pushed=scheduled, started=scheduled, done=scheduled + 8e-3)
    assert "no frame arrived for 0.42 s" in quick(gap).reason
    starved = np.where(np.arange(1920) == 900, 0.4, 0.0)
    assert quick(replace(gap, waited_s=starved, lost=26)).verdict is Outcome.FAIL


def camera_with_gap(frames: int, missing: int, at: int = 900) -> Trace:
    """A live trace in which ``missing`` frames were lost behind frame ``at``, as the process had no core."""
    trace = trace_of(latencies(frames))
    moved = np.where(np.arange(frames) > at, missing / 64, 0.0)
    times = {name: getattr(trace, name) + moved for name in ("scheduled", "pushed", "started", "done")}
    starved = np.where(np.arange(frames) == at + 1, missing / 64, 0.0)
    return replace(trace, **times, waited_s=starved, live=True, lost=missing)


def test_frames_that_were_lost_in_a_row_are_misses_in_a_row() -> None:
    two, three = quick(camera_with_gap(1918, 2)), quick(camera_with_gap(1917, 3))
    assert (two.verdict, two.misses, two.longest_miss_run) == (Outcome.PASS, 2, 2)
    assert (three.verdict, three.misses, three.longest_miss_run) == (Outcome.FAIL, 3, 3)
    beside = camera_with_gap(1918, 2)
    late = replace(beside, done=beside.done + np.where(np.arange(1918) == 901, 20e-3, 0.0))
    assert (quick(late).verdict, quick(late).longest_miss_run) == (Outcome.FAIL, 3)


def test_frames_that_were_lost_together_are_a_cluster() -> None:
    together = camera_with_gap(38_100, 300)
    apart = replace(trace_of(latencies(38_100)), live=True, lost=300)
    bounds = []
    for trace in (together, apart):
        verdict = judge(measurement_of(trace, trace, trace, tier=CERTIFY))
        assert (verdict.frames, verdict.misses) == (3 * 38_400, 900)
        bounds.append(verdict.block_rate_upper)
    assert bounds[1] == pytest.approx(300 / 38_400)
    assert bounds[0] is not None and bounds[0] > 0.015


def test_times_that_are_no_numbers_are_no_measurement() -> None:
    trace = trace_of(latencies())
    broken = replace(trace, scheduled=np.where(np.arange(1920) == 7, math.nan, trace.scheduled))
    assert quick(broken).verdict is Outcome.INVALID
    unknown = replace(trace, done=np.where(np.arange(1920) < 3, math.nan, trace.done))
    assert (quick(unknown).verdict, quick(unknown).longest_miss_run) == (Outcome.FAIL, 3)
    assert quick(replace(broken, live=True, lost=3)).verdict is not Outcome.PASS


def test_a_pause_is_told_from_taken_cores_and_from_work() -> None:
    trace = trace_of(latencies())
    late = np.zeros(1920)
    late[1000:1020] = np.linspace(0.3, 0.0, 20)  # woken .3 s late, caught up after 20 frames
    pushed = trace.scheduled + late
    paused = replace(trace, pushed=pushed, done=np.maximum(trace.done, pushed + 5e-3))
    verdict = quick(paused)
    assert verdict.verdict is Outcome.INVALID
    assert "paused for 0.30 s" in verdict.reason
    step = (np.arange(1920) == 1000) * 0.29
    for explained in (replace(paused, waited_s=step), replace(paused, cpu_s=paused.cpu_s + step)):
        assert quick(explained).verdict is Outcome.FAIL


def test_an_empty_trace_is_invalid() -> None:
    verdict = quick(trace_of(latencies(0)))
    assert (verdict.verdict, verdict.miss_rate_upper) == (Outcome.INVALID, 1.0)
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_too_few_frames_never_pass_but_may_fail() -> None:
    slow = {"min_fps": 15.3}  # 459 frames in 30 s
    assert quick(trace_of(np.full(458, 8.0), rate=15.3), **slow).verdict is Outcome.INVALID
    assert quick(trace_of(np.full(459, 8.0), rate=15.3), **slow).verdict is Outcome.PASS
    assert quick(trace_of(latencies(458, _3=20.0))).verdict is Outcome.INVALID
    assert quick(trace_of(spread(40, count=458))).verdict is Outcome.FAIL
    assert quick(trace_of(np.full(5, 20.0))).verdict is Outcome.FAIL
    assert quick(trace_of(latencies(458, _3=20.0, _4=20.0, _5=20.0))).verdict is Outcome.FAIL


def test_half_a_repetition_is_none() -> None:
    half = quick(trace_of(latencies(960)))
    assert (half.verdict, half.reason) == (Outcome.INVALID, "too few frames to tell: 960, at least 1899 are needed")
    assert judge(certified(latencies(19_200))).verdict is Outcome.INVALID
    assert judge(certified(spread(400, count=19_200))).verdict is Outcome.FAIL
    camera = replace(trace_of(latencies(1910)), live=True, rate_hz=64 / 1.001)
    assert quick(camera).verdict is Outcome.PASS


def test_a_pacer_that_broke_off_is_invalid() -> None:
    trace = trace_of(latencies())
    pushed = trace.pushed.copy()
    pushed[1900:] = math.nan
    assert quick(replace(trace, pushed=pushed)).verdict is Outcome.INVALID


# Tier certify


def test_certify_wants_every_repetition_within_the_count() -> None:
    assert judge(certified()).verdict is Outcome.PASS
    assert judge(certified(spread(338, count=38_400))).verdict is Outcome.PASS  # so evenly, blocks tell no more
    verdict = judge(certified(latencies(38_400), spread(339, count=38_400)))
    assert verdict.verdict is Outcome.FAIL
    assert "repetition 2: 339 of 38400 frames missed" in verdict.reason
    assert (verdict.frames, verdict.misses) == (115_200, 339)
    assert [each.misses for each in verdict.repetitions] == [0, 339, 0]
    bounds = [each.miss_rate_upper for each in verdict.repetitions]
    assert verdict.miss_rate_upper == bounds[1] > bounds[0]


def test_misses_in_clusters_fail_where_the_count_alone_would_pass() -> None:
    values = latencies(38_400)
    for start in range(0, 38_400, 1_280):  # 30 episodes of 10
        values[start : start + 10] = math.inf
    verdict = judge(certified(values))
    assert verdict.verdict is Outcome.FAIL
    assert "in clusters" in verdict.reason
    assert verdict.miss_rate_upper <= 0.01
    assert verdict.block_rate_upper is not None
    assert verdict.block_rate_upper > 0.01


def test_a_single_block_bounds_nothing() -> None:
    verdict = judge(measurement_of(*[trace_of(latencies(90))] * 3, tier=CERTIFY))
    assert (verdict.verdict, verdict.block_rate_upper) == (Outcome.INVALID, 1.0)


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "expected"),
    [
        (8.0, 13.0, Outcome.FAIL),
        (8.0, 12.4, Outcome.PASS),  # .8 × the limit is 12.5
        (12.5, 13.0, Outcome.PASS),  # less than a tenth more
        (12.5, 14.0, Outcome.FAIL),
    ],
)
def test_drift_fails_when_it_is_both_large_and_near_the_limit(first_ms: float, last_ms: float, expected: Any) -> None:
    values = np.linspace(first_ms, last_ms, 38_400)
    values[:3840], values[-3840:] = first_ms, last_ms
    verdict = judge(certified(values))
    assert verdict.verdict is expected
    assert ("drift" in verdict.reason) == (expected is Outcome.FAIL)


def test_drift_over_all_repetitions_fails_too() -> None:
    slow = [np.full(38_400, value) for value in (12.0, 12.8, 13.6)]  # none drifts by itself
    verdict = judge(certified(*slow))
    assert verdict.verdict is Outcome.FAIL
    assert "the first repetition's first" in verdict.reason


def test_an_unfinished_certify_is_invalid_unless_it_has_failed_already() -> None:
    done = certified()
    one = judge(replace(done, repetitions=done.repetitions[:1]))
    assert (one.verdict, one.complete) == (Outcome.INVALID, False)
    assert "1 of 3 repetitions" in one.reason
    failed = certified(spread(400, count=38_400))
    assert judge(replace(failed, repetitions=failed.repetitions[:1])).verdict is Outcome.FAIL
    nothing = judge(replace(done, repetitions=()))
    assert nothing.verdict is Outcome.INVALID
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_minutes_that_drift_is_judged_by_are_the_first_and_the_last() -> None:
    """Neither the second nor the last but one, and whole."""
    late = latencies(38_400)
    late[2 * 3840 : -2 * 3840] = 14.0
    assert judge(certified(late)).verdict is Outcome.PASS
    late[-3840:-3801] = 14.0  # 39 of 3,840: one percent and one frame
    assert "drift" in judge(certified(late)).reason
    late[-3840:-3801] = 8.0
    late[-3879:-3840] = 14.0
    assert judge(certified(late)).verdict is Outcome.PASS


def test_a_verdict_does_not_hang_on_the_order_of_repetitions() -> None:
    """Apart from a device that becomes slower from one to the next, which is drift."""
    one = certified(spread(300, count=38_400), latencies(38_400, _5=math.inf), spread(339, count=38_400))
    verdicts = [judge(replace(one, repetitions=order)) for order in permutations(one.repetitions)]
    assert {verdict.verdict for verdict in verdicts} == {Outcome.FAIL}
    told = {(each.misses, each.drops, each.miss_rate_upper, each.block_rate_upper) for each in verdicts}
    assert len(told) == 1


# What others found


def test_findings_of_others_enter_the_judgement() -> None:
    found = Finding(Kind.INVALID, "other work held 9% of the GPU", "nvidia")
    verdict = quick(trace_of(latencies()), findings=(found,))
    assert (verdict.verdict, verdict.reason) == (Outcome.INVALID, "other work held 9% of the GPU")
    note = quick(trace_of(latencies()), findings=(replace(found, kind=Kind.NOTE),))
    assert note.verdict is Outcome.PASS
    assert note.findings[0].kind is Kind.NOTE


def test_throttling_fails_certify_and_is_told_by_quick() -> None:
    hot = Finding(Kind.THROTTLED, "the GPU slowed down, too hot", "nvidia", repetition=2)
    assert quick(trace_of(latencies()), findings=(hot,)).verdict is Outcome.PASS
    verdict = judge(certified(findings=(hot,)))
    assert (verdict.verdict, verdict.reason) == (Outcome.FAIL, "repetition 2: the GPU slowed down, too hot")


def test_the_json_has_the_agreed_fields_and_no_infinity() -> None:
    values = quick(trace_of(spread(400, math.inf))).to_dict()
    agreed = (
        "verdict reason rate_hz frames misses drops miss_rate_upper longest_miss_run latency_ms capacity_fps stages_ms "
        "engine bundle_sha256 device schema_version lateness_ms tier limits source precision repetitions findings"
    )
    assert set(agreed.split()) <= set(values)
    assert values["verdict"] == "FAIL"
    assert values["latency_ms"]["p99"] is None
    assert values["latency_ms"]["p50"] == pytest.approx(8.0)
    assert values["limits"]["latency_ms"] == LIMIT_MS
    assert values["repetitions"][0]["misses"] == 400
    json.dumps(values, allow_nan=False)


def test_exit_codes() -> None:
    assert [outcome.exit_code for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INVALID)] == [0, 1, 2]


def test_certify_is_what_the_documents_say() -> None:
    assert (CERTIFY.repetitions, CERTIFY.seconds, CERTIFY.warmup_s) == (3, 600.0, 30.0)
