"""What a network costs per frame on this machine, before it is trained."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.device_profile import LatencyEstimate
from gensoup.bench.paced import fill_ring, run_paced
from gensoup.bench.statistics import percentile
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.engines import load_engine
from gensoup.runtime.errors import EngineError
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.sources.synthetic import SyntheticEndoscope

WARMUP_SECONDS = 0.5
_SECONDS = 4.0
_LEAST_FRAMES = 100  # of which the slowest is the 99th percentile
_SCENE_FRAMES = 4

Frame = NDArray[np.uint8]


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
        probe_ring(frame_height, frame_width),
        rate_hz,
        probe_seconds(rate_hz) if seconds is None else seconds,
        WARMUP_SECONDS,
    )
    if trace.failed.any():
        raise EngineError(f"{engine.name} failed on {int(trace.failed.sum())} of {len(trace.failed)} frames")
    p50, p95, p99 = (percentile(trace.latency_ms, q) for q in (50, 95, 99))
    return LatencyEstimate(p50, p95, p99, frames=len(trace.failed), drops=int(trace.dropped.sum()))


def probe_seconds(rate_hz: float) -> float:
    """How long a probe lasts: a few seconds; at a slow rate long enough that there is a slowest of a hundred frames."""
    return max(_SECONDS, _LEAST_FRAMES / rate_hz)


@lru_cache(maxsize=1)
def probe_ring(height: int, width: int) -> tuple[Frame, ...]:
    """The frames that a probe sends, of the camera's size; drawn once."""
    scene = SyntheticEndoscope(0, "polyp", height, width)
    return tuple(fill_ring([scene.frame(number / 4) for number in range(_SCENE_FRAMES)]))
