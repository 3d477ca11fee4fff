"""The file that carries latencies from a device to training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from gate_samples import latencies, measurement_of, trace_of

from gensoup.bench.device_profile import Detail, DeviceProfile, KitTold, LatencyEstimate, profile_key
from gensoup.bench.judge import judge
from gensoup.bench.result_file import bench_result, write_bench_result
from gensoup.runtime.errors import DataError

DETAIL = Detail(
    intervals={"p50_ms": (6.9, 7.3), "p95_ms": (8.0, 8.9), "p99_ms": (8.5, math.inf)},
    load_ms=120.0,
    first_frame_ms=30.5,
    build_ms=None,
    engine_ms={"p50_ms": 5.0, "p95_ms": 6.0, "p99_ms": 7.0},
    lateness_ms=0.1,
    taken_fraction=None,
    settled=True,
    measured_at="2025-01-02T03:04:05+00:00",
)
KIT = KitTold("ab", 4, {"224": "stretch"}, ("onnxruntime-cpu", "openvino-cpu"), 13.3, 1080, 1920, None, {"torch": "2"})
ESTIMATES = {
    profile_key("squeezenet1_1", 224, "fp32"): LatencyEstimate(7.1, 8.2, 9.3, 256, 0),
    profile_key("convnext_tiny", 224, "fp32"): LatencyEstimate(60.0, math.inf, math.inf, 256, 190),
}


def full() -> DeviceProfile:
    """What gensoup probe writes, with one of four graphs to go."""
    fast, slow = LatencyEstimate(7.1, 8.2, 9.3, 256, 0, DETAIL), LatencyEstimate(6.0, 9.0, 12.0, 512, 0, DETAIL)
    keys = [profile_key("a", 224, "fp32", engine) for engine in KIT.engines]
    failed = {profile_key("b", 224, "fp32", "openvino-cpu"): "does not load"}
    return replace(
        DeviceProfile.of_this_machine(64.0, dict(zip(keys, (fast, slow), strict=True))), failures=failed, kit=KIT
    )


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "cart.json"
    profile = DeviceProfile.of_this_machine(64.0, ESTIMATES)
    profile.save(path)
    assert DeviceProfile.load(path) == profile
    text = json.loads(path.read_text())
    assert text["schema_version"] == 2
    assert text["device"]["cores"] >= 1
    assert text["estimates"]["convnext_tiny@224@fp32"]["p99_ms"] is None


def valid() -> dict[str, object]:
    entry = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": None, "frames": 9, "drops": 0}
    return {"schema_version": 1, "device": {}, "rate_hz": 64.0, "estimates": {"a@224@fp32": entry}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 3}, "newer"),
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


def test_what_a_probe_tells_survives_its_file(tmp_path: Path) -> None:
    full().save(tmp_path / "cart.json")
    profile = DeviceProfile.load(tmp_path / "cart.json")
    assert profile == full()
    assert profile.missing == 1 and profile.measured_at == DETAIL.measured_at
    assert profile.held() == {"sizes": {"224"}, "precisions": {"fp32"}}


def test_the_engine_that_is_faster_by_its_median_counts() -> None:
    profile = full()
    best = profile.best("a", 224, "fp32")
    assert best is not None and (best[0], best[1].p99_ms) == ("openvino-cpu", 12.0)
    assert profile.best("a", 224, "int8") is None and profile.best("a", 22, "fp32") is None
    assert profile.failure("b", 224, "fp32") == "does not load" and profile.failure("a", 224, "fp32") is None
    own = DeviceProfile({}, 64.0, {"a@224@fp32": LatencyEstimate(1, 2, 3, 9, 0), "a@224@fp32-fused": ESTIMATES_FUSED})
    best = own.best("a", 224, "fp32")
    assert best is not None and best == ("", LatencyEstimate(1, 2, 3, 9, 0))


ESTIMATES_FUSED = LatencyEstimate(0.1, 0.2, 0.3, 9, 0)


def test_a_kit_in_its_place_is_told_from_a_profile(tmp_path: Path) -> None:
    (tmp_path / "kit.json").write_text(json.dumps({"schema_version": 1, "complete": True, "classes": 5, "graphs": []}))
    with pytest.raises(DataError, match=rf"kit\.json: is a probe kit.*gensoup probe {tmp_path} on the device") as error:
        DeviceProfile.load(tmp_path / "kit.json")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="is a folder; gensoup probe KIT"):
        DeviceProfile.load(tmp_path)


def test_a_result_of_another_command_in_its_place_is_named(tmp_path: Path) -> None:
    measurement = measurement_of(trace_of(latencies()))
    write_bench_result(tmp_path / "bench.json", bench_result(judge(measurement), measurement))
    (tmp_path / "eval.json").write_text(json.dumps({"confusion_matrix": [[1]], "data_fingerprint": "ab"}))
    for name in ("bench", "eval"):
        said = rf"{name}\.json: is a result of `gensoup {name}`, no device profile; give what gensoup probe KIT wrote"
        with pytest.raises(DataError, match=said) as error:
            DeviceProfile.load(tmp_path / f"{name}.json")
        assert "\n" not in str(error.value)
