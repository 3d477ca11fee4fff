"""Figures of the search, each a function from individuals to an SVG text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from gensoup.bench.figures import (
    COLOURS,
    INK,
    LIMIT_COLOUR,
    MOST_VECTOR_POINTS,
    OTHERS,
    OTHERS_COLOUR,
    Palette,
    drawing,
    legend,
    limit_line,
    plain_power,
    plain_ticks,
    svg,
)
from gensoup.train.importance import decoded
from gensoup.train.settings import HEAT
from gensoup.train.summary import REFIT, complete, generations, phases_of

Individual = Mapping[str, Any]
PHASE_NAMES = {"branch": "branches"}
# Genes whose numbers are used by their order of magnitude.
LOGARITHMIC = ("learning_rate", "weight_decay")
MOST_TICKS = 13


def convergence(individuals: Sequence[Individual], final_mcc: float) -> str:
    """MCC on ``search`` by generation: points, median, the middle half and 80%, the best so far; later phases and the
    final network (a star) at the end."""
    search = {number: complete(mine) for number, mine in generations(individuals).items()}
    drawn = {number: [one["mcc"] for one in mine] for number, mine in search.items() if mine}
    places = list(drawn)
    palette = _architectures(individuals)
    phases = (phase for phase in phases_of(individuals) if phase not in (HEAT, "search", REFIT))
    later = [phase for phase in phases if complete(individuals, phase)]
    with drawing(3.7) as figure:
        axes = figure.subplots()
        for outer, alpha in ((10, 0.13), (25, 0.22)):
            bounds = np.array([np.percentile(values, [outer, 100 - outer]) for values in drawn.values()])
            axes.fill_between(places, bounds[:, 0], bounds[:, 1], color=OTHERS_COLOUR, alpha=alpha, lw=0)
        axes.plot(places, [np.median(values) for values in drawn.values()], color=INK, lw=1, ls=":", label="median")
        best = np.maximum.accumulate([max(values) for values in drawn.values()])
        axes.plot(places, best, color=INK, lw=1.4, marker="_", ms=7, label="best so far")
        columns = [(float(number), search[number]) for number in places]
        ends = [places[-1] + _step(places) * (1 + place) for place in range(len(later) + 1)]
        columns += [(end, complete(individuals, phase)) for end, phase in zip(ends, later, strict=False)]
        _scatter(axes, columns, palette)
        axes.plot(ends[-1], final_mcc, "*", ms=12, color=LIMIT_COLOUR, label="final network", ls="", zorder=5)
        axes.axvline((places[-1] + ends[0]) / 2, color=OTHERS_COLOUR, lw=0.8, ls=":")
        _generation_ticks(axes, places, ends, [*(PHASE_NAMES.get(name, name) for name in later), "final"])
        axes.set(xlabel="generation", ylabel="MCC on search")
        axes.grid(axis="y", alpha=0.3)
        legend(axes)
        return svg(figure, "MCC on search by generation, with the population's spread and the best so far")


def shares(individuals: Sequence[Individual], choices: Sequence[str]) -> str:
    """What each generation's individuals were made of: a panel of stacked shares for each gene of choice."""
    by_generation = generations(individuals)
    places = list(by_generation)
    with drawing(1.0 + 1.75 * len(choices)) as figure:
        panels = np.atleast_1d(figure.subplots(len(choices), 1, sharex=True))
        for axes, name in zip(panels, choices, strict=True):
            palette = Palette(one["recipe"][name] for mine in by_generation.values() for one in mine)
            counts = [Counter(palette.shown(one["recipe"][name]) for one in by_generation[number]) for number in places]
            foot = np.zeros(len(places))
            for option in palette.names():
                part = np.array([count[option] / count.total() for count in counts])
                label = f"{OTHERS} ({palette.rest})" if option == OTHERS else option
                axes.bar(places, part, 0.92, foot, color=palette.colour(option), label=label, lw=0)
                foot += part
            axes.set(ylabel=name.replace("_", " "), ylim=(0, 1), xlim=(places[0] - 0.6, places[-1] + 0.6))
            axes.set_yticks([0, 0.5, 1], ["0", "", "100%"])
            handles, labels = axes.get_legend_handles_labels()  # in the order of the stack
            axes.legend(
                handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=7.5
            )
        panels[-1].set_xticks(_thinned(places))
        panels[-1].set_xlabel("generation")
        return svg(figure, "Shares of " + ", ".join(choices) + " by generation")


