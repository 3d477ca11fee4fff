"""The hard limit, by construction: what does not fit leaves the alphabet before anything is trained."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gensoup.bench.device_profile import HEADROOM, LatencyEstimate
from gensoup.export.architectures import WeightsError, count_cost, pretrained_weights
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError
from gensoup.train.remarks import by_reason
from gensoup.train.run_profile import RunProfile
from gensoup.train.settings import Settings


class LimitError(GenSoupError):
    """No network holds the limits on this device."""


@dataclass(frozen=True)
class Candidate:
    """An architecture within the limits at its deploy size. latency: None where nothing is timed."""

    name: str
    size: int
    macs: int
    parameters: int
    latency: LatencyEstimate | None
    pretrained: dict[str, Tensor] | None


@dataclass(frozen=True)
class Excluded:
    """An architecture that is out, and why. excess: how far over its limit, as a factor; None: no limit's fault."""

    name: str
    reason: str
    excess: float | None = None


@dataclass(frozen=True)
class Admission:
    """The alphabet of a run."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...]

    def identity(self) -> dict[str, str]:
        """Each architecture with a digest of its initial weights: what genes stand for, so what a resumed run needs."""
        return {one.name: "" if one.pretrained is None else _digest(one.pretrained) for one in self.candidates}

    def candidate(self, name: str) -> Candidate:
        """By name. Raises KeyError."""
        return {candidate.name: candidate for candidate in self.candidates}[name]


def admit(settings: Settings, classes: int, profile: RunProfile, progress: StageProgress) -> Admission:
    """Settle each architecture's deploy size, the largest that holds the limits: multiply-adds, weights, then the
    measured 99th percentile. What holds them at no size is excluded, with the reason at the smallest.

    Raises GenSoupError with the nearest candidate when nothing fits.
    """
    candidates: list[Candidate] = []
    excluded: list[Excluded] = []
    for number, name in enumerate(settings.architectures):
        progress("limits", number, len(settings.architectures))
        outcome = _settle(name, settings, classes, profile)
        if isinstance(outcome, Candidate):
            candidates.append(outcome)
        else:
            excluded.append(outcome)
    progress("limits", len(settings.architectures), len(settings.architectures))
    if not candidates:
        over = [out for out in excluded if out.excess is not None]
        if not over:
            raise GenSoupError(f"no architecture can be used; {_told(excluded)}")
        nearest = min(over, key=lambda out: out.excess or 0.0)
        untried = [out for out in excluded if out.excess is None]
        also = f" Not tried: {_told(untried)}" if untried else ""
        raise LimitError(
            f"no architecture meets the limits at {min(settings.sizes)} px; nearest is {nearest.name}: "
            f"{nearest.reason}. {_remedy(settings, nearest)}, lower --size, or name others with --architectures.{also}"
        )
    return Admission(tuple(candidates), tuple(excluded))


def _told(excluded: Sequence[Excluded]) -> str:
    """Each reason once, with all that it is true of."""
    rows = by_reason({"architecture": out.name, "reason": out.reason} for out in excluded)
    return "; ".join(f"{names}: {reason}" for names, reason in rows)


def _settle(name: str, settings: Settings, classes: int, profile: RunProfile) -> Candidate | Excluded:
    """An architecture at the largest size that holds the limits, or why it is out at the smallest."""
    for size in sorted(settings.sizes, reverse=True):
        outcome = _check(name, size, settings, classes, profile)
        if isinstance(outcome, Candidate):
            break
    return outcome


def _remedy(settings: Settings, nearest: Excluded) -> str:
    if "multiply-adds" in nearest.reason:
        return "Raise --max-macs"
    return "Lower --min-fps" if settings.max_latency_ms is None else "Raise --max-latency-ms"


def _check(name: str, size: int, settings: Settings, classes: int, profile: RunProfile) -> Candidate | Excluded:
    try:
        macs, parameters = count_cost(name, classes, size)
    except (RuntimeError, ValueError) as error:
        return Excluded(name, f"does not work at {size} px ({str(error).splitlines()[0]})")
    over = macs / 1e6 / settings.max_macs
    if over > 1:
        return Excluded(name, f"{macs / 1e6:.0f} M multiply-adds, limit {settings.max_macs:g} M", over)
    try:
        weights_dir = None if settings.weights_dir is None else Path(settings.weights_dir)
        weights = pretrained_weights(name, classes, weights_dir, download=settings.init == "pretrained")
    except WeightsError as error:
        hint = " (--init random does without)" if settings.init == "pretrained" else ""
        return Excluded(name, f"{error}{hint}")
    if settings.limit_ms is None:
        return Candidate(name, size, macs, parameters, None, weights)
    estimate = profile.untrained(name, size, classes)
    allowed_ms = HEADROOM * settings.limit_ms
    if estimate is None:
        return Excluded(name, profile.why_unknown(name, size))
    if not estimate.p99_ms <= allowed_ms:
        allowed = f"allowed {allowed_ms:.1f} ms ({HEADROOM} × {settings.limit_ms:.2f})"
        return Excluded(name, f"{_shown(estimate)}, {allowed}", estimate.p99_ms / allowed_ms)
    return Candidate(name, size, macs, parameters, estimate, weights)


def _digest(weights: dict[str, Tensor]) -> str:
    hashed = hashlib.sha256()
    for name, value in sorted(weights.items()):
        hashed.update(name.encode() + value.contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _shown(estimate: LatencyEstimate) -> str:
    if math.isinf(estimate.p99_ms):
        return f"over the rate: {estimate.drops} of {estimate.frames} frames dropped, p99 unbounded"
    return f"p99 {estimate.p99_ms:.1f} ms a frame"
