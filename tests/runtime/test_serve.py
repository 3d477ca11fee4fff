from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.runtime import Classifier, Prediction
from gensoup.runtime.errors import DataError, EngineError, GenSoupError, UsageError, WriteError
from gensoup.runtime.recording import RecordingOptions
from gensoup.runtime.serve import serve
from gensoup.runtime.smoothing import Smoothing
from gensoup.runtime.smoothing_lag import step_lag_ms
from gensoup.runtime.sources import open_source
from gensoup.runtime.sources.live import LiveSource
from gensoup.runtime.stream import Mode
from gensoup.runtime.video_file import VideoFile

KEYS = [
    "frame",
    "label",
    "probability",
    "latency_ms",
    "age_ms",
    "state",
    "smoothed_label",
    "smoothed_probability",
    "certain",
]


class Frames:
    """A source of plain frames, numbered by their brightness."""

    name = "frames"
    rate_hz: float | None = 200.0

    def __init__(self, count: int) -> None:
        self.frames: int | None = count
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(self.frames or 0):
            yield np.full((60, 80, 3), number, np.uint8)


class Slow:
    """A real classifier that takes 20 ms longer."""

    def __init__(self, bundle: Path) -> None:
        self.real = Classifier.load(bundle)
        self.engine = self.real.engine

    def __call__(self, frame: np.ndarray) -> Prediction:
        time.sleep(0.02)
        return self.real(frame)


def lines_of(path: Path) -> list[dict[str, object]]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_throughput_writes_a_line_for_every_frame_in_order(tiny_bundle: Path, video_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    told: list[tuple[int, int | None]] = []
    summary = serve(
        Classifier.load(tiny_bundle),
        open_source(str(video_file)),
        mode="throughput",
        json_out=out,
        progress=lambda done, total: told.append((done, total)),
    )
    lines = lines_of(out)
    assert [list(line) for line in lines] == [KEYS] * 12
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["label"] for line in lines] == ["blue"] * 4 + ["green"] * 4 + ["red"] * 4
    assert all(0 < float(str(line["latency_ms"])) <= float(str(line["age_ms"])) for line in lines)
    assert (summary.frames, summary.results, summary.drops, summary.states) == (12, 12, 0, {"OK": 12})
    assert list(summary.latency_ms) == ["p50", "p95", "p99", "max"]
    assert summary.fps > 0
    assert told[-1] == (12, 12)


def test_realtime_drops_have_no_line_but_are_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    summary = serve(Slow(tiny_bundle), Frames(60), json_out=out)
    ids = [int(str(line["frame"])) for line in lines_of(out)]
    assert ids == sorted(set(ids))
    assert summary.frames == 60
    assert summary.drops > 0
    assert len(ids) == summary.results == 60 - summary.drops
    assert summary.rate_hz == 200
    assert set(summary.states) <= {"LATE", "STALE"}


def test_a_source_is_paced_at_its_own_rate_or_the_one_asked_for(tiny_bundle: Path) -> None:
    for pace, least in ((None, 19 / 200), (50.0, 19 / 50)):
        started = time.monotonic()
        summary = serve(Classifier.load(tiny_bundle), Frames(20), pace_hz=pace)
        assert time.monotonic() - started >= least
        assert summary.rate_hz == (pace or 200)


