"""OpenCV's captures: opened without noise on stderr, read with the time at which a frame arrived."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError

_MAX_RATE_HZ = 1000.0

# FFmpeg writes to stderr about every broken packet; what matters is told as an error. OpenCV reads these once in a
# process, when it first opens a video or a camera. A Video4Linux camera that falls silent would hold a read for 10 s.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")

# OpenCV 4.6, Debian's and the one with GStreamer, has these functions in cv2 itself.
_log: Any = getattr(cv2.utils, "logging", cv2)
_SILENT = 0
_counting = threading.Lock()
_quiet_users = 0
_level_before = 0


@contextmanager
def quiet() -> Iterator[None]:
    """OpenCV logs nothing meanwhile: its level is one for the process, so the last thread that leaves restores it."""
    global _quiet_users, _level_before
    with _counting:
        if _quiet_users == 0:
            _level_before = _log.getLogLevel()
            _log.setLogLevel(_SILENT)
        _quiet_users += 1
    try:
        yield
    finally:
        with _counting:
            _quiet_users -= 1
            if _quiet_users == 0:
                _log.setLogLevel(_level_before)


class OpenCVCapture:
    """An open capture; OpenCV is quiet until :meth:`release`. device: OpenCV's own object."""

    def __init__(self, target: str | int, backend: int = cv2.CAP_ANY, options: Sequence[int] = ()) -> None:
        """``options``: OpenCV's properties and values in turn. Raises DataError, without the name, if it fails."""
        self._stack = ExitStack()
        self._stack.enter_context(quiet())
        try:
            self.device = cv2.VideoCapture(target, backend, list(options))
        except cv2.error as error:
            self._stack.close()
            raise DataError(f"OpenCV refuses it: {error.err}") from error
        self._stack.callback(self.device.release)
        if not self.device.isOpened():
            self._stack.close()
            raise DataError("it does not answer or is no video")

    @property
    def rate_hz(self) -> float | None:
        """Frames per second as the source states them, None where it does not."""
        rate = self.device.get(cv2.CAP_PROP_FPS)
        return rate if math.isfinite(rate) and 0 < rate <= _MAX_RATE_HZ else None

    @property
    def frames(self) -> int | None:
        """The announced length, None for a live source."""
        frames = self.device.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(frames) if math.isfinite(frames) and frames >= 1 else None

    def read(self) -> tuple[float, NDArray[np.uint8]] | None:
        """The next frame, BGR uint8 [height, width, 3], and its ``time.monotonic()`` of arrival; None if there is none.

        The time is taken before the frame is converted to BGR. Raises DataError for frames of another format.
        """
        if not self.device.grab():
            return None
        arrived_at = time.monotonic()
        decoded, frame = self.device.retrieve()
        if not decoded:
            return None
        if frame.ndim != 3 or frame.shape[2] != 3:  # a pipeline that ends in an appsink of its own
            raise DataError(
                f"its frames are {frame.dtype} {list(frame.shape)}, not BGR; put 'videoconvert' before them"
            )
        return arrived_at, np.asarray(frame, np.uint8)

    def release(self) -> None:
        """Let go of the device, file or connection."""
        self._stack.close()
