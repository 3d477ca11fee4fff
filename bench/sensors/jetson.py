"""NVIDIA Jetson, by jetson-stats: its service reads the board once a second, its library ``jtop`` hands that out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gensoup.bench.sensors import Sample, SensorError
from gensoup.bench.sensors.display import draws_the_screen

_OFFLINE_C = -256
REMEDY = "on the board: sudo pip3 install -U jetson-stats, log in again; then pip install jetson-stats here"


class JtopReader:
    """Loads, clocks, temperatures, supply. What slowed a Jetson is in Linux's files: see :mod:`.linux`."""

    name = "jtop"
    required: tuple[str, ...] = ("gpu_load_percent", "gpu_temperature_c")
    settle_s = 2.2  # the service looks once a second, and then the library fetches it

    def __init__(self, jetson: Any = None, pid: int | None = None) -> None:
        """jetson: a started ``jtop.jtop()``; None: one is started. Raises SensorError, one line."""
        self._pid = os.getpid() if pid is None else pid
        if jetson is None:
            try:
                from jtop import jtop
            except ImportError as error:
                raise SensorError(f"a Jetson is read through jetson-stats, which is not installed: {REMEDY}") from error
            jetson = jtop()
            try:
                jetson.start()
            except Exception as error:  # its own exception, and what sockets and pickles raise
                reason = " ".join(str(error).split())
                raise SensorError(f"jetson-stats does not answer ({reason}): sudo systemctl restart jtop") from error
        self._jetson = jetson

    def facts(self) -> dict[str, Any]:
        """Power mode and whether clocks are pinned."""
        jetson = self._jetson
        return {
            "power_mode": None if jetson.nvpmodel is None else str(jetson.nvpmodel),
            "jetson_clocks": None if jetson.jetson_clocks is None else bool(jetson.jetson_clocks),
            "gpu_clock_max_mhz": _megahertz(_gpu(jetson).get("freq", {}), "max"),
        }

    def read(self) -> Sample:
        """See :class:`gensoup.bench.sensors.Reader`."""
        jetson = self._jetson
        try:
            alive = jetson.ok(spin=True)
        except Exception as error:
            raise SensorError(f"jetson-stats stopped answering ({' '.join(str(error).split())})") from error
        if not alive:
            raise SensorError("jetson-stats stopped answering")
        gpu = _gpu(jetson)
        total = (jetson.power or {}).get("tot", {}).get("power")
        used = jetson.memory["RAM"]["used"] if "RAM" in jetson.memory else None
        values = {
            "gpu_clock_mhz": _megahertz(gpu.get("freq", {}), "cur"),
            "gpu_load_percent": gpu.get("status", {}).get("load"),
            "gpu_temperature_c": _temperature(jetson.temperature, "gpu"),
            "junction_temperature_c": _temperature(jetson.temperature, "tj"),
            "cpu_temperature_c": _temperature(jetson.temperature, "cpu"),
            "board_power_w": None if total is None else total / 1e3,
            "memory_used_mib": None if used is None else round(used / 1024, 1),
        }
        known = {name: float(value) for name, value in values.items() if value is not None}
        others, display = self._others()
        return Sample(known, (), others, display)

    def close(self) -> None:
        """See :class:`gensoup.bench.sensors.Reader`."""
        self._jetson.close()

    def _others(self) -> tuple[dict[str, float], dict[str, float]]:
        """Who else holds the GPU; jetson-stats tells their memory, and not their share of its time."""
        others: dict[str, float] = {}
        display: dict[str, float] = {}
        for row in self._jetson.processes:
            pid, name = int(row[0]), str(row[9])
            if pid != self._pid:
                (display if draws_the_screen(name) else others)[f"{name} ({pid})"] = float("nan")
        return others, display


def _gpu(jetson: Any) -> Mapping[str, Any]:
    """The integrated GPU; Jetson calls it "gpu", "ga10b", "gv11b" and more."""
    told = {name: jetson.gpu[name] for name in jetson.gpu}
    integrated = [one for one in told.values() if one.get("type") == "integrated"]
    return next(iter([*integrated, *told.values()]), {})


def _megahertz(freq: Mapping[str, Any], which: str) -> float | None:
    """jetson-stats gives kHz, but MHz where it has asked NVML itself, which it notes as the governor."""
    told = freq.get(which)
    if not told:
        return None
    return float(told) if freq.get("governor") == "nvml" else told / 1e3


def _temperature(told: Mapping[str, Any], part: str) -> float | None:
    """°C of the sensor whose name begins with ``part``; the boards differ in its ending and in capitals."""
    found = [
        one["temp"]
        for name, one in told.items()
        if name.lower().startswith(part) and one.get("online", True) and one["temp"] > _OFFLINE_C
    ]
    return max(found, default=None)
