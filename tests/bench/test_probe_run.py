"""A whole kit into a profile, with graphs that fail, and processes that are killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gensoup.bench import probe_process, probe_run
from gensoup.bench.device_profile import DeviceProfile
from gensoup.bench.probe_kit import ProbeKit
from gensoup.bench.probe_plan import ProbePlan
from gensoup.bench.probe_run import Step, engines_named, probe_kit
from gensoup.runtime.errors import DataError, UsageError

MakeKit = Callable[[Mapping[str, bytes]], ProbeKit]
PLAN = ProbePlan(64.0, seconds=0.5, height=120, width=160, threads=1)
ENGINES = ("onnxruntime-cpu",)
KEY = "@32@fp32@onnxruntime-cpu"


def test_every_graph_is_measured_or_says_why_not_and_nothing_is_measured_twice(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, out = make_kit({"broken": b"no graph", "small": tiny_model}), tmp_path / "p.json"
    steps: list[Step] = []
    profile = probe_kit(kit, out, PLAN, ENGINES, told_step=steps.append)
    assert DeviceProfile.load(out) == profile and profile.missing == 0
    assert set(profile.estimates) == {f"small{KEY}"}
    assert "onnxruntime cannot load the model" in profile.failures[f"broken{KEY}"]
    estimate = profile.estimates[f"small{KEY}"]
    detail = estimate.detail
    assert estimate.frames == 32 and detail is not None
    low, high = detail.intervals["p50_ms"]
    assert low <= estimate.p50_ms <= high
    assert 0 < detail.engine_ms["p50_ms"] < estimate.p50_ms
    assert detail.load_ms > 0 and detail.first_frame_ms > 0 and detail.build_ms is None
    assert profile.kit is not None and profile.kit.sha256 == kit.sha256 and profile.kit.allowed_ms == PLAN.bound_ms
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert [round(step.done) for step in steps if step.outcome is not None] == [1, 2]

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(probe_run, "probe_apart", refuse)
    assert probe_kit(kit, out, PLAN, ENGINES) == profile
    with pytest.raises(AssertionError):
        probe_kit(kit, out, PLAN, ENGINES, retry=True)


def test_killed_at_any_moment_it_goes_on_where_it_was(make_kit: MakeKit, tiny_model: bytes, tmp_path: Path) -> None:
    kit, out = make_kit({"a": tiny_model, "b": tiny_model}), tmp_path / "p.json"
    command = [sys.executable, "-m", "gensoup", "probe", str(kit.path), "--out", str(out), "--lines"]
    command += ["--engine", "onnxruntime-cpu", "--seconds", "0.5", "--frames", "160x120", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            step = json.loads(line)
            if step["key"] == f"b{KEY}" and step["done"] > 1:
                process.send_signal(signal.SIGKILL)  # within the second graph
    begun = DeviceProfile.load(out)
    assert set(begun.estimates) == {f"a{KEY}"} and begun.missing == 1
    steps: list[Step] = []
    profile = probe_kit(kit, out, PLAN, ENGINES, told_step=steps.append)
    assert {step.key for step in steps} == {f"b{KEY}"}
    assert profile.missing == 0 and profile.estimates[f"a{KEY}"] == begun.estimates[f"a{KEY}"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_graph_that_takes_its_process_along_is_recorded(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit({"a": tiny_model})
    for code, reason in (
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL, perhaps for want of memory"),
        ("import sys; sys.exit('CUDA is gone')", r"ended with code 1 \(CUDA is gone\)"),
    ):
        monkeypatch.setattr(probe_process, "_START", code)
        profile = probe_kit(kit, tmp_path / f"{len(reason)}.json", PLAN, ENGINES)
        (failure,) = profile.failures.values()
        assert re.search(reason, failure), failure
    monkeypatch.setattr(probe_process, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(probe_process, "SILENCE_S", 0.2)
    (failure,) = probe_kit(kit, tmp_path / "hung.json", PLAN, ENGINES).failures.values()
    assert "nothing heard of it for 0.2 s" in failure


def test_a_damaged_kit_is_refused_before_anything_is_measured(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path
) -> None:
    kit = make_kit({"a": tiny_model, "b": tiny_model})
    (kit.path / kit.graphs[1].file).write_bytes(tiny_model[:-1])
    with pytest.raises(DataError, match=r"b-32-fp32\.onnx: damaged.*copy the whole kit again"):
        probe_kit(kit, tmp_path / "p.json", PLAN, ENGINES)
    assert not (tmp_path / "p.json").exists()


def test_a_profile_of_something_else_is_neither_gone_on_with_nor_lost(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_process, "_START", "raise SystemExit")  # every graph fails at once: enough here
    kit, out = make_kit({"a": tiny_model}), tmp_path / "p.json"
    probe_kit(kit, out, PLAN, ENGINES)
    before = out.read_bytes()
    other = replace(kit, classes=4)
    with pytest.raises(UsageError, match="holds a profile of another kit; name another file"):
        probe_kit(other, out, PLAN, ENGINES)
    with pytest.raises(UsageError, match="holds a profile of 64 frames a second"):
        probe_kit(kit, out, replace(PLAN, rate_hz=30.0), ENGINES)
    for changed, said in (
        ({"threads": 2}, "--threads: 1 then, 2 now"),
        ({"threads": None}, "--threads: 1 then, the default now"),
        ({"seconds": 4.0}, "--seconds: 0.5 then, 4 now"),
        ({"seconds": None}, "--seconds: 0.5 then, the default now"),
        ({"height": 240, "width": 320}, "--frames: 160x120 then, 320x240 now"),
        ({"allowed_ms": 8.0}, "the latency allowed: 13.28 ms then, 8.00 ms now"),
    ):
        with pytest.raises(UsageError, match=rf"another plan \({said}\); name another file, or remove that one"):
            probe_kit(kit, out, replace(PLAN, **changed), ENGINES)  # type: ignore[arg-type]
    values = json.loads(before)
    assert values["kit"].pop("seconds") == 0.5
    out.write_text(json.dumps(values))  # as older versions wrote it: for how long is not known, so not held against it
    assert set(probe_kit(kit, out, replace(PLAN, seconds=4.0), ENGINES).failures) == {f"a{KEY}"}
    values["device"] |= {"cpu": "another", "onnxruntime": "0.1", "governor": "powersave"}
    out.write_text(json.dumps(values))
    with pytest.raises(UsageError, match=r"another device \(cpu another then.*another version.*another power mode"):
        probe_kit(kit, out, PLAN, ENGINES)
    assert json.loads(out.read_bytes()) == values
    out.write_text("{}")
    with pytest.raises(UsageError, match=r"p\.json: malformed device profile.*or name another file"):
        probe_kit(kit, out, PLAN, ENGINES)


def test_two_probes_of_one_kit_at_once_are_refused(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(probe_run, "_LOCK_PATIENCE_S", 0.3)
    kit = make_kit({"a": tiny_model})
    with (kit.path / "kit.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another gensoup probe measures with this kit"):
            probe_kit(kit, tmp_path / "p.json", PLAN, ENGINES)


def test_engines_are_named_or_all_that_need_not_compile() -> None:
    assert "onnxruntime-cpu" in engines_named("all")
    assert not {"tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt"} & set(engines_named("all"))
    assert engines_named("onnxruntime-cpu, onnxruntime-cpu") == ("onnxruntime-cpu",)
    for text, reason in (("auto", "name engines, or all"), ("tflite", "no such engine"), (",", "names no engine")):
        with pytest.raises(UsageError, match=reason):
            engines_named(text)


def test_what_engines_print_is_not_taken_for_an_answer(
    make_kit: MakeKit, tiny_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = "import gensoup.bench.probe_graph as g; import os; from gensoup.bench import probe_process as p; "
    noisy += "real = p.probe_graph; p.probe_graph = lambda *a: (os.write(1, b'engine says hello\\n'), real(*a))[1]; "
    monkeypatch.setattr(probe_process, "_START", noisy + "p.serve()")
    profile = probe_kit(make_kit({"a": tiny_model}), tmp_path / "p.json", PLAN, ENGINES)
    assert set(profile.estimates) == {f"a{KEY}"}
