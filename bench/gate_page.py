"""A verdict as one HTML page: the answer, every frame over time, where the time goes, what the device did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.figures import NARROW, WIDTH
from gensoup.bench.figures_device import Readings, device_timeline
from gensoup.bench.figures_latency import latency_histogram, latency_timeline, time_span
from gensoup.bench.measurement import Measurement
from gensoup.bench.page import pages
from gensoup.bench.result_file import TraceFile
from gensoup.bench.trace import Trace
from gensoup.bench.verdict import Outcome, Verdict

# Between repetitions whose clocks do not tell how far they lie apart, in seconds on the figures' axis.
_GAP_S, _LONGEST_GAP_S = 30.0, 900.0
_NAMES = {
    "model": "board",
    "cpu": "processor",
    "cores": "cores",
    "usable_cores": "cores usable here",
    "memory_bytes": "memory",
    "gpus": "GPUs",
    "nvidia_driver": "NVIDIA driver",
    "power_mode": "power mode",
    "governor": "governor",
    "os": "system",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT for RTX",
    "opencv": "OpenCV",
    "python": "Python",
}
_STAGES = {
    "whole frame": "scheduled arrival to result",
    "arrival": "behind the schedule",
    "handover": "copy, wait for the engine",
    "preprocess": "resize",
    "engine": "inference",
    "delivery": "smoothing, hand-over",
}


@dataclass(frozen=True)
class _Demand:
    """A rule of the tier. held: None where it decides nothing here."""

    what: str
    limit: str
    found: str
    held: bool | None


def gate_page(verdict: Verdict, measurement: Measurement, bundle: str, trace: TraceFile | None = None) -> str:
    """The page. bundle: the file's name. Raises MissingDependencyError without the extra ``report``."""
    from markupsafe import Markup

    environment = pages()
    environment.filters |= {"milliseconds": _milliseconds, "width": _width, "number": _number}
    offsets = _offsets(measurement.repetitions)
    readings = list(_readings(measurement, offsets))
    figures: dict[str, list[Markup]] = {}
    if sum(len(one.scheduled) for one in measurement.repetitions):
        seconds, latency = _frames(measurement.repetitions, offsets)
        starts = [one.scheduled[0] + at for one, at in zip(measurement.repetitions, offsets, strict=True)][1:]
        limit, breaks = verdict.limits.latency_ms, [float(at) for at in starts]
        for width in (WIDTH, NARROW):
            drawn = {
                "timeline": latency_timeline(seconds, latency, limit, breaks, width),
                "histogram": latency_histogram(latency, limit, width),
                "device": device_timeline(readings, time_span(seconds), width),
            }
            for name, figure in drawn.items():
                if figure is not None:
                    figures.setdefault(name, []).append(Markup(figure))
    return environment.get_template("gate.html.j2").render(
        bundle=bundle,
        verdict=verdict,
        worst_bound=max(verdict.miss_rate_upper, verdict.block_rate_upper or 0.0),
        stages={"whole frame": verdict.latency_ms, **verdict.stages_ms},
        figures=figures,
        demands=_demands(verdict),
        notes=[one for one in verdict.findings if not verdict.reason.endswith(one.text)],
        says_something=verdict.verdict is not Outcome.INVALID,
        stage_words=_STAGES,
        slowed={name: len(at) for log in _logs(measurement) for name, at in log.get("slowed_by", {}).items()},
        device=[(_NAMES[name], _told(name, verdict.device[name])) for name in _NAMES if verdict.device.get(name)],
        trace=trace,
    )


def _offsets(repetitions: Iterable[Trace]) -> list[float]:
    """What to add to each repetition's clock so that the first begins at 0 and the others follow; the clocks of one
    boot are believed, else repetitions are put end to end."""
    offsets: list[float] = []
    end_clock = end = -math.inf
    for trace in repetitions:
        if not len(trace.scheduled):
            offsets.append(offsets[-1] if offsets else 0.0)
            continue
        start, last = float(trace.scheduled[0]), float(trace.scheduled[-1])
        if not math.isfinite(end):
            offsets.append(-start)
        elif 0 <= start - end_clock <= _LONGEST_GAP_S:
            offsets.append(offsets[-1])
        else:
            offsets.append(end + _GAP_S - start)
        end_clock, end = last, last + offsets[-1]
    return offsets


