from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from gensoup.runtime import Prediction, Result, State
from gensoup.runtime.annotated_video import AnnotatedVideo
from gensoup.runtime.errors import UsageError, WriteError

PREDICTION = Prediction("polyp", 1, 0.9, np.array([0.1, 0.9], np.float32), 1.0, 2.0)
RESULT = Result(0, 0.0, 0.001, 0.002, 0.003, 0, State.OK, PREDICTION, "engine")
FRAME = np.full((48, 64, 3), 90, np.uint8)


def test_frames_that_are_gone_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    video = AnnotatedVideo(path, 20.0, wait=True)
    for frame in (FRAME, None, FRAME):
        video.add(frame, RESULT)
    video.close()
    assert video.skipped == 1
    capture = cv2.VideoCapture(str(path))
    assert sum(capture.read()[0] for _ in range(4)) == 2
    capture.release()


def test_a_picture_that_cannot_be_drawn_ends_the_video_and_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no such pixel")

    monkeypatch.setattr("gensoup.runtime.annotated_video.draw", fail)
    video = AnnotatedVideo(tmp_path / "out.avi", 20.0, wait=True)

    def feed() -> None:
        with pytest.raises(WriteError, match=r"out\.avi: cannot be drawn \(ZeroDivisionError: no such pixel\)"):
            for _ in range(100):
                video.add(FRAME, RESULT)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    feeder.join(30)
    assert not feeder.is_alive()
    with pytest.raises(WriteError, match="cannot be drawn"):
        video.close()


def test_a_name_that_tells_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--video .*out\.mov: must end in \.avi or \.mp4"):
        AnnotatedVideo(tmp_path / "out.mov", 20.0, wait=True)
