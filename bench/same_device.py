"""Whether this is the device, with the engines and in the power mode, that something was measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_DEVICE = ("model", "cpu", "cores", "usable_cores", "machine", "gpus")
_POWER = ("power_mode", "governor")
# What decides an engine's speed, beside itself: by the beginning of its name, the longest first.
_VERSIONS = {
    "onnxruntime-tensorrt": ("onnxruntime", "tensorrt", "nvidia_driver"),
    "onnxruntime-cuda": ("onnxruntime", "nvidia_driver"),
    "onnxruntime-cpu": ("onnxruntime",),
    "openvino-cpu": ("openvino",),
    "tensorrt-rtx": ("tensorrt_rtx", "nvidia_driver"),
    "tensorrt": ("tensorrt", "nvidia_driver"),
}
_ALWAYS = ("opencv",)  # resizes every frame
KINDS = {"device": "another device", "version": "another version", "power": "another power mode"}


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was. kind: a key of :data:`KINDS`. name: of the fingerprint's entry."""

    kind: str
    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} {_said(self.then)} then, {_said(self.now)} now"


def differences(then: Mapping[str, Any], now: Mapping[str, Any], engines: Iterable[str]) -> list[Difference]:
    """What of two fingerprints differs and matters for latencies on these ``engines``; pure.

    What one of them does not tell is not compared: older versions recorded less.
    """
    versions = [name for engine in engines for name in _VERSIONS.get(engine, ())]
    wanted = {
        "device": _DEVICE,
        "version": tuple(dict.fromkeys([*versions, *_ALWAYS])),
        "power": _POWER,
    }
    return [
        Difference(kind, name, then[name], now[name])
        for kind, names in wanted.items()
        for name in names
        if name in then and name in now and then[name] != now[name]
    ]


def told(found: Iterable[Difference]) -> str:
    """One line: the kinds of difference, each with what differs."""
    found = list(found)
    parts = []
    for kind, title in KINDS.items():
        if mine := [str(one) for one in found if one.kind == kind]:
            parts.append(f"{title} ({'; '.join(mine)})")
    return ", ".join(parts)


def device_name(device: Mapping[str, Any]) -> str:
    """What a fingerprint's device is called, in a few words: board or CPU, GPUs, power mode or governor."""
    named = [str(device.get("model") or device.get("cpu") or "a device that is not told")]
    named += [str(gpu) for gpu in device.get("gpus") or []]
    power = device.get("power_mode") or device.get("governor")
    return ", ".join(named) + (f", power mode {power}" if power else "")


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
