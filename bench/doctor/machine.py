"""Cores, clocks, power: what the machine gives before any frame is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gensoup.bench.doctor import Line, Mark
from gensoup.bench.sensors import Sample

SECTION = "machine"
# Drivers that choose the frequency themselves; there "powersave" is the name of the ordinary way.
_SELF_GOVERNED = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")
_SAVING = ("powersave", "conservative")


def cores_line(cores: int, usable: int, quota: float | None) -> Line:
    """cores: of the machine. usable: those of this process' affinity. quota: of its control groups, None: no limit."""
    told = f"{usable} of {cores} usable" + ("" if quota is None else f", quota {quota:g}")
    if quota is None or quota >= usable:
        return Line(SECTION, "cores", Mark.GOOD, told)
    # Engines take half of the usable cores by default, and capture needs one: beyond the quota all of them are stopped.
    enough = max(1, usable // 2) + 1
    remedy = f"raise the quota (docker run --cpus {enough}), or give --threads {max(1, int(quota) - 1)}"
    mark = Mark.RED if quota < enough else Mark.NOTE
    return Line(SECTION, "cores", mark, f"{told}: beyond it the whole process is stopped", remedy)


def governor_line(governor: str | None, driver: str | None, preference: str | None) -> Line:
    """By what the processor's frequency is set: Linux' governor and driver, and the energy preference, where it is."""
    if governor is None:
        return Line(SECTION, "governor", Mark.NOTE, "none: the machine, or the host of this one, sets its own clocks")
    told = " ".join(filter(None, (governor, driver and f"({driver})", preference and f"preferring {preference}")))
    remedy = "sudo cpupower frequency-set -g performance"
    names = governor.split(", ")
    itself = driver in _SELF_GOVERNED
    saving = preference == "power" if itself else any(name in _SAVING for name in names)
    if saving:
        return Line(SECTION, "governor", Mark.RED, f"{told}: saves power where frames wait", remedy)
    if set(names) == {"performance"}:
        return Line(SECTION, "governor", Mark.GOOD, told)
    return Line(SECTION, "governor", Mark.NOTE, f"{told}: clocks follow the load, late at times")


def power_mode_lines(current: int | None, models: Mapping[int, str]) -> list[Line]:
    """Jetson's power mode. current: number of nvpmodel's, None elsewhere. models: number → name."""
    if current is None:
        return []
    name = models.get(current, f"mode {current}")
    best = _strongest(models)
    if best in (None, current):
        return [Line(SECTION, "power mode", Mark.GOOD, name)]
    remedy = f"sudo nvpmodel -m {best} && sudo jetson_clocks"
    return [Line(SECTION, "power mode", Mark.RED, f"{name}, while this board has {models[best or 0]}", remedy)]


def _strongest(models: Mapping[int, str]) -> int | None:
    """MAXN where the board has it, else the most watts. Numbers tell nothing: Orin Nano's MAXN_SUPER is 2."""
    unlimited = [number for number, name in models.items() if name.upper().startswith("MAXN")]
    if unlimited:
        return max(unlimited, key=lambda number: models[number].upper() == "MAXN_SUPER")
    watts = {number: int(match[1]) for number, name in models.items() if (match := re.search(r"(\d+)W", name))}
    return max(watts, key=lambda number: watts[number]) if watts else None


def supply_lines(on_battery: bool | None) -> list[Line]:
    """on_battery: None without a battery."""
    if not on_battery:
        return []
    return [Line(SECTION, "supply", Mark.RED, "on battery: clocks may be held down", "connect the power supply")]


def sensor_lines(names: Sequence[str], missing: Mapping[str, str]) -> list[Line]:
    """names: readers that work. missing: reader that should be there → why not, with the remedy behind a colon."""
    lines = [Line(SECTION, "sensors", Mark.GOOD, ", ".join(names))] if names else []
    for name, why in missing.items():
        reason, _, remedy = why.partition(": ")
        text = f"{name}: {reason}; bench gives no verdict without"
        lines.append(Line(SECTION, "sensors", Mark.RED, text, remedy or "gensoup bench says more"))
    return lines


def clock_lines(samples: Sequence[Sample]) -> list[Line]:
    """Clocks, heat and power at this moment, and what slows the device right now."""
    values = {name: value for sample in samples for name, value in sample.values.items()}
    shown = {
        "cpu_clock_mhz": "CPU {:.0f} MHz",
        "cpu_temperature_c": "CPU {:.0f} °C",
        "gpu_clock_mhz": "GPU {:.0f} MHz",
        "gpu_temperature_c": "GPU {:.0f} °C",
        "gpu_power_w": "GPU {:.0f} W",
        "board_power_w": "board {:.1f} W",
    }
    told = [form.format(values[name]) for name, form in shown.items() if name in values]
    lines = [Line(SECTION, "now", Mark.GOOD, ", ".join(told))] if told else []
    for why in sorted({reason for sample in samples for reason in sample.slowed_by}):
        remedy = "look at fan, dust and supply; let it cool and examine again"
        lines.append(Line(SECTION, "slowed", Mark.RED, why, remedy))
    return lines
