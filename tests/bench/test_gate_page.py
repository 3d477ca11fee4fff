"""The gate's page: whole in itself, with every frame, whatever came out."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_samples import certified, latencies, measurement_of, spread, trace_of

from gensoup.bench.finding import Finding, Kind
from gensoup.bench.gate_page import gate_page
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.result_file import TraceFile
from gensoup.bench.tier import CERTIFY

PASS = measurement_of(trace_of(latencies()), bundle="polyp <2>.gensoup")
FAIL = measurement_of(trace_of(spread(40, math.inf)))
INVALID = replace(FAIL, findings=(Finding(Kind.INVALID, "the fan <stopped>", "nvml"),))
LOG: dict[str, Any] = {
    "origin_s": 100.0,
    "at_s": [-3.0, 0.0, 10.0, 20.0],
    "phase": ["before", "during", "during", "after"],
    "series": {
        "cpu_temperature_c": [40.0, None, 55.5, 60.0],
        "gpu_clock_mhz": [300.0, 1980.0, 1980.0, 1200.0],
        "core0_load_percent": [1.0, 2.0, 3.0, 4.0],
        "gpu_power_w": [None, None, None, None],
    },
    "slowed_by": {"nvml: thermal <slowdown>": [20.0]},
}


def words(page: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S).split())


def page_of(measurement: Measurement, trace: TraceFile | None = None) -> str:
    return gate_page(judge(measurement), measurement, measurement.bundle or "polyp.gensoup", trace)


@pytest.mark.parametrize(("measurement", "outcome"), [(PASS, "PASS"), (FAIL, "FAIL"), (INVALID, "INVALID")])
def test_the_answer_and_its_reason_come_first(measurement: Measurement, outcome: str) -> None:
    page, verdict = page_of(measurement), judge(measurement)
    assert verdict.verdict.value == outcome
    told = words(page)
    assert told.index(outcome) < told.index("Every frame")
    assert verdict.reason in told.replace("&lt;", "<").replace("&gt;", ">")
    assert page.count("<svg") == 4  # timeline and histogram, each for a screen and for a telephone
    assert not re.search(r"<script|<link|src=\"http|@import", page)
    assert "<stopped>" not in page and "<2>" not in page
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+", "", told.lower())
    if outcome == "INVALID":
        assert "nothing here speaks for or against" in told and "✗" not in told and "✓" not in told
    else:
        assert ("✗" in told) == (outcome == "FAIL")


def test_repetitions_are_beside_each_other() -> None:
    page = page_of(certified(latencies(38_400), spread(500, count=38_400)))
    assert "38,400" in page and "500 of 115,200" in page and "bound by seconds" in page
    assert len(page) < 1_500_000


def test_what_the_device_did_is_drawn() -> None:
    page = page_of(replace(PASS, device_log=LOG))
    assert page.count("<svg") == 6
    told = words(page)
    for part in ("CPU temperature", "GPU clock", "°C", "MHz", "Slowed down: nvml: thermal &lt;slowdown&gt; (seen 1 ×)"):
        assert part in told
    assert "core0" not in told and "GPU power" not in told
    assert "No heat, clocks or power were recorded" in words(page_of(PASS))


def test_repetitions_of_two_boots_are_put_end_to_end() -> None:
    early, late = trace_of(latencies(640)), trace_of(latencies(640))
    later = replace(late, scheduled=late.scheduled - 90, pushed=late.pushed - 90, done=late.done - 90)
    tier = replace(CERTIFY, repetitions=2)
    page = page_of(measurement_of(early, later, tier=tier, min_fps=64.0))
    ticks = [float(text) for text in re.findall(r">(\d+)</text>", page)]
    assert max(ticks) >= 40  # 10 s, a gap of 30 s, 10 s


def test_nothing_measured_and_all_dropped_are_pages_too(tmp_path: Path) -> None:
    assert "INVALID" in words(page_of(measurement_of()))
    (tmp_path / "t.npz").write_bytes(b"trace")
    page = page_of(measurement_of(trace_of(np.full(640, math.inf))), TraceFile.of(tmp_path / "t.npz"))
    assert "and 640 dropped" in page and "gensoup bench --from-trace t.npz" in page and "∞" in page
