"""Figures of the real-time gate."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from gensoup.bench.figures_latency import latency_histogram, latency_timeline


def words(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_late_and_dropped_frames_are_counted() -> None:
    latency = np.array([3.0, 4.0, 20.0, np.inf, np.inf, 5.0])
    shown = words(latency_timeline(np.arange(6) / 64, latency, 15.625))
    assert "late (1)" in shown and "dropped (2)" in shown and "15.6 ms" in shown


@pytest.mark.parametrize("latency", [[np.inf] * 4, [3.0], [100.0, 200.0]], ids=["all dropped", "one", "all late"])
def test_every_outcome_draws(latency: list[float]) -> None:
    values = np.array(latency)
    assert "15.6 ms" in words(latency_timeline(np.arange(len(values)) / 64, values, 15.625))
    shown = words(latency_histogram(values, 15.625))
    assert "15.6 ms" in shown and "$" not in shown and "mathdefault" not in shown
