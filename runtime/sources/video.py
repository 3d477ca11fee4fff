"""A recorded video, frame by frame."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError

_MAX_RATE_HZ = 1000.0

# FFmpeg writes to stderr about every broken packet; what matters is told as an error. OpenCV reads this once in a
# process, when it first opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class VideoSource:
    """A video file. One that breaks off in the middle ends with the frames it had."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and decode its first frame. Raises DataError, naming the file, when there is none."""
        self.name = str(path)
        self.skipped: list[str] = []
        self._path = path
        try:
            with path.open("rb") as file:
                empty = not file.read(1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if empty:
            raise DataError(f"{path}: the file is empty; record or copy it again")
        with _capture(path) as capture:
            if not capture.isOpened() or not capture.read()[0]:
                raise DataError(f"{path}: not a video that can be decoded; convert it, for instance to H.264 in .mp4")
            rate, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate_hz: float | None = rate if math.isfinite(rate) and 0 < rate <= _MAX_RATE_HZ else None
        self.frames: int | None = int(frames) if math.isfinite(frames) and frames >= 1 else None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        with _capture(self._path) as capture:
            while True:
                decoded, frame = capture.read()
                if not decoded:
                    return
                yield np.asarray(frame, np.uint8)


@contextmanager
def _capture(path: Path) -> Iterator[cv2.VideoCapture]:
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(path))
    finally:
        cv2.utils.logging.setLogLevel(before)
    try:
        yield capture
    finally:
        capture.release()
