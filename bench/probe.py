"""What a network costs per frame on this machine, before it is trained, and the file that carries it to training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.paced import fill_ring, run_paced
from gensoup.bench.statistics import percentile
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.device import fingerprint
from gensoup.runtime.engines import load_engine
from gensoup.runtime.errors import DataError, EngineError
from gensoup.runtime.files import write_atomic
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import SyntheticEndoscope

SCHEMA_VERSION = 1
_WARMUP_SECONDS = 0.5
_SECONDS = 4.0
_LEAST_FRAMES = 100  # of which the slowest is the 99th percentile
_SCENE_FRAMES = 4

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class LatencyEstimate:
    """Milliseconds from a frame's scheduled arrival to its result; infinite where so many frames were dropped."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    frames: int
    drops: int


def probe(
    model: bytes,
    size_preprocess: Preprocess,
    *,
    rate_hz: float = 64.0,
    seconds: float | None = None,
    frame_height: int = 1080,
    frame_width: int = 1920,
    threads: int | None = None,
) -> LatencyEstimate:
    """Measure the whole per-frame path of an ONNX graph: copy, preprocessing, inference, hand-overs, at ``rate_hz``.

    model: ONNX bytes with input ``frame`` and output ``probabilities``. The frames are synthetic, of the camera's
    full size, and shared by all calls. seconds: None takes :func:`probe_seconds`. Raises EngineError when the graph
    cannot be loaded or run.
    """
    engine = load_engine(model, threads)
    classes = len(engine.infer(np.zeros((size_preprocess.size, size_preprocess.size, 3), np.uint8)))
    classifier = Classifier(tuple(str(number) for number in range(classes)), size_preprocess, engine)
    trace = run_paced(
        classifier,
        _ring(frame_height, frame_width),
        rate_hz,
        probe_seconds(rate_hz) if seconds is None else seconds,
        _WARMUP_SECONDS,
    )
    if trace.failed.any():
        raise EngineError(f"{engine.name} failed on {int(trace.failed.sum())} of {len(trace.failed)} frames")
    p50, p95, p99 = (percentile(trace.latency_ms, q) for q in (50, 95, 99))
    return LatencyEstimate(p50, p95, p99, frames=len(trace.failed), drops=int(trace.dropped.sum()))


def probe_seconds(rate_hz: float) -> float:
    """How long a probe lasts: a few seconds; at a slow rate long enough that there is a slowest of a hundred frames."""
    return max(_SECONDS, _LEAST_FRAMES / rate_hz)


def profile_key(architecture: str, size: int, precision: str) -> str:
    """The key of one graph in a device profile."""
    return f"{architecture}@{size}@{precision}"


@dataclass(frozen=True)
class DeviceProfile:
    """What graphs cost on one device, at ``rate_hz`` frames a second: key of :func:`profile_key` → estimate."""

    device: Mapping[str, Any]
    rate_hz: float
    estimates: Mapping[str, LatencyEstimate] = field(default_factory=dict)

    @classmethod
    def of_this_machine(cls, rate_hz: float, estimates: Mapping[str, LatencyEstimate]) -> DeviceProfile:
        """A profile with this machine's fingerprint."""
        return cls(fingerprint(), rate_hz, dict(estimates))

    def save(self, path: Path) -> None:
        """Write JSON, atomically; infinite latencies become null."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "device": dict(self.device),
            "rate_hz": self.rate_hz,
            "estimates": {key: _finite(asdict(estimate)) for key, estimate in self.estimates.items()},
        }
        write_atomic(path, json.dumps(values, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> DeviceProfile:
        """The inverse of :meth:`save`. Raises DataError, one line that names the file and the remedy."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except ValueError as error:
            raise DataError(f"{path}: not a device profile (no JSON); probe the device again") from error
        if isinstance(values, dict) and "graphs" in values and "estimates" not in values:
            raise DataError(
                f"{path}: is the list of a probe kit, not what was measured with it; give a device profile, such "
                "as the device.json of a run that was probed there"
            )
        try:
            version = int(values["schema_version"])
            if version > SCHEMA_VERSION:
                raise DataError(f"{path}: schema {version} is newer than this gensoup reads: update gensoup")
            estimates = {_checked_key(key): _estimate(entry) for key, entry in values["estimates"].items()}
            return cls(dict(values["device"]), _positive(values["rate_hz"]), estimates)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: malformed device profile ({_fault(error)}); probe the device again") from error


@lru_cache(maxsize=1)
def _ring(height: int, width: int) -> tuple[Frame, ...]:
    scene = SyntheticEndoscope(0, "polyp", height, width)
    return tuple(fill_ring([scene.frame(number / 4) for number in range(_SCENE_FRAMES)]))


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in values.items()}


def _estimate(entry: Mapping[str, Any]) -> LatencyEstimate:
    times = (math.inf if entry[name] is None else _positive(entry[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))
    p50, p95, p99 = times
    if not p50 <= p95 <= p99:
        raise ValueError("percentiles out of order")
    return LatencyEstimate(p50, p95, p99, int(entry["frames"]), int(entry["drops"]))


def _fault(error: Exception) -> str:
    return f"lacks {error}" if isinstance(error, KeyError) else str(error)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is no positive number")
    return float(value)


def _checked_key(key: str) -> str:
    architecture, size, precision = key.split("@")
    if not (architecture and precision and int(size) > 0):
        raise ValueError(f"key {key!r}")
    return key
