"""The report's figures, each a function from values to an SVG text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's palette: told apart by colour-blind eyes too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442", "#000000")
LIMIT_COLOUR = "#D55E00"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "gensoup",
    "svg.fonttype": "none",
    "text.parse_math": False,  # class names are the user's: a dollar is a dollar
}


def convergence(individuals: Sequence[Mapping[str, Any]]) -> str:
    """Each individual's MCC on ``search`` over the generations, the best and the median; branches at the end."""
    search = [one for one in individuals if one["place"][0] == "search" and one["reason"] is None]
    branches = [one for one in individuals if one["place"][0] == "branch" and one["reason"] is None]
    architectures = sorted({one["recipe"]["architecture"] for one in search})
    generations = sorted({one["place"][1] for one in search})
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        by_generation = [[one["mcc"] for one in search if one["place"][1] == number] for number in generations]
        axes.plot(generations, [max(values) for values in by_generation], color="black", lw=1.2, label="best")
        axes.plot(
            generations, [np.median(values) for values in by_generation], color="black", lw=1, ls=":", label="median"
        )
        for number, name in enumerate(architectures):
            mine = [one for one in search if one["recipe"]["architecture"] == name]
            offset = (number - (len(architectures) - 1) / 2) * 0.08
            places = [one["place"][1] + offset for one in mine]
            axes.scatter(places, [one["mcc"] for one in mine], s=18, color=_colour(number), label=name, zorder=3)
        last = generations[-1] + 1
        if branches:
            axes.scatter(
                [last] * len(branches), [one["mcc"] for one in branches], s=26, marker="D", color="black", zorder=3
            )
        ticks = [*generations, *([last] if branches else [])]
        sizes = {one["place"][1]: one["size"] for one in search}
        names = [f"{number}\n{sizes[number]} px" for number in generations] + (["branches"] if branches else [])
        axes.set_xticks(ticks, names)
        axes.set(xlabel="generation", ylabel="MCC on search")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
        return _svg(figure)


def tried(individuals: Sequence[Mapping[str, Any]], limit_ms: float | None, max_macs: float) -> str:
    """MCC against cost: the probed 99th percentile where frames were timed, else multiply-adds; the limit drawn."""
    done = [one for one in individuals if one["reason"] is None]
    timed = limit_ms is not None
    architectures = sorted({one["recipe"]["architecture"] for one in done})
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(architectures):
            mine = [one for one in done if one["recipe"]["architecture"] == name]
            cost = [one["latency_ms"] if timed else one["macs"] / 1e6 for one in mine]
            axes.scatter(cost, [one["mcc"] for one in mine], s=18, color=_colour(number), label=name, alpha=0.8)
        limit = limit_ms if limit_ms is not None else max_macs / 1e6
        axes.axvline(limit, color=LIMIT_COLOUR, lw=1.2)
        axes.annotate(" limit", (limit, 0.02), xycoords=("data", "axes fraction"), color=LIMIT_COLOUR, ha="left")
        axes.set_xlim(left=0, right=limit * 1.15)
        axes.set(xlabel="p99 of a whole frame, ms" if timed else "multiply-adds, M", ylabel="MCC on search")
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
        return _svg(figure)


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Counts, coloured by the share of the true class."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.8 + 0.55 * len(labels)
    with matplotlib.rc_context(_STYLE):
        figure = Figure((side + 0.9, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(labels) <= 15:
            for row, column in np.ndindex(*counts.shape):
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        axes.set(xlabel="predicted", ylabel="true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure)


def latency_timeline(seconds: NDArray[np.float64], latency_ms: NDArray[np.float64], limit_ms: float) -> str:
    """Each frame's latency over time against the limit; dropped frames as crosses along the top."""
    finite = np.isfinite(latency_ms)
    top = max(limit_ms * 1.3, float(latency_ms[finite].max(initial=0.0)) * 1.1)
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7.2, 2.8), layout="constrained")
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
            color="black",
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
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
        return _svg(figure)


def latency_histogram(latency_ms: NDArray[np.float64], limit_ms: float) -> str:
    """How many frames had which latency, counts on a logarithmic axis so that the tail shows."""
    finite = latency_ms[np.isfinite(latency_ms)]
    top = max(limit_ms * 1.3, float(finite.max(initial=0.0)) * 1.05)
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7.2, 2.6), layout="constrained")
        axes = figure.subplots()
        _, _, bars = axes.hist(finite, bins=np.linspace(0, top, 80).tolist(), color=COLOURS[0], log=True)
        for bar in list(bars):  # type: ignore[arg-type]
            if bar.get_x() >= limit_ms:
                bar.set_color(LIMIT_COLOUR)
        axes.axvline(limit_ms, color=LIMIT_COLOUR, lw=1.2)
        axes.annotate(f" {limit_ms:.1f} ms", (limit_ms, 0.9), xycoords=("data", "axes fraction"), color=LIMIT_COLOUR)
        axes.set(xlabel="latency, ms", ylabel="frames", xlim=(0, top))
        return _svg(figure)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
