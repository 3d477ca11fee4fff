"""Streams from real servers that vanish, fall silent and come back; FFmpeg inside OpenCV reads them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from gensoup.runtime import Classifier
from gensoup.runtime.errors import DataError
from gensoup.runtime.run_cli import run_command
from gensoup.runtime.serve import serve
from gensoup.runtime.sources import open_source
from gensoup.runtime.sources.live import LiveSource, SourceEvent
from gensoup.runtime.sources.network import NetworkStream

if TYPE_CHECKING:
    from conftest import HttpCamera, RtspServer  # type: ignore[import-not-found]

app = typer.Typer()
app.command("run")(run_command)


def test_a_camera_that_is_unplugged_and_plugged_in_again_goes_on(http_camera: HttpCamera) -> None:
    events: list[SourceEvent] = []
    source = open_source(http_camera.url, on_event=events.append)
    assert isinstance(source, LiveSource)
    for count, (at, frame) in enumerate(source.arrivals()):
        assert frame.shape == (120, 160, 3)
        assert abs(time.monotonic() - at) < 60
        if count == 10:
            http_camera.unplug()
            threading.Timer(0.4, http_camera.plug).start()
        if source.reconnects and count > 15:
            break
    assert [event.kind for event in events] == ["lost", "back"]
    assert http_camera.url in events[0].text
    assert (source.losses, source.reconnects) == (1, 1)
    assert source.away_s >= 0.4


def test_a_server_that_falls_silent_is_lost(http_camera: HttpCamera) -> None:
    url = http_camera.url
    events: list[SourceEvent] = []
    source = LiveSource(url, NetworkStream(url, 5.0, 0.5), on_event=events.append, stall_s=0.5)
    for count, _ in enumerate(source):
        if count == 5:
            http_camera.frozen.set()
            threading.Timer(1.0, http_camera.frozen.clear).start()
        if source.reconnects:
            break
    assert [event.kind for event in events][:2] == ["lost", "back"]
    assert "no frame for 0.5 s" in events[0].text or "no more frames" in events[0].text


def test_a_server_that_never_answers_does_not_hold_anyone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"rtsp://user:secret@127.0.0.1:{deaf.getsockname()[1]}/live"
        source = LiveSource(url, NetworkStream(url, 0.5, 0.5), open_s=5.0)
        with pytest.raises(DataError, match="check address, password"):
            list(source)


def test_a_wrong_address_is_one_line_without_the_password() -> None:
    with pytest.raises(DataError) as caught:
        list(open_source("rtsp://user:secret@127.0.0.1:9/live"))
    assert str(caught.value).startswith("rtsp://user:***@127.0.0.1:9/live: cannot be opened; check address")
    assert "\n" not in str(caught.value)


def test_rtsp_survives_a_server_that_stops_dead_and_is_started_anew(rtsp_server: RtspServer) -> None:
    url = rtsp_server.url
    events: list[SourceEvent] = []

    def told(event: SourceEvent) -> None:
        events.append(event)
        if event.kind == "lost":
            rtsp_server.kill()
            rtsp_server.start()

    source = LiveSource(url, NetworkStream(url, 10.0, 0.7), on_event=told, stall_s=0.7, open_s=15.0)
    for count, frame in enumerate(source):
        assert frame.shape == (240, 320, 3)
        if count == 5:
            rtsp_server.process.send_signal(signal.SIGSTOP)
        if source.reconnects:
            break
    assert [event.kind for event in events][:2] == ["lost", "back"]
    assert source.rate_hz == pytest.approx(25)


def test_serve_pushes_frames_with_their_own_time_and_tells_reconnects(
    http_camera: HttpCamera, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"

    def cut(done: int, total: int | None) -> None:
        assert total == 20
        if done == 10:
            http_camera.unplug()
            http_camera.plug()

    classifier = Classifier.load(tiny_bundle, threads=1)
    summary = serve(classifier, open_source(http_camera.url), json_out=out, max_frames=20, progress=cut)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["label"] for line in lines} == {"red"}
    assert all(line["age_ms"] > line["latency_ms"] for line in lines)  # from the arrival, not from the push
    assert (summary.frames, summary.losses, summary.reconnects) == (20, 1, 1)
    assert summary.source_failure == ""


def await_lines(out: Path) -> None:
    """Wait until a run has written some results."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (out.exists() and out.stat().st_size > 500):
        time.sleep(0.01)


def test_run_tells_a_loss_and_the_return(http_camera: HttpCamera, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [str(tiny_bundle), "--source", http_camera.url, "--json", str(out), "--engine", "onnxruntime-cpu"]

    def cut() -> None:
        await_lines(out)
        http_camera.unplug()
        http_camera.plug()

    cutting = threading.Thread(target=cut)
    cutting.start()
    done = CliRunner().invoke(app, [*arguments, "--frames", "60"], catch_exceptions=False)
    cutting.join()
    assert done.exit_code == 0
    assert f"{http_camera.url}: lost: no more frames after" in done.stderr
    assert f"{http_camera.url}: back after" in done.stderr
    assert "source lost 1 ×, connected again 1 ×" in done.stdout


def test_run_without_reconnecting_ends_in_an_error(http_camera: HttpCamera, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [str(tiny_bundle), "--source", http_camera.url, "--json", str(out), "--engine", "onnxruntime-cpu"]
    cutting = threading.Thread(target=lambda: (await_lines(out), http_camera.unplug()))
    cutting.start()
    done = CliRunner().invoke(app, [*arguments, "--no-reconnect"])
    cutting.join()
    assert isinstance(done.exception, DataError)
    assert str(done.exception).startswith(f"{http_camera.url}: lost (no more frames after")
    assert "source lost 1 ×" in done.stdout


def test_control_c_ends_a_run_with_a_silent_source(http_camera: HttpCamera, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gensoup.cli import main; main(sys.argv[1:])"
    )
    arguments = [
        "run",
        str(tiny_bundle),
        "--source",
        http_camera.url,
        "--json",
        str(out),
        "--engine",
        "onnxruntime-cpu",
    ]
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    await_lines(out)
    http_camera.frozen.set()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "interrupted" in printed
    assert "Traceback" not in told
