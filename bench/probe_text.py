"""A device profile on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gensoup.bench.same_device import device_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gensoup.bench.device_profile import DeviceProfile

_BUSY = 0.1
_WIDEST = 10_000
_COLUMNS = ("graph", "load", "first", "p50", "p95", "p99 ms", "95%", "frames", "")
# Left out of a table that is wider than the terminal, the first before the next; the profile's file has them all.
_SPARED = ("load", "first", "frames", "p95", "95%", "p50")


def print_profile(profile: DeviceProfile, out: Path, console: Console) -> None:
    """A table of what was measured, and what failed. out: the profile's file."""
    assert profile.kit is not None

    def line(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    line(f"{device_name(profile.device)}: {profile.rate_hz:g} Hz, frames of {profile.kit.width} × {profile.kit.height}")
    rows = []
    for key, one in profile.estimates.items():
        detail = one.detail
        assert detail is not None
        low, high = detail.intervals["p99_ms"]
        times = (detail.load_ms, detail.first_frame_ms, one.p50_ms, one.p95_ms, one.p99_ms)
        verdict = "admitted" if one.p99_ms <= profile.kit.allowed_ms else "too slow"
        interval = f"{milliseconds(low)}–{milliseconds(high)}"
        doubt = "" if detail.settled else ", in doubt"
        rows.append((key, *map(milliseconds, times), interval, str(one.frames), verdict + doubt))
    _print_fitting(rows, console)
    for key, reason in profile.failures.items():
        line(f"failed: {key}: {reason}", "yellow")
    taken = [one.detail.taken_fraction or 0.0 for one in profile.estimates.values() if one.detail]
    if busy := [share for share in taken if share > _BUSY]:
        line(
            f"others took more than {_BUSY:.0%} of the cores, {max(busy):.0%} at most, while {len(busy)} of "
            f"{len(taken)} graphs were measured: their times are too long; let the machine rest, "
            f"remove {out} and probe again",
            "yellow",
        )


def _print_fitting(rows: Sequence[Sequence[str]], console: Console) -> None:
    """With as many columns as the terminal has room for; all of them in a file or a pipe, which has no width."""
    from rich.measure import Measurement

    unbounded = console.options.update(max_width=_WIDEST)
    for spared in range(len(_SPARED) + 1):
        table = _table(rows, set(_SPARED[:spared]))
        needed = Measurement.get(console, unbounded, table).maximum
        if not console.is_terminal:
            console.width = max(console.width, needed)
        if needed <= console.width:
            break
    console.print(table)


def _table(rows: Sequence[Sequence[str]], spared: set[str]) -> Table:
    from rich.table import Table

    kept = [at for at, column in enumerate(_COLUMNS) if column not in spared]
    table = Table(box=None)
    for at in kept:
        table.add_column(_COLUMNS[at], justify="left" if at in (0, len(_COLUMNS) - 1) else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[at] for at in kept))
    return table


def milliseconds(value: float) -> str:
    """With a digit behind the point; ∞ for dropped frames."""
    return "∞" if value == float("inf") else f"{value:.1f}"
