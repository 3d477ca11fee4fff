"""A recorded video, frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError
from gensoup.runtime.sources.opencv import OpenCVCapture


class VideoSource:
    """A video file. One that breaks off in the middle ends with the frames it had."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and decode its first frame. Raises DataError, naming the file, when there is none."""
        self.name = str(path)
        self.skipped: list[str] = []
        self.decoding_threads: int | None = None  # None: as many as there are cores
        self._path = path
        try:
            with path.open("rb") as file:
                empty = not file.read(1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if empty:
            raise DataError(f"{path}: the file is empty; record or copy it again")
        no_video = DataError(f"{path}: not a video that can be decoded; convert it, for instance to H.264 in .mp4")
        try:
            capture = OpenCVCapture(str(path))
        except DataError as error:
            raise no_video from error
        try:
            if capture.read() is None:
                raise no_video
            self.rate_hz: float | None = capture.rate_hz
            self.frames: int | None = capture.frames
        finally:
            capture.release()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        options = () if self.decoding_threads is None else (cv2.CAP_PROP_N_THREADS, self.decoding_threads)
        capture = self._opened(options)
        try:
            while (arrival := capture.read()) is not None:
                yield arrival[1]
        finally:
            capture.release()

    def _opened(self, options: tuple[int, ...]) -> OpenCVCapture:
        """By FFmpeg, which alone heeds options; where there is none of it, or it cannot, by whatever OpenCV has."""
        if options:
            with contextlib.suppress(DataError):
                return OpenCVCapture(str(self._path), cv2.CAP_FFMPEG, options)
        return OpenCVCapture(str(self._path))
