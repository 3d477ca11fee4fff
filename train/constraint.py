"""The hard limit, by construction: what does not fit leaves the alphabet before anything is trained."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from gensoup.bench.device_profile import HEADROOM, DeviceProfile, LatencyEstimate, profile_key
from gensoup.bench.probe import probe
from gensoup.export.architectures import WeightsError, build, count_cost, pretrained_weights
from gensoup.export.graph import to_onnx
from gensoup.runtime.console import StageProgress
from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.train.remarks import by_reason
from gensoup.train.settings import Settings

PROFILE_FILE = "device.json"  # what was probed here
GIVEN_FILE = "device.given.json"  # a copy of a given profile: its presence says that nothing may be probed here
PRECISION = "fp32"
RATE_TOLERANCE = 0.01  # 59.94 and 60 are one rate
FUSED = "fp32-fused"  # the key of a trained, fused network beside the untrained one


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
        return Excluded(name, f"not in the device profile ({profile_key(name, size, PRECISION)})")
    if not estimate.p99_ms <= allowed_ms:
        allowed = f"allowed {allowed_ms:.1f} ms ({HEADROOM} × {settings.limit_ms:.2f})"
        return Excluded(name, f"{_shown(estimate)}, {allowed}", estimate.p99_ms / allowed_ms)
    return Candidate(name, size, macs, parameters, estimate, weights)


class RunProfile:
    """The latencies of a run: read from the run folder or a given profile, else probed here once and written there."""

    def __init__(self, run: Path, settings: Settings, given: Path | None) -> None:
        """given: a device profile to take instead of probing this machine; it is copied into the run folder, and a
        resumed run takes that copy whether it is given again or not.

        Raises DataError for a profile that cannot be read, UsageError for another one than the run began with and for
        one of a slower rate than asked for.
        """
        self._path = run / PROFILE_FILE
        self._settings = settings
        self.given = given is not None or (run / GIVEN_FILE).exists()
        if given is not None:
            self.profile = DeviceProfile.load(given)
            _check_rate(self.profile, settings)
            _keep(self.profile, run)
        elif self.given:
            self.profile = DeviceProfile.load(run / GIVEN_FILE)
        elif self._path.exists():
            self.profile = DeviceProfile.load(self._path)
        else:
            self.profile = DeviceProfile.of_this_machine(settings.rate_hz, {})

    @property
    def notes(self) -> list[str]:
        """What a given profile is not: measured at just the rate asked for."""
        rate, wanted = self.profile.rate_hz, self._settings.min_fps
        if not self.given or wanted is None or rate <= wanted * (1 + RATE_TOLERANCE):
            return []
        return [
            f"the device profile was measured at {rate:g} frames a second, --min-fps asks for {wanted:g}: frames that "
            "were dropped there may be none here"
        ]

    def untrained(self, name: str, size: int, classes: int) -> LatencyEstimate | None:
        """Latency of the untrained graph of an architecture at a deploy size; None when a given profile lacks it."""
        key = profile_key(name, size, PRECISION)
        if key in self.profile.estimates or self.given:
            return self.profile.estimates.get(key)
        return self._measure(key, size, to_onnx(build(name, classes), 1.0, size))

    def fused(self, name: str, size: int, model: nn.Module) -> LatencyEstimate | None:
        """Latency of a trained network, probed anew; with a given profile, of another device, what that says."""
        key = profile_key(name, size, FUSED)
        if self.given:  # another run's fused network in it is not this one
            return self.profile.estimates.get(profile_key(name, size, PRECISION))
        if key in self.profile.estimates:
            return self.profile.estimates[key]
        return self._measure(key, size, to_onnx(model, 1.0, size))

    def _measure(self, key: str, size: int, graph: bytes) -> LatencyEstimate:
        """Probe a graph here; the result is kept in the run folder, so that resuming never probes again.

        Over the allowed share by its tail alone, it is probed twice more and the middle one of the three counts.
        """
        assert self._settings.limit_ms is not None
        estimates = [self._window(size, graph)]
        # Fast by the median yet over by the tail: another process may have been in the way of one short window.
        if estimates[0].p50_ms <= HEADROOM * self._settings.limit_ms < estimates[0].p99_ms:
            estimates += [self._window(size, graph), self._window(size, graph)]
        estimate = sorted(estimates, key=lambda one: one.p99_ms)[len(estimates) // 2]
        self.profile = replace(self.profile, estimates={**self.profile.estimates, key: estimate})
        self.profile.save(self._path)
        return estimate

    def _window(self, size: int, graph: bytes) -> LatencyEstimate:
        return probe(graph, self._settings.preprocess(size), rate_hz=self._settings.rate_hz)


def _keep(profile: DeviceProfile, run: Path) -> None:
    """Copy a given profile into the run folder, unless the run began with another one or by probing."""
    copy = run / GIVEN_FILE
    if (run / PROFILE_FILE).exists() or (copy.exists() and DeviceProfile.load(copy) != profile):
        raise UsageError(f"--device-profile: the run in {run} began with other latencies; leave it out or start anew")
    if not copy.exists():
        profile.save(copy)


def _check_rate(profile: DeviceProfile, settings: Settings) -> None:
    """Refuse latencies of a slower rate than asked for: whether the device keeps up with the faster one, whose frames
    come while the one before is still under way, they do not say."""
    wanted = settings.min_fps
    if wanted is not None and profile.rate_hz < wanted * (1 - RATE_TOLERANCE):
        raise UsageError(
            f"--device-profile: was measured at {profile.rate_hz:g} frames a second, --min-fps asks for {wanted:g}; "
            f"probe the device at {wanted:g} or lower --min-fps"
        )


def _digest(weights: dict[str, Tensor]) -> str:
    hashed = hashlib.sha256()
    for name, value in sorted(weights.items()):
        hashed.update(name.encode() + value.contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _shown(estimate: LatencyEstimate) -> str:
    if math.isinf(estimate.p99_ms):
        return f"over the rate: {estimate.drops} of {estimate.frames} frames dropped, p99 unbounded"
    return f"p99 {estimate.p99_ms:.1f} ms a frame"
