from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from gate_samples import latencies, measurement_of, spread, trace_of
from rich.console import Console
from typer.testing import CliRunner

from gensoup.bench.bench_cli import bench_command
from gensoup.bench.finding import Finding, Kind
from gensoup.bench.judge import judge
from gensoup.bench.measurement import Measurement
from gensoup.bench.verdict_text import print_verdict
from gensoup.runtime.errors import UsageError

app = typer.Typer()
app.command("bench")(bench_command)


@pytest.mark.slow
def test_bench_writes_verdict_and_trace_and_exits_with_its_code(tiny_bundle: Path, tmp_path: Path) -> None:
    verdict, trace = tmp_path / "verdict.json", tmp_path / "trace.npz"
    arguments = [str(tiny_bundle), "--source", "synthetic:480p", "--threads", "1", "--json", str(verdict)]
    done = CliRunner().invoke(app, [*arguments, "--trace", str(trace)])
    values = json.loads(verdict.read_text())
    assert done.exit_code == ["PASS", "FAIL", "INVALID"].index(values["verdict"])
    assert values["verdict"] in done.output
    assert values["frames"] == 1920 == len(Measurement.load(trace).repetitions[0].scheduled)
    assert values["rate_hz"] == 64
    reports = ["--html", str(tmp_path / "v.html"), "--junit", str(tmp_path / "v.xml")]
    again = CliRunner().invoke(app, ["--from-trace", str(trace), "--json", str(tmp_path / "again.json"), *reports])
    assert values["verdict"] in (tmp_path / "v.html").read_text() and "<testsuite " in (tmp_path / "v.xml").read_text()
    assert again.exit_code == done.exit_code
    assert json.loads((tmp_path / "again.json").read_text()) == values


def test_mistakes_are_named(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(app, [str(tiny_bundle), "--min-fps", "-3"])
    assert isinstance(done.exception, UsageError)
    assert "--min-fps -3" in str(done.exception)
    for options, said in (
        (["--certificate", "c.json"], "--certificate: only --tier certify"),
        (["--tier", "certify", "--sign", "k"], "--sign: signs a certificate"),
        (["--json", "x", "--html", "x"], "--html x: is --json's, too"),
    ):
        done = CliRunner().invoke(app, [str(tiny_bundle), *options])
        assert isinstance(done.exception, UsageError)
        assert said in str(done.exception)
    done = CliRunner().invoke(app, ["--from-trace", "t.npz", "--certificate", "c.json"])
    assert "leave --certificate out" in str(done.exception)


def test_the_report_has_the_numbers_and_one_sentence() -> None:
    values = spread(29, math.inf)
    values[5:35] = 20.0
    verdict = judge(measurement_of(trace_of(values)))
    console = Console(record=True, width=100)
    print_verdict(verdict, "polyp [v2].gensoup", console)
    text = console.export_text()
    for part in ("polyp [v2].gensoup", "64 Hz", "8.00", "∞", "59 misses (29 drops, 0 failures)", "FAIL"):
        assert part in text
    assert text.startswith("FAIL  59 of 1920 frames missed") and "fail: 30 misses in a row" in text


def test_a_trace_of_others_does_not_steer_the_terminal() -> None:
    finding = Finding(Kind.INVALID, "gone\x1b[2J\nPASS  keeps up", "x")
    verdict = judge(measurement_of(trace_of(latencies()), findings=(finding,), precision="fp\x1b]0;x\x07"))
    console = Console(file=io.StringIO(), width=100)
    print_verdict(verdict, "b.gensoup", console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "\x1b" not in told and "\x07" not in told
    assert not any(line.startswith("PASS") for line in told.splitlines())


def test_the_command_imports_nothing_heavy() -> None:
    script = "import sys, gensoup.bench.bench_cli; print(sorted({'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
