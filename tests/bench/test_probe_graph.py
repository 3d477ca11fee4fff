"""When a graph has been measured for long enough; on frames that take no time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gate_samples import trace_of

from gensoup.bench import probe_graph
from gensoup.bench.paced import Trace
from gensoup.bench.probe_plan import ProbePlan
from gensoup.runtime.errors import EngineError

PLAN = ProbePlan(64.0, height=120, width=160)


class Told:
    """A classifier of which nothing but its engine's name is asked."""

    name = "an engine"

    @property
    def engine(self) -> Told:
        return self


def measured(monkeypatch: pytest.MonkeyPatch, latency_ms: Any, failing: bool = False) -> list[int]:
    """Frames of each look at a graph whose frames take ``latency_ms(number)``."""
    looked: list[int] = []

    def run(classifier: object, ring: object, rate_hz: float, seconds: float, *_: object) -> Trace:
        frames, before = round(rate_hz * seconds), sum(looked)
        looked.append(frames)
        trace = trace_of(np.array([latency_ms(before + number) for number in range(frames)], float))
        return replace(trace, failed=np.arange(frames) == frames - 1) if failing else trace

    monkeypatch.setattr(probe_graph, "run_paced", run)
    classifier: Any = Told()
    traces = probe_graph._until_settled(classifier, PLAN, lambda share: None)
    assert [len(trace.scheduled) for trace in traces] == looked
    return looked


def test_a_graph_is_measured_until_there_is_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, lambda number: 40.0) == [128]  # hopeless
    assert measured(monkeypatch, lambda number: 8.0) == [128, 384]  # 128 frames know no upper bound
    near = measured(monkeypatch, lambda number: 14.0 if number % 100 == 50 else 8.0)  # one in a hundred is too late
    assert near == [128, 384, 512, 1024]


def test_one_frame_that_fails_fails_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="an engine failed on 1 of 128 frames"):
        measured(monkeypatch, lambda number: 8.0, failing=True)
