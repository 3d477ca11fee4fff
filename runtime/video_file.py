"""A video file that is written frame by frame, and tells when it cannot be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import UsageError, WriteError

Frame = NDArray[np.uint8]

# Motion JPEG in AVI has every picture whole and needs no end: what a killed process leaves can be played.
VIDEO_CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
_log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has these functions in cv2 itself
_SILENT = 0
_FULL = 64 << 10  # bytes left: no block of a picture fits
_PATIENCE = 600  # frames without the file growing; FFmpeg writes blocks of 256 KiB, some dozen small frames

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # see gensoup.runtime.sources.video


def check_video_name(path: Path, option: str = "--video") -> None:
    """Raise UsageError for a name that tells no format."""
    if path.suffix.lower() not in VIDEO_CODECS:
        raise UsageError(f"{option} {path}: must end in {' or '.join(VIDEO_CODECS)}")


class VideoFile:
    """Frames of one size, encoded; those of another size are brought to the first one's.

    OpenCV does not tell when a write fails. That is found out by the file, which stops growing, and by the space left.
    """

    def __init__(self, path: Path, rate_hz: float, size: tuple[int, int], name: str = "") -> None:
        """``size``: (width, height). name: what errors call it. Raises WriteError when it cannot be opened."""
        self._path = path
        self._name = name or str(path)
        self._size = size
        self._grown = (0, 0)  # its bytes when they last became more, frames since
        before = _log.getLogLevel()
        _log.setLogLevel(_SILENT)
        try:
            codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(path), codec, rate_hz, size)
        finally:
            _log.setLogLevel(before)
        if not self._writer.isOpened():
            raise WriteError(f"{self._name}: cannot be written; check the folder and free space")

    @property
    def bytes(self) -> int:
        """What the file has on disk."""
        try:
            return self._path.stat().st_size
        except OSError:  # taken away while it is written
            return 0

    def write(self, frame: Frame) -> None:
        """Add a BGR uint8 frame [height, width, 3]. Raises WriteError once the file does not grow any more."""
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = np.asarray(cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(frame)
        size, frames = self.bytes, self._grown[1] + 1
        self._grown = (size, 0) if size > self._grown[0] else (self._grown[0], frames)
        if frames >= _PATIENCE and size <= self._grown[0]:
            raise self._failed()

    def close(self) -> None:
        """Complete the file. Raises WriteError where the disk is full, so that its end is missing."""
        self._writer.release()
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError:
            free = 0
        if free < _FULL or self.bytes == 0:
            raise self._failed()

    def _failed(self) -> WriteError:
        return WriteError(f"{self._name}: cannot be written any more; free some space, or raise the limit on files")
