"""Results of ``gensoup eval`` side by side, each metric by its own 95% interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gensoup.bench.comparison import Cell, Comparison, Condition, Flag, Result, Row, told_twice

# Metric → whether more is better; titles are those of bench.metrics, which needs numpy only when it is used.
_METRICS = {
    "mcc": True,
    "accuracy": True,
    "macro_precision": True,
    "macro_recall": True,
    "macro_specificity": True,
    "macro_f1": True,
    "calibration_error": False,
}


def compare_eval(results: Sequence[Result]) -> Comparison:
    """Hold every evaluation against the first: a metric is worse where the difference is more than both intervals'
    half-widths together, as the root of their squares. The results do not hold which images were missed, so what is
    hard for both does not cancel out: the rule is on the safe side for one and the same folder.

    Results on other data, or of other classes, are not compared.
    """
    obstacles = ["", *(_obstacle(results[0].values, other.values) for other in results[1:])]
    notes = [f"{one.name}: not compared, {why}" for one, why in zip(results, obstacles, strict=True) if why]
    return Comparison(
        kind="eval",
        names=tuple(result.name for result in results),
        conditions=_conditions(results),
        rows=tuple(_row(results, obstacles, name, more) for name, more in _METRICS.items()),
        notes=(*notes, *told_twice(results)),
    )


def _obstacle(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if sorted(first["labels"]) != sorted(other["labels"]):
        return "it knows other classes"
    if first["data_fingerprint"] != other["data_fingerprint"] or first["n"] != other["n"]:
        return f"on other images ({other['n']} of {other['data']}, {first['n']} of {first['data']})"
    return ""


def _row(results: Sequence[Result], obstacles: Sequence[str], name: str, more_is_better: bool) -> Row:
    from gensoup.bench.metrics import TITLES

    cells = []
    first, first_ends = results[0].values[name], _ends(results[0].values, name)
    for place, result in enumerate(results):
        value, ends = result.values[name], _ends(result.values, name)
        low, high = ends or (None, None)
        change, why = "", obstacles[place]
        if place == 0:
            flag = Flag.REFERENCE
        elif why:
            flag = Flag.UNKNOWN
        elif ends is None or first_ends is None:
            flag, why = Flag.UNKNOWN, "no interval: too few groups or images"
        else:
            gain = value - first if more_is_better else first - value
            # The end of each interval that faces the other value.
            low_one, high_one = (
                ((first, first_ends), (value, ends)) if first < value else ((value, ends), (first, first_ends))
            )
            up, down = low_one[1][1] - low_one[0], high_one[0] - high_one[1][0]
            noise = math.hypot(up, down)
            flag = Flag.SAME if abs(gain) <= noise else Flag.BETTER if gain > 0 else Flag.WORSE
            change, why = f"{value - first:+.4f}", f"noise of the difference {noise:.4f}"
        cells.append(Cell(f"{value:.4f}", flag, value, low, high, change, why))
    return Row(name, TITLES[name], tuple(cells))


def _ends(values: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    ends = (values.get("intervals") or {}).get(name)
    return None if ends is None else (float(ends[0]), float(ends[1]))


def _conditions(results: Sequence[Result]) -> tuple[Condition, ...]:
    def each(told: Any) -> tuple[str, ...]:
        return tuple(str(told(result.values)) for result in results)

    return (
        Condition(
            "bundle", "bundle", each(lambda one: f"{one['bundle'].rpartition('/')[2]} {one['bundle_sha256'][:8]}")
        ),
        Condition("engine", "engine", each(lambda one: f"{one['engine']} {one['precision']}")),
        Condition("images", "images", each(lambda one: one["n"]), matters=True),
        Condition("data", "data", each(lambda one: f"{one['data']} {one['data_fingerprint'][:8]}"), matters=True),
    )
