"""Smoothing of recordings that are read faster than they were made, by several threads."""

from __future__ import annotations

from dataclasses import replace

from gensoup.runtime.result import Result
from gensoup.runtime.scene_cut import Frame, Thumbnail, thumbnail
from gensoup.runtime.smoothing import Smoother


class ReplaySmoother:
    """Smooths results, in order, as if their frames had come at the recording's own rate.

    ``expect`` may be called in any thread, before a frame's result comes; ``smoothed`` in one alone.
    """

    def __init__(self, smoother: Smoother, rate_hz: float) -> None:
        self._smoother = smoother
        self._rate_hz = rate_hz
        self._thumbnails: dict[int, Thumbnail] = {}

    def expect(self, frame_id: int, frame: Frame) -> None:
        """Keep what scene cuts are found by (12 kB) of a BGR uint8 frame [height, width, 3]."""
        self._thumbnails[frame_id] = thumbnail(frame)

    def smoothed(self, result: Result) -> Result:
        """The result with its smoothed prediction; one that failed as it is. Raises as :meth:`Smoother.update`."""
        seen = self._thumbnails.pop(result.frame_id, None)
        if result.prediction is None:
            return result
        smoothed = self._smoother.update(result.prediction, result.frame_id / self._rate_hz, seen)
        return replace(result, smoothed=smoothed)
