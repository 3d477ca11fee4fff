"""Cores, governors, power modes, sensors: each red line from made-up facts."""

from __future__ import annotations

import pytest

from gensoup.bench.doctor import Mark
from gensoup.bench.doctor.machine import (
    clock_lines,
    cores_line,
    governor_line,
    power_mode_lines,
    sensor_lines,
    supply_lines,
)
from gensoup.bench.sensors import Sample


@pytest.mark.parametrize(
    ("quota", "mark"), [(None, Mark.GOOD), (8.0, Mark.GOOD), (6.0, Mark.NOTE), (4.0, Mark.RED), (0.5, Mark.RED)]
)
def test_a_quota_below_what_engine_and_capture_take(quota: float | None, mark: Mark) -> None:
    line = cores_line(16, 8, quota)
    assert line.mark is mark and line.text.startswith("8 of 16 usable")
    assert ("--cpus 5" in line.remedy) == (mark is not Mark.GOOD)


@pytest.mark.parametrize(
    ("governor", "driver", "preference", "mark"),
    [
        ("performance", "acpi-cpufreq", None, Mark.GOOD),
        ("schedutil", "acpi-cpufreq", None, Mark.NOTE),
        ("powersave", "acpi-cpufreq", None, Mark.RED),
        ("performance, powersave", "cpufreq-dt", None, Mark.RED),
        ("powersave", "intel_pstate", "balance_performance", Mark.NOTE),
        ("powersave", "amd-pstate-epp", "power", Mark.RED),
        (None, None, None, Mark.NOTE),
    ],
)
def test_governors(governor: str | None, driver: str | None, preference: str | None, mark: Mark) -> None:
    line = governor_line(governor, driver, preference)
    assert line.mark is mark and ("cpupower" in line.remedy) == (mark is Mark.RED)


@pytest.mark.parametrize(
    ("current", "models", "told"),
    [
        (0, {0: "MAXN", 1: "10W"}, "MAXN"),
        (0, {0: "15W", 1: "25W", 2: "MAXN_SUPER"}, "sudo nvpmodel -m 2 && sudo jetson_clocks"),
        (1, {0: "15W", 1: "7W"}, "sudo nvpmodel -m 0 && sudo jetson_clocks"),
        (0, {0: "15W", 1: "7W"}, "15W"),
        (3, {}, "mode 3"),
    ],
)
def test_power_modes(current: int, models: dict[int, str], told: str) -> None:
    (line,) = power_mode_lines(current, models)
    assert told == (line.remedy or line.text) and (line.mark is Mark.RED) == bool(line.remedy)
    assert power_mode_lines(None, {}) == []


def test_supply() -> None:
    assert supply_lines(None) == supply_lines(False) == []
    assert supply_lines(True)[0].mark is Mark.RED


def test_a_sensor_that_should_be_there() -> None:
    good, red = sensor_lines(["cpu"], {"jtop": "jetson-stats is not installed: sudo pip3 install -U jetson-stats"})
    assert (good.mark, good.text) == (Mark.GOOD, "cpu")
    assert red.mark is Mark.RED and red.text.startswith("jtop: jetson-stats is not installed")
    assert red.remedy == "sudo pip3 install -U jetson-stats"


def test_clocks_and_what_slows_them() -> None:
    now, hot = clock_lines(
        [Sample({"cpu_clock_mhz": 2396.4}, ("processor too hot",)), Sample({"gpu_temperature_c": 81})]
    )
    assert now.text == "CPU 2396 MHz, GPU 81 °C"
    assert hot.mark is Mark.RED and hot.text == "processor too hot" and hot.remedy
    assert clock_lines([]) == []
