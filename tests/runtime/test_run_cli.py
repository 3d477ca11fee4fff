from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from faulty import FaultyEngine
from typer.testing import CliRunner
from websockets.sync.client import connect

from gensoup.runtime.engines import Engine
from gensoup.runtime.engines.catalogue import open_engine
from gensoup.runtime.errors import BundleError, DataError, UsageError, WriteError
from gensoup.runtime.run_cli import run_command

app = typer.Typer()
app.command("run")(run_command)


def test_run_writes_results_and_a_summary(tiny_bundle: Path, video_file: Path, tmp_path: Path) -> None:
    lines, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    arguments = [str(tiny_bundle), "--source", str(video_file), "--mode", "throughput", "--threads", "1"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(lines), "--video", str(video)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "12 frames, 0 dropped, 12 results (12 OK)" in done.output
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(12))
    assert video.stat().st_size > 0


def test_saliency_is_drawn_into_the_video(looking_bundle: Path, tmp_path: Path) -> None:
    image = np.full((120, 160, 3), 20, np.uint8)
    image[60:, :80] = (20, 20, 230)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    colors = {}
    for option in ("--saliency", "--mode=throughput"):
        video = tmp_path / f"{option}.avi"
        arguments = [str(looking_bundle), "--source", str(tmp_path / "image.png"), "--video", str(video), option]
        done = CliRunner().invoke(app, [*arguments, "--threads", "1"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        read, frame = cv2.VideoCapture(str(video)).read()
        assert read
        colors[option] = frame[75, 40].astype(int), frame[30, 120].astype(int)
    heat, plain = colors["--saliency"], colors["--mode=throughput"]
    assert heat[0][1] > plain[0][1] + 60  # red turns yellow where the map is bright
    assert np.abs(heat[1] - plain[1]).max() < 30


def test_results_are_smoothed_and_recorded_on_request(tiny_bundle: Path, video_file: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "kept", tmp_path / "out.jsonl"
    arguments = [str(tiny_bundle), "--source", str(video_file), "--mode", "throughput", "--threads", "1"]
    arguments += ["--json", str(lines), "--record", str(folder), "--keep-free-mb", "1", "--smooth", "vote"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    # From blue to green to red the picture changes as a whole: a cut, at which the past is forgotten.
    assert "smoothing: vote; a clear change shows after 350 ms (computed)" in done.output
    assert "starts anew: 2 cut; 0 of 12 results uncertain" in done.output
    assert "recorded 12 pictures and 12 lines in 2 files" in done.output
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["smoothed_label"] for line in told] == [line["label"] for line in told]
    (log,) = folder.glob("*.jsonl")
    kept = [json.loads(line) for line in log.read_text().splitlines()]
    assert [{key: value for key, value in line.items() if key in told[0]} for line in kept] == told


def test_single_images_are_not_smoothed_unless_asked(tiny_bundle: Path, tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 20, np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    arguments = [str(tiny_bundle), "--source", str(tmp_path / "image.png"), "--mode=throughput", "--threads", "1"]
    for option, method in (([], "none"), (["--smooth", "exponential"], "exponential")):
        done = CliRunner().invoke(app, [*arguments, *option], catch_exceptions=False)
        assert f"smoothing: {method};" in done.output


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (["--source", "synthetic", "--mode", "throughput", "--pace", "30"], UsageError, "--pace"),
        (["--source", "synthetic", "--mode", "fast"], UsageError, "--mode 'fast'"),
        (["--source", "synthetic", "--saliency"], UsageError, "--video FILE"),
        (["--source", "synthetic", "--saliency", "--video", "out.mp4"], UsageError, "export the run again"),
        (["--source", "synthetic", "--smooth", "median"], UsageError, "exponential, vote, none"),
        (["--source", "synthetic", "--record", "out", "--rotate-mb", "0"], UsageError, "--rotate-mb 0"),
        (
            ["--source", "synthetic", "--keep-free-mb", "9"],
            UsageError,
            "--keep-free-mb: is for recordings; take --record",
        ),
        (["--source", "synthetic", "--video", "out.mov"], UsageError, "--video out.mov: must end in .avi or .mp4"),
        (
            ["--source", "synthetic", "--json", "no/such/o.jsonl"],
            WriteError,
            "--json no/such/o.jsonl: cannot be written",
        ),
        (["--source", "synthetic:480p", "--record", "/proc/out"], WriteError, "/proc/out"),
        (["--source", "synthetic:2p"], UsageError, "synthetic:2p"),
        (["--source", "rstp://cart/live"], UsageError, "did you mean 'rtsp://cart/live'"),
        (["--source", "rtsp://127.0.0.1:9/live", "--mode", "throughput"], UsageError, "live and cannot be held back"),
        (["--source", "rtsp://127.0.0.1:9/live", "--pace", "30"], UsageError, "has a pace of its own"),
        (["--source", "rtsp://127.0.0.1:9/live"], DataError, "rtsp://127.0.0.1:9/live: cannot be opened"),
    ],
)
def test_mistakes_are_named(tiny_bundle: Path, arguments: list[str], error: type[Exception], named: str) -> None:
    done = CliRunner().invoke(app, [str(tiny_bundle), *arguments])
    assert isinstance(done.exception, error)
    assert named in str(done.exception)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "no.gensoup"), "--source", "synthetic:480p"])
    assert isinstance(done.exception, BundleError)
    assert "no.gensoup" in str(done.exception)


