"""One graph on one engine, measured until there is no doubt about its 99th percentile, or for as long as allowed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import get_args

import numpy as np

from gensoup.bench.device_profile import Detail, LatencyEstimate
from gensoup.bench.paced import Trace, run_paced
from gensoup.bench.probe import WARMUP_SECONDS, probe_ring
from gensoup.bench.probe_plan import ProbePlan
from gensoup.bench.statistics import percentile
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.engines import Engine
from gensoup.runtime.engines.catalogue import COMPILING, open_engine, ready_without_building
from gensoup.runtime.engines.tensorrt_library import LIBRARIES, Library
from gensoup.runtime.errors import EngineError
from gensoup.runtime.preprocess import Preprocess

# Each look begins with a stream of its own, whose first frames are not counted.
_AGAIN_SECONDS = 0.125

# Called with the share of the longest measurement that is done, 0…1.
Share = Callable[[float], None]


def probe_graph(
    model: bytes,
    classes: int,
    preprocess: Preprocess,
    engine_name: str,
    precision: str,
    plan: ProbePlan,
    share: Share,
) -> LatencyEstimate:
    """Measure a graph's whole per-frame path, cold and at the camera's pace, as ``gensoup bench`` times it.

    Cold is what this process has not done before: call it in a new one. An engine that compiles is built first.
    Raises EngineError when the graph cannot be built, loaded or run.
    """
    ring = probe_ring(plan.height, plan.width)
    build_ms = _built(engine_name, model, precision, plan.threads, share)
    started = time.perf_counter()
    engine = open_engine(engine_name, model, precision, plan.threads)
    loaded = time.perf_counter()
    try:
        classifier = Classifier(tuple(str(number) for number in range(classes)), preprocess, engine)
        classifier(ring[0])
        cold = ((loaded - started) * 1e3, (time.perf_counter() - loaded) * 1e3)
        traces = _until_settled(classifier, plan, share)
    finally:
        engine.close()
    return _estimate(traces, plan, *cold, build_ms)


def _built(name: str, model: bytes, precision: str, threads: int | None, share: Share) -> float | None:
    """Build what an engine needs, where it is one that compiles; returns milliseconds, None where nothing was built."""
    if name not in COMPILING or ready_without_building(name, model, precision):
        return None
    started = time.perf_counter()
    if name in LIBRARIES:
        from gensoup.runtime.engines.tensorrt_build import build_here

        library = next(library for library in get_args(Library) if library == name)
        build_here(library, model, precision, lambda stage, done, total: share(0.0))
    else:
        built: Engine = open_engine(name, model, precision, threads)
        built.close()
    return (time.perf_counter() - started) * 1e3


def _until_settled(classifier: Classifier, plan: ProbePlan, share: Share) -> list[Trace]:
    looks = plan.looks()
    traces: list[Trace] = []
    frames = 0
    for look in looks:

        def tell(done: int, total: int, before: int = frames) -> None:
            share(min(1.0, (before + done) / looks[-1]))

        trace = run_paced(
            classifier,
            probe_ring(plan.height, plan.width),
            plan.rate_hz,
            (look - frames) / plan.rate_hz,
            _AGAIN_SECONDS if traces else WARMUP_SECONDS,
            tell,
        )
        if trace.failed.any():
            name = classifier.engine.name
            raise EngineError(f"{name} failed on {int(trace.failed.sum())} of {len(trace.failed)} frames")
        traces.append(trace)
        frames = look
        if plan.settled(_latency(traces)):
            break
    share(1.0)
    return traces


def _latency(traces: list[Trace]) -> np.ndarray:
    return np.concatenate([trace.latency_ms for trace in traces])


def _estimate(
    traces: list[Trace], plan: ProbePlan, load_ms: float, first_frame_ms: float, build_ms: float | None
) -> LatencyEstimate:
    latency = _latency(traces)
    engine = np.concatenate([trace.engine_ms for trace in traces])
    engine = engine[~np.isnan(engine)]
    lateness = np.concatenate([trace.lateness_ms for trace in traces])
    taken = np.array([trace.taken_fraction for trace in traces])
    lengths = np.array([len(trace.failed) for trace in traces])
    known = not np.isnan(taken).any()
    points = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
    detail = Detail(
        intervals={name: plan.interval(latency, q) for name, q in points.items()},
        load_ms=load_ms,
        first_frame_ms=first_frame_ms,
        build_ms=build_ms,
        engine_ms={name: percentile(engine, q) for name, q in points.items()} if len(engine) else {},
        lateness_ms=percentile(lateness, 99),
        taken_fraction=float(np.average(taken, weights=lengths)) if known else None,
        settled=plan.settled(latency),
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    percentiles = {name: percentile(latency, q) for name, q in points.items()}
    return LatencyEstimate(
        **percentiles,
        frames=len(latency),
        drops=int(sum(trace.dropped.sum() for trace in traces)),
        detail=detail,
    )
