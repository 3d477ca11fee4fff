"""Verdicts of ``gensoup bench`` side by side: misses by exact tests, latencies by a bootstrap over seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.comparison import P_VALUE, TOLERANCE, Cell, Comparison, Condition, Flag, Result, Row, told_twice
from gensoup.bench.fisher import blocks_p, fisher_p
from gensoup.bench.latency_bounds import POINTS, Blocks, interval, resampled
from gensoup.bench.measurement import Measurement
from gensoup.runtime.archive import shown

_CONFIDENCE = 0.99
_VERDICTS = ("PASS", "FAIL")


def compare_bench(
    results: Sequence[Result], traces: Sequence[Measurement | None], tolerance: float = TOLERANCE
) -> Comparison:
    """Hold every verdict against the first. traces: of each result, None where it has none.

    A miss rate is worse where a one-sided exact test gives p under 1% and, with both traces, exchanging whole seconds
    does too. A latency is worse where the 99% interval of its ratio to the first one's lies above 1 + ``tolerance``:
    from the traces where both are there, else from the 95% intervals that the results hold. What was measured at
    another rate is not compared, what is INVALID neither.
    """
    blocks = [
        None if trace is None else Blocks.of(trace.repetitions, result.values["limits"]["latency_ms"])
        for result, trace in zip(results, traces, strict=True)
    ]
    draws = [None if one is None or not one.enough else resampled(one, place) for place, one in enumerate(blocks)]
    obstacles = ["", *(_obstacle(results[0], other) for other in results[1:])]
    rows = [_verdicts(results, obstacles), _miss_rates(results, blocks, obstacles)]
    rows += [_latencies(results, draws, obstacles, name, tolerance) for name in POINTS]
    return Comparison(
        kind="bench",
        names=tuple(result.name for result in results),
        conditions=(conditions := _conditions(results)),
        rows=tuple(rows),
        notes=tuple(_notes(results, traces, obstacles, conditions)),
    )


def _obstacle(first: Result, other: Result) -> str:
    """Why nothing of two results may be compared, "" where it may."""
    for result in (first, other):
        if result.values["verdict"] == "INVALID":
            return f"{result.name} is INVALID: its numbers say nothing"
        if not result.values["frames"]:
            return f"{result.name} holds no frames"
    if first.values["rate_hz"] != other.values["rate_hz"]:
        return f"measured at {other.values['rate_hz']:g} Hz, not at {first.values['rate_hz']:g}: another question"
    return ""


def _verdicts(results: Sequence[Result], obstacles: Sequence[str]) -> Row:
    cells, first = [], results[0].values["verdict"]
    for place, (result, obstacle) in enumerate(zip(results, obstacles, strict=True)):
        verdict, flag, why = result.values["verdict"], Flag.SAME, "the gate's own rule, of each run alone"
        if place == 0:
            flag, why = Flag.REFERENCE, ""
        elif obstacle:
            flag, why = Flag.UNKNOWN, obstacle
        elif verdict != first:
            flag = Flag.WORSE if _VERDICTS.index(verdict) > _VERDICTS.index(first) else Flag.BETTER
        cells.append(Cell(verdict, flag, why=why))
    return Row("verdict", "verdict", tuple(cells))


def _miss_rates(results: Sequence[Result], blocks: Sequence[Blocks | None], obstacles: Sequence[str]) -> Row:
    first, cells = results[0].values, []
    for place, result in enumerate(results):
        misses, frames = result.values["misses"], result.values["frames"]
        rate = misses / frames if frames else math.nan
        text = f"{misses} of {frames}" if frames else "–"
        if place == 0 or obstacles[place]:
            flag = Flag.REFERENCE if place == 0 else Flag.UNKNOWN
            cells.append(Cell(text, flag, rate, why=obstacles[place]))
            continue
        more = fisher_p(first["misses"], first["frames"], misses, frames)
        fewer = fisher_p(misses, frames, first["misses"], first["frames"])
        why = f"Fisher's exact test, p {_p(min(more, fewer))}"
        ours, theirs = blocks[0], blocks[place]
        if ours is not None and theirs is not None and ours.enough and theirs.enough:
            more = max(more, blocks_p(ours.misses, theirs.misses))
            fewer = max(fewer, blocks_p(theirs.misses, ours.misses))
            why += f"; whole seconds exchanged, the larger of both p {_p(min(more, fewer))}"
        else:
            why += "; without traces misses are taken to be independent"
        flag = Flag.WORSE if more < P_VALUE else Flag.BETTER if fewer < P_VALUE else Flag.SAME
        change = f"{1e2 * (rate - first['misses'] / first['frames']):+.2f} points"
        cells.append(Cell(text, flag, rate, change=change, why=why))
    return Row("miss_rate", "misses", tuple(cells))


def _latencies(
    results: Sequence[Result],
    draws: Sequence[Mapping[str, NDArray[np.float64]] | None],
    obstacles: Sequence[str],
    name: str,
    tolerance: float,
) -> Row:
    cells = []
    stored = [_stored(result.values, name) for result in results]
    values = [_number(result.values["latency_ms"][name]) for result in results]
    for place, result in enumerate(results):
        low, high = stored[place] or (None, None)
        text = _ms(values[place]) if result.values["frames"] else "–"
        if place == 0 or obstacles[place]:
            flag = Flag.REFERENCE if place == 0 else Flag.UNKNOWN
            cells.append(Cell(text, flag, values[place], low, high, why=obstacles[place]))
            continue
        flag, change, why = _held(
            values[0], values[place], stored[0], stored[place], _pair(draws, place, name), tolerance
        )
        cells.append(Cell(text, flag, values[place], low, high, change, why))
    return Row(f"latency_{name}_ms", f"latency {name}", tuple(cells))


def _held(
    first: float,
    other: float,
    first_interval: tuple[float, float] | None,
    other_interval: tuple[float, float] | None,
    pair: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    tolerance: float,
) -> tuple[Flag, str, str]:
    """Flag, change and reason of one percentile."""
    if math.isinf(first) and math.isinf(other):
        return Flag.SAME, "", "drops reach it in both"
    change = "∞" if math.isinf(other) else "" if math.isinf(first) else f"{1e2 * (other / first - 1):+.0f}%"
    if pair is not None:
        with np.errstate(invalid="ignore"):
            ratio = pair[1] / pair[0]
        low, high = interval(np.where(np.isnan(ratio), 1.0, ratio), _CONFIDENCE)
        how = f"{_CONFIDENCE:.0%}, bootstrap over one-second blocks of both traces"
    elif first_interval is not None and other_interval is not None:
        low, high = other_interval[0] / first_interval[1], _over(other_interval[1], first_interval[0])
        how = "the results' own intervals, as a trace is missing"
    else:
        return Flag.UNKNOWN, change, "no trace beside it, and no interval in the result: measure for longer"
    why = f"ratio {low:.2f} to {'∞' if math.isinf(high) else f'{high:.2f}'}, {how}"
    if low > 1 + tolerance:
        return Flag.WORSE, change, why
    return (Flag.BETTER if high < 1 / (1 + tolerance) else Flag.SAME), change, why


def _over(value: float, by: float) -> float:
    return math.inf if math.isinf(value) else value / by


def _pair(
    draws: Sequence[Mapping[str, NDArray[np.float64]] | None], place: int, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    first, other = draws[0], draws[place]
    return None if first is None or other is None else (first[name], other[name])


def _conditions(results: Sequence[Result]) -> tuple[Condition, ...]:
    def each(told: Any) -> tuple[str, ...]:
        return tuple(shown(str(told(result.values))) for result in results)

    return (
        Condition("bundle", "bundle", each(lambda one: f"{one.get('bundle') or '?'} {one['bundle_sha256'][:8]}")),
        Condition("engine", "engine", each(lambda one: f"{one['engine']} {one['precision']}")),
        Condition("threads", "threads", each(lambda one: one["threads"] or "default")),
        Condition("limit", "limit", each(lambda one: f"{one['rate_hz']:g} Hz"), matters=True),
        Condition("tier", "tier", each(lambda one: one["tier"])),
        Condition("source", "source", each(_source), matters=True),
        Condition("device", "device", each(lambda one: _device(one["device"])), matters=True),
        Condition("started_at", "measured", each(lambda one: str(one["started_at"]).replace("T", " ")[:16] or "?")),
        Condition("gensoup", "gensoup", each(lambda one: one["gensoup"] or "?")),
    )


def _source(values: Mapping[str, Any]) -> str:
    source = values["source"]
    return f"{source['spec']} {source['width']}×{source['height']}"


def _device(device: Mapping[str, Any]) -> str:
    told = [device.get(name) for name in ("model", "cpu", "nvidia_driver", "power_mode", "governor")]
    told[2:2] = [f"{device.get('usable_cores')} of {device.get('cores')} cores", *map(str, device.get("gpus") or ())]
    return ", ".join(str(one) for one in told if one)


def _notes(
    results: Sequence[Result],
    traces: Sequence[Measurement | None],
    obstacles: Sequence[str],
    conditions: Sequence[Condition],
) -> list[str]:
    notes = [f"{result.name}: not compared, {why}" for result, why in zip(results, obstacles, strict=True) if why]
    notes += told_twice(results)
    for condition in conditions:
        if condition.matters and condition.differs and condition.key != "limit":
            notes.append(f"another {condition.title}: what differs below may come from that alone")
    if missing := [result.name for result, trace in zip(results, traces, strict=True) if trace is None]:
        notes.append(
            f"no trace beside {', '.join(missing)}: latencies are held by the results' own intervals, misses as if "
            "they were independent; `gensoup bench --json … --trace …` in one folder keeps both"
        )
    return notes


def _stored(values: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    ends = (values.get("latency_interval_ms") or {}).get(name)
    return None if ends is None else (_number(ends[0]), _number(ends[1]))


def _number(value: Any) -> float:
    return math.inf if value is None else float(value)


def _ms(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f} ms"


def _p(p: float) -> str:
    return "< 0.001" if p < 1e-3 else f"{p:.3f}"
