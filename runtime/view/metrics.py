"""The stream's numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gensoup import __version__
from gensoup.runtime.result import Result, State
from gensoup.runtime.view.board import ENDED, WAITING, Board

# Seconds. 1/64 is the frame rate that the gate asks for, 1/60, 1/50 and so on are cameras'.
_BUCKETS = (0.002, 0.004, 0.006, 0.008, 0.010, 0.0125, 1 / 64, 1 / 60, 0.02, 0.025, 1 / 30, 0.04, 0.1, 0.25, 1.0)
_STATES = (*(state.value for state in State), WAITING, ENDED)


class Metrics(Collector):
    """Counts results as they come; what the board knows anyway is read from it when somebody asks."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "gensoup_latency_seconds",
            "From push to the result: copy, wait, preprocessing and inference.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._age = Histogram(
            "gensoup_age_seconds", "From capture to the result.", buckets=_BUCKETS, registry=self._registry
        )
        self._labels = Counter(
            "gensoup_labels", "Results that name each label, by raw scores.", ["label"], registry=self._registry
        )
        for label in board.about.labels:
            self._labels.labels(label)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # memory, CPU time, open files

    def add(self, result: Result) -> None:
        """Count a result."""
        if result.prediction is not None:
            self._latency.observe(result.latency_ms / 1e3)
            self._age.observe(result.age_ms / 1e3)
            self._labels.labels(result.prediction.label).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' registry calls."""
        board, about = self._board, self._board.about
        now, (drops, states), statistics = board.now(), board.totals(), board.statistics()
        yield CounterMetricFamily("gensoup_drops", "Frames replaced by newer ones before they were classified.", drops)
        results = CounterMetricFamily("gensoup_results", "Results by the state they came in.", labels=["state"])
        for state in (one.value for one in State):
            results.add_metric([state], states.get(state, 0))
        yield results
        standing = GaugeMetricFamily("gensoup_state", "1 for the state the stream is in now.", labels=["state"])
        for state in _STATES:
            standing.add_metric([state], float(state == now.state))
        yield standing
        if now.result is not None:
            yield GaugeMetricFamily("gensoup_newest_age_seconds", "Age of the newest result now.", now.age_ms / 1e3)
        yield GaugeMetricFamily("gensoup_fps", "Results a second, over two seconds.", statistics["fps"])
        yield GaugeMetricFamily("gensoup_limit_seconds", "A result later than this is LATE.", about.limit_ms / 1e3)
        names = {
            "engine": now.result.engine if now.result is not None else "",
            "precision": about.precision,
            "bundle": about.bundle,
            "sha256": (now.result.bundle if now.result is not None else "") or about.sha256,
            "source": about.source,
            "mode": about.mode,
            "version": __version__,
        }
        yield InfoMetricFamily("gensoup_engine", "What classifies.", value=names)
