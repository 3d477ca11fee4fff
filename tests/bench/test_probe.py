from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gensoup.bench import probe as probe_module
from gensoup.bench.probe import DeviceProfile, LatencyEstimate, probe, probe_seconds, profile_key
from gensoup.runtime.errors import DataError, EngineError
from gensoup.runtime.preprocess import Preprocess

ESTIMATES = {
    profile_key("squeezenet1_1", 224, "fp32"): LatencyEstimate(7.1, 8.2, 9.3, 256, 0),
    profile_key("convnext_tiny", 224, "fp32"): LatencyEstimate(60.0, math.inf, math.inf, 256, 190),
}


def test_probing_measures_the_whole_path_of_a_graph(tiny_model: bytes) -> None:
    estimate = probe(tiny_model, Preprocess(32), seconds=0.5, frame_height=480, frame_width=640, threads=1)
    assert estimate.frames == 32
    assert 0 < estimate.p50_ms <= estimate.p95_ms <= estimate.p99_ms
    assert 0 <= estimate.drops < 32


def test_frames_are_shared_between_calls(tiny_model: bytes) -> None:
    probe_module._ring.cache_clear()
    for _ in range(2):
        probe(tiny_model, Preprocess(32), seconds=0.1, frame_height=480, frame_width=640)
    assert probe_module._ring.cache_info().hits == 1


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


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "cart.json"
    profile = DeviceProfile.of_this_machine(64.0, ESTIMATES)
    profile.save(path)
    assert DeviceProfile.load(path) == profile
    text = json.loads(path.read_text())
    assert text["schema_version"] == 1
    assert text["device"]["cores"] >= 1
    assert text["estimates"]["convnext_tiny@224@fp32"]["p99_ms"] is None


def valid() -> dict[str, object]:
    entry = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": None, "frames": 9, "drops": 0}
    return {"schema_version": 1, "device": {}, "rate_hz": 64.0, "estimates": {"a@224@fp32": entry}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "newer"),
        ({"schema_version": "x"}, "malformed"),
        ({"rate_hz": 0}, "malformed"),
        ({"rate_hz": "64"}, "malformed"),
        ({"device": None}, "malformed"),
        ({"estimates": []}, "malformed"),
        ({"estimates": {"a@224": {}}}, "malformed"),
        ({"estimates": {"a@224@fp32": {"p50_ms": 1.0}}}, "malformed"),
        ({"estimates": {"a@224@fp32": {"p50_ms": 3, "p95_ms": 2, "p99_ms": 4, "frames": 1, "drops": 0}}}, "order"),
        ({"estimates": {"a@224@fp32": {"p50_ms": -1, "p95_ms": 2, "p99_ms": 4, "frames": 1, "drops": 0}}}, "malformed"),
    ],
)
def test_a_malformed_or_newer_profile_is_one_line(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "cart.json"
    path.write_text(json.dumps({**valid(), **change}))
    with pytest.raises(DataError, match=reason) as caught:
        DeviceProfile.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b"3"])
def test_what_is_no_profile_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cart.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cart\.json"):
        DeviceProfile.load(path)


def test_a_missing_profile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cart.json"
    path.write_text(json.dumps(valid()))
    assert DeviceProfile.load(path).estimates["a@224@fp32"].p99_ms == math.inf
    with pytest.raises(DataError, match=r"gone\.json"):
        DeviceProfile.load(tmp_path / "gone.json")
