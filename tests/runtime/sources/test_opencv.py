from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from gensoup.runtime.errors import DataError
from gensoup.runtime.sources.opencv import OpenCVCapture


class Device:
    """Takes its time to convert a frame, of any shape."""

    def __init__(self, frame: np.ndarray) -> None:
        self.frame = frame
        self.retrieved_at = 0.0

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        self.retrieved_at = time.monotonic()
        time.sleep(0.01)
        return True, self.frame


def test_a_frame_arrives_before_it_is_converted(video_file: Path) -> None:
    capture = OpenCVCapture(str(video_file))
    capture.device = device = Device(np.zeros((4, 4, 3), np.uint8))  # type: ignore[assignment]
    before = time.monotonic()
    arrival = capture.read()
    capture.release()
    assert arrival is not None
    assert before <= arrival[0] <= device.retrieved_at


def test_frames_that_are_not_bgr_are_refused(video_file: Path) -> None:
    capture = OpenCVCapture(str(video_file))
    capture.device = Device(np.zeros((4, 4), np.uint8))  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"its frames are uint8 \[4, 4\], not BGR"):
        capture.read()
    capture.release()
