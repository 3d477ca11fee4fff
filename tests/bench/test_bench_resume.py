"""``gensoup bench``: traces that are judged again, and measurements that are broken off and taken up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gate_faults import SHORT
from gate_samples import certified, latencies, measurement_of, spread, trace_of

from gensoup.bench import bench_cli, paced
from gensoup.bench.measurement import Measurement
from gensoup.bench.tier import CERTIFY, TIERS

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("values", "code", "said"),
    [
        (latencies(), 0, "PASS"),
        (spread(10), 1, "10 of 1920 frames missed"),
        (latencies(0), 2, "no frames were measured"),
    ],
)
def test_a_trace_is_judged_again(gensoup: Run, tmp_path: Path, values: np.ndarray, code: int, said: str) -> None:
    measurement_of(trace_of(values)).save(tmp_path / "t.npz")
    done, output, _ = gensoup("bench", "--from-trace", tmp_path / "t.npz", "--json", tmp_path / "v.json")
    assert done == code
    assert said in output
    assert json.loads((tmp_path / "v.json").read_text())["frames"] == len(values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from-trace", "t.npz", "--min-fps", "30"), "leave --min-fps out"),
        (("b.gensoup", "--from-trace", "t.npz"), "leave BUNDLE out"),
        ((), "which bundle"),
        (("b.gensoup", "--tier", "gold"), "--tier 'gold': must be one of quick, certify"),
        (("b.gensoup", "--min-fps", "15"), "--min-fps 15: 30 s are too few frames to tell, 459 are needed"),
        (("b.gensoup", "--resume"), "tier quick is measured in one go"),
        (("b.gensoup", "--from-trace", "t.npz", "--json", "t.npz"), "--json t.npz: is read by this command"),
        (("b.gensoup", "--source", "cam:0"), "did you mean 'camera:0'"),
    ],
)
def test_mistakes_are_one_line(gensoup: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, errors = gensoup("bench", *arguments)
    assert code == 64
    assert said in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_weaker_tier_of_the_same_name_is_refused(gensoup: Run, tmp_path: Path) -> None:
    weak = replace(CERTIFY, repetitions=1)
    measurement_of(trace_of(latencies(38_400)), tier=weak).save(tmp_path / "t.npz")
    code, _, errors = gensoup("bench", "--from-trace", tmp_path / "t.npz")
    assert code == 70
    assert "other rules of tier 'certify'" in errors


@pytest.fixture
def short_certify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """certify, but two repetitions of .4 s, in a folder of its own."""
    monkeypatch.setitem(TIERS, "certify", replace(SHORT, name="certify", repetitions=2, seconds=0.4, warmup_s=0.0))
    monkeypatch.setattr(paced, "last_level_cache_bytes", lambda: 1 << 20)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("short_certify")
def test_certify_goes_on_where_it_was_broken_off(
    gensoup: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (tiny_bundle, "--tier", "certify", "--source", "synthetic:480p", "--engine", "onnxruntime-cpu")
    options += ("--threads", "1")
    trace = tmp_path / "tiny.certify.npz"

    def interrupt(self: object, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    def interrupt_at_once(self: object, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench_cli._Progress, "__call__", interrupt)
        code, _, errors = gensoup("bench", *options)
    assert code == 130
    assert "1 of 2 repetitions are in tiny.certify.npz; the same command with --resume goes on" in errors
    assert errors.count("interrupted") == 1
    begun = Measurement.load(trace)
    assert len(begun.repetitions) == 1

    code, _, errors = gensoup("bench", *options)
    assert code == 64
    assert "tiny.certify.npz: holds a measurement that was broken off" in errors
    assert trace.exists()

    with monkeypatch.context() as patch:
        patch.setattr(bench_cli._Progress, "__call__", interrupt_at_once)
        code, _, errors = gensoup("bench", *options, "--resume")
    assert (code, Measurement.load(trace).interruptions) == (130, 1)  # it counts, though nothing came of it

    code, output, _ = gensoup("bench", *options, "--resume", "--json", "v.json")
    values = json.loads((tmp_path / "v.json").read_text())
    assert code == ["PASS", "FAIL", "INVALID"].index(values["verdict"])
    assert values["verdict"] in output
    assert (values["complete"], values["interruptions"], len(values["repetitions"])) == (True, 2, 2)
    np.testing.assert_array_equal(Measurement.load(trace).repetitions[0].done, begun.repetitions[0].done)

    again, _, _ = gensoup("bench", "--from-trace", trace, "--json", "again.json")
    assert again == code
    assert json.loads((tmp_path / "again.json").read_text()) == values

    finished = trace.read_bytes()
    for tier in ("certify", "quick"):  # half an hour's, that a certificate may rest on
        code, _, errors = gensoup("bench", *options, "--tier", tier, "--trace", trace)
        assert code == 64
        assert "tiny.certify.npz: holds a finished measurement; --from-trace judges it again; move it away" in errors
    assert trace.read_bytes() == finished
    trace.write_bytes(b"of a later version, perhaps")
    code, _, errors = gensoup("bench", *options)
    assert code == 64
    assert "tiny.certify.npz: not a trace of gensoup bench" in errors and "it is not written over" in errors


def test_what_was_measured_is_kept_when_a_service_manager_ends_it(tiny_bundle: Path, tmp_path: Path) -> None:
    program = f"""
from dataclasses import replace
from gensoup.bench import paced
from gensoup.bench.tier import TIERS
paced.last_level_cache_bytes = lambda: 1 << 20
TIERS["certify"] = replace(TIERS["certify"], repetitions=99, seconds=0.5, warmup_s=0.0, max_miss_rate=0.2)
from gensoup.cli import main
options = ["--tier", "certify", "--source", "synthetic:480p", "--engine", "onnxruntime-cpu", "--threads", "1"]
main(["bench", {str(tiny_bundle)!r}, *options])
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        trace = tmp_path / "tiny.certify.npz"
        until = time.monotonic() + 60
        while not trace.exists() and bench.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        bench.send_signal(signal.SIGTERM)
        _, errors = bench.communicate(timeout=60)
    kept = len(Measurement.load(trace).repetitions)
    told = f"error: interrupted; {kept} of 99 repetitions are in {trace.name}; the same command with --resume goes on"
    assert (bench.returncode, errors.splitlines()[-1]) == (130, told)
    assert "Traceback" not in errors


@pytest.mark.usefixtures("short_certify")
def test_nothing_to_go_on_with_is_told(gensoup: Run, tiny_bundle: Path) -> None:
    code, _, errors = gensoup("bench", tiny_bundle, "--tier", "certify", "--resume")
    assert code == 64
    assert "tiny.certify.npz: no such trace; leave the option out to begin" in errors


def test_a_certify_shows_every_repetition(gensoup: Run, tmp_path: Path) -> None:
    certified(spread(100, 20.0, 38_400)).save(tmp_path / "t.npz")
    code, output, _ = gensoup("bench", "--from-trace", tmp_path / "t.npz")
    assert code == 0
    assert "100 of 38400" in output
