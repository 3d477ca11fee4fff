"""What this machine is, how large its caches are, and how busy its cores were."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

DEFAULT_CACHE_BYTES = 64 << 20
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class CpuTimes:
    """Time of all cores together since the machine started, in clock ticks."""

    idle: int
    total: int

    def idle_fraction_until(self, later: CpuTimes) -> float | None:
        """Share of all cores' time spent idle between two snapshots, 0…1; None when too close to tell."""
        total = later.total - self.total
        return None if total <= 0 else min(1.0, max(0.0, (later.idle - self.idle) / total))


def cpu_times(stat: Path = Path("/proc/stat")) -> CpuTimes | None:
    """A snapshot of /proc/stat for the cores this process may use; None where there is none.

    Waiting for disks counts as idle, as the cores are free.
    """
    try:
        rows = dict(line.split(maxsplit=1) for line in stat.read_text().splitlines() if line.startswith("cpu"))
        mine = [rows[name] for name in _usable_names() if name in rows] or [rows["cpu"]]
        # user nice system idle iowait irq softirq steal; guest times, which follow, are in user's already
        ticks = [[int(field) for field in row.split()[:8]] for row in mine]
        return CpuTimes(idle=sum(row[3] + row[4] for row in ticks), total=sum(map(sum, ticks)))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def last_level_cache_bytes(cpus: Path = Path("/sys/devices/system/cpu")) -> int:
    """Size of the largest CPU cache in bytes; 64 MiB where the system does not say."""
    sizes = [_size(path) for path in cpus.glob("cpu*/cache/index*/size")]
    return max(sizes, default=0) or DEFAULT_CACHE_BYTES


def fingerprint(engine: str = "") -> dict[str, Any]:
    """What identifies this machine in reports and device profiles, ready for JSON.

    engine: the name of the engine in use, which is put beside the rest.
    """
    return {
        "model": first_line(Path("/proc/device-tree/model")),
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "os": platform.platform(),
        "machine": platform.machine(),
        "gpus": gpus(),
        "nvidia_driver": nvidia_driver(),
        "governor": first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "power_mode": power_mode(),
        "python": platform.python_version(),
        "opencv": installed_version("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
        "onnxruntime": installed_version("onnxruntime", "onnxruntime-gpu"),
        "openvino": installed_version("openvino"),
        "tensorrt": installed_version("tensorrt"),
        "tensorrt_rtx": installed_version("tensorrt-rtx"),
        "engine": engine,
    }


def power_mode(root: Path = Path("/")) -> str | None:
    """The power mode that a Jetson's nvpmodel keeps ("2 MAXN_SUPER"), else the platform profile of a PC's firmware
    ("balanced"); None where the system has neither. Read from files, so that no rights are needed."""
    if (number := power_model(root)) is not None:
        return " ".join([str(number), *filter(None, [power_models(root).get(number)])])
    return first_line(root / "sys/firmware/acpi/platform_profile")


def power_models(root: Path = Path("/")) -> dict[int, str]:
    """Jetson's power modes, number → name, by /etc/nvpmodel.conf; empty elsewhere."""
    lines = text_of(root / "etc/nvpmodel.conf").splitlines()
    found = (re.match(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", line.strip()) for line in lines)
    return {int(match[1]): match[2] for match in found if match}


def power_model(root: Path = Path("/")) -> int | None:
    """The number of Jetson's present power mode, as nvpmodel notes it; None elsewhere."""
    match = re.search(r"pmode:(\d+)", text_of(root / "var/lib/nvpmodel/status"))
    return int(match[1]) if match else None


def gpus(driver: Path = Path("/proc/driver/nvidia")) -> list[str]:
    """The names of NVIDIA's GPUs, as its driver for Linux lists them; empty elsewhere (on Jetson see "model")."""
    lines = (line for path in sorted(driver.glob("gpus/*/information")) for line in text_of(path).splitlines())
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def nvidia_driver(driver: Path = Path("/proc/driver/nvidia")) -> str | None:
    """The line in which NVIDIA's driver for Linux states its version; None where there is none."""
    return first_line(driver / "version")


def nvidia_release(driver: Path = Path("/proc/driver/nvidia")) -> str | None:
    """The version alone of NVIDIA's driver for Linux, such as "550.54.14"; None where there is none."""
    words = (nvidia_driver(driver) or "").split()
    return next((word for word in words if re.fullmatch(r"\d+(\.\d+)+", word)), None)


def installed_version(*packages: str) -> str | None:
    """Version of the first of these packages that is installed, without importing it."""
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def usable_cores() -> int:
    """Cores this process may run on (fewer than the machine's under a CPU affinity)."""
    return len(_usable_names())


def default_threads() -> int:
    """CPU threads of an engine or of a training unless more are asked for: half of the usable cores, for frames and
    batches are made beside it."""
    return max(1, usable_cores() // 2)


def _usable_names() -> list[str]:
    """As /proc/stat calls them: cpu0, cpu1, …"""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return [f"cpu{core}" for core in sorted(cores)]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    arm = (
        f"ARM implementer {values.get('CPU implementer')} part {values.get('CPU part')}" if "CPU part" in values else ""
    )
    return values.get("model name") or arm or platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def first_line(path: Path) -> str | None:
    """A file's first line; None where there is none."""
    return text_of(path).strip("\0\n ").partition("\n")[0] or None


def text_of(path: Path) -> str:
    """A file's content; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _size(path: Path) -> int:
    text = first_line(path) or ""
    unit = _UNITS.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * unit if digits.isdigit() else 0
