"""A device profile of ``gensoup probe``, held to what a run asks and to where it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gensoup.bench.device_profile import Detail, DeviceProfile, KitTold, LatencyEstimate, profile_key
from gensoup.runtime.device import fingerprint
from gensoup.runtime.errors import UsageError
from gensoup.train import run_profile
from gensoup.train.constraint import admit
from gensoup.train.run_profile import RunProfile
from gensoup.train.settings import Settings

NAMES = ("shufflenet_v2_x0_5", "squeezenet1_1")
CART = {"model": "NVIDIA Jetson Orin Nano", "cpu": "ARM", "governor": "schedutil", "power_mode": "2 MAXN", "gpus": []}


def estimate(p99_ms: float) -> LatencyEstimate:
    intervals = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"), (p99_ms / 3, p99_ms * 1.1))
    detail = Detail(intervals, 90.0, 20.0, None, {}, 0.1, 0.0, True, "2025-01-02T03:04:05+00:00")
    return LatencyEstimate(p99_ms / 2, p99_ms / 1.5, p99_ms, 512, 0, detail)


def cart(path: Path, **changes: Any) -> Path:
    """A finished profile of 32 px in fp32 and int8 on two engines; int8 is the faster, OpenVINO too."""
    costs = {("fp32", "onnxruntime-cpu"): 30.0, ("fp32", "openvino-cpu"): 18.0, ("int8", "onnxruntime-cpu"): 9.0}
    estimates = {profile_key(NAMES[0], 32, *key): estimate(p99) for key, p99 in costs.items()}
    failures = {profile_key(NAMES[1], 32, "int8", "onnxruntime-cpu"): "onnxruntime cannot load the model"}
    kit = KitTold("ab" * 32, 4, {"32": "stretch"}, ("onnxruntime-cpu", "openvino-cpu"), 17.0, 1080, 1920, None, {})
    profile = DeviceProfile(CART, 50.0, estimates, failures, kit)
    replace(profile, **changes).save(path)
    return path


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    return lambda **changes: make_settings(
        Path("data"), **{"architectures": NAMES, "min_fps": 50.0, "sizes": (32,), **changes}
    )


def test_the_faster_engine_and_the_precision_asked_for_count(settings: Callable[..., Settings], tmp_path: Path) -> None:
    given = cart(tmp_path / "cart.json")
    held = RunProfile(tmp_path / "a", settings(), given)
    latency = held.untrained(NAMES[0], 32, 3)
    assert latency is not None and latency.p99_ms == 18.0  # by OpenVINO
    quantised = RunProfile(tmp_path / "b", settings(precision="int8"), given)
    latency = quantised.untrained(NAMES[0], 32, 3)
    assert latency is not None and latency.p99_ms == 9.0
    admission = admit(settings(precision="int8"), 3, quantised, lambda *call: None)
    assert [one.name for one in admission.candidates] == [NAMES[0]]
    (out,) = admission.excluded
    assert out.reason == "failed on the device (onnxruntime cannot load the model)"
    claim = quantised.claim(NAMES[0], 32)
    assert claim is not None and claim["device"] == CART and claim["given"] is True
    assert (claim["engine"], claim["precision"], claim["p99_ms"]) == ("onnxruntime-cpu", "int8", 9.0)
    assert claim["kit_sha256"] == "ab" * 32 and claim["measured_at"].startswith("2025-01-02")


def test_a_profile_that_knows_nothing_of_what_is_asked_is_refused(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    given = cart(tmp_path / "cart.json")
    for changes, wanted in (({"sizes": (64,)}, "64 px in fp32"), ({"precision": "fp16"}, "32 px in fp16")):
        with pytest.raises(UsageError, match=rf"none of the networks asked for at {wanted}, but 32 px in fp32, int8"):
            RunProfile(tmp_path / "run", settings(**changes), given)
    assert not (tmp_path / "run").exists()


def test_another_precision_than_fp32_needs_a_profile(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--precision int8: this machine is probed with fp32 alone"):
        RunProfile(tmp_path / "run", settings(precision="int8"), None)


def test_another_fit_and_an_unfinished_kit_are_noted(settings: Callable[..., Settings], tmp_path: Path) -> None:
    given = cart(tmp_path / "cart.json", failures={})
    unfinished, fitted = RunProfile(tmp_path / "run", settings(fit="crop"), given).notes
    assert "is not finished, 1 of 4 graphs" in unfinished
    assert "frames fitted by stretch, this run fits by crop" in fitted
    assert RunProfile(tmp_path / "same", settings(), cart(tmp_path / "whole.json")).notes == []


def test_a_profile_of_this_very_machine_as_it_was_before_is_noted(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fingerprint()
    given = cart(tmp_path / "cart.json", device=here)
    assert RunProfile(tmp_path / "same", settings(), given).notes == []
    monkeypatch.setattr(run_profile, "fingerprint", lambda: {**here, "onnxruntime": "9.9", "power_mode": "low-power"})
    (note,) = RunProfile(tmp_path / "same", settings(), given).notes
    assert "of a machine like this one" in note and "another version (onnxruntime" in note
    assert "another power mode (power_mode" in note
    monkeypatch.setattr(run_profile, "fingerprint", lambda: {**here, "cpu": "another", "onnxruntime": "9.9"})
    assert RunProfile(tmp_path / "same", settings(), given).notes == []  # training is elsewhere: as it should be


def test_nothing_is_claimed_where_nothing_was_timed(settings: Callable[..., Settings], tmp_path: Path) -> None:
    assert RunProfile(tmp_path, settings(min_fps=None), None).claim(NAMES[0], 32) is None
