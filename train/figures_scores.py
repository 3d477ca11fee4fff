"""Figures of the final network's scores, each a function from values to an SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gensoup.bench.figures import COLOURS, INK, LIMIT_COLOUR, OTHERS_COLOUR, drawing, svg

MOST_COUNTED = 15  # classes whose confusion matrix has room for numbers
LONGEST_LABEL = 28


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Counts, coloured by the share of the true class; without the counts where there are too many classes."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    few = len(labels) <= MOST_COUNTED
    side = 1.8 + (0.55 if few else 0.2) * len(labels)
    with drawing(side, side + 0.9) as figure:
        axes = figure.subplots()
        picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if few:
            for row, column in np.ndindex(*counts.shape):
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
        else:
            bar = figure.colorbar(picture, ax=axes, shrink=0.6, label="share of the true class")
            bar.outline.set_visible(False)
        ticks, names = range(len(labels)), [_short(label) for label in labels]
        size = 9 if few else 7.5
        axes.set_xticks(ticks, names, rotation=40 if few else 60, ha="right", rotation_mode="anchor", fontsize=size)
        axes.set_yticks(ticks, names, fontsize=size)
        axes.set(xlabel="predicted", ylabel="true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return svg(figure, "Confusion matrix on test")


def reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """How often the network is right where it names a probability, above how many images each step holds."""
    confidence = [step["confidence"] for step in bins]
    accuracy = np.array([step["accuracy"] for step in bins])
    low, high = (np.array([step[name] for step in bins]) for name in ("accuracy_low", "accuracy_high"))
    with drawing(4.0, 4.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=OTHERS_COLOUR, ls="--", lw=1)
        upper.errorbar(
            confidence,
            accuracy,
            [np.maximum(accuracy - low, 0), np.maximum(high - accuracy, 0)],
            fmt="o-",
            ms=4,
            lw=1.2,
            elinewidth=0.8,
            color=COLOURS[0],
        )
        upper.set(ylabel="share that is right", xlim=(0, 1.01), ylim=(0, 1.03))
        upper.grid(alpha=0.3)
        lows, widths = [step["low"] for step in bins], [step["high"] - step["low"] for step in bins]
        lower.bar(lows, [step["count"] for step in bins], widths, align="edge", color=COLOURS[0], alpha=0.6)
        lower.set(xlabel="probability of the named class", ylabel="images")
        return svg(figure, "Reliability diagram on test, with the images in each step")


def gap(scores: Mapping[str, Mapping[str, Any]], best_mcc: float, deployed: Mapping[str, Any] | None = None) -> str:
    """MCC with 95% intervals, from the roles that were chosen on to the one that was not."""
    rows: list[tuple[str, float, Sequence[float] | None]] = [("best individual, search", best_mcc, None)]
    rows += [
        (f"final network, {role}", scores[role]["mcc"], scores[role]["intervals"].get("mcc"))
        for role in ("search", "soup", "test")
    ]
    if deployed is not None:
        rows.append((_deployed(deployed), deployed["mcc"], deployed["intervals"].get("mcc")))
    with drawing(0.7 + 0.32 * len(rows), 5.6) as figure:
        axes = figure.subplots()
        for place, (name, value, interval) in enumerate(rows):
            colour = LIMIT_COLOUR if name.endswith("test") else (INK if interval is None else COLOURS[0])
            if interval is not None:
                axes.plot(interval, [place, place], color=colour, lw=2, alpha=0.6, solid_capstyle="butt")
            axes.plot(value, place, "o" if interval is not None else "D", ms=6, color=colour)
            right = max(value, interval[1] if interval is not None else value)
            axes.annotate(f"{value:.3f}", (right, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.12)
        axes.set_xlabel("MCC")
        axes.grid(axis="x", alpha=0.3)
        return svg(figure, "MCC of the best individual on search and of the final network on search, soup and test")


def _deployed(evaluation: Mapping[str, Any]) -> str:
    """What was evaluated: "bundle, int8 on openvino-cpu"."""
    if not evaluation.get("precision"):
        return "bundle, evaluated"
    return f"bundle, {evaluation['precision']} on {evaluation['engine']}"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
