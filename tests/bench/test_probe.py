from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gensoup.bench import probe as probe_module
from gensoup.bench.probe import probe, probe_seconds
from gensoup.runtime.errors import EngineError
from gensoup.runtime.preprocess import Preprocess


def test_probing_measures_the_whole_path_of_a_graph(tiny_model: bytes) -> None:
    estimate = probe(tiny_model, Preprocess(32), seconds=0.5, frame_height=480, frame_width=640, threads=1)
    assert estimate.frames == 32
    assert 0 < estimate.p50_ms <= estimate.p95_ms <= estimate.p99_ms
    assert 0 <= estimate.drops < 32


def test_frames_are_shared_between_calls(tiny_model: bytes) -> None:
    probe_module.probe_ring.cache_clear()
    for _ in range(2):
        probe(tiny_model, Preprocess(32), seconds=0.1, frame_height=480, frame_width=640)
    assert probe_module.probe_ring.cache_info().hits == 1


def test_a_slow_rate_is_probed_for_longer() -> None:
    assert probe_seconds(64.0) == probe_seconds(25.0) == 4.0
    for rate in (20.0, 2.0, 0.5):
        assert rate * probe_seconds(rate) == pytest.approx(100)


def test_a_graph_too_slow_for_the_rate_drops_frames(make_tiny_model: Callable[..., bytes]) -> None:
    model = make_tiny_model(size=2048)  # 13 million values to enlarge, cast and average, 500 times a second
    estimate = probe(model, Preprocess(2048), rate_hz=500, seconds=0.4, frame_height=120, frame_width=160, threads=1)
    assert estimate.drops > 0
    assert estimate.p99_ms == math.inf


def test_what_is_no_graph_is_an_engine_error() -> None:
    with pytest.raises(EngineError):
        probe(b"no graph", Preprocess(32))
