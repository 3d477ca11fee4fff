"""Processor, memory and supply, by psutil; what psutil does not know comes from Linux's files."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from gensoup.bench.sensors import Sample, SensorError
from gensoup.bench.sensors.linux import ROOT, Slowdowns, frequency_driver, governor, text
from gensoup.runtime.control_groups import quota_cores

# How Linux' drivers name the processor's sensors, the most exact first.
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
_MIB = 1 << 20


class CpuReader:
    """Loads are shares of the time since the last look, of the cores this process may use."""

    name = "cpu"
    required: tuple[str, ...] = ("cpu_load_percent",)
    settle_s = 0.1  # the system counts in hundredths of a second

    def __init__(self, library: Any = None, root: Path = ROOT, cores: tuple[int, ...] = ()) -> None:
        """library: psutil; cores: numbers of those that this process may use, empty: as the system says."""
        if library is None:
            try:
                import psutil
            except ImportError as error:
                raise SensorError("psutil is not installed: pip install psutil") from error
            library = psutil
        self._psutil = library
        self._root = root
        self._slowdowns = Slowdowns(root)
        everyone = range(len(library.cpu_times(percpu=True)))
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(everyone)
        self._cores = cores or tuple(core for core in everyone if core in allowed)
        self._times = self._cpu_times()
        self._thermometers = bool(self._temperatures())

    def facts(self) -> dict[str, Any]:
        """Governor, driver, quota and supply."""
        battery = self._battery()
        return {
            "cores": len(self._cores),
            "quota_cores": quota_cores(self._root),
            "governor": governor(self._root),
            "frequency_driver": frequency_driver(self._root),
            "platform_profile": text(self._root / "sys/firmware/acpi/platform_profile") or None,
            "on_battery": None if battery is None else not battery.power_plugged,
        }

    def read(self) -> Sample:
        """See :class:`gensoup.bench.sensors.Reader`."""
        before, self._times = self._times, self._cpu_times()
        spent = [
            (now[0] - was[0], now[1] - was[1], now[2] - was[2]) for was, now in zip(before, self._times, strict=True)
        ]
        total = sum(one[2] for one in spent)
        values = {
            "cpu_load_percent": 100 * (1 - sum(one[0] for one in spent) / total) if total > 0 else math.nan,
            "steal_percent": 100 * sum(one[1] for one in spent) / total if total > 0 else math.nan,
            "memory_used_mib": self._memory(),
            "cpu_clock_mhz": self._clock(),
        }
        for core, (idle, _, all_) in zip(self._cores, spent, strict=True):
            values[f"core{core}_load_percent"] = 100 * (1 - idle / all_) if all_ > 0 else math.nan
        if self._thermometers:
            values["cpu_temperature_c"] = max(self._temperatures(), default=math.nan)
        known = {name: round(value, 2) for name, value in values.items() if math.isfinite(value)}
        return Sample(known, self._slowdowns.since_last())

    def close(self) -> None:
        """Nothing is held."""

    def _cpu_times(self) -> list[tuple[float, float, float]]:
        """Idle, stolen and all seconds of each of the cores so far; guests' time is in user's already."""
        told = self._psutil.cpu_times(percpu=True)
        times = []
        for core in self._cores:
            one = told[core]._asdict()
            steal = one.get("steal", 0.0)
            everything = sum(value for name, value in one.items() if not name.startswith("guest"))
            times.append((one["idle"] + one.get("iowait", 0.0), steal, everything))
        return times

    def _memory(self) -> float:
        told = self._psutil.virtual_memory()
        return float(told.total - told.available) / _MIB

    def _clock(self) -> float:
        """Mean of the cores, MHz; NaN where the system tells none."""
        if not hasattr(self._psutil, "cpu_freq"):
            return math.nan
        told = self._psutil.cpu_freq(percpu=True) or []
        mine = [told[core].current for core in self._cores] if len(told) > max(self._cores, default=0) else []
        mine = mine or [one.current for one in told]
        return sum(mine) / len(mine) if mine and any(mine) else math.nan

    def _temperatures(self) -> list[float]:
        """Of the processor's sensors, °C."""
        if not hasattr(self._psutil, "sensors_temperatures"):
            return []
        told = self._psutil.sensors_temperatures()
        found: list[Any] = next((told[name] for name in _CPU_SENSORS if name in told), [])
        return [one.current for one in found if one.current is not None and one.current > 0]

    def _battery(self) -> Any:
        return self._psutil.sensors_battery() if hasattr(self._psutil, "sensors_battery") else None
