from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.errors import UsageError, WriteError
from gensoup.runtime.recording import Recording, RecordingOptions
from gensoup.runtime.smoothing import Smoothed
from gensoup.runtime.video_file import VideoFile

PROBABILITIES = np.array([0.1, 0.9], np.float32)
PREDICTION = Prediction("Lésion", 1, 0.9, PROBABILITIES, 1.0, 2.0)
NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)  # some 25 kB as JPEG


def result(number: int) -> Result:
    now = time.monotonic()
    smoothed = Smoothed(None, 1, 0.4, PROBABILITIES, False, 10.0)
    return Result(number, now - 0.01, now, now, now, 0, State.OK, PREDICTION, "engine", smoothed=smoothed)


def record(folder: Path, frames: int, *, wait: bool = True, **options: float) -> Recording:
    recording = Recording(RecordingOptions(folder, **{"keep_free_mb": 0.0, **options}), 20.0, wait=wait)
    for number in range(frames):
        recording.add(NOISE, result(number))
    recording.close()
    return recording


def pictures(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def lines(path: Path) -> list[dict[str, object]]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_segment_is_a_video_and_its_log_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "recordings"
    old = os.umask(0)
    try:
        summary = record(folder, 12).summary
    finally:
        os.umask(old)
    log, video = sorted(summary.segments, key=lambda path: path.suffix, reverse=True)
    assert sorted(folder.iterdir()) == sorted(summary.segments)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (log, video)} == {0o600}
    assert pictures(video) == 12
    written = lines(log)
    assert [line["frame"] for line in written] == [line["picture"] for line in written] == list(range(12))
    assert written[0]["label"] == "Lésion" and written[0]["smoothed_label"] is None and written[0]["certain"] is False
    times = [str(line["time"]) for line in written]
    assert times == sorted(times) and times[0].endswith("Z") and times[0][:4] == time.strftime("%Y", time.gmtime())
    assert (summary.lines, summary.pictures, summary.skipped, summary.lost, summary.stopped) == (12, 12, 0, 0, "")


@pytest.mark.parametrize("options", [{"rotate_mb": 0.3}, {"rotate_minutes": 0.5 / 60}])
def test_segments_rotate_by_size_and_by_time(tmp_path: Path, options: dict[str, float]) -> None:
    summary = record(tmp_path, 120, **options).summary
    videos = sorted(path for path in summary.segments if path.suffix == ".avi")
    logs = [path.with_suffix(".jsonl") for path in videos]
    assert len(videos) >= 3
    assert [line["frame"] for log in logs for line in lines(log)] == list(range(120))
    assert [pictures(video) for video in videos] == [len(lines(log)) for log in logs]
    if "rotate_minutes" in options:
        assert len(videos) == 12  # of half a second at 20 Hz
    else:
        assert (
            max(video.stat().st_size for video in videos) < 0.9e6
        )  # what is on disk when it is looked at, and one block


def test_in_real_time_pictures_are_left_out_and_lines_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    real = VideoFile.write

    def slow(self: VideoFile, frame: np.ndarray) -> None:
        assert go.wait(30)
        real(self, frame)

    monkeypatch.setattr(VideoFile, "write", slow)
    recording = Recording(RecordingOptions(tmp_path, keep_free_mb=0), 20.0, wait=False)
    started = time.monotonic()
    for number in range(40):
        recording.add(NOISE, result(number))
    assert time.monotonic() - started < 5
    go.set()
    recording.close()
    summary = recording.summary
    assert summary.lines == 40 and summary.pictures == 40 - summary.skipped
    assert 8 <= summary.pictures <= 10
    log, video = sorted(summary.segments, key=lambda path: path.suffix, reverse=True)
    shown = [line["picture"] for line in lines(log)]
    assert [picture for picture in shown if picture is not None] == list(range(summary.pictures))
    assert pictures(video) == summary.pictures


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("keep_free_mb", [0.0, 1.0])
def test_a_full_disk_ends_the_recording_once_and_leaves_it_readable(small_disk: Path, keep_free_mb: float) -> None:
    told: list[str] = []
    options = RecordingOptions(small_disk, keep_free_mb=keep_free_mb)
    recording = Recording(options, 20.0, wait=True, on_event=told.append)
    for number in range(2000):
        recording.add(NOISE, result(number))
    recording.close()
    summary = recording.summary
    assert len(told) == 1 and told[0] == f"recording stopped, the stream goes on: {summary.stopped}"
    assert str(small_disk) in summary.stopped and "\n" not in summary.stopped
    if keep_free_mb:
        assert "--keep-free-mb" in summary.stopped
        free = os.statvfs(small_disk)
        assert free.f_bavail * free.f_frsize > 0.5e6
    log, video = sorted(summary.segments, key=lambda path: path.suffix, reverse=True)
    assert not list(small_disk.glob("*.part.*"))
    assert len(lines(log)) == summary.lines > 20
    assert pictures(video) > 20


def test_a_disk_without_space_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"--record .*MB free, 1e\+12 MB are kept; free some space"):
        record(tmp_path, 1, keep_free_mb=1e12)


def test_a_limit_on_files_ends_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensoup.runtime.video_file._PATIENCE", 60)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        summary = record(tmp_path, 150).summary
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert summary.stopped
    assert any(pictures(path) > 5 for path in summary.segments if path.suffix == ".avi")


def test_a_folder_that_vanishes_ends_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    recording = Recording(RecordingOptions(folder, keep_free_mb=0), 20.0, wait=True)
    recording.add(NOISE, result(0))
    deadline = time.monotonic() + 30
    while recording.summary.lines < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    recording.add(NOISE, result(1))
    recording.close()
    assert "gone" in recording.summary.stopped
    assert not any(thread.name == "gensoup-recording" for thread in threading.enumerate())


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--record .*file: is a file"):
        record(tmp_path / "file", 1)
    with pytest.raises(WriteError, match="cannot be written"):
        record(Path("/proc/recordings"), 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rotate_minutes": 0.0}, "--rotate-minutes"),
        ({"rotate_mb": -1.0}, "--rotate-mb"),
        ({"keep_free_mb": -1.0}, "--keep"),
    ],
)
def test_options_that_make_no_sense_are_named(tmp_path: Path, options: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        RecordingOptions(tmp_path, **options)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_recording import NOISE, result
from gensoup.runtime.recording import Recording, RecordingOptions
recording = Recording(RecordingOptions(Path(sys.argv[1]), keep_free_mb=0), 20.0, wait=True)
for number in range(100_000):
    recording.add(NOISE, result(number))
    if number == 60:
        print("ready", flush=True)
"""


def test_a_run_that_is_killed_leaves_segments_that_can_be_read(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (video,), (log,) = tmp_path.glob("*.part.avi"), tmp_path.glob("*.part.jsonl")
    assert len(lines(log)) >= 50
    assert pictures(video) >= len(lines(log)) - 20  # FFmpeg's last block of 256 kB is lost
    assert stat.S_IMODE(video.stat().st_mode) == 0o600
