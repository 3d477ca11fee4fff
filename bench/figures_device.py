"""What the device was doing while frames ran: heat, clocks, power and load over time, as an SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gensoup.bench.figures import COLOURS, LIMIT_COLOUR, WIDTH, drawing, legend_above, svg

# The end of a series' name → the panel's unit, in this order. Single cores and limits have no line of their own.
_PANELS = {"_c": "°C", "_mhz": "MHz", "_w": "W", "_percent": "%"}
_LEFT_OUT = ("core", "steal_")
_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Readings:
    """Of one repetition. at_s: seconds on the figure's axis; series: name → a value a look, None where there was none.

    slowed_s: when the device was seen to be slowed down.
    """

    at_s: Sequence[float]
    series: Mapping[str, Sequence[float | None]]
    slowed_s: Sequence[float] = ()


def device_timeline(readings: Sequence[Readings], span_s: tuple[float, float], width: float = WIDTH) -> str | None:
    """A panel a unit over the same seconds as the latencies; None where nothing was read. width: inches."""
    names = list(dict.fromkeys(name for one in readings for name, row in one.series.items() if _is_shown(name, row)))
    panels = {unit: [name for name in names if name.endswith(end)] for end, unit in _PANELS.items()}
    panels = {unit: told for unit, told in panels.items() if told}
    if not panels:
        return None
    with drawing(0.5 + 1.25 * len(panels), width) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for axes, (unit, told) in zip(rows[:, 0], panels.items(), strict=True):
            for place, name in enumerate(told):
                for part, one in enumerate(readings):
                    row = one.series.get(name, ())
                    points = [(at, value) for at, value in zip(one.at_s, row, strict=False) if value is not None]
                    axes.plot(
                        [at for at, _ in points],
                        [value for _, value in points],
                        color=COLOURS[place % len(COLOURS)],
                        ls=_STYLES[place // len(COLOURS) % len(_STYLES)],
                        lw=1.3,
                        label=_title(name) if part == 0 else None,
                    )
            slowed = [at for one in readings for at in one.slowed_s]
            for at in slowed:
                axes.axvline(at, color=LIMIT_COLOUR, lw=0.8, alpha=0.6)
            if unit == "%":
                axes.set_ylim(0, 104)
            elif unit == "°C":
                axes.margins(y=0.25)
            else:
                axes.set_ylim(0, None)
            axes.set(ylabel=unit)
            legend_above(axes)
        rows[-1, 0].set(xlabel="seconds", xlim=span_s)
        figure.align_ylabels()
        return svg(figure, f"Heat, clocks, power and load over time: {', '.join(map(_title, names))}")


def _is_shown(name: str, row: Sequence[float | None]) -> bool:
    known = any(value is not None for value in row)
    return known and name.endswith(tuple(_PANELS)) and not name.startswith(_LEFT_OUT) and "_max_" not in name


def _title(name: str) -> str:
    """``gpu_clock_mhz`` → ``GPU clock``."""
    words = name.rpartition("_")[0].split("_")
    return " ".join(word.upper() if word in ("gpu", "cpu", "soc") else word for word in words)
