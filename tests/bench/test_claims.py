from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gensoup.bench.claims import CLAIM, claim_line, claim_notes, unlike_claim
from gensoup.runtime.bundle import read_bundle, write_bundle
from gensoup.runtime.device import fingerprint

HERE = fingerprint()
CLAIMED = {
    "given": True,
    "device": HERE,
    "engine": "onnxruntime-cpu",
    "precision": "fp32",
    "rate_hz": 64.0,
    "p99_ms": 9.0,
    "measured_at": "2025-01-02T03:04:05+00:00",
}


def notes(
    engine: str = "onnxruntime-cpu", precision: str = "fp32", rate_hz: float = 64.0, **changed: object
) -> list[str]:
    return unlike_claim({CLAIM: {**CLAIMED, **changed}}, HERE, engine, precision, rate_hz)


def test_the_very_device_is_as_claimed() -> None:
    assert notes() == notes(rate_hz=30.0) == notes(rate_hz=64.1) == []


def test_another_device_version_and_power_mode_are_told() -> None:
    (line,) = notes(device={**HERE, "cpu": "Cortex-A78", "onnxruntime": "1.0", "power_mode": "0 15W"})
    assert line.startswith(
        "the network was chosen for latencies of Cortex-A78, power mode 0 15W on 2025-01-02; here is "
    )
    for part in ("another device (cpu Cortex-A78 then", "another version (onnxruntime 1.0 then", "another power mode"):
        assert part in line


def test_another_engine_precision_and_a_faster_camera_are_told() -> None:
    (line,) = notes(engine="openvino-cpu")
    assert line == "the network was chosen for onnxruntime-cpu in fp32; here runs openvino-cpu in fp32"
    (line,) = notes(precision="int8")
    assert line.endswith("here runs onnxruntime-cpu in int8")
    (line,) = notes(rate_hz=120.0)
    assert line == "the network was chosen for 64 frames a second; here are 120"


def test_a_bundle_without_a_claim_or_with_an_odd_one_says_nothing() -> None:
    for provenance in ({}, {CLAIM: None}, {CLAIM: "x"}, {CLAIM: {"device": 3}}, {CLAIM: {"device": {}}}):
        assert unlike_claim(provenance, HERE, "onnxruntime-cpu", "fp32", 64.0) == []


def test_the_claim_is_read_from_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    assert claim_notes(tiny_bundle, HERE, "onnxruntime-cpu", "fp32", 64.0) == []
    bundle, path = read_bundle(tiny_bundle), tmp_path / "claiming.gensoup"
    claimed = replace(bundle.manifest, provenance={CLAIM: {**CLAIMED, "device": {**HERE, "cpu": "Cortex-A78"}}})
    write_bundle(path, claimed, bundle.models, bundle.golden)
    (line,) = claim_notes(path, HERE, "onnxruntime-cpu", "fp32", 64.0)
    assert "another device (cpu Cortex-A78 then" in line
    path.write_bytes(b"damaged meanwhile")
    assert claim_notes(path, HERE, "onnxruntime-cpu", "fp32", 64.0) == []


def test_a_claim_in_a_line() -> None:
    line = claim_line({**CLAIMED, "device": {"model": "NVIDIA Jetson Orin Nano", "power_mode": "2 MAXN"}})
    assert line == (
        "p99 9.0 ms at 64.0 Hz by onnxruntime-cpu in fp32 on NVIDIA Jetson Orin Nano, power mode 2 MAXN, 2025-01-02"
    )
    assert claim_line({}).startswith("p99 unbounded at None Hz")
