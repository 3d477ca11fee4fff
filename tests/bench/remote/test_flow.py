"""Measuring over ssh, on a real server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gensoup.bench.device_profile import DeviceProfile, KitTold
from gensoup.bench.probe_kit import ProbeKit
from gensoup.bench.probe_plan import ProbePlan
from gensoup.bench.probe_run import Step
from gensoup.cli import main
from gensoup.runtime.errors import UsageError

from .conftest import Sshd
from .test_cart import NO_ENSUREPIP

pytest.importorskip("paramiko")

from gensoup.bench.remote import flow
from gensoup.bench.remote.failures import RemoteError
from gensoup.bench.remote.flow import Job, probe_remotely

MakeKit = Callable[[Mapping[str, bytes]], ProbeKit]
PLAN = ProbePlan(64.0, seconds=0.5, height=120, width=160, threads=1)
ENGINE = "onnxruntime-cpu"
KEY = f"@32@fp32@{ENGINE}"
# What uv says when there is no network.
OFFLINE = ("as if it had no network",)


def test_a_cart_is_measured_and_what_was_measured_is_not_again(
    sshd: Sshd, make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit, out = make_kit({"small": tiny_model, "broken": b"no graph"}), tmp_path / "cart.json"
    command = ["probe", str(kit.path), "--out", str(out), *sshd.options(), "--engine", ENGINE]
    command += ["--seconds", "0.5", "--frames", "160x120", "--threads", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    said = capsys.readouterr()
    assert not stopped.value.code, said.err
    profile = DeviceProfile.load(out)
    assert set(profile.estimates) == {f"small{KEY}"} and "cannot load the model" in profile.failures[f"broken{KEY}"]
    assert profile.kit is not None and profile.kit.allowed_ms == pytest.approx(PLAN.bound_ms)
    assert "making an environment" in said.err and "copying 2 graphs" in said.err and "2/2" in said.err
    assert f"small{KEY}" in said.out and f"profile: {out}" in said.out
    # All of it lies in the folder of ours, and the package that measured is the one brought along.
    assert {path.name.partition("-")[0] for path in sshd.home.iterdir()} == {"environment", "kit", "profile"}
    assert len(list(sshd.home.glob("environment-*/venv/lib/*/site-packages/gensoup/cli.py"))) == 1
    steps: list[Step] = []
    notes: list[str] = []
    job = Job(kit, out, PLAN, ENGINE, remote_dir=str(sshd.home))
    assert probe_remotely(sshd.address, job, steps.append, notes.append) == profile
    assert steps == [] and notes == [f"{sshd.host}: measuring 2 graphs"]
    waits: list[float] = []

    def lose_it_early(line: str) -> None:
        notes.append(line)
        if not waits:
            sshd.hang_up()  # before anything is measured

    again = probe_remotely(sshd.address, replace(job, retry=True), steps.append, lose_it_early, waits.append)
    assert waits == [flow.WAITS_S[0]] and {step.key for step in steps} == {f"broken{KEY}"}
    assert again.estimates == profile.estimates and set(again.failures) == set(profile.failures)


def test_a_lost_connection_is_made_again_and_the_probe_goes_on(
    sshd: Sshd, make_kit: MakeKit, tiny_model: bytes, tmp_path: Path
) -> None:
    kit = make_kit({"a": tiny_model, "b": tiny_model})
    done: list[str] = []
    notes: list[str] = []
    waits: list[float] = []

    def watch(step: Step) -> None:
        if step.outcome is not None:
            done.append(step.key)
        if step.key == f"b{KEY}" and not waits:
            sshd.hang_up()  # within the second graph

    job = Job(kit, tmp_path / "p.json", PLAN, ENGINE, remote_dir=str(sshd.home))
    profile = probe_remotely(sshd.address, job, watch, notes.append, waits.append)
    assert profile.missing == 0 and set(profile.estimates) == {f"a{KEY}", f"b{KEY}"}
    assert done == [f"a{KEY}", f"b{KEY}"] and waits == [flow.WAITS_S[0]]
    assert any("the connection was lost" in line and "connecting again" in line for line in notes)


@pytest.mark.slow
def test_a_cart_that_is_gone_for_good_can_be_gone_on_with_later(
    sshd: Sshd, start_sshd: Callable[..., Sshd], make_kit: MakeKit, tiny_model: bytes, tmp_path: Path
) -> None:
    import numpy

    kit = make_kit({"c": tiny_model, "d": tiny_model})
    gone = start_sshd({"PYTHONPATH": str(Path(numpy.__file__).parent.parent)})
    job = Job(kit, tmp_path / "p.json", PLAN, ENGINE, remote_dir=str(sshd.home))

    def switch_off(step: Step) -> None:
        if step.outcome is not None:
            gone.hang_up()
            gone.process.kill()

    waits: list[float] = []
    with pytest.raises(RemoteError, match="call the same command again to go on"):
        probe_remotely(gone.address, job, switch_off, lambda line: None, waits.append)
    assert tuple(waits) == flow.WAITS_S and not job.out.exists()
    steps: list[Step] = []
    profile = probe_remotely(sshd.address, job, steps.append, lambda line: None)
    assert profile.missing == 0 and {step.key for step in steps} == {f"d{KEY}"}


def test_what_the_cart_complains_of_is_told(sshd: Sshd, make_kit: MakeKit, tiny_model: bytes, tmp_path: Path) -> None:
    kit = make_kit({"a": tiny_model})
    job = Job(kit, tmp_path / "p.json", PLAN, "tensorrt", remote_dir=str(sshd.home))
    with pytest.raises(RemoteError, match=rf"^{sshd.host}: engine 'tensorrt': .*usable here: all, onnxruntime-cpu"):
        probe_remotely(sshd.address, job, lambda step: None, lambda line: None)
    job.out.write_text("{}")
    with pytest.raises(UsageError, match=r"--out .*p\.json: malformed device profile"):
        probe_remotely(sshd.address, job, lambda step: None, lambda line: None)
    other = DeviceProfile.of_this_machine(64.0, {})
    other.save(job.out)
    with pytest.raises(UsageError, match="holds a profile of no kit"):
        probe_remotely(sshd.address, job, lambda step: None, lambda line: None)
    told = KitTold(kit.sha256, 1, {}, (ENGINE,), PLAN.bound_ms, PLAN.height, PLAN.width, PLAN.threads, {}, PLAN.seconds)
    replace(other, kit=told).save(job.out)
    with pytest.raises(UsageError, match=r"another plan \(--seconds: 0.5 then, the default now\)"):
        probe_remotely(
            sshd.address, replace(job, plan=replace(PLAN, seconds=None)), lambda step: None, lambda line: None
        )


@pytest.mark.slow
def test_a_bare_cart_gets_all_it_lacks_with_uv(
    start_sshd: Callable[..., Sshd], make_kit: MakeKit, tiny_model: bytes, tmp_path: Path
) -> None:
    """A Python without packages and without pip: everything is installed, from the registry or uv's own cache."""
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    if not os.access(uv, os.X_OK):
        pytest.skip("needs uv")
    (tmp_path / "sitecustomize.py").write_text(NO_ENSUREPIP)
    programs = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), "/usr/bin", "/bin", str(Path(uv).parent)])
    registry = {
        name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_", "HTTPS_", "https_"))
    }
    bare = start_sshd({**registry, "PYTHONPATH": str(tmp_path), "PATH": programs, "OMP_NUM_THREADS": "1"})
    kit = make_kit({"small": tiny_model})
    job = Job(kit, tmp_path / "p.json", PLAN, "all", remote_dir=str(bare.home))
    try:
        profile = probe_remotely(bare.address, job, lambda step: None, lambda line: None)
    except RemoteError as error:
        if any(word in str(error) for word in OFFLINE):
            pytest.skip("packages cannot be installed: no package index can be reached")
        raise
    assert set(profile.estimates) == {f"small{KEY}"}  # the one engine that was brought
    assert profile.device["openvino"] is None
    assert list(bare.home.glob("environment-*/venv/lib/*/site-packages/onnxruntime"))
    again = replace(job, out=tmp_path / "again.json")
    assert probe_remotely(bare.address, again, lambda step: None, lambda line: None) == profile
