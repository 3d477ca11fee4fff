"""What a device was doing while frames were timed: clocks, temperature, power, what slowed it, who else computed.

One reader a library, behind one interface; :mod:`gensoup.bench.sensors.recorder` asks them once a second, and
:mod:`gensoup.bench.sensors.findings` says what the answers mean for a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class SensorError(Exception):
    """A sensor that cannot be opened or has stopped; the text is one line with the remedy."""


@dataclass(frozen=True)
class Sample:
    """One look at a device.

    values: name of a series → number; the unit is the end of the name: ``gpu_clock_mhz``, ``cpu_load_percent``.
    slowed_by: what held the device back at that moment, or since the last look.
    others: "name (pid)" of other processes that compute on the GPU → percent of it, NaN where that cannot be read.
    display: the same of those that only draw.
    """

    values: Mapping[str, float]
    slowed_by: tuple[str, ...] = ()
    others: Mapping[str, float] = field(default_factory=dict)
    display: Mapping[str, float] = field(default_factory=dict)


class Reader(Protocol):
    """Reads one library's sensors.

    name: "cpu", "nvml" or "jtop". required: series without which the sensor counts as one that cannot be read.
    settle_s: seconds of rest after which a reading no longer tells of the time before.
    """

    name: str
    required: tuple[str, ...]
    settle_s: float

    def facts(self) -> dict[str, Any]:
        """What must not change during a measurement: power mode, governor, limits. Ready for JSON."""
        ...

    def read(self) -> Sample:
        """One look, in a millisecond or two. Raises SensorError when the sensor is gone."""
        ...

    def close(self) -> None:
        """Give back what the reader holds."""
        ...
