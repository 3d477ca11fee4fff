"""Figures of the real-time gate, each a function from values to an SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gensoup.bench.figures import COLOURS, INK, LIMIT_COLOUR, WIDTH, drawing, legend_above, plain_ticks, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# With a latency of so many limits a linear axis would press everything else onto its foot.
LOGARITHMIC_FROM = 4.0
_BINS = 80


def latency_timeline(
    seconds: NDArray[np.float64],
    latency_ms: NDArray[np.float64],
    limit_ms: float,
    breaks: Sequence[float] = (),
    width: float = WIDTH,
) -> str:
    """Each frame's latency over time against the limit; dropped frames as crosses along the top.

    breaks: seconds at which another run begins. width: inches.
    """
    finite = np.isfinite(latency_ms)
    with drawing(2.8, width) as figure:
        axes = figure.subplots()
        miss = finite & (latency_ms > limit_ms)
        held = finite & ~miss
        dropped = ~finite
        low, top = _scale(axes, latency_ms[finite], limit_ms, "y")
        brink = top * (0.97 if low == 0 else 0.9)
        axes.plot(seconds[held], latency_ms[held], ".", ms=2.5, color=COLOURS[0], label="in time", rasterized=True)
        many = int(miss.sum() + dropped.sum()) > 2000
        axes.plot(
            seconds[miss],
            latency_ms[miss],
            "o",
            ms=4,
            color=LIMIT_COLOUR,
            label=f"late ({miss.sum()})",
            rasterized=many,
        )
        axes.plot(
            seconds[dropped],
            np.full(dropped.sum(), brink),
            "x",
            ms=5,
            color="#808080" if many else INK,  # a picture cannot follow the page's colour of text
            label=f"dropped ({dropped.sum()})",
            rasterized=many,
        )
        for at in breaks:
            axes.axvline(at, color=INK, lw=0.8, ls=":")
        axes.axhline(limit_ms, color=LIMIT_COLOUR, lw=1.2)
        axes.annotate(
            f"{limit_ms:.1f} ms",
            (1, limit_ms),
            (0, 1),
            ("axes fraction", "data"),
            "offset points",
            color=LIMIT_COLOUR,
            ha="right",
            va="bottom",
        )
        axes.set(xlabel="seconds", ylabel="latency, ms", ylim=(low, top))
        axes.set_xlim(*time_span(seconds))
        legend_above(axes, markerscale=1.4)
        return svg(figure, f"Latency of each frame over time, limit {limit_ms:.1f} ms")


def time_span(seconds: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of an axis of seconds on which these frames lie."""
    if not len(seconds):
        return 0.0, 1.0
    margin = 0.01 * max(1.0, float(seconds[-1] - seconds[0]))
    return float(seconds[0]) - margin, float(seconds[-1]) + margin


def latency_histogram(latency_ms: NDArray[np.float64], limit_ms: float, width: float = WIDTH) -> str:
    """How many frames had which latency, counts on a logarithmic axis so that the tail shows; dropped ones apart.

    width: inches.
    """
    finite = latency_ms[np.isfinite(latency_ms)]
    dropped = len(latency_ms) - len(finite)
    with drawing(2.6, width) as figure:
        axes = figure.subplots()
        low, top = _scale(axes, finite, limit_ms, "x")
        edges = np.linspace(0, top, _BINS) if low == 0 else np.geomspace(low, top, _BINS)
        _, _, bars = axes.hist(finite, bins=edges.tolist(), color=COLOURS[0], log=len(finite) > 0)
        for bar in list(bars):  # type: ignore[arg-type]
            if bar.get_x() + bar.get_width() / 2 >= limit_ms:
                bar.set_color(LIMIT_COLOUR)
        axes.axvline(limit_ms, color=LIMIT_COLOUR, lw=1.2)
        _name_limit(axes, limit_ms)
        axes.set(xlabel="latency, ms", ylabel="frames", xlim=(low, top), ylim=(0.7, None if len(finite) else 1.0))
        if dropped:
            axes.annotate(
                f"and {dropped} dropped",
                (1, 0.8),
                xycoords="axes fraction",
                ha="right",
                color=LIMIT_COLOUR,
            )
        plain_ticks(axes.yaxis, *axes.get_ylim())
        return svg(figure, f"Histogram of the frames' latencies, limit {limit_ms:.1f} ms")


def _scale(axes: Axes, finite: NDArray[np.float64], limit_ms: float, axis: str) -> tuple[float, float]:
    """Make the axis of latencies linear from 0, or logarithmic where the largest is far over the limit; its ends."""
    largest = float(finite.max(initial=0.0))
    if largest < LOGARITHMIC_FROM * limit_ms:
        return 0.0, max(limit_ms * 1.3, largest * 1.1)
    if axis == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    low, top = max(1e-3, min(limit_ms / 3, float(finite.min()) / 1.3)), largest * 1.4
    plain_ticks(axes.xaxis if axis == "x" else axes.yaxis, low, top)
    return low, top


def _name_limit(axes: Axes, limit_ms: float) -> None:
    text, at = f"{limit_ms:.1f} ms", (limit_ms, 0.92)
    axes.annotate(text, at, (4, 0), ("data", "axes fraction"), "offset points", color=LIMIT_COLOUR)


def exceedance(latency_ms: Mapping[str, Sequence[NDArray[np.float64]]], limit_ms: float, width: float = WIDTH) -> str:
    """For each name, the share of its frames that take longer than so many milliseconds, on a logarithmic axis.

    width: inches.
    """
    pooled = {name: np.sort(np.concatenate(parts)) for name, parts in latency_ms.items()}
    finite = np.concatenate([values[np.isfinite(values)] for values in pooled.values()])
    with drawing(3.0, width) as figure:
        axes = figure.subplots()
        low, top = _scale(axes, finite, limit_ms, "x")
        for place, (name, values) in enumerate(pooled.items()):
            known = values[np.isfinite(values)]
            kept = (
                np.unique(np.geomspace(1, max(1, len(known)), 600).astype(int)) - 1 if len(known) else np.zeros(0, int)
            )
            at = len(known) - 1 - kept[::-1]  # dense where few are left
            shares = 1 - (at + 1) / len(values)
            x, y = np.append(known[at], top), np.append(shares, shares[-1] if len(shares) else 1.0)
            axes.step(x, y, where="post", color=COLOURS[place % len(COLOURS)], lw=1.5, label=name)
        axes.axvline(limit_ms, color=LIMIT_COLOUR, lw=1.2)
        _name_limit(axes, limit_ms)
        axes.axhline(0.01, color=INK, lw=0.8, ls=":")
        axes.set_yscale("log")
        fewest = min(1 / len(values) for values in pooled.values())
        axes.set(xlabel="latency, ms", ylabel="share of frames over it", xlim=(low, top), ylim=(fewest * 0.7, 1.2))
        plain_ticks(axes.yaxis, *axes.get_ylim())
        legend_above(axes)
        return svg(figure, f"Share of frames over each latency, limit {limit_ms:.1f} ms")
