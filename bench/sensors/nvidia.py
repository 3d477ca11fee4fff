"""NVIDIA's GPUs on PCs and servers, by NVML through nvidia-ml-py."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gensoup.bench.sensors import Sample, SensorError
from gensoup.bench.sensors.display import draws_the_screen
from gensoup.bench.sensors.linux import ROOT, text

# NVML's names of what holds clocks down; idle clocks and clocks that a user or application has set are not among them.
SLOWDOWNS = {
    "SwPowerCap": "power limit",
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "too hot (driver)",
    "HwThermalSlowdown": "too hot (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
    "BoardLimit": "board limit",
    "Reliability": "voltage reliability",
}
_MIB = 1 << 20
_MOST_PERCENT = 100  # NVML has been seen to give numbers near 2³¹ for a process' share


class NvmlReader:
    """One GPU: the one that computes."""

    name = "nvml"
    required: tuple[str, ...] = ("gpu_clock_mhz", "gpu_temperature_c")
    settle_s = 1.2  # NVML's loads are means over up to a second

    def __init__(
        self,
        library: Any = None,
        bus_id: str | None = None,
        root: Path = ROOT,
        pid: int | None = None,
        name_of: Callable[[int], str] | None = None,
        visible: str | None = None,
        since_us: int | None = None,
    ) -> None:
        """library: pynvml. bus_id: the GPU's PCI address, None: found by :func:`_handle`. pid: of this process.

        name_of: a process' name by its number. visible: CUDA_VISIBLE_DEVICES, None: of the environment.
        since_us: what processes did before is not theirs; None: now, of the clock that NVML's times are of.
        Raises SensorError, one line.
        """
        if library is None:
            try:
                import pynvml
            except ImportError as error:
                raise SensorError("NVML cannot be read: pip install 'gensoup[nvidia]'") from error
            library = pynvml
        self._nvml = library
        self._root = root
        self._pid = os.getpid() if pid is None else pid
        self._name_of = name_of or (lambda number: text(root / f"proc/{number}/comm") or "process")
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise SensorError(f"NVML does not start ({error}): nvidia-smi should show the GPU") from error
        try:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
            self._gpu = _handle(library, bus_id, visible or "")
            self._reasons()
        except library.NVMLError as error:
            raise SensorError(f"NVML cannot watch this GPU ({error}): update NVIDIA's driver") from error
        self._since = int(time.time() * 1e6) if since_us is None else since_us

    def facts(self) -> dict[str, Any]:
        """The GPU's name, driver and limits."""
        library, gpu = self._nvml, self._gpu
        limit = self._ask(library.nvmlDeviceGetEnforcedPowerLimit, gpu)
        return {
            "gpu": _decoded(self._ask(library.nvmlDeviceGetName, gpu)),
            "driver": _decoded(self._ask(library.nvmlSystemGetDriverVersion)),
            "power_limit_w": None if limit is None else limit / 1e3,
            "persistence": _flag(self._ask(library.nvmlDeviceGetPersistenceMode, gpu)),
            "gpu_clock_max_mhz": self._ask(library.nvmlDeviceGetMaxClockInfo, gpu, library.NVML_CLOCK_SM),
        }

    def read(self) -> Sample:
        """See :class:`gensoup.bench.sensors.Reader`."""
        library, gpu = self._nvml, self._gpu
        try:
            power = self._ask(library.nvmlDeviceGetPowerUsage, gpu)
            rates = self._ask(library.nvmlDeviceGetUtilizationRates, gpu)
            memory = self._ask(library.nvmlDeviceGetMemoryInfo, gpu)
            values = {
                "gpu_clock_mhz": self._ask(library.nvmlDeviceGetClockInfo, gpu, library.NVML_CLOCK_SM),
                "gpu_memory_clock_mhz": self._ask(library.nvmlDeviceGetClockInfo, gpu, library.NVML_CLOCK_MEM),
                "gpu_temperature_c": self._temperature(),
                "gpu_power_w": None if power is None else power / 1e3,
                "gpu_load_percent": None if rates is None else rates.gpu,
                "gpu_memory_used_mib": None if memory is None else round(memory.used / _MIB, 1),
                "gpu_performance_state": self._ask(library.nvmlDeviceGetPerformanceState, gpu),
            }
            slowed = self._reasons()
            others, display = self._others()
        except library.NVMLError as error:
            raise SensorError(f"NVML stopped answering ({error})") from error
        known = {name: float(value) for name, value in values.items() if value is not None}
        return Sample(known, slowed, others, display)

    def close(self) -> None:
        """See :class:`gensoup.bench.sensors.Reader`."""
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """None where this GPU or this driver has no such reading."""
        library = self._nvml
        try:
            return function(*arguments)
        except library.NVMLError as error:
            absent = (library.NVML_ERROR_NOT_SUPPORTED, library.NVML_ERROR_FUNCTION_NOT_FOUND)
            if error.value in (*absent, library.NVML_ERROR_NO_PERMISSION):
                return None
            raise

    def _temperature(self) -> int | None:
        """By the newer call, which drivers before 570 lack, or the older, which CUDA 14 will lack."""
        library = self._nvml
        if hasattr(library, "nvmlDeviceGetTemperatureV"):
            told = self._ask(library.nvmlDeviceGetTemperatureV, self._gpu, library.NVML_TEMPERATURE_GPU)
            if told is not None:
                return int(told)
        return self._ask(library.nvmlDeviceGetTemperature, self._gpu, library.NVML_TEMPERATURE_GPU)

    def _reasons(self) -> tuple[str, ...]:
        """What holds the clocks down now. Raises NVMLError where the GPU does not tell."""
        library = self._nvml
        try:
            mask = library.nvmlDeviceGetCurrentClocksEventReasons(self._gpu)
        except (AttributeError, library.NVMLError_FunctionNotFound):  # drivers before 535
            mask = library.nvmlDeviceGetCurrentClocksThrottleReasons(self._gpu)
        return tuple(sorted(why for name, why in SLOWDOWNS.items() if mask & _bit(library, name)))

    def _others(self) -> tuple[dict[str, float], dict[str, float]]:
        """Shares of the GPU since the last look, in percent: of others that compute, and of those that only draw."""
        library, gpu = self._nvml, self._gpu
        computing = {one.pid for one in self._ask(library.nvmlDeviceGetComputeRunningProcesses, gpu) or []}
        drawing = {one.pid for one in self._ask(library.nvmlDeviceGetGraphicsRunningProcesses, gpu) or []}
        shares = self._shares()
        mine = self._mine(computing)
        others: dict[str, float] = {}
        display: dict[str, float] = {}
        for pid in sorted((computing | drawing | set(shares or ())) - mine):
            name = self._name_of(pid)
            only_draws = draws_the_screen(name) or (pid in drawing and pid not in computing)
            share = math.nan if shares is None else shares.get(pid, 0.0)
            (display if only_draws else others)[f"{name} ({pid})"] = share
        return others, display

    def _shares(self) -> dict[int, float] | None:
        """Process → percent of the GPU's compute units since the last look; None where this GPU cannot tell."""
        library = self._nvml
        try:
            samples = library.nvmlDeviceGetProcessUtilization(self._gpu, self._since)
        except library.NVMLError as error:
            if error.value in (library.NVML_SUCCESS, library.NVML_ERROR_NOT_FOUND):  # nothing new
                return {}
            if error.value in (library.NVML_ERROR_NOT_SUPPORTED, library.NVML_ERROR_NO_PERMISSION):
                return None
            raise
        told: dict[int, list[int]] = {}
        for one in samples:
            if one.timeStamp > self._since and one.smUtil <= _MOST_PERCENT:
                told.setdefault(one.pid, []).append(one.smUtil)
        self._since = max([self._since, *(one.timeStamp for one in samples)])
        return {pid: sum(values) / len(values) for pid, values in told.items()}

    def _mine(self, computing: set[int]) -> set[int]:
        """This process' number. In a container NVML may give the host's instead: then the one that is unknown here."""
        if self._pid in computing:
            return {self._pid}
        unknown = {pid for pid in computing if not (self._root / f"proc/{pid}").exists()}
        return unknown if len(unknown) == 1 else {self._pid}


def _handle(library: Any, bus_id: str | None, visible: str) -> Any:
    """The GPU that CUDA calls device 0. Raises SensorError where that cannot be told, NVMLError."""
    if bus_id is not None:
        return library.nvmlDeviceGetHandleByPciBusId(bus_id)
    first = visible.split(",")[0].strip()
    if first.startswith("GPU-"):
        return library.nvmlDeviceGetHandleByUUID(first)
    if (count := library.nvmlDeviceGetCount()) == 1:
        return library.nvmlDeviceGetHandleByIndex(0)
    raise SensorError(
        f"NVML shows {count} GPUs and not which one computes: set CUDA_VISIBLE_DEVICES to its UUID (nvidia-smi -L)"
    )


def _bit(library: Any, name: str) -> int:
    """Of a reason by its name: newer names of the library first, 0 where it has none."""
    for kind in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        if hasattr(library, kind + name):
            return int(getattr(library, kind + name))
    return 0


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)
