"""How late smoothing shows a change: computed for given settings, and measured on what was shown."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from gensoup.runtime.result import Result
from gensoup.runtime.smoothing import Smoothed, Smoothing
from gensoup.runtime.tally import Tally

_ROUNDING = 1e-9


def step_lag_ms(smoothing: Smoothing, rate_hz: float, threshold: float = 0.0) -> float:
    """Milliseconds from the first frame of another label to the frame that shows it, where predictions are clear.

    The step: for ever one label with probability 1, then another. threshold: the new label's, which it must reach too
    to be certain; infinite where an exponential average never quite gets there (1). rate_hz: frames a second, evenly.
    After k frames the new label's share is s = 1 − exp(−k / (rate × time constant)), or k over the frames in the
    window; it leads by 2 s − 1.
    """
    if smoothing.method == "none":
        return 0.0
    lead = max(smoothing.margin, 1e-6)  # a tie leaves the label as it is
    shown = _frames(smoothing, rate_hz, (1 + lead) / 2) + math.ceil(smoothing.hold_s * rate_hz - _ROUNDING)
    return (max(shown, _frames(smoothing, rate_hz, threshold)) - 1) * 1e3 / rate_hz


def _frames(smoothing: Smoothing, rate_hz: float, share: float) -> float:
    """How many frames it takes the new label to reach a share of the evidence; at least 1."""
    if smoothing.method == "vote":
        window = max(1, math.ceil(smoothing.window_s * rate_hz - _ROUNDING))
        return max(1, math.ceil(share * window - _ROUNDING))
    if share >= 1:
        return math.inf
    return max(1, math.ceil(-math.log1p(-share) * smoothing.time_constant_s * rate_hz - _ROUNDING))


@dataclass(frozen=True)
class SmoothingSummary:
    """What smoothing did to a run.

    step_lag_ms: :func:`step_lag_ms` at the run's rate; None without one. changes_ms: for each change of the label, how
    long before it the raw winner and the smoothed label had parted. evidence_age_ms: median of ``Smoothed.lag_ms``.
    raw_changes: how often the raw winner changed. resets: reason → how often, the start left out.
    uncertain: results below their threshold, of ``results``.
    """

    smoothing: Smoothing
    step_lag_ms: float | None
    changes_ms: tuple[float, ...]
    evidence_age_ms: float
    raw_changes: int
    resets: dict[str, int]
    uncertain: int
    results: int

    def lines_to_show(self) -> list[str]:
        """For people to read."""
        kept = f"{self.uncertain} of {self.results} results uncertain"
        if self.smoothing.method == "none":
            return [f"smoothing: none; {kept}"]
        step = "" if self.step_lag_ms is None else f" a clear change shows after {self.step_lag_ms:.0f} ms (computed);"
        changes = f"{len(self.changes_ms)} changes of label ({self.raw_changes} raw)"
        if self.changes_ms:
            changes += f", {np.median(self.changes_ms):.0f} ms late, at most {max(self.changes_ms):.0f} ms (measured)"
        resets = ", ".join(f"{count} {reason}" for reason, count in sorted(self.resets.items())) or "none"
        evidence = f"evidence {self.evidence_age_ms:.0f} ms old; starts anew: {resets}"
        return [f"smoothing: {self.smoothing.method};{step} {changes}; {evidence}; {kept}"]


class LagMeter:
    """Compares raw and smoothed results as they are delivered.

    A change of the smoothed label is late by the time since the first frame after both last agreed: where the raw
    winner flickers before it settles, that counts from the last time that it had come back.
    """

    def __init__(self, smoothing: Smoothing, rate_hz: float | None, *, timed_by_frames: bool = False) -> None:
        """timed_by_frames: frames are 1 / ``rate_hz`` apart, whatever times they come with."""
        self._smoothing = smoothing
        self._rate_hz = rate_hz
        self._timed_by_frames = timed_by_frames
        self._changes = array("d")
        self._ages = Tally()
        self._resets: Counter[str] = Counter()
        self._raw_changes = 0
        self._uncertain = 0
        self._raw: int | None = None
        self._shown: int | None = None
        self._parted_at: float | None = None

    def add(self, result: Result) -> None:
        """Take the next result; those that failed, or were not smoothed, say nothing."""
        smoothed, prediction = result.smoothed, result.prediction
        if prediction is None or not isinstance(smoothed, Smoothed):
            return
        at = result.captured_at
        if self._timed_by_frames and self._rate_hz:
            at = result.frame_id / self._rate_hz
        self._ages.add(smoothed.lag_ms)
        self._uncertain += not smoothed.certain
        self._raw_changes += self._raw is not None and prediction.index != self._raw
        if smoothed.reset:
            self._resets[smoothed.reset] += 1
            self._parted_at = None
        elif smoothed.index != self._shown:
            since = at if self._parted_at is None else self._parted_at
            self._changes.append((at - since) * 1e3)
        self._raw, self._shown = prediction.index, smoothed.index
        if smoothed.index == prediction.index:
            self._parted_at = None
        elif self._parted_at is None:
            self._parted_at = at

    def summary(self) -> SmoothingSummary:
        """What was measured so far."""
        return SmoothingSummary(
            smoothing=self._smoothing,
            step_lag_ms=step_lag_ms(self._smoothing, self._rate_hz) if self._rate_hz else None,
            changes_ms=tuple(self._changes),
            evidence_age_ms=self._ages.percentile(50) if len(self._ages) else 0.0,
            raw_changes=self._raw_changes,
            resets={reason: count for reason, count in self._resets.items() if reason != "start"},
            uncertain=self._uncertain,
            results=len(self._ages),
        )
