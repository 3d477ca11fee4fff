"""Streams from the network, by FFmpeg inside OpenCV: RTSP, RTMP, MPEG-TS, motion JPEG over HTTP."""

from __future__ import annotations

import cv2

from gensoup.runtime.errors import DataError
from gensoup.runtime.sources.opencv import OpenCVCapture


class NetworkStream:
    """A stream by its URL; calling it connects."""

    def __init__(self, url: str, open_s: float, read_s: float) -> None:
        """open_s, read_s: how long FFmpeg waits for a server to answer and for the next frame, in seconds."""
        self._url = url
        # With more than one thread FFmpeg decodes frames side by side and gives each as many frames late.
        self._options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(open_s * 1e3)]
        self._options += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(read_s * 1e3), cv2.CAP_PROP_N_THREADS, 1]

    def __call__(self) -> OpenCVCapture:
        """Connect. Raises DataError when nothing answers in time or what answers is no video."""
        try:
            return OpenCVCapture(self._url, cv2.CAP_FFMPEG, self._options)
        except DataError as error:
            raise DataError("cannot be opened; check address, password and that the server sends video now") from error
