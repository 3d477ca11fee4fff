"""What Linux's own files tell and no library does: what slows the processor, governors, Jetson's power mode.

Every function takes the root of the file system, "/" in use, a made-up folder in tests.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")
_CPU = "sys/devices/system/cpu"
# Jetson Linux: which event each counter of the hwmon device "soctherm_oc" counts (Orin's guide to power, from L4T 35).
_OVER_CURRENT = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}
# Cooling devices that cool by slowing; the others are fans, screens and radios.
_SLOWING = re.compile(r"processor|(thermal-)?cpufreq-.*|(thermal-)?devfreq-.*|.*-throttle-alert", re.IGNORECASE)


def text(path: Path) -> str:
    """A small file's content without surrounding blanks and zeros; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """A file that holds one integer; None for any other."""
    try:
        return int(text(path))
    except ValueError:
        return None


def is_jetson(root: Path = ROOT) -> bool:
    """Whether this is an NVIDIA Jetson: L4T's release file, or the device tree's name for its chip."""
    compatible = text(root / "proc/device-tree/compatible")
    return (root / "etc/nv_tegra_release").exists() or "nvidia,tegra" in compatible


class Slowdowns:
    """What slowed the device since the last look: counters that rose, cooling devices at work."""

    def __init__(self, root: Path = ROOT) -> None:
        """Looks for the files once: there can be hundreds."""
        self._counters = [
            (path, "processor too hot")
            for path in sorted(root.glob(f"{_CPU}/cpu[0-9]*/thermal_throttle/*_throttle_count"))
        ]
        for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
            if text(folder / "name") == "soctherm_oc":
                self._counters += [(folder / f"{name}_event_cnt", why) for name, why in _OVER_CURRENT.items()]
        self._cooling = [
            (folder / "cur_state", f"cooling by {kind}")
            for folder in sorted(root.glob("sys/class/thermal/cooling_device*"))
            if _SLOWING.fullmatch(kind := text(folder / "type"))
        ]
        self._seen = {path: number(path) for path, _ in self._counters}

    def since_last(self) -> tuple[str, ...]:
        """Each reason once, in order of its name."""
        found = {why for path, why in self._cooling if (number(path) or 0) > 0}
        for path, why in self._counters:
            now, before = number(path), self._seen[path]
            if now is not None and before is not None and now > before:
                found.add(why)
            self._seen[path] = now
        return tuple(sorted(found))


def governor(root: Path = ROOT) -> str | None:
    """The cores' frequency governors, "performance" or "ondemand, performance"; None where there are none."""
    found = {text(path) for path in root.glob(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found - {""})) or None


def frequency_driver(root: Path = ROOT) -> str | None:
    """The driver that sets the cores' frequency, such as "intel_pstate"."""
    return text(root / f"{_CPU}/cpu0/cpufreq/scaling_driver") or None


def energy_preference(root: Path = ROOT) -> str | None:
    """What processors that choose their own frequency are asked to prefer, such as "balance_performance"."""
    return text(root / f"{_CPU}/cpu0/cpufreq/energy_performance_preference") or None
