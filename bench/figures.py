"""What the reports' figures share: style, colours that stay with a name, and a figure as SVG text.

Matplotlib is imported when something is drawn, so that measuring never needs it.
"""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gensoup.runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind eyes too. Orange-red is kept for limits, grey for the rest.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#B8A800", "#7A4FA3")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LIMIT_COLOUR = "#D55E00"
OTHERS, OTHERS_COLOUR = "others", "#999999"
# Stands for the page's own colour of text, so that figures follow the dark mode: never used for anything else.
INK = "#1c2431"
WIDTH, NARROW = 7.2, 3.9  # inches: of a page, and of a telephone's, where the wide one could not be read
# Above so many points a scatter is drawn as a picture inside the SVG, which would grow by 200 bytes a point.
MOST_VECTOR_POINTS = 400
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "gensoup",
    "svg.fonttype": "none",
    "text.parse_math": False,  # class names are the user's: a dollar is a dollar
    "savefig.dpi": 180,
    "grid.color": OTHERS_COLOUR,
    "legend.fontsize": 8,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "lines.color"), INK
    ),
}


class Palette:
    """A colour and a marker for each name: the most frequent have their own, the rest share grey as ``others``."""

    def __init__(self, names: Iterable[str]) -> None:
        ranked = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
        own = len(ranked) if len(ranked) <= len(COLOURS) else len(COLOURS)
        self._looks = {name: (COLOURS[place], MARKERS[place]) for place, (name, _) in enumerate(ranked[:own])}
        self.rest = len(ranked) - own

    def shown(self, name: str) -> str:
        """The name itself, or ``others``."""
        return name if name in self._looks else OTHERS

    def colour(self, name: str) -> str:
        """A hexadecimal colour."""
        return self._looks.get(name, (OTHERS_COLOUR, "."))[0]

    def marker(self, name: str) -> str:
        """A matplotlib marker."""
        return self._looks.get(name, (OTHERS_COLOUR, "o"))[1]

    def names(self) -> list[str]:
        """What a legend holds, the most frequent first."""
        return [*self._looks, *([OTHERS] if self.rest else [])]


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """A figure in inches, with the report's style while it is drawn and written."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report") from error
    with matplotlib.rc_context(_STYLE):
        yield Figure((width, height), layout="constrained")


def legend(axes: Axes, **options: Any) -> None:
    """A legend to the right of the axes."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, borderaxespad=0, **options
        )


def legend_above(axes: Axes, **options: Any) -> None:
    """A legend in a line over the axes, so that they are as wide as the figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(labels),
            frameon=False,
            borderaxespad=0.2,
            handlelength=1.2,
            columnspacing=1.2,
            **options,
        )


def limit_line(axes: Axes, value: float, text: str) -> None:
    """A vertical line in the limit's colour with its text at the foot."""
    axes.axvline(value, color=LIMIT_COLOUR, lw=1.2)
    axes.annotate(
        text, (value, 0.03), (-4, 0), ("data", "axes fraction"), "offset points", color=LIMIT_COLOUR, ha="right"
    )


def plain_power(value: float, _: object = None) -> str:
    """A tick of a logarithmic axis as text, since mathematical text is off: ``0.001`` to ``1000``, else ``1e-4``.

    >>> plain_power(1e-6), plain_power(0.01), plain_power(300), plain_power(1.25e-4)
    ('1e-6', '0.01', '300', '1.25e-4')
    """
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Labels of a logarithmic axis over ``low`` to ``high``: where powers of ten are few, also twice and five times."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(plain_power)
    axis.set_minor_formatter(NullFormatter())


def svg(figure: Figure, title: str) -> str:
    """The figure as an SVG element that takes its colour of text from the page. title: for those who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r'<g id="[^"]*"', "<g", element)  # several figures on a page would repeat them
    element = element.replace(INK, "currentColor")
    return element.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