def test_max_frames_ends_an_endless_source(tiny_bundle: Path) -> None:
    summary = serve(Classifier.load(tiny_bundle), open_source("synthetic:64x48"), max_frames=5, mode="throughput")
    assert summary.frames == summary.results == 5


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_the_annotated_video_shows_every_frame_with_its_result(
    tiny_bundle: Path, video_file: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    classifier = Classifier.load(tiny_bundle)
    summary = serve(classifier, open_source(str(video_file)), mode="throughput", video_out=out)
    assert summary.video_skipped == 0
    written = open_source(str(out))
    assert written.rate_hz == pytest.approx(20)
    frames = list(written)
    assert len(frames) == 12
    for before, after in zip(open_source(str(video_file)), frames, strict=True):
        assert after.shape == before.shape
        assert np.abs(after[:60].astype(int) - before[:60]).mean() < 6  # the picture above the caption
        assert np.abs(after[100:].astype(int) - before[100:]).mean() > 12  # the caption


def test_a_realtime_video_plays_as_long_as_the_stream_took(tiny_bundle: Path, tmp_path: Path) -> None:
    class Seldom(Slow):
        """Classifies some 8 frames a second."""

        def __call__(self, frame: np.ndarray) -> Prediction:
            time.sleep(0.1)
            return super().__call__(frame)

    out = tmp_path / "out.avi"
    summary = serve(Seldom(tiny_bundle), Frames(200), video_out=out)  # a second
    assert summary.drops > 150
    video = open_source(str(out))
    assert video.rate_hz == pytest.approx(200 / 7, rel=1e-4)
    shown = [int(frame[0, 0, 0]) for frame in video]
    assert 20 <= len(shown) <= 32
    assert shown == sorted(shown)
    assert len(set(shown)) >= summary.results - 2  # as JPEG keeps them


def test_a_live_source_tells_its_rate_once_it_is_connected(tiny_bundle: Path, tmp_path: Path) -> None:
    class Capture:
        rate_hz, frames = 25.0, 10

        def __init__(self) -> None:
            self.left = self.frames

        def read(self) -> tuple[float, np.ndarray] | None:
            self.left -= 1
            time.sleep(0.04)
            return (time.monotonic(), np.zeros((60, 80, 3), np.uint8)) if self.left >= 0 else None

        def release(self) -> None: ...

    out = tmp_path / "out.avi"
    summary = serve(Classifier.load(tiny_bundle), LiveSource("cam", Capture), video_out=out, smoothing=Smoothing())
    assert summary.rate_hz == 25
    assert open_source(str(out)).rate_hz == 25
    assert summary.smoothing is not None and summary.smoothing.step_lag_ms == step_lag_ms(Smoothing(), 25)


def test_frames_without_a_result_are_let_go(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that hangs must not fill the memory with the pictures that come meanwhile."""
    most, living = 0, 0

    class Counted(Frames):
        def __iter__(self) -> Iterator[np.ndarray]:
            nonlocal most, living
            for frame in super().__iter__():
                living += 1
                most = max(most, living)
                weakref.finalize(frame, gone)
                yield frame
                del frame

    def gone() -> None:
        nonlocal living
        living -= 1

    class Hangs(Slow):
        def __call__(self, frame: np.ndarray) -> Prediction:
            time.sleep(0.3)
            return self.real(frame)

    summary = serve(Hangs(tiny_bundle), Counted(120), video_out=tmp_path / "out.avi")
    assert summary.drops > 100
    assert most < 12


def test_a_failing_engine_gives_lines_without_label(tiny_bundle: Path, tmp_path: Path) -> None:
    class Failing(Slow):
        def __call__(self, frame: np.ndarray) -> Prediction:
            raise EngineError("device lost")

    out = tmp_path / "out.jsonl"
    summary = serve(Failing(tiny_bundle), Frames(3), mode="throughput", json_out=out)
    assert summary.states == {"FAILED": 3}
    assert summary.failure == "device lost"
    assert summary.latency_ms == {}
    assert [(line["label"], line["probability"], line["state"]) for line in lines_of(out)] == [
        (None, None, "FAILED")
    ] * 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pace_hz": 30.0, "mode": "throughput"}, "--pace"),
        ({"pace_hz": 0.0}, "--pace"),
        ({"max_frames": 0}, "--frames"),
        ({"video_out": Path("out.mkv")}, r"\.avi or \.mp4"),
    ],
)
def test_options_that_cannot_be_used_are_named(tiny_bundle: Path, options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        serve(Classifier.load(tiny_bundle), Frames(3), **options)  # type: ignore[arg-type]


def test_files_that_cannot_be_written_are_named_and_no_thread_is_left(tiny_bundle: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for options in ({"json_out": tmp_path / "no" / "out.jsonl"}, {"video_out": tmp_path / "no" / "out.avi"}):
        with pytest.raises(GenSoupError, match=r"no/out.*cannot be written"):
            serve(Classifier.load(tiny_bundle), Frames(50), mode="throughput", **options)
    assert set(threading.enumerate()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_run(tiny_bundle: Path) -> None:
    source = open_source("synthetic:64x48")
    with pytest.raises(GenSoupError, match=r"--json /dev/full: cannot be written \(No space"):
        serve(Classifier.load(tiny_bundle), source, mode="throughput", json_out=Path("/dev/full"))


def test_trouble_with_the_recording_leaves_the_run_alone(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: VideoFile, frame: np.ndarray) -> None:
        raise WriteError("the disk is gone")

    monkeypatch.setattr(VideoFile, "write", fail)
    told: list[str] = []
    options = RecordingOptions(tmp_path / "kept", keep_free_mb=0)
    classifier = Classifier.load(tiny_bundle)
    summary = serve(classifier, Frames(30), mode="throughput", recording=options, notify=told.append)
    assert summary.results == 30
    assert summary.recording is not None and summary.recording.stopped == "the disk is gone"
    assert told == ["recording stopped, the stream goes on: the disk is gone"]


@pytest.mark.parametrize("mode", ["realtime", "throughput"])
def test_smoothed_results_stand_beside_the_raw_ones(tiny_bundle: Path, tmp_path: Path, mode: Mode) -> None:
    class Flickers(Frames):
        def __iter__(self) -> Iterator[np.ndarray]:
            for number in range(self.frames or 0):
                frame = np.zeros((60, 80, 3), np.uint8)
                frame[..., 2 if number % 10 == 5 else 0] = 200
                yield frame

    out = tmp_path / "out.jsonl"
    smoothing = Smoothing(cuts=False, gap_s=60)
    summary = serve(Classifier.load(tiny_bundle), Flickers(40), mode=mode, json_out=out, smoothing=smoothing)
    lines = lines_of(out)
    assert {line["smoothed_label"] for line in lines} == {"blue"}
    assert {line["certain"] for line in lines} == {True}
    assert mode == "realtime" or [line["label"] for line in lines].count("red") == 4
    assert summary.smoothing is not None
    assert summary.smoothing.changes_ms == () and summary.smoothing.results == len(lines)
    assert mode == "realtime" or summary.smoothing.raw_changes == 8


def test_a_source_without_frames_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(DataError, match="frames: holds no frames"):
        serve(Classifier.load(tiny_bundle), Frames(0))


SCRIPT = """
import signal
import sys
from pathlib import Path
from gensoup.runtime import Classifier
from gensoup.runtime.run_record import RunRecord, Takers
from gensoup.runtime.serve import serve
from gensoup.runtime.sources import open_source
bundle, out = map(Path, sys.argv[1:3])
for number in (signal.SIGINT, signal.SIGTERM):  # a background job ignores the first
    signal.signal(number, signal.default_int_handler)
print(serve(Classifier.load(bundle), open_source("synthetic:64x48"), mode=sys.argv[3], json_out=out))
"""


@pytest.mark.parametrize(
    ("how", "mode"), [(signal.SIGKILL, "realtime"), (signal.SIGINT, "realtime"), (signal.SIGTERM, "throughput")]
)
def test_a_run_that_is_killed_leaves_whole_lines(
    tiny_bundle: Path, tmp_path: Path, how: signal.Signals, mode: str
) -> None:
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(tiny_bundle), str(out), mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (out.exists() and out.stat().st_size > 900):
        time.sleep(0.02)
    process.send_signal(how)
    printed, _ = process.communicate(timeout=60)
    assert len(lines_of(out)) > 3
    if how is not signal.SIGKILL:
        assert process.returncode == 0
        assert "interrupted=True" in printed
        if mode == "throughput":  # nothing that was decoded is lost
            assert f"frames={len(lines_of(out))}, results={len(lines_of(out))}," in printed


def test_images_of_other_sizes_fit_the_annotated_video(tiny_bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, (height, width) in enumerate([(60, 80), (90, 70), (61, 81)]):
        assert cv2.imwrite(str(images / f"{number}.png"), np.full((height, width, 3), 90, np.uint8))
    (images / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out.avi"
    summary = serve(Classifier.load(tiny_bundle), open_source(str(images)), mode="throughput", video_out=out)
    assert summary.results == 3
    assert len(summary.skipped) == 1
    assert [frame.shape for frame in open_source(str(out))] == [(60, 80, 3)] * 3
