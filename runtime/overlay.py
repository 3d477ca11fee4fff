"""Results drawn into frames, and written as an annotated video."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.heat import draw_heat
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.stream import Result, State

Frame = NDArray[np.uint8]

# Okabe and Ito's palette, BGR: told apart with every common colour blindness; the state is written out as well.
STATE_COLORS = {
    State.OK: (115, 158, 0),
    State.LATE: (0, 159, 230),
    State.STALE: (167, 121, 204),
    State.FAILED: (0, 94, 213),
}
VIDEO_CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_QUEUE = 8  # frames: some 50 MB at 1080p

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # see gensoup.runtime.sources.video


def caption(result: Result) -> tuple[str, str]:
    """The two lines shown: label and probability, then state and age. A stale or failed result shows no label."""
    age = f"{result.state.value}  {result.age_ms:.0f} ms"
    if result.prediction is None or result.state is State.STALE:
        return "no current result", age
    return f"{_ascii(result.prediction.label)}  {result.prediction.probability:.0%}", age


def draw(frame: Frame, result: Result) -> Frame:
    """A copy of the BGR uint8 frame [height, width, 3] with :func:`caption` in a band at its lower left.

    The band scales with the frame's height and shrinks where the text would not fit its width.
    """
    out = np.ascontiguousarray(frame).copy()
    height, width = out.shape[:2]
    lines = caption(result)
    scale = height / 540
    text_width = max(cv2.getTextSize(line, _FONT, scale, max(1, round(2 * scale)))[0][0] for line in lines)
    shrink = min(1.0, 0.85 * width / text_width)
    scale, text_width = scale * shrink, round(text_width * shrink)
    stroke, line_height = max(1, round(2 * scale)), max(8, round(34 * scale))
    top, right = height - round(2.4 * line_height), text_width + line_height
    color = STATE_COLORS[result.state]
    out[top:, :right] //= 4  # darkened, not covered: what lies beneath stays visible
    out[top:, : line_height // 4] = color
    for row, (line, ink) in enumerate(zip(lines, ((255, 255, 255), color), strict=True)):
        at = (line_height // 2, top + round((row + 0.85) * line_height))
        cv2.putText(out, line, at, _FONT, scale, (0, 0, 0), stroke * 3, cv2.LINE_AA)
        cv2.putText(out, line, at, _FONT, scale, ink, stroke, cv2.LINE_AA)
    return out


def draw_saliency(frame: Frame, result: Result, preprocess: Preprocess) -> Frame:
    """The frame with its saliency map over it; the frame itself where the result has none, or is no longer current."""
    if result.prediction is None or result.prediction.saliency is None or result.state is State.STALE:
        return frame
    return draw_heat(frame, result.prediction.saliency, preprocess)


class AnnotatedVideo:
    """An annotated video file, drawn and encoded in a thread of its own.

    With ``wait``, ``add`` waits while the encoder is behind; without, such frames are left out and counted in
    ``skipped``. All frames get the first one's size. Close it to complete the file.
    """

    def __init__(self, path: Path, rate_hz: float, *, wait: bool, preprocess: Preprocess | None = None) -> None:
        """``path``: ends in .avi (Motion JPEG) or .mp4 (MPEG-4); raises UsageError for anything else.

        preprocess: the classifier's, for :func:`draw_saliency`; None: no saliency is drawn.
        """
        if path.suffix.lower() not in VIDEO_CODECS:
            raise UsageError(f"--video {path}: must end in {' or '.join(VIDEO_CODECS)}")
        self.skipped = 0
        self._path = path
        self._rate_hz = rate_hz
        self._wait = wait
        self._preprocess = preprocess
        self._error: GenSoupError | None = None
        self._queue: queue.Queue[tuple[Frame, Result] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._encode, name="gensoup-video", daemon=True)
        self._thread.start()

    def add(self, frame: Frame, result: Result) -> None:
        """Queue a frame, which must not be changed any more. Raises GenSoupError once the file cannot be written."""
        if self._error is not None:
            raise self._error
        try:
            self._queue.put((frame, result), block=self._wait)
        except queue.Full:
            self.skipped += 1

    def close(self) -> None:
        """Encode what is queued and complete the file. Raises GenSoupError when it could not be written."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _encode(self) -> None:
        writer: cv2.VideoWriter | None = None
        size = (0, 0)
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue  # keep emptying the queue: whoever adds must not wait for ever
            frame, result = item
            if self._preprocess is not None:
                frame = draw_saliency(frame, result, self._preprocess)
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = self._opened(size)
                if writer is None:
                    continue
            if (frame.shape[1], frame.shape[0]) != size:
                frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
            writer.write(draw(frame, result))
        if writer is not None:
            writer.release()

    def _opened(self, size: tuple[int, int]) -> cv2.VideoWriter | None:
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self._path.suffix.lower()])
        before = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            writer = cv2.VideoWriter(str(self._path), codec, self._rate_hz, size)
        finally:
            cv2.utils.logging.setLogLevel(before)
        if writer.isOpened():
            return writer
        self._error = GenSoupError(f"--video {self._path}: cannot be written; check the folder and free space")
        return None


def _ascii(text: str) -> str:
    """OpenCV's fonts draw every other character as question marks."""
    return text.encode("ascii", "replace").decode()
