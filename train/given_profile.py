"""Whether a device profile that was given answers what a training asks; told before PyTorch is imported."""

from __future__ import annotations

from pathlib import Path

from gensoup.bench.device_profile import DeviceProfile
from gensoup.runtime.errors import UsageError
from gensoup.train.settings import Settings

RATE_TOLERANCE = 0.01  # 59.94 and 60 are one rate
FUSED = "fp32-fused"  # the key of a trained, fused network beside the untrained one


def check_given(profile: DeviceProfile, settings: Settings, given: Path) -> None:
    """Raise UsageError for a profile of a slower rate, or without any of the networks, sizes and precision asked for.

    given: the profile's file.
    """
    _check_rate(profile, settings)
    _check_held(profile, settings, given)


def _check_rate(profile: DeviceProfile, settings: Settings) -> None:
    """Refuse latencies of a slower rate than asked for: whether the device keeps up with the faster one, whose frames
    come while the one before is still under way, they do not say."""
    wanted = settings.min_fps
    if wanted is not None and profile.rate_hz < wanted * (1 - RATE_TOLERANCE):
        raise UsageError(
            f"--device-profile: was measured at {profile.rate_hz:g} frames a second, --min-fps asks for {wanted:g}; "
            f"probe the device at {wanted:g} or lower --min-fps"
        )


def _check_held(profile: DeviceProfile, settings: Settings, given: Path) -> None:
    """Refuse a profile that knows none of what is asked, rather than to find that no architecture is admitted."""
    asked = [(name, size) for name in settings.architectures for size in settings.sizes]
    known = (profile.best(*one, settings.precision) or profile.failure(*one, settings.precision) for one in asked)
    if any(one is not None for one in known):
        return
    held = profile.held()
    sizes = ", ".join(sorted(held["sizes"], key=int)) or "nothing"
    precisions = ", ".join(sorted(held["precisions"] - {FUSED})) or "no precision"
    wanted = ", ".join(map(str, settings.sizes))
    raise UsageError(
        f"--device-profile {given}: has none of the networks asked for at {wanted} px in {settings.precision}, but "
        f"{sizes} px in {precisions}; choose --size and --precision among them, or probe a kit with these"
    )
