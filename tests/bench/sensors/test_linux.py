"""Linux' files, from a made-up root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gensoup.bench.sensors.linux import (
    Slowdowns,
    energy_preference,
    frequency_driver,
    governor,
    is_jetson,
)
from gensoup.runtime.device import power_model, power_models

Put = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file below the made-up root: (path, content)."""

    def write(path: str, content: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content + "\n")

    return write


def test_counters_that_rise_and_cooling_at_work_are_told_once(tmp_path: Path, put: Put) -> None:
    hot = "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count"
    put(hot, "7")
    put("sys/class/hwmon/hwmon0/name", "ina3221")
    put("sys/class/hwmon/hwmon0/oc1_event_cnt", "1")
    put("sys/class/hwmon/hwmon3/name", "soctherm_oc")
    put("sys/class/hwmon/hwmon3/oc1_event_cnt", "0")
    put("sys/class/hwmon/hwmon3/oc3_event_cnt", "12")
    for number, kind in enumerate(
        ("gpu-throttle-alert", "pwm-fan", "thermal-cpufreq-0", "Processor", "intel_powerclamp")
    ):
        put(f"sys/class/thermal/cooling_device{number}/type", kind)
        put(f"sys/class/thermal/cooling_device{number}/cur_state", "3" if kind == "pwm-fan" else "0")
    slowdowns = Slowdowns(tmp_path)
    assert slowdowns.since_last() == ()
    put(hot, "8")
    put("sys/class/hwmon/hwmon0/oc1_event_cnt", "2")  # no counter of over-current
    put("sys/class/hwmon/hwmon3/oc3_event_cnt", "40")
    put("sys/class/thermal/cooling_device0/cur_state", "1")
    put("sys/class/thermal/cooling_device4/cur_state", "-1")
    assert slowdowns.since_last() == (
        "cooling by gpu-throttle-alert",
        "instantaneous over-current",
        "processor too hot",
    )
    assert slowdowns.since_last() == ("cooling by gpu-throttle-alert",)


def test_governors(tmp_path: Path, put: Put) -> None:
    assert governor(tmp_path) is frequency_driver(tmp_path) is energy_preference(tmp_path) is None
    for core, name in enumerate(("powersave", "performance", "powersave")):
        put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", name)
    put("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate")
    put("sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference", "balance_power")
    assert governor(tmp_path) == "performance, powersave"
    assert (frequency_driver(tmp_path), energy_preference(tmp_path)) == ("intel_pstate", "balance_power")


def test_jetsons_and_their_power_modes(tmp_path: Path, put: Put) -> None:
    assert not is_jetson(tmp_path) and power_model(tmp_path) is None and power_models(tmp_path) == {}
    put("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0")
    put("var/lib/nvpmodel/status", "pmode:0002 fmode:quiet")
    put(
        "etc/nvpmodel.conf",
        "# < POWER_MODEL ID=9 NAME=OFF >\n< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >",
    )
    assert is_jetson(tmp_path) and power_model(tmp_path) == 2
    assert power_models(tmp_path) == {0: "15W", 2: "MAXN_SUPER"}
