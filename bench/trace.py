"""What became of every frame of one repetition, and what the clocks and cores did meanwhile.

All times are ``time.monotonic()`` seconds, the clock of :class:`gensoup.runtime.Stream`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

PER_FRAME = ("scheduled", "pushed", "started", "done", "preprocess_ms", "engine_ms", "dropped", "failed")
AT_PUSH = ("waited_s", "cpu_s")


def _nothing() -> Floats:
    return np.zeros(0)


def _no_clocks() -> Floats:
    return np.zeros((0, 3))


@dataclass(frozen=True)
class Trace:
    """One entry per frame that was due after the warm-up; arrays of equal length, the last two may be empty: unknown.

    scheduled, pushed, started, done: seconds when the frame was due (of a live source: arrived), its push began,
        inference began, the result was there; NaN for started and done where it was dropped. preprocess_ms, engine_ms:
        the stages, NaN where there was no prediction. dropped: replaced by a newer frame. failed: the engine gave no
        prediction.
    rate_hz: of the schedule; of a live source, as measured. idle_fraction, own_fraction: shares of all cores' time
        spent idle and in this process meanwhile, NaN where unknown; what is left was taken by others.
    waited_s, cpu_s: since the push before, for how long the process' threads were ready but had no core, all together,
        and its processor time. clocks: [samples, 3], seconds of the monotonic, the boot-time and the real-time
        clock, about once a second (see :mod:`gensoup.bench.clocks`).
    fell_back: what the stream told of engines that stood in, from the first frame of the warm-up on.
    bundle_after: the digest of the bundle's file at the end, "" where it was gone or damaged, None where there is none.
    live: frames came from a camera. lost: live frames that were due and could not be taken in time.
    source_failure: why a live source ended early, "" where it did not.
    """

    scheduled: Floats
    pushed: Floats
    started: Floats
    done: Floats
    preprocess_ms: Floats
    engine_ms: Floats
    dropped: Flags
    failed: Flags
    rate_hz: float
    idle_fraction: float
    own_fraction: float
    waited_s: Floats = field(default_factory=_nothing)
    cpu_s: Floats = field(default_factory=_nothing)
    clocks: Floats = field(default_factory=_no_clocks)
    fell_back: tuple[str, ...] = ()
    bundle_after: str | None = None
    live: bool = False
    lost: int = 0
    source_failure: str = ""

    @property
    def taken_fraction(self) -> float:
        """Share of all cores' time that other processes, or the host of a virtual machine, took; NaN where unknown."""
        return float(np.maximum(0.0, 1.0 - self.idle_fraction - self.own_fraction))

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self.scheduled[-1] - self.scheduled[0]) if len(self.scheduled) else 0.0

    @property
    def latency_ms(self) -> Floats:
        """Milliseconds from the scheduled arrival to the result; +∞ where it was dropped or failed."""
        latency = (self.done - self.scheduled) * 1e3
        return np.where(self.dropped | self.failed | np.isnan(latency), math.inf, latency)

    @property
    def lateness_ms(self) -> Floats:
        """Milliseconds by which the pacer was behind its schedule."""
        return (self.pushed - self.scheduled) * 1e3

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has one entry per frame or sample, by name."""
        return {name: np.asarray(getattr(self, name)) for name in (*PER_FRAME, *AT_PUSH, "clocks")}

    def scalars(self) -> dict[str, Any]:
        """All else, as plain values; None for what is unknown."""
        shares = {name: getattr(self, name) for name in ("rate_hz", "idle_fraction", "own_fraction")}
        others = {name: getattr(self, name) for name in ("bundle_after", "live", "lost", "source_failure")}
        known = {name: None if math.isnan(value) else float(value) for name, value in shares.items()}
        return {**known, **others, "fell_back": list(self.fell_back)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], scalars: Mapping[str, Any]) -> Trace:
        """The inverse of :meth:`arrays` and :meth:`scalars`. Raises KeyError, TypeError or ValueError for others."""
        flags = {"dropped", "failed"}
        values: dict[str, Any] = {
            name: np.asarray(arrays[name], bool if name in flags else float) for name in (*PER_FRAME, *AT_PUSH)
        }
        frames = len(values["scheduled"])
        if any(values[name].shape != (frames,) for name in PER_FRAME):
            raise ValueError("arrays of unequal length")
        if any(values[name].shape not in ((frames,), (0,)) for name in AT_PUSH):
            raise ValueError("arrays of unequal length")
        for name in ("rate_hz", "idle_fraction", "own_fraction"):
            values[name] = math.nan if scalars[name] is None else float(scalars[name])
        lost, after = int(scalars["lost"]), scalars["bundle_after"]
        if lost < 0 or values["rate_hz"] <= 0 or math.isinf(values["rate_hz"]):
            raise ValueError(f"{lost} frames lost, {values['rate_hz']} Hz")
        return cls(
            **values,
            clocks=np.asarray(arrays["clocks"], float).reshape(-1, 3),
            fell_back=tuple(map(str, scalars["fell_back"])),
            bundle_after=None if after is None else str(after),
            live=bool(scalars["live"]),
            lost=lost,
            source_failure=str(scalars["source_failure"]),
        )
