"""Whether 64 frames a second at 1080p are plausible here: a second and a half of the gate's own path, no verdict."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gensoup.bench.doctor import Line, Mark
from gensoup.bench.doctor.engines import SIZE
from gensoup.bench.paced import run_paced
from gensoup.bench.statistics import percentile
from gensoup.runtime.classifier import Classifier, FrameClassifier
from gensoup.runtime.engines.catalogue import open_engine
from gensoup.runtime.preprocess import Preprocess

SECTION = "64 frames a second"
RATE_HZ = 64.0
# The share of a frame's time that training admits networks by (DESIGN, section 3).
SHARE = 0.85
_SECONDS, _WARM_UP_S = 1.5, 0.3
_WORTH_TELLING = 0.1
_RING = 6  # frames of 6 MB: beyond most caches


@dataclass(frozen=True)
class Plausibility:
    """p50_ms, p95_ms: from a frame's scheduled arrival to its result, copy and resizing included; drops are infinite.

    taken_fraction: share of all cores' time that others took meanwhile, NaN where unknown.
    allowed_ms: what p95_ms may be. A second and a half has too few frames for a 99th percentile.
    """

    network: str
    engine: str
    p50_ms: float
    p95_ms: float
    frames: int
    drops: int
    taken_fraction: float
    allowed_ms: float = SHARE * 1e3 / RATE_HZ

    @property
    def plausible(self) -> bool:
        """Whether the gate is worth its time here."""
        return self.p95_ms <= self.allowed_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; null for infinite times."""
        values = {name: _finite(value) for name, value in asdict(self).items()}
        return {**values, "plausible": self.plausible}


def small_classifier(model: bytes, engine: str) -> Classifier:
    """The small network behind the usual preprocessing."""
    return Classifier(("a", "b"), Preprocess(SIZE), open_engine(engine, model, "fp32"))


def measure(classifier: FrameClassifier, network: str, engine: str, seconds: float = _SECONDS) -> Plausibility:
    """Send frames of 1080p at 64 a second through the stream that serves live ones."""
    rng = np.random.default_rng(0)
    ring = [rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8) for _ in range(_RING)]
    trace = run_paced(classifier, ring, RATE_HZ, seconds, _WARM_UP_S)
    p50, p95 = (percentile(trace.latency_ms, q) for q in (50, 95))
    return Plausibility(network, engine, p50, p95, len(trace.scheduled), int(trace.dropped.sum()), trace.taken_fraction)


def plausible_line(found: Plausibility) -> Line:
    """The finding in a line."""
    drops = f", {found.drops} dropped" if found.drops else ""
    told = f"{found.network} on {found.engine}: p50 {_ms(found.p50_ms)}, p95 {_ms(found.p95_ms)}{drops}"
    if found.plausible:
        return Line(SECTION, "plausible", Mark.GOOD, f"{told} of {found.allowed_ms:.1f} ms; gensoup bench proves it")
    if found.taken_fraction >= _WORTH_TELLING:
        told += f"; others took {found.taken_fraction:.0%} of the cores' time"
    remedy = "mend the red lines, close other programs, then: a faster engine, or a network with fewer --max-macs"
    return Line(SECTION, "not plausible", Mark.RED, f"{told}, allowed {found.allowed_ms:.1f} ms", remedy)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ms(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.1f} ms"
