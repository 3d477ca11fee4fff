"""The processor's readings: psutil as it is on this machine, and recorded answers for what this machine lacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from gensoup.bench.sensors.cpu import CpuReader


class ReplayedPsutil:
    """psutil on a machine of four cores with sensors and a battery; each call of ``cpu_times`` is one second later."""

    def __init__(self, unplugged: bool = False) -> None:
        self.second = 0
        self.unplugged = unplugged

    def cpu_times(self, percpu: bool) -> list[Any]:
        fields = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
        rates = [(0.9, 0.05, 0.05), (0.0, 1.0, 0.0), (0.4, 0.5, 0.1), (0.25, 0.75, 0.0)]
        told = []
        for busy, idle, steal in rates:
            values = dict.fromkeys(fields, 0.0)
            values |= {"user": busy * self.second, "guest": busy * self.second}
            values |= {
                "idle": idle * self.second * 0.8,
                "iowait": idle * self.second * 0.2,
                "steal": steal * self.second,
            }
            told.append(SimpleNamespace(_asdict=lambda values=values: values))
        self.second += 1
        return told

    def cpu_freq(self, percpu: bool) -> list[Any]:
        return [SimpleNamespace(current=value) for value in (3000.0, 1000.0, 2000.0, 2000.0)]

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=8 << 30, available=6 << 30)

    def sensors_temperatures(self) -> dict[str, list[Any]]:
        at = [SimpleNamespace(label=label, current=value) for label, value in (("Package", 71.0), ("Core 0", 69.0))]
        return {"nvme": [SimpleNamespace(label="Composite", current=90.0)], "coretemp": at}

    def sensors_battery(self) -> Any:
        return SimpleNamespace(percent=80, power_plugged=not self.unplugged)


def test_loads_are_shares_of_the_time_since_the_last_look(tmp_path: Path) -> None:
    reader = CpuReader(ReplayedPsutil(), tmp_path, cores=(0, 1, 2, 3))
    values = reader.read().values
    assert [values[f"core{core}_load_percent"] for core in range(4)] == pytest.approx([95, 0, 50, 25])
    assert values["cpu_load_percent"] == pytest.approx(42.5)
    assert values["steal_percent"] == pytest.approx(3.75)
    assert (values["cpu_clock_mhz"], values["cpu_temperature_c"], values["memory_used_mib"]) == (2000, 71, 2048)


def test_cores_of_others_do_not_count(tmp_path: Path) -> None:
    values = CpuReader(ReplayedPsutil(), tmp_path, cores=(1, 3)).read().values
    assert values["cpu_load_percent"] == pytest.approx(12.5) and "core0_load_percent" not in values
    assert values["cpu_clock_mhz"] == 1500


def test_the_battery_is_a_fact(tmp_path: Path) -> None:
    assert CpuReader(ReplayedPsutil(), tmp_path).facts()["on_battery"] is False
    assert CpuReader(ReplayedPsutil(unplugged=True), tmp_path).facts()["on_battery"] is True


def test_on_this_machine() -> None:
    reader = CpuReader(psutil)
    sum(number**2 for number in range(400_000))  # some time must pass: the system counts in hundredths of a second
    sample = reader.read()
    assert 0 <= sample.values["cpu_load_percent"] <= 100
    assert sample.values["memory_used_mib"] > 50
    assert reader.facts()["cores"] >= 1