def numbers_over_time(individuals: Sequence[Individual], names: Sequence[str]) -> str:
    """A panel for each numeric gene: what it stood for by generation, coloured by MCC, and the median."""
    scored = complete(individuals, "search")
    mcc = np.array([one["mcc"] for one in scored])
    scale = Normalize(mcc.min() - 0.005, mcc.max() + 0.005)  # of some width even where all are equal
    places = sorted({one["place"][1] for one in scored})
    at = np.array([one["place"][1] + _offset(one, scored) for one in scored])
    order = np.argsort(mcc)  # the best are drawn last, so on top
    rows = -(-len(names) // 2)
    with drawing(0.4 + 2.1 * rows) as figure:
        grid = figure.subplots(rows, 2, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            values = np.array([decoded(one, name) for one in scored])
            floor = _logarithmic(axes, values) if name in LOGARITHMIC else None
            shown = values if floor is None else np.where(values > 0, values, floor)
            points = axes.scatter(
                at[order],
                shown[order],
                c=mcc[order],
                cmap="cividis",
                norm=scale,
                s=14 if len(scored) <= 200 else 7,
                lw=0,
                rasterized=len(scored) > MOST_VECTOR_POINTS,
            )
            medians = [np.median(shown[[one["place"][1] == place for one in scored]]) for place in places]
            axes.plot(places, medians, color=LIMIT_COLOUR, lw=1.3, marker="_", ms=7)
            axes.set_title(name.replace("_", " "), fontsize=9, loc="left")
            axes.set_xticks(_thinned(places))
            axes.grid(axis="y", alpha=0.3)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        for axes in grid.flat[max(0, len(names) - 2) : len(names)]:
            axes.set_xlabel("generation")
        bar = figure.colorbar(points, ax=grid.ravel().tolist(), label="MCC on search", aspect=30)
        bar.outline.set_visible(False)
        return svg(figure, "Values of " + ", ".join(names) + " by generation")


def importance(genes: Sequence[Mapping[str, Any]]) -> str:
    """Bars of each gene's divergence, with the mark that chance alone stays below in 95%."""
    with drawing(0.8 + 0.3 * len(genes), 5.6) as figure:
        axes = figure.subplots()
        rows = range(len(genes))
        values, chances = [gene["value"] for gene in genes], [gene["chance"] for gene in genes]
        told = [value > chance for value, chance in zip(values, chances, strict=True)]
        axes.barh(rows, values, 0.62, color=[COLOURS[0] if clear else OTHERS_COLOUR for clear in told])
        axes.vlines(chances, [row - 0.4 for row in rows], [row + 0.4 for row in rows], color=LIMIT_COLOUR, lw=2)
        axes.set_yticks(rows, [gene["name"].replace("_", " ") for gene in genes])
        axes.invert_yaxis()
        axes.set(xlabel="divergence of the best quarter from all", xlim=(0, None))
        axes.grid(axis="x", alpha=0.3)
        return svg(figure, "Importance of each gene against chance")


def tradeoff(
    individuals: Sequence[Individual], front: Sequence[str], cost: str, limit: float | None, final: tuple[float, float]
) -> str:
    """MCC on ``search`` against one cost, the Pareto front as a line, the limit as another, the final network a star.

    cost: ``latency_ms`` or ``macs``; limit: in its unit; final: cost and MCC of the final network.
    """
    timed = cost == "latency_ms"
    unit = 1.0 if timed else 1e6
    priced = [one for one in complete(individuals) if one[cost] is not None]
    by_name = {one["name"]: one for one in priced}
    with drawing(3.2) as figure:
        axes = figure.subplots()
        columns = [(one[cost] / unit, [one]) for one in priced]
        _scatter(axes, columns, _architectures(individuals), spread=False)
        best = [by_name[name] for name in front if name in by_name]
        axes.step(
            [one[cost] / unit for one in best],
            [one["mcc"] for one in best],
            where="post",
            color=INK,
            lw=1.2,
            marker="o" if len(best) == 1 else None,
            mfc="none",
            ms=10,
            label="Pareto front",
            zorder=4,
        )
        axes.plot(final[0] / unit, final[1], "*", ms=12, color=LIMIT_COLOUR, label="final network", ls="", zorder=5)
        largest = max([one[cost] / unit for one in priced] + [final[0] / unit])
        if not timed:
            axes.set_xscale("log")
        if limit is not None and (timed or limit / unit <= largest * 50):
            limit_line(axes, limit / unit, "limit")
            largest = max(largest, limit / unit)
        if not timed:
            plain_ticks(axes.xaxis, min([one[cost] / unit for one in priced] + [final[0] / unit]), largest)
        if timed:
            axes.set_xlim(0, largest * 1.05)
        axes.set(xlabel="p99 of a whole frame, ms" if timed else "multiply-adds of a frame, M", ylabel="MCC on search")
        axes.grid(alpha=0.3)
        legend(axes)
        return svg(figure, f"MCC on search against {'latency' if timed else 'multiply-adds'}, with the Pareto front")


def _architectures(individuals: Sequence[Individual]) -> Palette:
    return Palette(one["recipe"]["architecture"] for one in individuals)


def _scatter(
    axes: Axes, columns: Sequence[tuple[float, Sequence[Individual]]], palette: Palette, spread: bool = True
) -> None:
    """Individuals at their columns, a colour and marker an architecture; side by side where ``spread``."""
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in palette.names()}
    for place, mine in columns:
        for one in mine:
            shift = _offset(one, mine) if spread else 0.0
            points[palette.shown(one["recipe"]["architecture"])].append((place + shift, one["mcc"]))
    many = sum(map(len, points.values())) > MOST_VECTOR_POINTS
    for name, found in points.items():
        if found:
            label = f"{OTHERS} ({palette.rest})" if name == OTHERS else name
            look: Any = {"color": palette.colour(name), "marker": palette.marker(name), "lw": 0, "alpha": 0.8}
            x, y = zip(*found, strict=True)
            axes.scatter(x, y, s=7 if many else 18, zorder=3, rasterized=many, **look)
            axes.scatter([], [], s=18, label=label, **look)  # for the legend, of one size


def _offset(one: Individual, among: Sequence[Individual]) -> float:
    """A place beside the generation's own, so that equal points show: by index, the same each time."""
    return ((one["place"][2] * 0.618) % 1 - 0.5) * (0.5 if len(among) > 1 else 0.0)


def _step(places: Sequence[int]) -> float:
    """The width of a column of a later phase, which has to hold its name."""
    return max(1.0, len(places) / 6)


def _thinned(places: Sequence[int]) -> list[int]:
    return list(places[:: max(1, -(-len(places) // MOST_TICKS))])


def _generation_ticks(axes: Axes, places: Sequence[int], ends: Sequence[float], names: Sequence[str]) -> None:
    shown = _thinned(places)
    axes.set_xticks([*shown, *ends], [*map(str, shown), *names])


def _logarithmic(axes: Axes, values: NDArray[np.float64]) -> float | None:
    """Make the axis logarithmic where there is something above zero; returns where zeros are then drawn, else None."""
    positive = values[values > 0]
    if len(positive) == 0:
        return None
    axes.set_yscale("log")
    plain_ticks(axes.yaxis, positive.min(), positive.max())
    floor = float(positive.min() / 4)
    axes.yaxis.set_major_formatter(lambda value, _: plain_power(value) if value > 2 * floor else "")
    if (values == 0).any():
        axes.axhline(floor, color=OTHERS_COLOUR, lw=0.8, ls=":")
        axes.annotate("0", (1, floor), (3, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=8)
    return floor
