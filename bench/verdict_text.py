"""A verdict on the terminal: the answer and its one sentence first, then what is behind it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from gensoup.bench.verdict import Verdict

_LONGEST = 1000  # of what may come from a trace of others
COLOURS = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}


def print_verdict(verdict: Verdict, name: str, console: Console) -> None:
    """``name``: of the bundle."""
    from rich.markup import escape
    from rich.table import Table

    from gensoup.runtime.archive import shown

    def line(text: str, style: str = "") -> None:
        console.print(escape(shown(text, _LONGEST)), style=style or None, highlight=False, soft_wrap=True)

    outcome = verdict.verdict.value
    reason = escape(shown(verdict.reason, _LONGEST))
    console.print(f"[bold {COLOURS[outcome]}]{outcome}[/]  {reason}", highlight=False, soft_wrap=True)
    line("")
    source = verdict.source
    threads = "" if verdict.threads is None else f" with {verdict.threads} threads"
    line(
        f"{name}, {verdict.engine} {verdict.precision}{threads}, {source.width} × {source.height} at "
        f"{verdict.rate_hz:g} Hz from {source.spec}, tier {verdict.tier}"
    )
    _print_times(verdict, console)
    line(
        f"{verdict.frames} frames, {verdict.misses} misses ({verdict.drops} drops, {verdict.failures} failures), "
        f"longest run {verdict.longest_miss_run}"
    )
    limits = verdict.limits
    rule = f"limit {limits.max_miss_rate:.2%}"
    if limits.max_miss_run is not None:
        rule += f", at most {limits.max_miss_run} in a row"
    line(f"{bounds(verdict)}; {rule}")
    if len(verdict.repetitions) > 1:
        table = Table(box=None, title=None)
        for column in ("no.", "frames", "misses", "by count", "by seconds", "p99", "p99, first → last"):
            table.add_column(column, justify="right")
        for one in verdict.repetitions:
            drift = "–" if one.first_p99_ms is None else f"{number(one.first_p99_ms)} → {number(one.last_p99_ms)}"
            table.add_row(
                str(one.number),
                str(one.frames),
                str(one.misses),
                f"{one.miss_rate_upper:.2%}",
                "–" if one.block_rate_upper is None else f"{one.block_rate_upper:.2%}",
                number(one.latency_ms["p99"]),
                drift,
            )
        console.print(table)
    capacity = "unknown" if verdict.capacity_fps is None else f"{verdict.capacity_fps:.0f} frames/s"
    line(f"back to back, never the verdict: {capacity}", "dim")
    for finding in verdict.findings:
        if finding.text != verdict.reason:
            which = "" if finding.repetition is None else f" (repetition {finding.repetition})"
            line(f"{finding.kind.value.lower()}: {finding.text}{which}", "" if finding.kind.value != "NOTE" else "dim")


def bounds(verdict: Verdict) -> str:
    """The bounds of the miss rate, in words."""
    text = f"{verdict.limits.confidence:.0%} bound of the miss rate {verdict.miss_rate_upper:.2%}"
    return text if verdict.block_rate_upper is None else f"{text} by count, {verdict.block_rate_upper:.2%} by seconds"


def number(value: float | None) -> str:
    """Milliseconds; ∞ for drops, – for unknown."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _print_times(verdict: Verdict, console: Console) -> None:
    from rich.table import Table

    table = Table(box=None)
    for column in ("ms", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "ms" else "right")
    rows: dict[str, Mapping[str, float]] = {"latency": verdict.latency_ms, **verdict.stages_ms}
    for row, values in rows.items():
        table.add_row(row if row == "latency" else f"  {row}", *map(number, values.values()))
    console.print(table)
    console.print(f"[dim]a frame has {verdict.limits.latency_ms:.2f} ms[/]", highlight=False)
