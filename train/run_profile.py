"""The latencies of a run: a given device's, or this machine's, measured once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from gensoup.bench.device_profile import HEADROOM, DeviceProfile, LatencyEstimate, profile_key
from gensoup.bench.probe import probe
from gensoup.bench.same_device import device_name, differences, told
from gensoup.export.architectures import build
from gensoup.export.graph import to_onnx
from gensoup.runtime.device import fingerprint
from gensoup.runtime.engines.catalogue import REFERENCE
from gensoup.runtime.errors import UsageError
from gensoup.train.given_profile import FUSED, RATE_TOLERANCE, check_given
from gensoup.train.settings import Settings

PROFILE_FILE = "device.json"  # what was probed here
GIVEN_FILE = "device.given.json"  # a copy of a given profile: its presence says that nothing may be probed here
PROBED_PRECISION = "fp32"  # what this machine is probed with


class RunProfile:
    """The latencies of a run: read from the run folder or a given profile, else probed here once and written there."""

    def __init__(self, run: Path, settings: Settings, given: Path | None) -> None:
        """given: a device profile to take instead of probing this machine; it is copied into the run folder, and a
        resumed run takes that copy whether it is given again or not.

        Raises DataError for a profile that cannot be read, UsageError for another one than the run began with and for
        one that does not answer what is asked: of a slower rate, or without any of the networks, sizes and precision.
        """
        self._path = run / PROFILE_FILE
        self._settings = settings
        self.given = given is not None or (run / GIVEN_FILE).exists()
        if given is not None:
            self.profile = DeviceProfile.load(given)
            check_given(self.profile, settings, given)
            _keep(self.profile, run)
        elif self.given:
            self.profile = DeviceProfile.load(run / GIVEN_FILE)
        elif self._path.exists():
            self.profile = DeviceProfile.load(self._path)
        else:
            self.profile = DeviceProfile.of_this_machine(settings.rate_hz, {})
        if not self.given and settings.limit_ms is not None and settings.precision != PROBED_PRECISION:
            raise UsageError(
                f"--precision {settings.precision}: this machine is probed with {PROBED_PRECISION} alone; others come "
                "with --device-profile, from gensoup probe"
            )

    @property
    def notes(self) -> list[str]:
        """In what a given profile is another than what was asked for, and of which device it is."""
        if not self.given:
            return []
        return [*self._of_rate(), *self._of_kit(), *self._of_device()]

    def untrained(self, name: str, size: int, classes: int) -> LatencyEstimate | None:
        """Latency of the untrained graph of an architecture at a deploy size; None when a given profile lacks it."""
        if self.given:
            return self._given(name, size)
        key = profile_key(name, size, PROBED_PRECISION)
        if key in self.profile.estimates:
            return self.profile.estimates[key]
        return self._measure(key, size, to_onnx(build(name, classes), 1.0, size))

    def fused(self, name: str, size: int, model: nn.Module) -> LatencyEstimate | None:
        """Latency of a trained network, probed anew; with a given profile, of another device, what that says."""
        if self.given:  # another run's fused network in it is not this one
            return self._given(name, size)
        key = profile_key(name, size, FUSED)
        if key in self.profile.estimates:
            return self.profile.estimates[key]
        return self._measure(key, size, to_onnx(model, 1.0, size))

    def why_unknown(self, name: str, size: int) -> str:
        """Why a given profile says nothing of a network."""
        precision = self._settings.precision
        if (reason := self.profile.failure(name, size, precision)) is not None:
            return f"failed on the device ({reason})"
        return f"not in the device profile at {size} px in {precision}"

    def claim(self, name: str, size: int) -> dict[str, Any] | None:
        """What a bundle may say of the device its network was chosen for; None where nothing was timed.

        ``gensoup bench`` holds the machine it runs on to this; see :mod:`gensoup.bench.claims`.
        """
        if self._settings.limit_ms is None:
            return None
        precision = self._settings.precision if self.given else PROBED_PRECISION
        best = self.profile.best(name, size, precision)
        if best is None:
            return None
        engine, estimate = best
        return {
            "given": self.given,
            "device": dict(self.profile.device),
            "engine": engine or REFERENCE,
            "precision": precision,
            "rate_hz": self.profile.rate_hz,
            "p99_ms": estimate.to_dict()["p99_ms"],
            "measured_at": self.profile.measured_at,
            "kit_sha256": "" if self.profile.kit is None else self.profile.kit.sha256,
        }

    def _given(self, name: str, size: int) -> LatencyEstimate | None:
        best = self.profile.best(name, size, self._settings.precision)
        return None if best is None else best[1]

    def _of_rate(self) -> list[str]:
        rate, wanted = self.profile.rate_hz, self._settings.min_fps
        if wanted is None or rate <= wanted * (1 + RATE_TOLERANCE):
            return []
        return [
            f"the device profile was measured at {rate:g} frames a second, --min-fps asks for {wanted:g}: frames that "
            "were dropped there may be none here"
        ]

    def _of_kit(self) -> list[str]:
        kit, lines = self.profile.kit, []
        if kit is None:
            return []
        if self.profile.missing:
            lines.append(
                f"the device profile is not finished, {self.profile.missing} of {kit.graphs} graphs were not measured: "
                "gensoup probe goes on with it"
            )
        fits = {kit.fits[str(size)] for size in self._settings.sizes if str(size) in kit.fits} - {self._settings.fit}
        if fits:
            lines.append(
                f"the device profile was measured with frames fitted by {', '.join(sorted(fits))}, this run fits by "
                f"{self._settings.fit}: preprocessing may take another time"
            )
        return lines

    def _of_device(self) -> list[str]:
        """On a device of the same kind that runs other software or in another power mode, times are of the past."""
        then, now = self.profile.device, fingerprint()
        changed = differences(then, now, {key.split("@")[3] for key in self.profile.estimates if key.count("@") == 3})
        if not then.get("cpu") or not changed or any(one.kind == "device" for one in changed):
            return []
        return [
            f"the device profile is of a machine like this one ({device_name(now)}) with {told(changed)}: probe again"
        ]

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
