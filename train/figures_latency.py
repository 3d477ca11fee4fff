"""Figures of the real-time gate, each a function from values to an SVG text."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from gensoup.train.figures import COLOURS, INK, LIMIT_COLOUR, drawing, legend, plain_power, svg


def latency_timeline(seconds: NDArray[np.float64], latency_ms: NDArray[np.float64], limit_ms: float) -> str:
    """Each frame's latency over time against the limit; dropped frames as crosses along the top."""
    finite = np.isfinite(latency_ms)
    top = max(limit_ms * 1.3, float(latency_ms[finite].max(initial=0.0)) * 1.1)
    with drawing(2.8) as figure:
        axes = figure.subplots()
        miss = finite & (latency_ms > limit_ms)
        held = finite & ~miss
        axes.plot(seconds[held], latency_ms[held], ".", ms=2.5, color=COLOURS[0], label="in time", rasterized=True)
        axes.plot(seconds[miss], latency_ms[miss], "o", ms=4, color=LIMIT_COLOUR, label=f"late ({miss.sum()})")
        dropped = ~finite
        axes.plot(
            seconds[dropped],
            np.full(dropped.sum(), top * 0.97),
            "x",
            ms=5,
            color=INK,
            label=f"dropped ({dropped.sum()})",
        )
        axes.axhline(limit_ms, color=LIMIT_COLOUR, lw=1.2)
        axes.annotate(
            f"{limit_ms:.1f} ms",
            (1, limit_ms),
            xycoords=("axes fraction", "data"),
            color=LIMIT_COLOUR,
            ha="right",
            va="bottom",
        )
        axes.set(xlabel="seconds", ylabel="latency, ms", ylim=(0, top))
        legend(axes)
        return svg(figure, f"Latency of each frame over time, limit {limit_ms:.1f} ms")


def latency_histogram(latency_ms: NDArray[np.float64], limit_ms: float) -> str:
    """How many frames had which latency, counts on a logarithmic axis so that the tail shows."""
    finite = latency_ms[np.isfinite(latency_ms)]
    top = max(limit_ms * 1.3, float(finite.max(initial=0.0)) * 1.05)
    with drawing(2.6) as figure:
        axes = figure.subplots()
        _, _, bars = axes.hist(finite, bins=np.linspace(0, top, 80).tolist(), color=COLOURS[0], log=len(finite) > 0)
        for bar in list(bars):  # type: ignore[arg-type]
            if bar.get_x() >= limit_ms:
                bar.set_color(LIMIT_COLOUR)
        axes.axvline(limit_ms, color=LIMIT_COLOUR, lw=1.2)
        axes.annotate(f" {limit_ms:.1f} ms", (limit_ms, 0.9), xycoords=("data", "axes fraction"), color=LIMIT_COLOUR)
        axes.set(xlabel="latency, ms", ylabel="frames", xlim=(0, top))
        if len(finite):
            axes.yaxis.set_major_formatter(plain_power)
            axes.yaxis.set_minor_formatter(NullFormatter())
        return svg(figure, f"Histogram of the frames' latencies, limit {limit_ms:.1f} ms")
