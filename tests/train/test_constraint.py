"""The hard limit, by construction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gensoup.bench.device_profile import HEADROOM, DeviceProfile, LatencyEstimate, profile_key
from gensoup.export.architectures import build
from gensoup.runtime.errors import DataError, GenSoupError, UsageError
from gensoup.train import run_profile
from gensoup.train.constraint import admit
from gensoup.train.run_profile import RunProfile
from gensoup.train.settings import Settings

NAMES = ("shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_small")
FPS = 50.0
LIMIT = 1e3 / FPS


def silent(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


def profile(path: Path, size: int = 32, **p99_ms: float) -> Path:
    """A device profile file with these 99th percentiles."""
    estimates = {
        profile_key(name, size, "fp32"): LatencyEstimate(value / 2, value / 1.5, value, 100, 0)
        for name, value in p99_ms.items()
    }
    DeviceProfile({"gpu": "somewhere else"}, FPS, estimates).save(path)
    return path


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    return lambda **changes: make_settings(Path("data"), **{"architectures": NAMES, **changes})


@pytest.fixture
def never_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("this machine was probed")

    monkeypatch.setattr(run_profile, "probe", refuse)


def test_too_many_multiply_adds_are_out_with_the_reason(
    settings: Callable[..., Settings], tmp_path: Path, never_probed: None
) -> None:
    chosen = settings(sizes=(64,), max_macs=10.0)
    calls: list[tuple[str, int, int]] = []
    admission = admit(chosen, 3, RunProfile(tmp_path, chosen, None), lambda *call: calls.append(call))
    assert [one.name for one in admission.candidates] == ["shufflenet_v2_x0_5", "mobilenet_v3_small"]
    (out,) = admission.excluded
    assert out.name == "squeezenet1_1" and out.reason.endswith("M multiply-adds, limit 10 M") and out.excess > 1
    assert all(one.macs <= 10e6 and one.latency is None for one in admission.candidates)
    assert calls[-1] == ("limits", 3, 3)
    assert list(tmp_path.iterdir()) == []


def test_the_deploy_size_counts(settings: Callable[..., Settings], tmp_path: Path) -> None:
    small, large = (settings(sizes=(size,), architectures=NAMES[:1], max_macs=10.0) for size in (64, 128))
    admit(small, 3, RunProfile(tmp_path, small, None), silent)
    with pytest.raises(GenSoupError, match="at 128 px"):
        admit(large, 3, RunProfile(tmp_path, large, None), silent)


def test_nothing_fits_names_the_nearest_and_the_remedy(settings: Callable[..., Settings], tmp_path: Path) -> None:
    chosen = settings(max_macs=0.5)
    with pytest.raises(GenSoupError, match=r"nearest is shufflenet_v2_x0_5.*--max-macs.*--size") as error:
        admit(chosen, 3, RunProfile(tmp_path, chosen, None), silent)
    assert "\n" not in str(error.value)


def test_a_given_profile_is_obeyed_and_copied(
    settings: Callable[..., Settings], tmp_path: Path, never_probed: None
) -> None:
    given = profile(tmp_path / "cart.json", shufflenet_v2_x0_5=HEADROOM * LIMIT, squeezenet1_1=HEADROOM * LIMIT + 0.1)
    run = tmp_path / "run"
    chosen = settings(min_fps=FPS)
    held = RunProfile(run, chosen, given)
    admission = admit(chosen, 3, held, silent)
    assert [one.name for one in admission.candidates] == ["shufflenet_v2_x0_5"]
    latency = admission.candidate("shufflenet_v2_x0_5").latency
    assert latency is not None and latency.p99_ms == HEADROOM * LIMIT
    reasons = {one.name: one.reason for one in admission.excluded}
    assert "p99 17.1 ms a frame, allowed 17.0 ms" in reasons["squeezenet1_1"]
    assert "not in the device profile at 32 px in fp32" in reasons["mobilenet_v3_small"]
    (copy,) = run.iterdir()
    assert DeviceProfile.load(copy) == DeviceProfile.load(given)
    given.unlink()
    # Resumed without naming it again, or once the file is gone: still that device, never this machine.
    resumed = RunProfile(run, chosen, None)
    assert admit(chosen, 3, resumed, silent) == admission
    assert resumed.fused("mobilenet_v3_small", 32, build("mobilenet_v3_small", 3)) is None
    fused = resumed.fused("shufflenet_v2_x0_5", 32, build("shufflenet_v2_x0_5", 3))
    assert fused is not None and fused.p99_ms == HEADROOM * LIMIT


def test_another_profile_for_a_run_that_began_is_refused(settings: Callable[..., Settings], tmp_path: Path) -> None:
    first = profile(tmp_path / "a.json", shufflenet_v2_x0_5=3.0)
    other = profile(tmp_path / "b.json", shufflenet_v2_x0_5=4.0)
    run = tmp_path / "run"
    RunProfile(run, settings(min_fps=FPS), first)
    RunProfile(run, settings(min_fps=FPS), first)
    with pytest.raises(UsageError, match="--device-profile"):
        RunProfile(run, settings(min_fps=FPS), other)


def test_frames_dropped_are_the_reason_where_there_is_no_percentile(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "cart.json"
    key = profile_key(NAMES[0], 32, "fp32")
    estimates = {key: LatencyEstimate(5.0, float("inf"), float("inf"), 256, 40)}
    DeviceProfile({}, FPS, estimates).save(path)
    chosen = settings(min_fps=FPS, architectures=NAMES[:1])
    with pytest.raises(GenSoupError, match="40 of 256 frames dropped"):
        admit(chosen, 3, RunProfile(tmp_path / "run", chosen, path), silent)


def test_latencies_of_a_slower_rate_are_refused_and_of_a_faster_one_noted(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    given = profile(tmp_path / "cart.json", shufflenet_v2_x0_5=3.0)
    with pytest.raises(UsageError, match=r"--device-profile: was measured at 50 .* asks for 60") as error:
        RunProfile(tmp_path / "run", settings(min_fps=60.0), given)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
    assert RunProfile(tmp_path / "same", settings(min_fps=50.02), given).notes == []
    (note,) = RunProfile(tmp_path / "slower", settings(min_fps=25.0), given).notes
    assert "measured at 50 frames a second, --min-fps asks for 25" in note
    assert RunProfile(tmp_path / "slower", settings(min_fps=25.0), None).notes == [note]  # resumed
    assert RunProfile(tmp_path / "latency", settings(max_latency_ms=10.0), given).notes == []  # no rate is asked for
    assert RunProfile(tmp_path / "probed", settings(min_fps=25.0), None).notes == []


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 1}'])
def test_a_damaged_profile_is_named(settings: Callable[..., Settings], tmp_path: Path, content: str) -> None:
    (tmp_path / "cart.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"cart\.json"):
        RunProfile(tmp_path / "run", settings(min_fps=FPS), tmp_path / "cart.json")
    assert not (tmp_path / "run").exists()


def test_this_machine_is_probed_once_an_architecture_and_never_again(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[bytes] = []

    def measured(graph: bytes, *arguments: object, rate_hz: float) -> LatencyEstimate:
        assert rate_hz == FPS
        probed.append(graph)
        return LatencyEstimate(1.0, 2.0, 3.0 + len(probed), 100, 0)

    monkeypatch.setattr(run_profile, "probe", measured)  # what it measures is another test's: here, how often
    monkeypatch.setattr(run_profile, "to_onnx", lambda model, temperature, size: b"graph")
    chosen = settings(min_fps=FPS, architectures=NAMES[:1])
    held = RunProfile(tmp_path, chosen, None)
    admission = admit(chosen, 3, held, silent)
    held.fused(NAMES[0], 32, build(NAMES[0], 3))
    assert len(probed) == 2
    resumed = RunProfile(tmp_path, chosen, None)
    assert admit(chosen, 3, resumed, silent) == admission
    assert resumed.fused(NAMES[0], 32, build(NAMES[0], 3)) == LatencyEstimate(1.0, 2.0, 5.0, 100, 0)
    assert len(probed) == 2


def test_without_weights_an_architecture_is_out_unless_they_are_drawn(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    save_file(build(NAMES[0], 1000).state_dict(), weights / f"{NAMES[0]}.safetensors")
    (weights / f"{NAMES[1]}.safetensors").write_bytes(b"damaged")
    drawn = settings(weights_dir=str(weights))
    admission = admit(drawn, 3, RunProfile(tmp_path, drawn, None), silent)
    assert [one.name for one in admission.candidates] == [NAMES[0], NAMES[2]]
    assert admission.candidates[0].pretrained is not None and admission.candidates[1].pretrained is None
    assert f"{NAMES[1]}.safetensors: not a readable weights file" in admission.excluded[0].reason

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    wanted = settings(weights_dir=str(weights), init="pretrained")
    admission = admit(wanted, 3, RunProfile(tmp_path, wanted, None), silent)
    assert [one.name for one in admission.candidates] == [NAMES[0]]
    reasons = {one.name: one.reason for one in admission.excluded}
    assert "no ImageNet weights" in reasons[NAMES[2]] and "--init random" in reasons[NAMES[2]]
    assert all("\n" not in reason for reason in reasons.values())
    over = settings(weights_dir=str(weights), init="pretrained", architectures=NAMES[1:], max_macs=2.5)
    with pytest.raises(
        GenSoupError, match=r"^no architecture meets the limits.* Not tried: mobilenet_v3_small: .*weights"
    ):
        admit(over, 3, RunProfile(tmp_path, over, None), silent)


def test_a_size_a_network_cannot_take_is_a_reason(settings: Callable[..., Settings], tmp_path: Path) -> None:
    chosen = settings(sizes=(32,), architectures=(NAMES[0], "inception_v3"), max_macs=1e6)
    admission = admit(chosen, 3, RunProfile(tmp_path, chosen, None), silent)
    assert "does not work at 32 px" in admission.excluded[0].reason
    assert "\n" not in admission.excluded[0].reason


def test_of_several_sizes_each_network_gets_the_largest_that_fits(
    settings: Callable[..., Settings], tmp_path: Path, never_probed: None
) -> None:
    estimates = {
        profile_key(name, size, "fp32"): LatencyEstimate(p99 / 2, p99 / 1.5, p99, 100, 0)
        for name, costs in {
            NAMES[0]: (5.0, 9.0, 16.0),
            NAMES[1]: (8.0, 18.0, 30.0),
            NAMES[2]: (18.0, 20.0, 30.0),
        }.items()
        for size, p99 in zip((32, 64, 96), costs, strict=True)
    }
    DeviceProfile({}, FPS, estimates).save(tmp_path / "cart.json")
    chosen = settings(min_fps=FPS, sizes=(64, 32, 96))
    admission = admit(chosen, 3, RunProfile(tmp_path / "run", chosen, tmp_path / "cart.json"), silent)
    assert {one.name: one.size for one in admission.candidates} == {NAMES[0]: 96, NAMES[1]: 32}
    (out,) = admission.excluded  # the reason at the smallest size
    assert out.name == NAMES[2] and "p99 18.0 ms" in out.reason


def test_a_limit_of_latency_alone_is_obeyed(
    settings: Callable[..., Settings], tmp_path: Path, never_probed: None
) -> None:
    given = profile(tmp_path / "cart.json", **dict(zip(NAMES, (8.0, 8.6, 30.0), strict=True)))
    chosen = settings(max_latency_ms=10.0)
    admission = admit(chosen, 3, RunProfile(tmp_path / "run", chosen, given), silent)
    assert [one.name for one in admission.candidates] == [NAMES[0]]
    with pytest.raises(GenSoupError, match="Raise --max-latency-ms"):
        admit(settings(max_latency_ms=1.0), 3, RunProfile(tmp_path / "run", chosen, given), silent)
