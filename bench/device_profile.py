"""What networks cost on one device, and the file that carries it to training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gensoup.bench.json_kind import DEVICE_PROFILE, kind_of
from gensoup.runtime.device import fingerprint
from gensoup.runtime.errors import DataError
from gensoup.runtime.files import write_atomic

SCHEMA_VERSION = 2
# A network is admitted at this share of the limit, for the gate is stricter than a probe.
HEADROOM = 0.85
_REMEDY = "give what gensoup probe KIT wrote on the device"
_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


@dataclass(frozen=True)
class Detail:
    """What ``gensoup probe`` tells of a graph beyond its percentiles; times in milliseconds.

    intervals: p50_ms, p95_ms, p99_ms → (low, high), 95% over all looks together, infinite where unknown.
    load_ms, first_frame_ms: cold: a new process loads the graph, and its first frame. build_ms: of an engine that
    compiles, None for others. engine_ms: p50_ms, p95_ms, p99_ms of the inference alone. lateness_ms: p99 of the pacer.
    taken_fraction: share of core time that others took. settled: whether the interval of p99 left no doubt about the
    latency allowed. measured_at: ISO 8601, UTC.
    """

    intervals: Mapping[str, tuple[float, float]]
    load_ms: float
    first_frame_ms: float
    build_ms: float | None
    engine_ms: Mapping[str, float]
    lateness_ms: float
    taken_fraction: float | None
    settled: bool
    measured_at: str


@dataclass(frozen=True)
class LatencyEstimate:
    """Milliseconds from a frame's scheduled arrival to its result; infinite where so many frames were dropped."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    frames: int
    drops: int
    detail: Detail | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which knows no infinity: None."""
        values = asdict(self)
        detail = values.pop("detail")
        return _plain(values if detail is None else {**values, **detail})

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> LatencyEstimate:
        """The inverse of :meth:`to_dict`. Raises KeyError, TypeError or ValueError."""
        p50, p95, p99 = (_time(entry[name]) for name in _PERCENTILES)
        if not p50 <= p95 <= p99:
            raise ValueError("percentiles out of order")
        detail = _detail(entry) if "intervals" in entry else None
        return cls(p50, p95, p99, int(entry["frames"]), int(entry["drops"]), detail)


@dataclass(frozen=True)
class KitTold:
    """Which kit a profile is of, and how it was measured.

    fits: size → how frames were fitted into the square. allowed_ms: the latency that measuring was to decide about.
    height, width: of the camera's frames. threads: of CPU engines, None: their default. graphs: of the whole kit, times
    engines. seconds: the longest for a graph, None: the default, 0: not told, by older versions.
    """

    sha256: str
    graphs: int
    fits: Mapping[str, str]
    engines: tuple[str, ...]
    allowed_ms: float
    height: int
    width: int
    threads: int | None
    made_by: Mapping[str, str]
    seconds: float | None = None


def profile_key(architecture: str, size: int, precision: str, engine: str = "") -> str:
    """The key of one graph in a device profile; without ``engine``, on the reference engine."""
    return "@".join((architecture, str(size), precision, *([engine] if engine else [])))


@dataclass(frozen=True)
class DeviceProfile:
    """What graphs cost on one device, at ``rate_hz`` frames a second: key of :func:`profile_key` → estimate.

    failures: key → why a graph could not be measured. kit: None where training itself measured.
    """

    device: Mapping[str, Any]
    rate_hz: float
    estimates: Mapping[str, LatencyEstimate] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    kit: KitTold | None = None

    @classmethod
    def of_this_machine(cls, rate_hz: float, estimates: Mapping[str, LatencyEstimate]) -> DeviceProfile:
        """A profile with this machine's fingerprint."""
        return cls(fingerprint(), rate_hz, dict(estimates))

    @property
    def missing(self) -> int:
        """Graphs of the kit that were not measured yet."""
        return 0 if self.kit is None else max(0, self.kit.graphs - len(self.estimates) - len(self.failures))

    @property
    def measured_at(self) -> str:
        """When the last graph was measured, ISO 8601; empty where that is not known."""
        return max((one.detail.measured_at for one in self.estimates.values() if one.detail), default="")

    def best(self, architecture: str, size: int, precision: str) -> tuple[str, LatencyEstimate] | None:
        """The engine that would be taken on the device, by its median, and what it costs there; None: not measured.

        The engine is empty for a key without one, the reference.
        """
        key = profile_key(architecture, size, precision)
        mine = {other: one for other, one in self.estimates.items() if other == key or other.startswith(f"{key}@")}
        if not mine:
            return None
        fastest = min(mine, key=lambda other: (mine[other].p50_ms, mine[other].p99_ms))
        return fastest.removeprefix(key).removeprefix("@"), mine[fastest]

    def failure(self, architecture: str, size: int, precision: str) -> str | None:
        """Why a graph could not be measured; None where it was, or was never tried."""
        key = profile_key(architecture, size, precision)
        found = [reason for other, reason in self.failures.items() if other == key or other.startswith(f"{key}@")]
        return found[0] if found else None

    def held(self) -> dict[str, set[str]]:
        """Which "sizes" and "precisions" were measured."""
        keys = [key.split("@") for key in self.estimates]
        return {"sizes": {key[1] for key in keys}, "precisions": {key[2] for key in keys}}

    def save(self, path: Path) -> None:
        """Write JSON, atomically; infinite latencies become null."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "device": dict(self.device),
            "rate_hz": self.rate_hz,
            "kit": None if self.kit is None else asdict(self.kit),
            "estimates": {key: estimate.to_dict() for key, estimate in self.estimates.items()},
            "failures": dict(self.failures),
        }
        write_atomic(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> DeviceProfile:
        """The inverse of :meth:`save`. Raises DataError, one line that names the file and the remedy."""
        if path.is_dir():
            raise DataError(f"{path}: is a folder; gensoup probe KIT on the device writes the profile to give here")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: no device profile (no JSON); {_REMEDY}") from error
        if isinstance(values, dict) and "graphs" in values and "estimates" not in values:
            raise DataError(
                f"{path}: is a probe kit, nothing measured yet; gensoup probe {path.parent} on the device writes the "
                "profile to give here"
            )
        if (kind := kind_of(values)) not in (None, DEVICE_PROFILE):
            raise DataError(f"{path}: is {kind}, no device profile; {_REMEDY}")
        try:
            version = int(values["schema_version"])
            if version > SCHEMA_VERSION:
                raise DataError(f"{path}: schema {version} is newer than this gensoup reads: update gensoup")
            estimates = {_checked_key(key): LatencyEstimate.from_dict(one) for key, one in values["estimates"].items()}
            failures = {_checked_key(key): str(reason) for key, reason in values.get("failures", {}).items()}
            kit = None if values.get("kit") is None else _kit(values["kit"])
            return cls(dict(values["device"]), _positive(values["rate_hz"]), estimates, failures, kit)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: malformed device profile ({_fault(error)}); probe the device again") from error


def _fault(error: Exception) -> str:
    return f"lacks {error}" if isinstance(error, KeyError) else str(error)


def _kit(values: Mapping[str, Any]) -> KitTold:
    threads, seconds = values["threads"], values.get("seconds", 0)
    return KitTold(
        sha256=str(values["sha256"]),
        graphs=int(values["graphs"]),
        fits={str(size): str(fit) for size, fit in values["fits"].items()},
        engines=tuple(str(name) for name in values["engines"]),
        allowed_ms=_positive(values["allowed_ms"]),
        height=int(values["height"]),
        width=int(values["width"]),
        threads=None if threads is None else int(threads),
        made_by={str(name): str(version) for name, version in values["made_by"].items()},
        seconds=None if seconds is None else float(seconds),
    )


def _detail(entry: Mapping[str, Any]) -> Detail:
    values = {one.name: entry[one.name] for one in fields(Detail)}
    intervals = {}
    for name in _PERCENTILES:
        low, high = entry["intervals"][name]
        intervals[name] = (_time(low), _time(high))
    return Detail(**{**values, "intervals": intervals, "engine_ms": dict(entry["engine_ms"])})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _time(value: Any) -> float:
    return math.inf if value is None else _positive(value)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is no positive number")
    return float(value)


def _checked_key(key: str) -> str:
    architecture, size, precision, *engine = key.split("@")
    if not (architecture and precision and int(size) > 0 and len(engine) <= 1 and all(engine)):
        raise ValueError(f"key {key!r}")
    return key
