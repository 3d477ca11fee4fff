"""What a certificate takes a device to be: facts that outlast a reboot and change with hardware, driver or power mode.

No serial numbers: two carts built and set alike are one kind of device. Temperatures, present clocks, the host's name
and the kernel are left out: they change while the device stays what it is.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from gensoup.runtime.control_groups import quota_cores
from gensoup.runtime.device import fingerprint, first_line, power_mode

Fact = str | int | None
_GIB = 1 << 30
_CPUS = "sys/devices/system/cpu"


def device_facts(root: Path = Path("/")) -> dict[str, Fact]:
    """The facts, by name; None where this system does not tell. root: where /sys, /proc, /etc and /var are read from.

    ``usable_cores``, ``quota_cores`` (of control groups), ``power_mode`` (NVIDIA's nvpmodel on Jetson, else the
    firmware's platform profile), ``governor``, ``cpu_max_mhz``, ``cpu_boost`` and ``gpu_power_limit_w`` are settings;
    the rest is what was bought and installed.
    """
    told = fingerprint()
    memory, quota = told["memory_bytes"], quota_cores(root)
    return {
        "model": told["model"],
        "machine": platform.machine(),
        "cpu": told["cpu"],
        "cores": told["cores"],
        "usable_cores": told["usable_cores"],
        "quota_cores": None if quota is None else f"{quota:g}",
        "memory_gib": None if memory is None else round(memory / _GIB),
        "gpus": ", ".join(told["gpus"]) or None,
        "nvidia_driver": told["nvidia_driver"],
        "jetson_release": first_line(root / "etc/nv_tegra_release"),
        "power_mode": power_mode(root),
        "governor": _each_policy(root, "scaling_governor"),
        "cpu_max_mhz": _max_mhz(root),
        "cpu_boost": _boost(root),
        "gpu_power_limit_w": _gpu_power_limits(),
    }


def fingerprint_of(facts: Mapping[str, Fact]) -> str:
    """A name for the facts: 64 hex digits, the same wherever they are the same."""
    lines = (f"{name}={facts[name]}" for name in sorted(facts) if facts[name] is not None)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _boost(root: Path) -> str | None:
    """on or off, in either driver's way of telling."""
    if (boost := first_line(root / _CPUS / "cpufreq/boost")) is not None:
        return "on" if boost == "1" else "off"
    if (no_turbo := first_line(root / _CPUS / "intel_pstate/no_turbo")) is not None:
        return "off" if no_turbo == "1" else "on"
    return None


def _max_mhz(root: Path) -> str | None:
    khz = _each_policy(root, "scaling_max_freq")
    return None if khz is None else "/".join(f"{int(one) // 1000}" for one in khz.split("/") if one.isdigit()) or None


def _each_policy(root: Path, name: str) -> str | None:
    """What the kernel's frequency policies (one a cluster of cores) hold, each value once, joined by a slash."""
    found = {first_line(policy / name) for policy in (root / _CPUS / "cpufreq").glob("policy*")}
    return "/".join(sorted(one for one in found if one)) or None


def _gpu_power_limits() -> str | None:
    """The limits that nvidia-smi -pl sets, in watts, GPU by GPU; None without nvidia-ml-py, or where NVML has none."""
    if os.name == "posix" and not Path("/proc/driver/nvidia").exists():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
            return "/".join(f"{pynvml.nvmlDeviceGetPowerManagementLimit(one) / 1e3:.0f}" for one in handles) or None
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