def _frames(repetitions: Iterable[Trace], offsets: Iterable[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs = list(zip(repetitions, offsets, strict=True))
    seconds = np.concatenate([one.scheduled + at for one, at in pairs])
    return seconds, np.concatenate([one.latency_ms for one, _ in pairs])


def _logs(measurement: Measurement) -> list[Mapping[str, Any]]:
    """The device's logs, of :class:`gensoup.bench.sensors.log.DeviceLog`: one, or one a key."""
    log = measurement.device_log
    found = [log] if "at_s" in log else [one for one in log.values() if isinstance(one, Mapping) and "at_s" in one]
    return [one for one in found if one.get("series")]


def _readings(measurement: Measurement, offsets: list[float]) -> Iterable[Readings]:
    for log in _logs(measurement):
        origin = float(log.get("origin_s") or 0.0)
        last = origin + max(log["at_s"], default=0.0)
        begun = [
            at
            for trace, at in zip(measurement.repetitions, offsets, strict=True)
            if len(trace.scheduled) and trace.scheduled[0] <= last
        ]
        shift = origin + (begun[-1] if begun else -origin)
        slowed = [at + shift for seen in log.get("slowed_by", {}).values() for at in seen]
        yield Readings([at + shift for at in log["at_s"]], log["series"], slowed)


def _demands(verdict: Verdict) -> list[_Demand]:
    limits, most = verdict.limits, f"at most {verdict.limits.max_miss_rate:.2%}"
    sure = f"{limits.confidence:.0%} bound of the miss rate"
    rows = [
        _Demand(f"{sure}, by count", most, f"{verdict.miss_rate_upper:.2%}", _within(verdict, verdict.miss_rate_upper))
    ]
    if limits.block_s is not None:
        bound = verdict.block_rate_upper
        found = "unknown" if bound is None else f"{bound:.2%}"
        held = None if bound is None else _within(verdict, bound)
        rows.append(_Demand(f"{sure}, by blocks of {limits.block_s:g} s", most, found, held))
    run = verdict.longest_miss_run
    if limits.max_miss_run is None:
        rows.append(_Demand("misses in a row", "any number", str(run), None))
    else:
        rows.append(_Demand("misses in a row", f"at most {limits.max_miss_run}", str(run), run <= limits.max_miss_run))
    if limits.drift_s is not None:
        text = f"at most {limits.drift_ratio:g} × the first, or {limits.drift_ms:.1f} ms"
        pairs = [(one.first_p99_ms, one.last_p99_ms) for one in verdict.repetitions]
        found = ", ".join(f"{_milliseconds(first)} → {_milliseconds(last)}" for first, last in pairs) or "unknown"
        drifted = any("drift" in one.text for one in verdict.findings)
        rows.append(_Demand(f"p99 of the last {limits.drift_s:g} s", text, found, not drifted if pairs else None))
    throttled = [one.text for one in verdict.findings if one.kind.value == "THROTTLED"]
    weight = "none" if limits.throttling_fails else "is only reported"
    held = None if not limits.throttling_fails else not throttled
    rows.append(_Demand("slowed down by heat or power", weight, "; ".join(throttled) or "not seen", held))
    return rows


def _within(verdict: Verdict, bound: float) -> bool:
    return bound <= verdict.limits.max_miss_rate


def _told(name: str, value: Any) -> str:
    if name == "memory_bytes":
        return f"{value / (1 << 30):.1f} GiB"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _milliseconds(value: float | None) -> str:
    told = _number(value)
    return told if told in ("–", "∞") else f"{told} ms"


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _width(times: Mapping[str, float], point: str, limit_ms: float) -> str:
    """Percent of the limit, 100 at most."""
    value = times[point]
    return f"{0.0 if math.isnan(value) else min(100.0, 100 * value / limit_ms):.1f}"
