"""A comparison as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gensoup.bench.comparison import Comparison
from gensoup.bench.figures import NARROW, WIDTH
from gensoup.bench.figures_latency import exceedance
from gensoup.bench.measurement import Measurement
from gensoup.bench.page import pages


def compare_page(comparisons: Sequence[Comparison], traces: Mapping[str, Measurement]) -> str:
    """The page. traces: by the results' names. Raises MissingDependencyError without the extra ``report``."""
    from markupsafe import Markup

    drawn = {
        name: [trace.latency_ms for trace in measured.repetitions]
        for name, measured in traces.items()
        if measured.repetitions
    }
    limits = {1e3 / measured.min_fps for measured in traces.values()}
    figures: list[Markup] = []
    if len(drawn) > 1 and len(limits) == 1:
        limit = limits.pop()
        figures = [Markup(exceedance(drawn, limit, width)) for width in (WIDTH, NARROW)]
    return pages().get_template("compare.html.j2").render(comparisons=comparisons, figures=figures)
