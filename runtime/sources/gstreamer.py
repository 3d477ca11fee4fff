"""GStreamer pipelines, by an OpenCV that was built with GStreamer."""

from __future__ import annotations

import re

import cv2

from gensoup.runtime.errors import DataError, UsageError
from gensoup.runtime.sources.opencv import OpenCVCapture

# The newest frame alone, as it comes: what is shown must be the present.
_SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


class GStreamerPipeline:
    """A pipeline as ``gst-launch-1.0`` takes it; calling it starts it."""

    def __init__(self, description: str) -> None:
        """One that does not end in an ``appsink`` is given one, for BGR and the newest frame alone.

        Raises UsageError without a pipeline, DataError where OpenCV has no GStreamer.
        """
        if not description.strip():
            raise UsageError("source 'gst:': write the pipeline behind it, 'gst:videotestsrc is-live=true'")
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise DataError(
                f"gst:{description}: this OpenCV has no GStreamer, like all from PyPI; use one that has, as Debian's "
                "python3-opencv, or push frames from an appsink of your own, as examples/gstreamer_appsink.py does"
            )
        has_sink = re.search(r"(^|!)\s*appsink\b", description) is not None
        self._pipeline = description if has_sink else f"{description} ! {_SINK}"

    def __call__(self) -> OpenCVCapture:
        """Start the pipeline. Raises DataError when it cannot be built or brings no frame."""
        try:
            return OpenCVCapture(self._pipeline, cv2.CAP_GSTREAMER)
        except DataError as error:
            raise DataError("the pipeline does not start; try it in gst-launch-1.0") from error
