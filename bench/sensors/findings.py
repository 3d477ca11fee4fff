"""What a device's log means for a verdict (DESIGN, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from gensoup.bench.finding import Finding, Kind
from gensoup.bench.sensors.choice import REQUIRED, needed_sensors
from gensoup.bench.sensors.log import DeviceLog
from gensoup.runtime.engines.catalogue import ON_CPU

MOST_OTHER_COMPUTE = 5.0  # percent of the GPU
_FEWEST_READINGS = 0.9  # of the looks
_FEWEST_LOOKS = 0.5  # of those that fit the time
_LONG_ENOUGH_S = 10.0
_WORTH_A_NOTE_STEAL = 1.0  # percent of the cores' time
# NVML's documentation: also shown while clocks change, so that one sighting proves nothing.
_SEEN_TWICE = "nvml: hardware slowdown"


def findings(log: DeviceLog, engine: str) -> tuple[Finding, ...]:
    """All that the log says about a measurement of the engine of this name; a pure function.

    INVALID: a sensor that should be there was not read, the power mode changed, others computed on the GPU.
    THROTTLED: something slowed the device. NOTE: what a reader of the verdict should know.
    """
    return tuple(
        finding
        for part in (_unread(log, engine), _changed(log, engine), _slowed(log), _others(log, engine), _notes(log))
        for finding in part
    )


def _unread(log: DeviceLog, engine: str) -> Iterator[Finding]:
    for sensor in needed_sensors(engine, log.jetson):
        if sensor not in log.sensors:
            yield Finding(Kind.INVALID, log.missing.get(sensor, f"the sensor {sensor} was not read"), sensor)
            continue
        for name in REQUIRED[sensor]:
            values = log.values(name, "during") or log.values(name, "before", "after")
            known = sum(value is not None for value in values)
            if known < _FEWEST_READINGS * len(values) or not values:
                why = log.errors.get(sensor, "it gave no value")
                told = f"{name} was read {known} of {len(values)} times ({why})"
                yield Finding(Kind.INVALID, f"{told}; a verdict needs it", sensor)
                break
    lasted = max(log.at_s, default=0.0)
    looks = log.phase.count("during")
    if lasted >= _LONG_ENOUGH_S and looks < _FEWEST_LOOKS * lasted / log.interval_s:
        yield Finding(Kind.INVALID, f"the sensors were read only {looks} times in {lasted:.0f} s", "sensors")


def _changed(log: DeviceLog, engine: str) -> Iterator[Finding]:
    for sensor, before in log.facts_before.items():
        after = log.facts_after.get(sensor, {})
        if before and not after and sensor in needed_sensors(engine, log.jetson):
            why = log.errors.get(sensor, "it gave none")
            yield Finding(Kind.INVALID, f"its settings could not be read after the measurement ({why})", sensor)
        for name, value in before.items():
            if name in after and after[name] != value:
                told = f"{name.replace('_', ' ')} changed from {value} to {after[name]} during the measurement"
                yield Finding(Kind.INVALID, told, sensor)


def _slowed(log: DeviceLog) -> Iterator[Finding]:
    for told, moments in log.slowed_by.items():
        if told == _SEEN_TWICE and len(moments) < 2:
            continue
        sensor, _, why = told.partition(": ")
        times = "once" if len(moments) == 1 else f"{len(moments)} times"
        text = f"the device was slowed: {why}, seen {times}, first {moments[0]:.0f} s after the start"
        yield Finding(Kind.THROTTLED, text, sensor)


def _others(log: DeviceLog, engine: str) -> Iterator[Finding]:
    if engine in ON_CPU:
        return
    sensor = "jtop" if log.jetson else "nvml"
    if log.jetson:
        # jetson-stats tells nobody's share; while this process rests, all load is the others'.
        rested = log.values("gpu_load_percent", "before", "after")
        rest = max((value for value in rested if value is not None), default=0.0)
        names = ", ".join(log.others) or "a process that jetson-stats does not list"
        if rest > MOST_OTHER_COMPUTE:
            yield Finding(Kind.INVALID, f"the GPU was {rest:.0f}% busy while the frames rested ({names})", sensor)
        elif log.others:
            yield Finding(Kind.NOTE, f"others hold the GPU: {names}", sensor)
    else:
        unknown = [name for name, share in log.others.items() if math.isnan(share)]
        share = sum(share for share in log.others.values() if not math.isnan(share))
        if share > MOST_OTHER_COMPUTE:
            yield Finding(Kind.INVALID, f"others computed on the GPU, {share:.0f}% of it: {_named(log.others)}", sensor)
        elif unknown:
            text = f"others can compute on the GPU and their share cannot be read: {', '.join(unknown)}"
            yield Finding(Kind.INVALID, text, sensor)
        elif share:
            yield Finding(Kind.NOTE, f"others computed on the GPU, {share:.1f}% of it: {_named(log.others)}", sensor)
    if log.display:
        yield Finding(Kind.NOTE, f"the GPU draws a screen too: {_named(log.display)}", sensor)


def _notes(log: DeviceLog) -> Iterator[Finding]:
    if log.facts_before.get("cpu", {}).get("on_battery"):
        yield Finding(Kind.NOTE, "the machine runs on its battery", "cpu")
    steal = [value for value in log.values("steal_percent", "during") if value is not None]
    if steal and (mean := sum(steal) / len(steal)) >= _WORTH_A_NOTE_STEAL:
        yield Finding(Kind.NOTE, f"the host of this virtual machine took {mean:.1f}% of the cores' time", "cpu")
    if log.quota_stops > 0:
        yield Finding(Kind.NOTE, f"a quota of this control group stopped the process {log.quota_stops} times", "cpu")
    if log.processes:
        told = "other processes were busy, in percent of a core (those that ended meanwhile are not seen)"
        yield Finding(Kind.NOTE, f"{told}: {_named(log.processes)}", "cpu")


def _named(shares: Mapping[str, float]) -> str:
    return ", ".join(name if math.isnan(share) else f"{name} {share:.0f}%" for name, share in shares.items())
