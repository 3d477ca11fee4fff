"""What was read during one measurement: series over time, what slowed the device, who else computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

SCHEMA_VERSION = 1
Phase = Literal["before", "during", "after"]
Series = tuple[float | None, ...]


@dataclass(frozen=True)
class DeviceLog:
    """One entry of ``at_s``, ``phase`` and each of ``series`` for each look; None where a series had no reading.

    origin_s: ``time.monotonic()`` when the frames began, the clock of a :class:`gensoup.bench.trace.Trace`; ``at_s``
        counts from there. interval_s: what lay between two looks by intention.
    sensors: names of the readers that were open. missing: reader → why it could not be opened, with the remedy.
    errors: reader → what it said when it last failed. jetson: whether this is one.
    facts_before, facts_after: what must not change, by reader. series: see :class:`gensoup.bench.sensors.Sample`.
    slowed_by: "reader: reason" → the times of ``at_s`` at which it was seen. others, display: "name (pid)" → mean
        percent of the GPU while frames ran, NaN where it cannot be read; those that compute and those that draw.
    processes: "name (pid)" → percent of one core, of others' that took most. quota_stops: how often a control group's
        quota stopped this process. cost_ms: of one look, ``wall_p50``, ``wall_max`` and ``cpu_mean``.
    """

    origin_s: float
    interval_s: float
    sensors: tuple[str, ...]
    jetson: bool
    at_s: tuple[float, ...]
    phase: tuple[Phase, ...]
    series: Mapping[str, Series]
    missing: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    facts_before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts_after: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    slowed_by: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    display: Mapping[str, float] = field(default_factory=dict)
    processes: Mapping[str, float] = field(default_factory=dict)
    quota_stops: int = 0
    cost_ms: Mapping[str, float] = field(default_factory=dict)

    def values(self, name: str, *phases: Phase) -> list[float | None]:
        """A series in these phases, in the order of time; without readings where the series is unknown."""
        told = self.series.get(name, (None,) * len(self.at_s))
        return [value for value, phase in zip(told, self.phase, strict=True) if phase in phases]

    def summary(self) -> dict[str, dict[str, float]]:
        """Series → ``before``, ``min``, ``mean``, ``max`` (while frames ran) and ``after``; known readings alone."""
        found = {}
        for name in self.series:
            during = [value for value in self.values(name, "during") if value is not None]
            values = {"min": min(during), "mean": sum(during) / len(during), "max": max(during)} if during else {}
            ends = {"before": self.values(name, "before"), "after": self.values(name, "after")}
            values |= {phase: told[-1] for phase, told in ends.items() if told and told[-1] is not None}
            found[name] = {key: round(value, 2) for key, value in values.items()}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, None for what is unknown; with the summary, which is worked out."""
        told = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}
        return {"schema_version": SCHEMA_VERSION, **told, "summary": self.summary()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeviceLog:
        """The inverse of :meth:`to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"device log of schema {values['schema_version']}, this gensoup reads {SCHEMA_VERSION}")
        told = {entry.name: values[entry.name] for entry in fields(cls)}
        for name in ("sensors", "at_s", "phase"):
            told[name] = tuple(told[name])
        for name in ("series", "slowed_by"):
            told[name] = {key: tuple(row) for key, row in told[name].items()}
        for name in ("others", "display"):
            told[name] = {key: math.nan if share is None else share for key, share in told[name].items()}
        return cls(**told)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