def test_the_command_imports_nothing_heavy() -> None:
    script = "import sys, gensoup.runtime.run_cli; print(sorted({'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("option", [None, "--no-failover"])
def test_an_engine_that_fails_on_the_way_is_replaced_and_the_summary_says_so(
    option: str | None, tiny_bundle: Path, video_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[FaultyEngine] = []

    def open_failing(name: str, *arguments: object) -> Engine:
        opened.append(FaultyEngine(open_engine(name, *arguments), "faulty"))  # type: ignore[arg-type]
        return opened[-1]

    def fail_after_three(self: FaultyEngine, frame: np.ndarray, infer: object = FaultyEngine.infer) -> np.ndarray:
        if self.calls >= 3 + 3:  # golden frames first
            self.fault = "raise"
        return infer(self, frame)  # type: ignore[operator, no-any-return]

    monkeypatch.setattr("gensoup.runtime.engines.choice.open_engine", open_failing)
    monkeypatch.setattr(FaultyEngine, "infer", fail_after_three)
    lines = tmp_path / "out.jsonl"
    arguments = [str(tiny_bundle), "--source", str(video_file), "--engine", "onnxruntime-cpu", "--json", str(lines)]
    done = CliRunner().invoke(app, [*arguments, *([option] if option else [])], catch_exceptions=False)
    assert done.exit_code == 0
    states = [json.loads(line)["state"] for line in lines.read_text().splitlines()]
    if option is None:
        assert "failed over: onnxruntime-cpu (faulty: device lost)" in done.output
        assert states[-1] == "DEGRADED" and "FAILED" not in states
    else:
        assert "first failure: device lost" in done.output
        assert states[-1] == "FAILED" and "DEGRADED" not in states


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_view_shows_the_stream_until_it_is_told_to_stop(
    tiny_bundle: Path, stop: signal.Signals, tmp_path: Path
) -> None:
    command = [*(sys.executable, "-m", "gensoup", "run", str(tiny_bundle), "--source", "synthetic:160x120")]
    command += ["--pace", "10", "--engine", "onnxruntime-cpu", "--threads", "1", "--view", "0"]
    command += ["--record", str(tmp_path), "--keep-free-mb", "0"]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )
    try:
        assert run.stderr is not None
        told = run.stderr.readline()
        url = told.removeprefix("live view: ").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url), told
        with connect(url.replace("http", "ws") + "live", proxy=None) as browser:
            assert json.loads(browser.recv(10))["source"].startswith("synthetic:160x120")
            state, deadline = "WAITING", time.monotonic() + 60  # its scenes are drawn first
            while state == "WAITING" and time.monotonic() < deadline:
                browser.send("s")
                state = json.loads(browser.recv(10))["state"]
            assert state in ("OK", "LATE", "STALE")
            run.send_signal(stop)
            assert run.wait(30) == 0
        assert "interrupted" in (run.stdout.read() if run.stdout is not None else "")
        assert "Traceback" not in run.stderr.read()
        assert {path.suffix for path in tmp_path.iterdir()} == {".avi", ".jsonl"} and not list(
            tmp_path.glob("*.part.*")
        )
    finally:
        run.kill()
        run.wait()


def test_a_recording_is_not_written_over_by_its_own_video(
    tiny_bundle: Path, video_file: Path, gensoup: Callable[..., tuple[int, str, str]]
) -> None:
    before = video_file.read_bytes()
    code, _, err = gensoup("run", tiny_bundle, "--source", video_file, "--video", video_file)
    assert code == 64 and err.startswith(f"error: --video {video_file}: is read by this command")
    assert video_file.read_bytes() == before


def test_view_mistakes_are_one_line(
    tiny_bundle: Path, video_file: Path, gensoup: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = gensoup("run", tiny_bundle, "--source", video_file, "--view", "nonsense")
    assert code == 64
    assert err == "error: --view nonsense: must be HOST:PORT or PORT, such as 127.0.0.1:8064\n"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = gensoup("run", tiny_bundle, "--source", video_file, "--view", str(port))
    assert code == 70
    assert err.splitlines()[-1].startswith(f"error: --view 127.0.0.1:{port}: cannot be listened on")


def test_the_view_lists_what_the_terminal_tells(
    tiny_bundle: Path, video_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise WriteError("the disk went away")

    noted: list[str] = []
    monkeypatch.setattr("gensoup.runtime.recording.VideoFile.write", fail)
    monkeypatch.setattr("gensoup.runtime.view.board.Board.note", lambda board, text: noted.append(text))
    arguments = ["--source", str(video_file), "--engine", "onnxruntime-cpu", "--threads", "1", "--view", "0"]
    arguments += ["--record", str(tmp_path / "kept"), "--keep-free-mb", "0"]
    done = CliRunner().invoke(app, [str(tiny_bundle), *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    assert noted == ["recording stopped, the stream goes on: the disk went away"]
    assert noted[0] in done.output
