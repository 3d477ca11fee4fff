"""What a bundle says of the device its network was chosen for, held to the one at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gensoup.bench.same_device import device_name, differences, told
from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.errors import BundleError

CLAIM = "device_profile"  # the entry of a manifest's provenance
_RATE_TOLERANCE = 0.01


def unlike_claim(
    provenance: Mapping[str, Any], device: Mapping[str, Any], engine: str, precision: str, rate_hz: float
) -> list[str]:
    """In what this machine, engine and rate are others than those that the network was admitted on; one line each.

    provenance: of a bundle's manifest; a bundle whose network was never timed claims nothing. Pure.
    """
    claim = provenance.get(CLAIM)
    if not isinstance(claim, Mapping) or not isinstance(claim.get("device"), Mapping):
        return []
    then, lines = claim["device"], []
    measured_on, admitted = str(claim.get("engine") or ""), str(claim.get("precision") or "")
    changed = differences(then, device, {measured_on} & {engine})
    if changed:
        when = str(claim.get("measured_at") or "")[:10]
        named = device_name(then) + (f" on {when}" if when else "")
        lines.append(f"the network was chosen for latencies of {named}; here is {told(changed)}")
    if measured_on and (measured_on, admitted or precision) != (engine, precision):
        lines.append(f"the network was chosen for {measured_on} in {admitted}; here runs {engine} in {precision}")
    rate = claim.get("rate_hz")
    if isinstance(rate, int | float) and rate < rate_hz * (1 - _RATE_TOLERANCE):
        lines.append(f"the network was chosen for {rate:g} frames a second; here are {rate_hz:g}")
    return lines


def claim_notes(bundle: Path, device: Mapping[str, Any], engine: str, precision: str, rate_hz: float) -> list[str]:
    """:func:`unlike_claim` of a bundle's file; nothing of one that was damaged meanwhile, which its verdict says."""
    try:
        manifest = read_bundle(bundle).manifest
    except BundleError:
        return []
    return unlike_claim(manifest.provenance, device, engine, precision, rate_hz)


def claim_line(claim: Mapping[str, Any]) -> str:
    """What a bundle claims, for people."""
    device = claim.get("device")
    told = device_name(device) if isinstance(device, Mapping) else "a device that is not told"
    p99 = claim.get("p99_ms")
    latency = f"p99 {p99:.1f} ms" if isinstance(p99, int | float) else "p99 unbounded"
    when = str(claim.get("measured_at") or "")[:10]
    line = f"{latency} at {claim.get('rate_hz')} Hz by {claim.get('engine')} in {claim.get('precision')} on {told}"
    return line + (f", {when}" if when else "")
